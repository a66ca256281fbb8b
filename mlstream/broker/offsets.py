"""Where streams begin and end, and what consumer groups have committed. Reads no records.

Each question goes to the leaders of all partitions of all topics that it is about, in one request a broker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.protocol.consumer import IsolationLevel, ListOffsetsRequest, OffsetSpec
from kafka.protocol.consumer.group import OffsetFetchRequest

from mlstream.broker.client import Client, TopicState, leader_of
from mlstream.broker.failures import Patience, error_of, is_passing
from mlstream.broker.leaders import Parts, ask_leaders


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


def bounds_of_all(client: Client, wanted: Parts) -> dict[tuple[str, int], Bounds]:
    """The bounds of partitions of several topics: three questions, whatever their number.

    Raises:
        UnknownTopic, UnknownPartition: one does not exist.
    """
    return client.run(f"topics {', '.join(wanted)}", _bounds_of_all, client, wanted)


def first_after(client: Client, wanted: Parts, timestamp_ms: int) -> dict[tuple[str, int], int]:
    """The offset of the first record at or after a time (ms since 1970) in each partition, -1 where there is none.

    Raises:
        UnknownTopic, UnknownPartition: one does not exist.
    """
    return client.run(f"topics {', '.join(wanted)}", _offsets_of, client, wanted, timestamp_ms)


def committed(client: Client, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int | None]:
    """The offsets that a consumer group committed; None where it committed none. Waits for open transactions.

    Raises:
        BrokerRefused: reading the group is not allowed.
    """
    return client.run(f"group {group}", _committed, client, group, topic, partitions)


async def bounds_of(client: Client, topic: str, partitions: Sequence[int] | None = None) -> dict[int, Bounds]:
    """`bounds`, on the network's loop."""
    if partitions is None:
        partitions = (await client.refreshed(topic)).info.partitions
    found = await _bounds_of_all(client, {topic: partitions})
    return {part: found[topic, part] for part in sorted(partitions)}


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
    wanted = {topic: partitions}
    found = await _offsets_of(client, wanted, timestamp, isolation=isolation, min_version=min_version)
    return {part: offset for (_, part), offset in found.items()}


async def _bounds_of_all(client: Client, wanted: Parts) -> dict[tuple[str, int], Bounds]:
    start = await _offsets_of(client, wanted, OffsetSpec.EARLIEST)
    # The stable offset first: it never passes the high watermark, which may grow between the two questions.
    stable = await _offsets_of(client, wanted, OffsetSpec.LATEST)
    high = await _offsets_of(client, wanted, OffsetSpec.LATEST, isolation=IsolationLevel.READ_UNCOMMITTED)
    return {where: Bounds(start[where], stable[where], high[where]) for where in sorted(start)}


async def _offsets_of(
    client: Client,
    wanted: Parts,
    timestamp: int,
    *,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    min_version: int = 2,
) -> dict[tuple[str, int], int]:
    def make(group: Parts, states: Mapping[str, TopicState]) -> Any:
        kind = ListOffsetsRequest.ListOffsetsTopic
        topics = [
            kind(
                name=topic,
                partitions=[
                    kind.ListOffsetsPartition(
                        partition_index=part,
                        current_leader_epoch=leader_of(states[topic], part).epoch,
                        timestamp=int(timestamp),
                    )
                    for part in parts
                ],
            )
            for topic, parts in group.items()
        ]
        return ListOffsetsRequest(
            replica_id=-1,
            isolation_level=int(isolation),
            topics=topics,
            min_version=min_version,
            max_version=9,
        )

    def read(response: Any) -> Iterator[tuple[str, int, int, int]]:
        for entry in response.topics:
            for part in entry.partitions:
                yield entry.name, part.partition_index, part.error_code, part.offset

    return await ask_leaders(client, wanted, make, read)


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
