"""The way back from a dataset in MLflow to the snapshot: what `mlflow.data.get_source` gives for ours.

`mlflow.data.get_source(run.inputs.dataset_inputs[0]).load()` opens the snapshot again. MLflow finds the class through
the package's entry point `mlflow.dataset_source`.
"""

from __future__ import annotations

from typing import Any

# Nothing else of MLflow's: it imports this module half-way through its own import.
from mlflow.data.dataset_source import DatasetSource

from mlstream.registry.dataset import SOURCE_TYPE


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
