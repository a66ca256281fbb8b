"""A model that keeps state, as tests of runs have it, and its plain twin. Imports nothing of mlstream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

KEYS = 7
MODELS = '''\
"""Models whose answers depend on all that they have seen."""

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import polars as pl


class Means:
    """The mean of x so far, by n % 7, added up in the order of the records."""

    def __init__(self) -> None:
        self.sums = [0.0] * 7
        self.counts = [0] * 7

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        x, keys = frame["x"].to_numpy(), frame["n"].to_numpy() % 7
        found = np.empty(len(x))
        for key in range(7):
            mine = keys == key
            sums = np.cumsum(np.concatenate([[self.sums[key]], x[mine]]))
            found[mine] = sums[1:] / np.arange(self.counts[key] + 1, self.counts[key] + len(sums))
            self.sums[key], self.counts[key] = float(sums[-1]), self.counts[key] + len(sums) - 1
        return pl.DataFrame({"prediction": found})

    def state(self) -> bytes:
        padding = random.Random(sum(self.counts)).randbytes(700_000)  # more than a record holds
        return json.dumps([self.sums, self.counts]).encode() + b"\\n" + padding

    def load_state(self, data: bytes) -> None:
        text, _, _ = data.partition(b"\\n")
        self.sums, self.counts = json.loads(text)


class Killed(Means):
    """Its process is killed, once, in the batch with the record `at`."""

    def __init__(self, at: int, file: str) -> None:
        super().__init__()
        self.at = at
        self.file = Path(file)

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        found = super().predict(frame)
        if frame["n"].eq(self.at).any() and not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found


class Picky(Killed):
    """Killed too, and raises for some records, after it has counted them."""

    def __init__(self, at: int, file: str, bad: list[int]) -> None:
        super().__init__(at, file)
        self.bad = bad

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        found = super().predict(frame)
        if frame["n"].is_in(self.bad).any():
            raise ValueError("no such order")
        return found


class Forgetful(Killed):
    """Killed too, and does not take its state back."""

    def load_state(self, data: bytes) -> None:
        pass


class Broken(Means):
    """Cannot give its state once it has seen some records."""

    def state(self) -> bytes:
        if sum(self.counts) > 20_000:
            raise LookupError("the window is lost")
        return super().state()


class Gated(Means):
    """Waits in the batch with the record `at` until a file is there."""

    def __init__(self, at: int, file: str) -> None:
        super().__init__()
        self.at = at
        self.file = Path(file)

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        while frame["n"].eq(self.at).any() and not self.file.exists():
            time.sleep(0.02)
        return super().predict(frame)
'''


def plain_means(rows: Iterable[tuple[float, int]]) -> list[float]:
    """What `Means` answers, one record after another."""
    model = PlainMeans()
    return [model.answer(x, n) for x, n in rows]


class PlainMeans:
    """The plain twin of `Means`, which keeps a small state."""

    def __init__(self) -> None:
        self.sums = [0.0] * KEYS
        self.counts = [0] * KEYS

    def answer(self, x: float, n: int) -> float:
        key = n % KEYS
        self.sums[key] += x
        self.counts[key] += 1
        return self.sums[key] / self.counts[key]

    def predict(self, rows: Sequence[tuple[float, int]]) -> list[float]:
        return [self.answer(x, n) for x, n in rows]

    def state(self) -> bytes:
        return json.dumps([self.sums, self.counts]).encode()

    def load_state(self, data: bytes) -> None:
        self.sums, self.counts = json.loads(data)
