"""The snapshot as the dataset of a run in MLflow: name, digest, ranges, columns and size. Pure; knows no MLflow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby

from mlstream.comparison.result import Comparison
from mlstream.reporting.facts import RunFacts

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
        schema: JSON in the form of `mlflow.types.Schema`: the decoded columns of the scored topic.
    """

    name: str
    digest: str
    source: str
    profile: str
    schema: str | None


def snapshot_dataset(comparison: Comparison, run: RunFacts) -> DatasetFacts:
    """The snapshot that was scored."""
    streams = {
        topic: {str(found.partition): [found.start, found.stop] for found in ranges}
        for topic, ranges in groupby(run.streams, key=lambda found: found.topic)
    }
    source = {"snapshot": comparison.snapshot_id, "name": comparison.snapshot_name, "streams": streams}
    if len(json.dumps(source)) > MAX_SOURCE_CHARACTERS:
        source["streams"] = {}
    profile = {
        "num_rows": run.rows,
        "size_bytes": run.size_bytes,
        "num_partitions": len(run.streams) or None,
        "num_topics": len(streams) or None,
    }
    return DatasetFacts(
        name=comparison.snapshot_name or comparison.snapshot_id[:12],
        digest=comparison.snapshot_id[:DIGEST_CHARACTERS],
        source=json.dumps(source),
        profile=json.dumps({name: value for name, value in profile.items() if value is not None}),
        schema=_schema(run),
    )


def _schema(run: RunFacts) -> str | None:
    if not run.schema:
        return None
    columns = [
        {"name": name, "type": _TYPES.get(kind, "string"), "required": False} for name, kind in run.schema.items()
    ]
    return json.dumps({"mlflow_colspec": columns})
