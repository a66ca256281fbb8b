"""What a record of a comparison says about the run behind it, as plain values. Knows no MLflow.

A run and its snapshot know more than this; `run_facts` takes out what is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.comparison.result import Comparison
from mlstream.errors import RunError, SnapshotError
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.runs.machine import GitState
from mlstream.runs.run import Run, open_run

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version of the run.

    Attributes:
        name: as the configuration has it.
        status: "complete", "failed" or "incomplete".
        digest: of code, weights, parameters and environment together, 64 hex.
        digests: its parts, "code", "weights", "environment" → 64 hex.
        model: what the configuration says the model is (`pipelines/x.py:factory`).
        parameters: keyword arguments of the model's factory.
        features: the columns given to the model, in order; None means all.
        topic: where its predictions went.
        output_id: id of the snapshot that froze them.
        figures: what the run measured, by name with its unit (`seconds`, `latency_p99_ms`, `memory_mb`).
        git: where its files stand in git: `commit`, the `revision` that they were taken from or None, the files that
            `changed` since, `diff_digest`; None when that is not known.
    """

    name: str
    status: str = "complete"
    digest: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] | None = None
    topic: str | None = None
    output_id: str | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    git: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run that a comparison was made of, and the snapshot that it scored.

    Attributes:
        id: the run's id, 64 hex.
        config: the experiment's configuration, JSON-ready.
        config_path: the file that it was read from, as a user would type it; None when it was made in memory.
        streams: the snapshot's ranges, one a partition.
        rows: records of the snapshot.
        size_bytes: what they take on the disk.
        schema: column → type of the decoded input.
        environment: distribution → version, as installed where the models ran.
    """

    id: str
    experiment: str
    snapshot_id: str
    snapshot_name: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    config_path: str | None = None
    streams: tuple[PartitionRange, ...] = ()
    rows: int | None = None
    size_bytes: int | None = None
    schema: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, VersionFacts] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    platform: str | None = None
    git: GitState | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> RunFacts:
        """The facts that `to_dict` made `found` from.

        Raises:
            TypeError, KeyError: when a field is missing or unknown.
        """
        values = dict(found)
        values["streams"] = tuple(PartitionRange(**item) for item in values["streams"])
        values["versions"] = {name: _version(item) for name, item in values["versions"].items()}
        values["git"] = None if values["git"] is None else GitState(**values["git"])
        return cls(**values)

    def version(self, name: str) -> VersionFacts:
        """What is known of that version; only its name when the run does not know it."""
        return self.versions.get(name, VersionFacts(name))


def _version(found: Mapping[str, Any]) -> VersionFacts:
    features = found["features"]
    return VersionFacts(**{**found, "features": None if features is None else tuple(features)})


def run_facts(run: Run) -> RunFacts:
    """The facts of a run and of its snapshot; of the run alone when its home does not have the snapshot any more."""
    snapshot = _snapshot(run)
    return RunFacts(
        id=run.id,
        experiment=run.experiment,
        snapshot_id=run.snapshot_id,
        snapshot_name=run.snapshot_name,
        config=run.config.model_dump(mode="json", exclude={"connection"}),
        config_path=_as_typed(run.config_path, run.config.root),
        streams=run.input.ranges if snapshot is None else _ranges(snapshot),
        rows=run.input.rows if snapshot is None else snapshot.rows,
        size_bytes=None if snapshot is None else snapshot.size_bytes,
        schema=run.input.schema,
        versions={
            name: VersionFacts(
                name=name,
                status=found.status,
                digest=found.digest,
                digests=found.digests,
                model=found.described.get("model"),
                description=found.described.get("description") or "",
                parameters=found.described.get("parameters") or {},
                features=None if found.described.get("features") is None else tuple(found.described["features"]),
                topic=found.topic,
                output_id=found.output_id,
                figures=found.figures,
                git=found.described.get("git"),
            )
            for name, found in run.versions.items()
        },
        environment=run.environment.get("packages", {}),
        python=run.environment.get("python"),
        platform=run.hardware.get("platform"),
        git=run.git,
    )


def comparison_facts(comparison: Comparison, home: Home) -> RunFacts:
    """The facts of a comparison's run, with the rules that it was made by; ids and rules alone when the home does not
    have the run any more.
    """
    # Slices of a call are among its own, and are told from those of the experiment.
    rules = {name: value for name, value in (comparison.settings.get("rules") or {}).items() if name != "slices"}
    try:
        found = run_facts(open_run(comparison.run_id, home=home))
    except RunError:
        found = RunFacts(
            comparison.run_id, comparison.experiment, comparison.snapshot_id, snapshot_name=comparison.snapshot_name
        )
    return replace(found, config={**found.config, **rules})


def _snapshot(run: Run) -> Snapshot | None:
    try:
        return run.snapshot
    except SnapshotError:
        return None


def _ranges(snapshot: Snapshot) -> tuple[PartitionRange, ...]:
    return tuple(
        PartitionRange(stream.topic, found.partition, found.start, found.stop)
        for stream in snapshot.streams
        for found in stream.partitions
    )


def _as_typed(path: Path | None, root: Path) -> str | None:
    """The configuration's path as one would write it in the project's root."""
    if path is None:
        return None
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
