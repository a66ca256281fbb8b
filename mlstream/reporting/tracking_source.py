"""A snapshot as MLflow sees it: a dataset whose source knows its way back to the frozen records.

`mlflow.data.get_source(run.inputs.dataset_inputs[0]).load()` opens the snapshot again. Import this module (or
`mlstream.reporting.tracking_store`) first where mlstream is not installed as a package: the installed one announces
itself through the entry point group `mlflow.dataset_source`.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from mlflow.data.dataset_source import DatasetSource
from mlflow.entities import Dataset

from mlstream.comparison.result import Comparison
from mlstream.reporting.facts import RunFacts

SOURCE_TYPE = "mlstream"
DIGEST_CHARACTERS = 32  # MLflow takes 36 at most; the whole digest is in the source and in a tag
MAX_SOURCE_CHARACTERS = 65_535
_TYPES = {"int": "long", "float": "double", "string": "string", "bool": "boolean", "time": "datetime"}


class SnapshotSource(DatasetSource):  # type: ignore[misc]  # MLflow is not checked here
    """The source of a dataset: a snapshot's id and the stream ranges that it froze.

    Args:
        snapshot: the snapshot's id, 64 hex.
        name: its name when it was recorded.
        streams: topic → partition → `[start, stop]`.
    """

    def __init__(
        self, snapshot: str, name: str | None = None, streams: dict[str, dict[str, list[int]]] | None = None
    ) -> None:
        self.snapshot = snapshot
        self.name = name
        self.streams = {} if streams is None else streams

    @staticmethod
    def _get_source_type() -> str:
        return SOURCE_TYPE

    def load(self) -> Any:
        """The `mlstream.Snapshot`, from the home of the working directory.

        Raises:
            UnknownSnapshot: when that home does not have it.
        """
        import mlstream

        return mlstream.open_snapshot(self.snapshot)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> SnapshotSource:
        raise NotImplementedError("a snapshot is not found by a raw source")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"snapshot": self.snapshot, "name": self.name, "streams": self.streams}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> SnapshotSource:
        """The source that `to_dict` was called on."""
        return cls(source_dict["snapshot"], source_dict.get("name"), source_dict.get("streams"))


def snapshot_dataset(comparison: Comparison, run: RunFacts) -> Dataset:
    """The snapshot as MLflow's dataset: name, digest, ranges, columns and size."""
    streams = {
        topic: {str(found.partition): [found.start, found.stop] for found in ranges}
        for topic, ranges in groupby(run.streams, key=lambda found: found.topic)
    }
    source = SnapshotSource(comparison.snapshot_id, comparison.snapshot_name, streams).to_json()
    if len(source) > MAX_SOURCE_CHARACTERS:
        source = SnapshotSource(comparison.snapshot_id, comparison.snapshot_name).to_json()
    profile = {
        "num_rows": run.rows,
        "size_bytes": run.size_bytes,
        "num_partitions": len(run.streams) or None,
        "num_topics": len(streams) or None,
    }
    return Dataset(
        name=comparison.snapshot_name or comparison.snapshot_id[:12],
        digest=comparison.snapshot_id[:DIGEST_CHARACTERS],
        source_type=SOURCE_TYPE,
        source=source,
        schema=_schema(run),
        profile=json.dumps({name: value for name, value in profile.items() if value is not None}),
    )


def _schema(run: RunFacts) -> str | None:
    """The decoded columns in the form of `mlflow.types.Schema`, which the UI lists."""
    if not run.schema:
        return None
    columns = [
        {"name": name, "type": _TYPES.get(kind, "string"), "required": False} for name, kind in run.schema.items()
    ]
    return json.dumps({"mlflow_colspec": columns})
