"""The topic that a restore writes to: made, or looked at before anything is written to it. Writes no records."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, topic_config
from mlstream.broker.client import Client, TopicInfo
from mlstream.broker.offsets import bounds
from mlstream.errors import TopicExists, UnknownTopic, UsageError, WireError
from mlstream.snapshots.manifest import StreamContent
from mlstream.snapshots.restore_check import check_extent
from mlstream.snapshots.restore_record import Restored
from mlstream.snapshots.stored_rows import stored_rows
from mlstream.wire.encode import split_rows

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

_LEAST_MESSAGE_BYTES = 1_048_588  # Kafka's default of max.message.bytes
_MEASURED = ("timestamp", "key", "value", "headers")


def prepare(
    client: Client,
    snapshot: Snapshot,
    stream: StreamContent,
    topic: str,
    *,
    partitions: int | None = None,
    earlier: Restored | None = None,
) -> tuple[TopicInfo, dict[int, int]]:
    """The target, made if need be, and how many records of each partition it has already.

    Args:
        partitions: how many it shall have; as many as needed when None.
        earlier: what is known of an earlier restore of the same to a topic of that name.

    Raises:
        UsageError: `partitions` is too small.
        TopicExists: it holds something else, or would not keep every record as it is.
        IntegrityError: it holds what `earlier` wrote, and more.
    """
    needed = max((part.partition for part in stream.partitions), default=0) + 1
    if partitions is not None and partitions < needed:
        raise UsageError(
            f"topic {topic}: {partitions} partitions are too few for {stream.topic}[{needed - 1}]",
            hint=f"use {needed} or more; records keep their partition",
        )
    try:
        found = client.topic(topic)
    except UnknownTopic:
        config = {**KEEP_EVERYTHING, "max.message.bytes": str(largest_message(snapshot, stream))}
        count = needed if partitions is None else partitions
        return create_topic(client, topic, partitions=count, config=config), {}
    there = len(found.partitions)
    if there < needed or partitions not in (None, there):
        wanted = f"{needed} or more" if partitions is None else str(partitions)
        raise TopicExists(
            f"topic {topic} exists already, with {there} partitions instead of {wanted}",
            hint="choose another name, or delete it first",
            topic=topic,
        )
    kept = bounds(client, topic)
    if all(part.high_watermark == 0 for part in kept.values()):
        _check_settings(client, topic, largest_message(snapshot, stream))
        return found, {}
    if earlier is None or not found.topic_id or earlier.topic_id != found.topic_id:
        raise TopicExists(
            f"topic {topic} exists already, and is not empty",
            hint="choose another name, or delete it first",
            topic=topic,
        )
    check_extent(client, stream, found, whole=False)
    return found, {part.partition: kept[part.partition].high_watermark for part in stream.partitions}


def largest_message(snapshot: Snapshot, stream: StreamContent) -> int:
    """What max.message.bytes must be for the largest record, alone in a batch; Kafka's default at least.

    Raises:
        IntegrityError: an object is missing or cannot be read.
    """

    def largest(partition: int) -> int:
        size = _LEAST_MESSAGE_BYTES
        for rows in stored_rows(snapshot, stream.topic, partition, columns=_MEASURED):
            while len(rows) > 0:
                try:
                    split_rows(rows, max_bytes=size, max_rows=len(rows))
                    break
                except WireError as exc:
                    if "size_bytes" not in exc.facts:
                        raise
                    size = exc.facts["size_bytes"]
                    rows = rows.slice(exc.facts["row"] + 1)
        return size

    with ThreadPoolExecutor(2, thread_name_prefix="measure") as pool:
        return max(pool.map(largest, (part.partition for part in stream.partitions)), default=_LEAST_MESSAGE_BYTES)


def _check_settings(client: Client, topic: str, message_bytes: int) -> None:
    """Whether an empty topic, which somebody else made, would keep the records as they are.

    Raises:
        TopicExists: naming the setting.
    """
    config = topic_config(client, topic)
    wrong = {name: value for name, value in KEEP_EVERYTHING.items() if config.get(name, value) != value}
    if int(config.get("max.message.bytes", message_bytes)) < message_bytes:
        wrong["max.message.bytes"] = str(message_bytes)
    for name, value in wrong.items():
        raise TopicExists(
            f"topic {topic} exists already, with {name}={config[name]}: it would not keep every record as it is",
            hint=f"delete it, and let restore make it; or set {name}={value}",
            topic=topic,
        )
