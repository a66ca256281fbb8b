"""What a worker is told and what it tells: plain values as JSON. Starts nothing.

The parent writes one line to the worker's standard input, a `Task`, and keeps that pipe open as a lifeline: when it
closes, the parent is gone and the worker ends. (The connection's secrets so never touch the disk or a command line.)
The worker writes one JSON object a line to a pipe of its own: `rows` so far, at last `done` or `failed`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal, Self, TypeAlias

from mlstream.host.process import BOOTSTRAP

Cause: TypeAlias = Literal["version", "surroundings", "taken over"]  # of a failure


def command_of(module: str) -> list[str]:
    """What runs a module in this interpreter, of which nothing but its packages comes to the path."""
    # The project's folder comes when the version is loaded, not before mlstream itself.
    return [sys.executable, "-P", "-X", "faulthandler", "-m", module]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every worker is told.

    Attributes:
        module: the module that does it (`python -m MODULE`).
        resumable: whether a new process may go on where one was killed.
        config: the experiment, as `ExperimentConfig` takes it.
        path, root: its file ("" when it was made in memory) and the project's root.
        version: which version.
        home: the folder with the snapshot and its view.
        snapshot_id: the input.
        seed: for `random`, numpy and the hashes of strings.
        threads: the size of its thread pools.
        worker: which of the version's workers, from 0.
        reports: the file descriptor to report on.
    """

    module: ClassVar[str]
    resumable: ClassVar[bool] = False
    config: dict[str, Any]
    path: str
    root: str
    version: str
    home: str
    snapshot_id: str
    seed: int
    threads: int
    worker: int = 0
    reports: int = -1

    @property
    def command(self) -> list[str]:
        """What starts its process."""
        return command_of(self.module)

    @property
    def name(self) -> tuple[str, int]:
        """The version and the number of the worker: one process of a run."""
        return self.version, self.worker

    def to_line(self) -> bytes:
        """The task as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The task that `to_line` was called on."""
        found = json.loads(line)
        return cls(**{known.name: found[known.name] for known in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec(Task):
    """A version over the scored topic of a snapshot.

    Attributes:
        load: the version, resolved: what `LoadSpec.to_json` says, so that every process loads the very same.
        python: the interpreter of its environment; None takes the worker's.
        view_digest: what the decoded view's digest must be.
        run_id: for the headers of the predictions.
        topic: where the predictions go; it exists.
        partitions: which partitions this worker deals with.
        bootstrap_servers, settings: the cluster.
    """

    module = "mlstream.runs.worker"
    resumable = True
    load: dict[str, Any]
    python: str | None
    view_digest: str
    run_id: str
    topic: str
    partitions: list[int]
    bootstrap_servers: list[str]
    settings: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTask(Task):
    """The training of a version on a snapshot.

    Attributes:
        target: the file to write.
        python: the interpreter of the version's own environment; None takes this process's.
        environment: what is in it, for the note of what made the file.
    """

    module = "mlstream.runs.trainer"
    target: str
    python: str | None = None
    environment: dict[str, Any] | None = None

    @property
    def command(self) -> list[str]:
        """What starts its process: in an environment of its own, mlstream comes by the place of its files."""
        if self.python is None:
            return command_of(self.module)
        return [self.python, "-P", "-X", "faulthandler", str(BOOTSTRAP), "-m", self.module]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the model took for a batch of `batch_rows` records, in milliseconds, over all batches.

    `histogram` is the distribution in microseconds, as HdrHistogram encodes it: three significant digits, mergeable.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    batches: int
    histogram: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class RecordLatency:
    """How long the model took for a record, in microseconds: its batch's time, shared by the records of the batch.

    `histogram` is the distribution over all records in nanoseconds, as HdrHistogram encodes it.
    """

    p50_us: float
    p95_us: float
    p99_us: float
    records: int
    histogram: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a worker says of itself on the way.

    Attributes:
        latency, record_latency: of the model so far.
        cpu_seconds: of the process and all that it started, user and system.
        memory_bytes: what of them is resident now.
    """

    latency: Latency
    record_latency: RecordLatency
    cpu_seconds: float
    memory_bytes: int

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Figures:
        """The figures that were made JSON values."""
        parts = {"latency": Latency(**found["latency"]), "record_latency": RecordLatency(**found["record_latency"])}
        return cls(**{**found, **parts})


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker measured of itself.

    Attributes:
        rows: records scored and committed by this run's process; without those of one that was cut off before it.
        load_seconds: from the imported libraries to the loaded model.
        seconds: from the first batch to the last commit.
        predict_seconds: of these in the model, without the way to its process and back.
        cpu_seconds: of the worker's process, the model's and its children, user and system.
        memory_bytes: the most that was resident at once, of the worker's process and of the model's, added.
        latency, record_latency: of the model; of a record None in runs from before it was measured.
    """

    rows: int
    load_seconds: float
    seconds: float
    predict_seconds: float
    cpu_seconds: float
    memory_bytes: int
    latency: Latency
    record_latency: RecordLatency | None = None

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Measured:
        """What was made JSON values."""
        of_record = found.get("record_latency")
        parts = {
            "latency": Latency(**found["latency"]),
            "record_latency": None if of_record is None else RecordLatency(**of_record),
        }
        return cls(**{**found, **parts})


@dataclass(frozen=True, slots=True)
class Report:
    """One line from a worker.

    Attributes:
        event: `loaded` when the model is ready, `rows` on the way, `done` or `failed` at the end.
        rows: records dealt with so far, with those of a process that was cut off: predictions and errors.
        resumed: of these, the ones of a process that was cut off.
        errors: records that got no prediction so far; those that a process before refused are not known, and left out.
        figures: of `rows`, now and then.
        errors_topic_id: of `rows`, when the topic for the version's errors was made, or was found there.
        state_topic_id: of `loaded`: the topic for the version's state; None when it keeps none.
        measured, columns, classes: of `done`: the figures, and the pinned columns and classes of the predictions.
        error, hint: of `failed`.
        cause: of `failed`: the version itself; or what it can go on after: the cluster or the home cannot be used, or
            another process took over, and that one goes on.
    """

    event: Literal["loaded", "rows", "done", "failed"]
    rows: int = 0
    resumed: int = 0
    errors: int = 0
    figures: Figures | None = None
    errors_topic_id: str | None = None
    state_topic_id: str | None = None
    measured: Measured | None = None
    columns: dict[str, str] | None = None
    classes: list[str | int] | None = None
    error: str | None = None
    hint: str | None = None
    cause: Cause = "version"

    def to_line(self) -> bytes:
        """The report as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Report:
        """The report that `to_line` was called on."""
        found = json.loads(line)
        if found["measured"] is not None:
            found["measured"] = Measured.from_dict(found["measured"])
        if found["figures"] is not None:
            found["figures"] = Figures.from_dict(found["figures"])
        return cls(**found)
