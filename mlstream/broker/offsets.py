"""Where streams begin and end, and positions as users name them turned into ranges of offsets. Reads no records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.protocol.consumer import IsolationLevel, ListOffsetsRequest, OffsetSpec
from kafka.protocol.consumer.group import OffsetFetchRequest

from mlstream.broker.client import Client, TopicInfo, TopicState, leader_of
from mlstream.broker.failures import Patience, error_of, is_passing
from mlstream.errors import EmptyRange, OffsetOutOfRange, UsageError
from mlstream.ranges import PartitionRange, Position, TopicSelection


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a broker keeps of a partition.

    Attributes:
        log_start: the first offset that is kept.
        last_stable: where readers of committed records stop: the first record of the oldest transaction that is still
            open, or the high watermark.
        high_watermark: the offset after the last record that all replicas in sync have.
    """

    log_start: int
    last_stable: int
    high_watermark: int


def bounds(client: Client, topic: str, partitions: Sequence[int] | None = None) -> dict[int, Bounds]:
    """The bounds of partitions of a topic; of all when `partitions` is None.

    Raises:
        UnknownTopic, UnknownPartition: it does not exist.
    """
    return client.run(f"topic {topic}", bounds_of, client, topic, partitions)


def committed(client: Client, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
    """The offsets that a consumer group committed; None where it committed none. Waits for open transactions.

    Raises:
        BrokerRefused: reading the group is not allowed.
    """
    return client.run(f"group {group}", _committed, client, group, topic, partitions)


def resolve(client: Client, selections: Sequence[TopicSelection]) -> list[PartitionRange]:
    """Ranges of offsets for what a user asked for, checked against what the brokers keep now.

    `earliest` is the log start offset and `latest` the last stable offset; a time is the first record at or after it,
    or the end; a group is what it committed. A partition may come out empty as long as not all of its topic do.

    Raises:
        UnknownTopic, UnknownPartition: it does not exist.
        OffsetOutOfRange: a start before what is kept, or a stop past the last stable offset.
        EmptyRange: nothing between start and stop, in no partition of the topic.
        UsageError: a group that has committed nothing for the topic, or a topic that is named twice.
    """
    topics = [selection.topic for selection in selections]
    for topic in topics:
        if topics.count(topic) > 1:
            raise UsageError(f"topic {topic} is named twice", hint="name it once, with its partitions: T[0,1]@FROM..TO")
    return [found for selection in selections for found in _resolve_one(client, selection)]


async def bounds_of(client: Client, topic: str, partitions: Sequence[int] | None = None) -> dict[int, Bounds]:
    """`bounds`, on the network's loop."""
    if partitions is None:
        partitions = (await client.refreshed(topic)).info.partitions
    start = await offsets_at(client, topic, partitions, OffsetSpec.EARLIEST)
    # The stable offset first: it never passes the high watermark, which may grow between the two questions.
    stable = await offsets_at(client, topic, partitions, OffsetSpec.LATEST)
    high = await offsets_at(client, topic, partitions, OffsetSpec.LATEST, isolation=IsolationLevel.READ_UNCOMMITTED)
    return {part: Bounds(start[part], stable[part], high[part]) for part in sorted(partitions)}


async def offsets_at(
    client: Client,
    topic: str,
    partitions: Sequence[int],
    timestamp: int,
    *,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    min_version: int = 2,
) -> dict[int, int]:
    """The first offset at or after a time (ms) in each partition, -1 where there is none; or at an `OffsetSpec`."""

    def make(group: list[int], state: TopicState) -> Any:
        kind = ListOffsetsRequest.ListOffsetsTopic
        parts = [
            kind.ListOffsetsPartition(
                partition_index=part,
                current_leader_epoch=leader_of(state, part).epoch,
                timestamp=int(timestamp),
            )
            for part in group
        ]
        return ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(isolation),
            topics=[kind(name=topic, partitions=parts)],
            min_version=min_version,
            max_version=9,
        )

    def read(response: Any) -> Iterator[tuple[int, int, int]]:
        for entry in response.topics:
            for part in entry.partitions:
                yield part.partition_index, part.error_code, part.offset

    return await client.per_leader(topic, partitions, make, read)


