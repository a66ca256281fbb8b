"""A snapshot as a dataset in MLflow: name, digest, ranges, columns and size. Pure; knows no MLflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SOURCE_TYPE = "mlstream"
DIGEST_CHARACTERS = 32  # MLflow takes 36 at most; the whole digest is in the source and in a tag
MAX_SOURCE_CHARACTERS = 65_535
_TYPES = {"int": "long", "float": "double", "string": "string", "bool": "boolean", "time": "datetime"}


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A dataset in MLflow's fields.

    Attributes:
        name: the snapshot's name, or the beginning of its id.
        digest: the first 32 hex digits of its id.
        source: JSON: the whole id, the name, topic → partition → `[start, stop]` (left out where it is too long).
        profile: JSON: rows, bytes, partitions, topics.
        schema: JSON in the form of `mlflow.types.Schema`: the decoded columns of the topic that is used.
    """

    name: str
    digest: str
    source: str
    profile: str
    schema: str | None


def dataset_facts(
    snapshot_id: str,
    name: str | None,
    *,
    streams: Mapping[str, Mapping[str, Sequence[int]]],
    rows: int | None,
    size_bytes: int | None,
    schema: Mapping[str, str] | None,
) -> DatasetFacts:
    """A snapshot in MLflow's fields.

    Args:
        streams: topic → partition → `[start, stop]`.
        rows, size_bytes: of all of it; None where it is not known.
        schema: column → its type as `decode.columns` has it.
    """
    source = {"snapshot": snapshot_id, "name": name, "streams": streams}
    if len(json.dumps(source)) > MAX_SOURCE_CHARACTERS:
        source["streams"] = {}
    profile = {
        "num_rows": rows,
        "size_bytes": size_bytes,
        "num_partitions": sum(map(len, streams.values())) or None,
        "num_topics": len(streams) or None,
    }
    return DatasetFacts(
        name=name or snapshot_id[:12],
        digest=snapshot_id[:DIGEST_CHARACTERS],
        source=json.dumps(source),
        profile=json.dumps({key: value for key, value in profile.items() if value is not None}),
        schema=_schema(schema),
    )


def _schema(columns: Mapping[str, str] | None) -> str | None:
    if not columns:
        return None
    found = [{"name": name, "type": _TYPES.get(kind, "string"), "required": False} for name, kind in columns.items()]
    return json.dumps({"mlflow_colspec": found})
