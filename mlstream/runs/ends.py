"""How far a version's output topics go: the source offsets of their last committed records. Writes nothing."""

from __future__ import annotations

import json

from mlstream.broker.client import Client
from mlstream.errors import RunError, UnknownTopic
from mlstream.runs.errors import source_offset_of
from mlstream.streams.last import last_record


def last_source_offset(client: Client, topic: str, partition: int) -> int | None:
    """The source offset of the last committed prediction in a partition; None when there is none.

    Raises:
        RunError: the last record is no prediction.
        BrokerUnavailable: an open transaction of somebody else hides the end.
    """
    row = last_record(client, topic, partition)
    if row is None:
        return None
    try:
        return int(json.loads(row.column("value")[0].as_py())["source_offset"])
    except (ValueError, KeyError, TypeError) as exc:
        raise RunError(
            f"{topic}[{partition}]: its last record is no prediction",
            hint="nothing else may write to a run's topic; run again with --force",
            topic=topic,
            partition=partition,
        ) from exc


def last_error_offset(client: Client, topic: str, partition: int) -> int | None:
    """The source offset of the last committed record of an errors topic; None when there is none, or no such topic.

    Raises:
        RunError: the last record is no error of a run.
        BrokerUnavailable: an open transaction of somebody else hides the end.
    """
    try:
        row = last_record(client, topic, partition)
    except UnknownTopic:
        return None
    return None if row is None else source_offset_of(row, where=f"{topic}[{partition}]")