async def _committed(client: Client, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
    """OffsetFetch from the group's coordinator, which may move or still wait for a transaction's end."""

    def make() -> Any:
        kind = OffsetFetchRequest.OffsetFetchRequestTopic
        return OffsetFetchRequest(
            group_id=group,
            topics=[kind(name=topic, partition_indexes=list(partitions))],
            require_stable=True,
            max_version=7,
        )

    patience = Patience(client.timeout_s)
    while True:
        node = await client.coordinator(group)
        response = await client.ask(make, node=node)
        parts = [part for entry in response.topics for part in entry.partitions]
        codes = [response.error_code, *(part.error_code for part in parts)]
        failure = next((problem for code in codes if (problem := error_of(code)) is not None), None)
        if failure is None:
            found = {part.partition_index: part.committed_offset for part in parts}
            return {part: None if found.get(part, -1) < 0 else found[part] for part in partitions}
        if not is_passing(failure):
            raise failure
        await patience.pause(client.network, failure)


def _resolve_one(client: Client, selection: TopicSelection) -> list[PartitionRange]:
    topic = client.topic(selection.topic)
    partitions = topic.partitions if selection.partitions is None else selection.partitions
    kept = bounds(client, topic.name, partitions)
    starts = _place(client, topic, selection.start, kept, edge=lambda found: found.log_start)
    stops = _place(client, topic, selection.stop, kept, edge=lambda found: found.last_stable)
    ranges = []
    for partition, found in kept.items():
        start, stop = starts[partition], stops[partition]
        where = f"{topic.name}[{partition}]"
        facts = {"topic": topic.name, "partition": partition, "start": start, "stop": stop}
        if start < found.log_start:
            raise OffsetOutOfRange(
                f"{where}: asked from {start}, the broker keeps {found.log_start} onward",
                hint=f"use --from {found.log_start}, or --from earliest",
                log_start=found.log_start,
                **facts,
            )
        if start > found.last_stable:
            raise OffsetOutOfRange(
                f"{where}: asked from {start}, the stream ends at {found.last_stable}",
                hint=f"use an earlier --from, or choose partitions: {topic.name}[…]",
                last_stable=found.last_stable,
                **facts,
            )
        if stop > found.last_stable:
            raise OffsetOutOfRange(
                f"{where}: asked up to {stop}, the stream ends at {found.last_stable}{_open_transactions(found)}",
                hint=f"use --to {found.last_stable}, or --to latest",
                last_stable=found.last_stable,
                **facts,
            )
        ranges.append(PartitionRange(topic.name, partition, start, max(start, stop)))
    if not any(len(found) for found in ranges):
        raise EmptyRange(
            f"{selection.topic}: nothing between {selection.start} and {selection.stop}{_what_is_there(kept)}",
            hint=_wider(kept),
            topic=topic.name,
        )
    return ranges


def _place(
    client: Client,
    topic: TopicInfo,
    position: Position,
    kept: Mapping[int, Bounds],
    *,
    edge: Callable[[Bounds], int],
) -> dict[int, int]:
    """The offset of a position in each partition."""
    if position.offset is not None:
        return dict.fromkeys(kept, position.offset)
    if position.edge is not None:
        earliest = position.edge == "earliest"
        return {part: found.log_start if earliest else found.last_stable for part, found in kept.items()}
    if position.timestamp_ms is not None:
        # A negative time is before every record that has one; as a request it would be a special word.
        at = max(0, position.timestamp_ms)
        found = client.run(f"topic {topic.name}", offsets_at, client, topic.name, list(kept), at)
        return {
            part: found[part] if 0 <= found[part] <= kept[part].last_stable else kept[part].last_stable for part in kept
        }
    group = position.group
    if group is None:
        raise UsageError(f"{topic.name}: the position says nothing", hint="use earliest, latest, an offset or a time")
    return _place_group(client, topic, group, kept)


def _place_group(client: Client, topic: TopicInfo, group: str, kept: Mapping[int, Bounds]) -> dict[int, int]:
    found = committed(client, group, topic.name, list(kept))
    placed: dict[int, int] = {}
    for part, offset in found.items():
        if offset is not None:
            placed[part] = offset
        elif kept[part].log_start == kept[part].last_stable:  # nothing there that could be committed
            placed[part] = kept[part].log_start
    missing = [part for part in kept if part not in placed]
    if missing:
        none_at_all = all(offset is None for offset in found.values())
        which = "" if none_at_all else f"[{','.join(map(str, missing))}]"
        raise UsageError(
            f"group {group} has committed no offset for {topic.name}{which}",
            hint="check the group's name, or use an offset, a time or earliest",
            group=group,
            topic=topic.name,
        )
    return placed


def _open_transactions(found: Bounds) -> str:
    waiting = found.high_watermark - found.last_stable
    return f" ({waiting} records more are in transactions that are still open)" if waiting else ""


def _what_is_there(kept: Mapping[int, Bounds]) -> str:
    if all(found.log_start == found.last_stable for found in kept.values()):
        return "; the topic holds no records"
    parts = ", ".join(f"{part}: {found.log_start} to {found.last_stable}" for part, found in list(kept.items())[:4])
    return f"; the partitions hold {parts}{', …' if len(kept) > 4 else ''}"


def _wider(kept: Mapping[int, Bounds]) -> str:
    if any(found.high_watermark > found.last_stable for found in kept.values()):
        return "its records are in transactions that are still open; try again when they are committed"
    if all(found.log_start == found.last_stable for found in kept.values()):
        return "publish something to it, or name another topic"
    return "use a wider range, for example --from earliest --to latest"
