"""Runs for `runs.py`: made anew each time, their workers timed from a common start, their memory watched."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmarks.runs_project import PARTITIONS, Project
from benchmarks.runs_worker import FILE, Timed, Wanted
from mlstream.broker import embedded
from mlstream.home import Home
from mlstream.runs.replay import run
from mlstream.runs.run import Run


@dataclass(frozen=True, slots=True)
class Round:
    """A run and what its workers measured."""

    found: Run
    timed: tuple[Timed, ...]
    anonymous_mb: float
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # of models, workers, the broker, in this time

    @property
    def seconds(self) -> float:
        """From the common start to the last commit of all."""
        return max(each.ended for each in self.timed) - min(each.began for each in self.timed)

    @property
    def with_decoding(self) -> float:
        """The same, and the seconds that the input took to decode."""
        return self.seconds + self.found.timings["decode"]

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return self.found.input.rows * len(self.found.versions) / self.seconds


class Runner:
    """Makes runs whose workers begin together and are timed.

    Args:
        project: whose versions.
        rounds: how often each run is made; the median one counts.
        broker: the home that the broker was started in.
    """

    def __init__(self, project: Project, rounds: int, broker: Home) -> None:
        self._project = project
        self._broker = broker
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

    def whole(self, topic: str, versions: Sequence[str]) -> Round:
        """The median round of a run that decodes its input first."""
        found = []
        for _ in range(self._rounds):
            shutil.rmtree(self._project.home.path / "views", ignore_errors=True)
            found.append(self.once(topic, versions))
        return sorted(found, key=lambda each: each.with_decoding)[(len(found) - 1) // 2]

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
        with _watched(self._broker) as usage:
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
        began, ended = min(each.began for each in timed), max(each.ended for each in timed)
        return Round(found, timed, usage.anonymous_bytes / 1e6, usage.cpu_seconds(began, ended))


@dataclass(slots=True)
class _Usage:
    """What was seen of all workers, models and the broker.

    Attributes:
        anonymous_bytes: the most that workers and models together had written to: mapped files do not count.
        seen: process → what it is, and moments with the processor seconds that it had taken until then.
    """

    anonymous_bytes: float = 0.0
    seen: dict[int, tuple[str, list[tuple[float, float]]]] = field(default_factory=dict)

    def look(self, process: psutil.Process, kind: str) -> None:
        """Note the processor seconds of a process."""
        with suppress(psutil.Error):
            times = process.cpu_times()
            self.seen.setdefault(process.pid, (kind, []))[1].append((time.time(), times.user + times.system))

    def cpu_seconds(self, began: float, ended: float) -> dict[str, float]:
        """What each kind of process took between two moments."""
        found: dict[str, float] = defaultdict(float)
        for kind, moments in self.seen.values():
            inside = [seconds for moment, seconds in moments if began - 0.1 <= moment <= ended + 0.1]
            found[kind] += inside[-1] - inside[0] if inside else 0.0
        return found


@contextmanager
def _watched(broker: Home) -> Iterator[_Usage]:
    """Look at all processes, twenty times a second."""
    usage, ended = _Usage(), threading.Event()
    server = [psutil.Process(node.pid) for node in embedded.status(broker).nodes if node.pid is not None]

    def watch() -> None:
        while not ended.wait(0.05):
            memory = 0.0
            for process in server:
                usage.look(process, "the broker")
            for worker in psutil.Process().children():
                with suppress(psutil.Error):
                    usage.look(worker, "workers")
                    memory += _anonymous_bytes(worker)
                    for model in worker.children(recursive=True):
                        usage.look(model, "models")
                        memory += _anonymous_bytes(model)
            usage.anonymous_bytes = max(usage.anonymous_bytes, memory)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield usage
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
