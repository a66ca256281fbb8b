"""What a record of a comparison says about the run behind it, as plain values. Reads nothing, knows no MLflow.

A run and its snapshot know more than this; `reporting.tracking` takes these facts out of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlstream.ranges import PartitionRange


@dataclass(frozen=True, slots=True)
class GitState:
    """The commit that the run was made at; `dirty` when files differed from it."""

    commit: str
    branch: str | None = None
    dirty: bool = False


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version of the run.

    Attributes:
        name: as the configuration has it.
        status: "complete", "partial" or "failed".
        digest: of code, weights, parameters and environment together, 64 hex.
        digests: the parts: "code", "weights", "environment" and the like → 64 hex.
        model: what the configuration says the model is (`pipelines/x.py:factory`).
        parameters: keyword arguments of the model's factory.
        features: the columns given to the model, in order; None means all.
        topic: where its predictions went.
        output_id: id of the snapshot that froze them.
        figures: what the run measured, by name with its unit (`seconds`, `latency_p99_ms`, `memory_mb`).
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


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run that a comparison was made of, and the snapshot that it scored.

    Attributes:
        id: the run's id, 64 hex.
        config: the experiment's configuration, JSON-ready.
        config_path: the file that it was read from, as a user would type it; None when it was made in memory.
        streams: the snapshot's ranges, one a partition.
        rows: records of the snapshot.
        size_bytes: their size, when it is known.
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

    def version(self, name: str) -> VersionFacts:
        """What is known of that version; only its name when the run does not know it."""
        return self.versions.get(name, VersionFacts(name))
