"""Positions as users name them → ranges of offsets, checked against what the brokers keep. Reads no records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlstream.broker.client import Client, TopicInfo
from mlstream.broker.leaders import Parts
from mlstream.broker.offsets import Bounds, bounds_of_all, committed, first_after
from mlstream.errors import EmptyRange, OffsetOutOfRange, UsageError
from mlstream.ranges import PartitionRange, Position, TopicSelection


@dataclass(frozen=True, slots=True)
class Located:
    """Selections as offsets, and what the cluster said of their topics at that moment.

    Attributes:
        ranges: in the order of the selections, and of partitions.
        topics: topic → its id and partitions.
        kept: (topic, partition) → its bounds, from which the ranges follow.
    """

    ranges: tuple[PartitionRange, ...]
    topics: Mapping[str, TopicInfo]
    kept: Mapping[tuple[str, int], Bounds]


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
    return list(locate(client, selections).ranges)


def locate(client: Client, selections: Sequence[TopicSelection], *, allow_expired: bool = False) -> Located:
    """`resolve`, and what it was concluded from: a few questions to each broker, whatever the number of topics.

    Args:
        allow_expired: a range may start at an offset that is no longer kept.

    Raises:
        UnknownTopic, UnknownPartition, OffsetOutOfRange, EmptyRange, UsageError: as `resolve`.
    """
    if not selections:
        return Located((), {}, {})
    names = [selection.topic for selection in selections]
    for topic in names:
        if names.count(topic) > 1:
            raise UsageError(f"topic {topic} is named twice", hint="name it once, with its partitions: T[0,1]@FROM..TO")
    topics = client.describe(names)
    wanted = {
        selection.topic: topics[selection.topic].partitions if selection.partitions is None else selection.partitions
        for selection in selections
    }
    kept = bounds_of_all(client, wanted)
    times = _times(client, selections, wanted)
    ranges: list[PartitionRange] = []
    for selection in selections:
        mine = {part: kept[selection.topic, part] for part in sorted(wanted[selection.topic])}
        ranges += _ranges(client, selection, mine, times, allow_expired=allow_expired)
    return Located(tuple(ranges), topics, kept)


def _times(
    client: Client, selections: Iterable[TopicSelection], wanted: Parts
) -> dict[int, dict[tuple[str, int], int]]:
    """The offsets at all times that selections name: time → (topic, partition) → offset; a question for each time."""
    asked: dict[int, dict[str, Sequence[int]]] = {}
    for selection in selections:
        for position in (selection.start, selection.stop):
            if position.timestamp_ms is not None:
                asked.setdefault(position.timestamp_ms, {})[selection.topic] = wanted[selection.topic]
    # A negative time is before every record that has one; as a request it would be a special word.
    return {moment: first_after(client, parts, max(0, moment)) for moment, parts in asked.items()}


def _ranges(
    client: Client,
    selection: TopicSelection,
    kept: Mapping[int, Bounds],
    times: Mapping[int, Mapping[tuple[str, int], int]],
    *,
    allow_expired: bool,
) -> list[PartitionRange]:
    """One selection's ranges."""
    topic = selection.topic
    starts = _place(client, topic, selection.start, kept, times)
    stops = _place(client, topic, selection.stop, kept, times)
    ranges = []
    for partition, found in kept.items():
        start, stop = starts[partition], stops[partition]
        where = f"{topic}[{partition}]"
        facts = {"topic": topic, "partition": partition, "start": start, "stop": stop}
        if start < found.log_start and not allow_expired:
            raise OffsetOutOfRange(
                f"{where}: asked from {start}, the broker keeps {found.log_start} onward",
                hint=f"use --from {found.log_start}, or --from earliest",
                log_start=found.log_start,
                **facts,
            )
        if start > found.last_stable:
            raise OffsetOutOfRange(
                f"{where}: asked from {start}, the stream ends at {found.last_stable}",
                hint=f"use an earlier --from, or choose partitions: {topic}[…]",
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
        ranges.append(PartitionRange(topic, partition, start, max(start, stop)))
    if all(found.stop <= max(found.start, kept[found.partition].log_start) for found in ranges):
        raise EmptyRange(
            f"{topic}: nothing between {selection.start} and {selection.stop}{_what_is_there(kept)}",
            hint=_wider(kept),
            topic=topic,
        )
    return ranges


def _place(
    client: Client,
    topic: str,
    position: Position,
    kept: Mapping[int, Bounds],
    times: Mapping[int, Mapping[tuple[str, int], int]],
) -> dict[int, int]:
    """The offset of a position in each partition."""
    if position.offset is not None:
        return dict.fromkeys(kept, position.offset)
    if position.edge is not None:
        earliest = position.edge == "earliest"
        return {part: found.log_start if earliest else found.last_stable for part, found in kept.items()}
    if position.timestamp_ms is not None:
        at = {part: times[position.timestamp_ms][topic, part] for part in kept}
        return {part: at[part] if 0 <= at[part] <= kept[part].last_stable else kept[part].last_stable for part in kept}
    group = position.group
    if group is None:
        raise UsageError(f"{topic}: the position says nothing", hint="use earliest, latest, an offset or a time")
    return _place_group(client, topic, group, kept)


def _place_group(client: Client, topic: str, group: str, kept: Mapping[int, Bounds]) -> dict[int, int]:
    found = committed(client, group, topic, list(kept))
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
            f"group {group} has committed no offset for {topic}{which}",
            hint="check the group's name, or use an offset, a time or earliest",
            group=group,
            topic=topic,
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
