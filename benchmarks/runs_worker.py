"""A run's worker with a stopwatch, for `runs.py`: the same worker, timed step by step, all of a run's at one start.

Started by a run in the place of `mlstream.runs.worker`. What the benchmark wants of it is in `bench.json` in the home
(see `Wanted`); what it measured goes to a file of its own in the folder that is named there. Run by itself it does
nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlstream.broker.client import Client
from mlstream.host.host import Host
from mlstream.runs import scoring, shard, worker
from mlstream.runs.layout import Encoder
from mlstream.runs.process import Reports, serve
from mlstream.runs.spec import Report, Spec
from mlstream.snapshots import views
from mlstream.streams import transact
from mlstream.streams.write import Columns, StreamWriter

FILE = "bench.json"
_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the benchmark wants of a run's workers.

    Attributes:
        folder: where they meet and leave their figures.
        together: how many begin together, when each has loaded its model.
        idempotent: write without transactions.
    """

    folder: str
    together: int
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Timed:
    """What a worker measured.

    Attributes:
        version: whose.
        began, ended: from the common start to its last commit, in seconds since the epoch.
        parts: step → seconds, each in the thread that does it.
        model: what the model itself took, in its process.
    """

    version: str
    began: float
    ended: float
    parts: Mapping[str, float] = field(default_factory=dict)
    model: float = 0.0


class Stopwatch:
    """Adds up how long calls take, by name; calls within each other count for the outer one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = threading.local()

    def on(self, owner: Any, name: str, part: str) -> None:
        """Time the calls of a function of a class or module."""
        call: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if getattr(self._inside, "now", False):
                return call(*args, **options)
            self._inside.now = True
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                self._inside.now = False
                self.seconds[part] += time.perf_counter() - began

        setattr(owner, name, timed)


class PlainWriter:
    """What a shard writes with, without transactions: idempotent, acknowledged, progress not committed."""

    def __init__(
        self, client: Client, transactional_id: str, *, group: str, pool: Executor, batch_rows: int, **_: Any
    ) -> None:
        self._client = client
        self._batch_rows = batch_rows
        self._writers: dict[str, StreamWriter] = {}

    @property
    def rows(self) -> int:
        """How many rows are acknowledged."""
        return sum(found.rows for found in self._writers.values())

    def write(self, topic: str, partition: int, columns: Columns) -> None:
        """Add rows."""
        if topic not in self._writers:
            self._writers[topic] = StreamWriter(self._client, topic, batch_rows=self._batch_rows, threads=1)
        self._writers[topic].write(partition, columns)

    def commit(self, *_: Any, **__: Any) -> None:
        """Nothing: what is written is visible at once."""

    def flush(self) -> None:
        """Wait until all is acknowledged."""
        for found in self._writers.values():
            found.flush()

    def close(self) -> None:
        """End the threads."""
        for found in self._writers.values():
            found.close()


def work(spec: Spec, reports: Reports) -> Report:
    """The worker's work, timed."""
    wanted = Wanted(**json.loads((Path(spec.home) / FILE).read_text()))
    folder = Path(wanted.folder)
    name = f"{spec.version}-{spec.worker}"
    watch = Stopwatch()
    watch.on(Host, "answer", "wait for the model")
    watch.on(scoring.Scoring, "_written", "wait for the writing")
    watch.on(Encoder, "encode", "encode")
    watch.on(shard.Shard, "write", "hand over")
    watch.on(shard.Shard, "finish", "last commit")
    watch.on(shard.Shard, "__init__", "begin")
    watch.on(transact, "encode", "compress")
    watch.on(views, "make_view", "decode")
    if wanted.idempotent:
        setattr(shard, "TransactionWriter", PlainWriter)  # noqa: B010
    began = 0.0
    send = Reports.send

    def meet(self: Reports, report: Report) -> None:
        nonlocal began
        send(self, report)
        if report.event == "loaded":
            (folder / f"{name}.loaded").touch()
            deadline = time.monotonic() + _WAIT_S
            while len(list(folder.glob("*.loaded"))) < wanted.together:
                if time.monotonic() > deadline:
                    raise RuntimeError("the other workers do not begin")
                time.sleep(0.005)
            began = time.time()

    Reports.send = meet  # type: ignore[method-assign]
    report = worker.work(spec, reports)
    ended = time.time()
    measured = report.measured
    if measured is None:
        raise RuntimeError("the worker measured nothing")
    timed = Timed(spec.version, began, ended, dict(watch.seconds), measured.predict_seconds)
    (folder / f"{name}.json").write_text(json.dumps(asdict(timed)))
    return report


if __name__ == "__main__":
    serve(Spec, work)
