"""What a run found, as plain values that survive JSON: how each version fared, what was scored. Reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from mlstream.ranges import PartitionRange
from mlstream.runs.spec import Latency, Measured, RecordLatency


@dataclass(frozen=True, slots=True)
class VersionOutcome:
    """How one version of a run fared.

    Attributes:
        name: the version's name.
        status: "complete", "failed", or "incomplete" when the run was cut off.
        described: its digests, model, parameters, features and source files, as `Version.describe` gives them.
        topic, topic_id: where its predictions went; None when the topic was deleted again.
        errors_topic, errors_topic_id: where the records went that got no prediction; None when each got one, or the
            topic was deleted again.
        state_topic, state_topic_id: where its state went; None when it keeps none, or the topic was deleted again.
        log: the file with what its process printed.
        key: digest of all that decides its predictions, whatever ran beside it.
        reused: the id of the run that computed it, when that was an earlier one.
        rows: records that it answered; with `errors` they are the input.
        resumed: records that were dealt with already when its last process began; the figures leave them out.
        restarts: how often a process of it was killed and started again; no prediction is lost or doubled by it.
        errors: records that got no prediction: they did not decode, or it refused them.
        undecodable: of these, the ones that did not decode, which are the same for all versions.
        measured: what its process measured; None when it failed.
        columns: the columns of its predictions and their types, pinned.
        classes: the classes in the order of `scores`.
        output_id, output_name: the snapshot that froze its predictions.
        errors_id: the snapshot that froze its errors, which has the name of their topic; None when there are none.
        freeze_seconds: how long freezing took.
        error, hint, log_tail: why it failed, and the last lines of its log.
    """

    name: str
    status: Literal["complete", "failed", "incomplete"]
    described: Mapping[str, Any] = field(repr=False)
    topic: str | None
    topic_id: str | None
    log: Path = field(repr=False)
    key: str = ""
    reused: str | None = None
    rows: int = 0
    resumed: int = 0
    restarts: int = 0
    errors: int = 0
    measured: Measured | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str | int, ...] | None = None
    output_id: str | None = None
    output_name: str | None = None
    freeze_seconds: float | None = None
    error: str | None = None
    hint: str | None = None
    log_tail: tuple[str, ...] = ()
    state_topic: str | None = None
    state_topic_id: str | None = None
    undecodable: int = 0
    errors_topic: str | None = None
    errors_topic_id: str | None = None
    errors_id: str | None = None

    @property
    def beside(self) -> dict[str, str]:
        """The topics that are known to have been made beside its output: name → id."""
        made = ((self.errors_topic, self.errors_topic_id), (self.state_topic, self.state_topic_id))
        return {topic: topic_id for topic, topic_id in made if topic is not None and topic_id is not None}

    @property
    def refused(self) -> int:
        """Records that decoded, and that it had no answer for."""
        return self.errors - self.undecodable

    @property
    def frozen(self) -> dict[str, str]:
        """The snapshots of its outputs: name → id."""
        made = ((self.output_name, self.output_id), (self.errors_topic, self.errors_id))
        return {name: snapshot_id for name, snapshot_id in made if name is not None and snapshot_id is not None}

    @property
    def digest(self) -> str:
        """The version's digest, 64 hex digits."""
        return str(self.described["digest"])

    @property
    def digests(self) -> dict[str, str]:
        """The parts of its digest: code, weights, environment; those that it has."""
        parts = ("code", "weights", "environment")
        return {part: found for part in parts if (found := self.described.get(f"{part}_digest")) is not None}

    @property
    def seconds(self) -> float | None:
        """From the first batch to the last commit."""
        return None if self.measured is None else self.measured.seconds

    @property
    def rows_per_second(self) -> float | None:
        """Records dealt with a second, over `seconds`, by its last processes; None when they had nothing to do."""
        return None if self.measured is None or not self.seconds else self.measured.rows / self.seconds or None

    @property
    def latency(self) -> Latency | None:
        """How long the model took for a batch."""
        return None if self.measured is None else self.measured.latency

    @property
    def record_latency(self) -> RecordLatency | None:
        """How long the model took for a record."""
        return None if self.measured is None else self.measured.record_latency

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time of its process."""
        return None if self.measured is None else self.measured.cpu_seconds

    @property
    def memory_bytes(self) -> int | None:
        """The most memory that its process had."""
        return None if self.measured is None else self.measured.memory_bytes

    @property
    def figures(self) -> dict[str, float]:
        """All that was measured, by name with its unit; empty when it failed."""
        if self.measured is None:
            return {}
        found = {
            "records": float(self.rows),
            "seconds": self.measured.seconds,
            "load_seconds": self.measured.load_seconds,
            "predict_seconds": self.measured.predict_seconds,
            "latency_p50_ms": self.measured.latency.p50_ms,
            "latency_p95_ms": self.measured.latency.p95_ms,
            "latency_p99_ms": self.measured.latency.p99_ms,
            "cpu_seconds": self.measured.cpu_seconds,
            "memory_mb": self.measured.memory_bytes / 1e6,
        }
        if self.measured.record_latency is not None:
            found["record_latency_p50_us"] = self.measured.record_latency.p50_us
            found["record_latency_p95_us"] = self.measured.record_latency.p95_us
            found["record_latency_p99_us"] = self.measured.record_latency.p99_us
        if self.rows_per_second is not None:
            found["records_per_second"] = self.rows_per_second
        if self.freeze_seconds is not None:
            found["freeze_seconds"] = self.freeze_seconds
        return found

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a run's record. The log's place follows from the record's."""
        found = {known.name: getattr(self, known.name) for known in fields(self)}
        found["measured"] = None if self.measured is None else asdict(self.measured)
        del found["log"]
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], *, log: Path) -> VersionOutcome:
        """The outcome that `to_dict` was called on."""
        return cls(
            **{
                **found,
                "log": log,
                "measured": None if found["measured"] is None else Measured.from_dict(found["measured"]),
                "classes": None if found["classes"] is None else tuple(found["classes"]),
                "log_tail": tuple(found["log_tail"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the predictions of two computations of a version differ first.

    Attributes:
        run_id: of the second computation.
        partition, offset: of the record.
        column: of the predictions; "refused" when only one of them refused the record.
        first, second: what they are.
    """

    run_id: str
    partition: int
    offset: int
    column: str
    first: Any
    second: Any


@dataclass(frozen=True, slots=True)
class Repeat:
    """What came of computing the baseline again: what differs although nothing was changed, the floor of comparisons.

    Attributes:
        version: the baseline.
        run_ids: the runs that computed it again.
        rows: records of each.
        differing: of these, the ones whose predictions differ in any bit in any of the runs, at most.
        largest: the largest difference of a number among the predictions.
        difference: the first one; None when all are equal bit by bit.
    """

    version: str
    run_ids: tuple[str, ...]
    rows: int
    differing: int
    largest: float
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """Whether every computation gave the same bits."""
        return self.difference is None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a run's record."""
        return {**asdict(self), "equal": self.equal}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Repeat:
        """The outcome that `to_dict` was called on."""
        values = {known.name: found[known.name] for known in fields(cls)}
        values["run_ids"] = tuple(values["run_ids"])
        values["difference"] = None if values["difference"] is None else Difference(**values["difference"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Input:
    """What a run scored.

    Attributes:
        topic: the topic of the snapshot.
        schema: the decoded columns and their types, pinned.
        view_digest: of the decoded view.
        ranges: what of each partition.
        rows: records.
    """

    topic: str
    schema: Mapping[str, str]
    view_digest: str
    ranges: tuple[PartitionRange, ...]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a run's record."""
        ranges = [[found.partition, found.start, found.stop] for found in self.ranges]
        return {
            "topic": self.topic,
            "schema": dict(self.schema),
            "view_digest": self.view_digest,
            "ranges": ranges,
            "rows": self.rows,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Input:
        """The input that `to_dict` was called on."""
        topic = found["topic"]
        ranges = tuple(PartitionRange(topic, *numbers) for numbers in found["ranges"])
        return cls(topic, found["schema"], found["view_digest"], ranges, found["rows"])
