"""Runs for `runs.py`: made anew each time, their workers timed from a common start, their memory watched."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.runs_project import PARTITIONS, Project
from benchmarks.runs_worker import FILE, Timed, Wanted
from mlstream.runs.replay import run
from mlstream.runs.run import Run


@dataclass(frozen=True, slots=True)
class Round:
    """A run and what its workers measured."""

    found: Run
    timed: tuple[Timed, ...]
    anonymous_mb: float

    @property
    def seconds(self) -> float:
        """From the common start to the last commit of all."""
        return max(each.ended for each in self.timed) - min(each.began for each in self.timed)

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return self.found.input.rows * len(self.found.versions) / self.seconds


class Runner:
    """Makes runs whose workers begin together and are timed.

    Args:
        project: whose versions.
        rounds: how often each run is made; the median one counts.
    """

    def __init__(self, project: Project, rounds: int) -> None:
        self._project = project
        self._rounds = rounds
        self._number = 0

    def median(
        self, topic: str, versions: Sequence[str], *, workers: int = 1, idempotent: bool = False, rounds: int = 0
    ) -> Round:
        """The median round of a run."""
        found = [
            self.once(topic, versions, workers=workers, idempotent=idempotent) for _ in range(rounds or self._rounds)
        ]
        return sorted(found, key=lambda each: each.seconds)[(len(found) - 1) // 2]

    def alternating(self, topic: str, versions: Sequence[str]) -> tuple[Round, Round]:
        """Median rounds with transactions and without, which take turns, so that a busy moment hits both."""
        pairs: tuple[list[Round], list[Round]] = ([], [])
        for _ in range(self._rounds):
            for idempotent in (False, True):
                pairs[idempotent].append(self.once(topic, versions, idempotent=idempotent))
        middle = (self._rounds - 1) // 2
        with_them, without = (sorted(each, key=lambda one: one.seconds)[middle] for each in pairs)
        return with_them, without

    def once(self, topic: str, versions: Sequence[str], *, workers: int = 1, idempotent: bool = False) -> Round:
        """One run, computed anew."""
        project = self._project
        self._number += 1
        folder = project.home.path / "bench" / str(self._number)
        folder.mkdir(parents=True)
        each = min(workers, PARTITIONS)
        wanted = Wanted(str(folder), len(versions) * each, idempotent)
        (project.home.path / FILE).write_text(json.dumps(asdict(wanted)))
        with _measured_memory() as peak:
            found = run(
                project.config(topic),
                snapshot=topic,
                versions=versions,
                connection=project.connection,
                home=project.home,
                workers=workers,
                force=True,
            )
        found.check()
        timed = tuple(Timed(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json")))
        return Round(found, timed, peak[0] / 1e6)


@contextmanager
def _measured_memory() -> Iterator[list[float]]:
    """The most that all workers and models together had written to, in bytes: mapped files do not count."""
    peak, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            peak[0] = max(peak[0], sum(map(_anonymous_bytes, psutil.Process().children(recursive=True))))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _anonymous_bytes(process: psutil.Process) -> float:
    with suppress(psutil.Error, OSError):
        if not process.name().startswith("java"):
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    return 1024.0 * int(line.split()[1])
    return 0.0
