"""Positions as users name them become offsets, and what cannot be is an error with the fix."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from mlstream.broker.admin import delete_records
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import Bounds, bounds, committed
from mlstream.broker.positions import resolve
from mlstream.errors import EmptyRange, OffsetOutOfRange, UnknownPartition, UnknownTopic, UsageError
from mlstream.ranges import EARLIEST, LATEST, PartitionRange, Position, TopicSelection, parse_topic
from tests.broker.topics import EVENT_MS, fill, make, producer, wait_until_stable

pytestmark = pytest.mark.broker


def ranges(client: Client, text: str) -> list[tuple[int, int, int]]:
    return [(found.partition, found.start, found.stop) for found in resolve(client, [parse_topic(text)])]


def commit(broker: Connection, group: str, topic: str, offsets: dict[int, int]) -> None:
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group, "enable.auto.commit": False})
    try:
        consumer.commit(offsets=[TopicPartition(topic, part, at) for part, at in offsets.items()], asynchronous=False)
    finally:
        consumer.close()


def test_a_whole_topic_reaches_from_its_log_start_to_its_stable_end(client: Client, topic: str) -> None:
    fill(client, topic, [10, 0, 7])
    delete_records(client, topic, {0: 3})
    assert bounds(client, topic) == {0: Bounds(3, 10, 10), 1: Bounds(0, 0, 0), 2: Bounds(0, 7, 7)}
    assert ranges(client, topic) == [(0, 3, 10), (1, 0, 0), (2, 0, 7)]
    assert ranges(client, f"{topic}[2,0]") == [(0, 3, 10), (2, 0, 7)]


def test_offsets_and_times_are_found_in_each_partition(client: Client, topic: str) -> None:
    fill(client, topic, [100, 50])
    assert ranges(client, f"{topic}@10..20") == [(0, 10, 20), (1, 10, 20)]
    assert ranges(client, f"{topic}@10..latest") == [(0, 10, 100), (1, 10, 50)]
    # Records are a second apart; a time means the first record at or after it, and the end where there is none.
    times = f"{topic}@2013-10-01T00:00:10..2013-10-01T00:01:00.500"
    assert ranges(client, times) == [(0, 10, 61), (1, 10, 50)]
    assert ranges(client, f"{topic}@1960-01-01..2013-10-01T00:00:01") == [(0, 0, 1), (1, 0, 1)]
    later = Position(timestamp_ms=EVENT_MS + 60_000)
    with_one_empty = resolve(client, [TopicSelection(topic, None, later, LATEST)])
    assert with_one_empty == [PartitionRange(topic, 0, 60, 100), PartitionRange(topic, 1, 50, 50)]


def test_a_group_is_what_it_committed(client: Client, broker: Connection, topic: str) -> None:
    fill(client, topic, [100, 50, 0])
    group = f"group-of-{topic}"
    assert committed(client, group, topic, [0, 1, 2]) == {0: None, 1: None, 2: None}
    with pytest.raises(UsageError, match=rf"group {group} has committed no offset for {topic}; check the group's name"):
        ranges(client, f"{topic}@group:{group}..latest")
    commit(broker, group, topic, {0: 40})
    with pytest.raises(UsageError, match=rf"group {group} has committed no offset for {topic}\[1\]"):
        ranges(client, f"{topic}@group:{group}..latest")
    commit(broker, group, topic, {1: 50})
    assert committed(client, group, topic, [0, 1, 2]) == {0: 40, 1: 50, 2: None}
    # Partition 2 is empty: nothing there could be committed.
    assert ranges(client, f"{topic}@group:{group}..latest") == [(0, 40, 100), (1, 50, 50), (2, 0, 0)]
    assert ranges(client, f"{topic}@earliest..group:{group}") == [(0, 0, 40), (1, 0, 50), (2, 0, 0)]


def test_several_topics_are_resolved_in_order(client: Client, topic: str) -> None:
    fill(client, f"{topic}-b", [2])
    fill(client, f"{topic}-a", [1, 1])
    found = resolve(client, [TopicSelection(f"{topic}-b"), TopicSelection(f"{topic}-a")])
    assert [(each.topic[-1], each.partition) for each in found] == [("b", 0), ("a", 0), ("a", 1)]
    with pytest.raises(UsageError, match=rf"topic {topic}-a is named twice"):
        resolve(client, [TopicSelection(f"{topic}-a", (0,)), TopicSelection(f"{topic}-a", (1,))])


def test_a_start_below_the_log_start_is_an_error_that_names_what_is_kept(client: Client, topic: str) -> None:
    fill(client, topic, [200])
    delete_records(client, topic, {0: 120})
    with pytest.raises(
        OffsetOutOfRange, match=rf"{topic}\[0\]: asked from 100, the broker keeps 120 onward; use --from 120"
    ) as caught:
        ranges(client, f"{topic}@100..150")
    assert (caught.value.topic, caught.value.partition, caught.value.start, caught.value.log_start) == (
        topic,
        0,
        100,
        120,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@0..101", r"\[0\]: asked up to 101, the stream ends at 100; use --to 100, or --to latest"),
        ("@101..latest", r"\[0\]: asked from 101, the stream ends at 100; use an earlier --from"),
        ("@60..70", r"\[1\]: asked from 60, the stream ends at 50; use an earlier --from, or choose partitions"),
    ],
)
def test_a_range_past_the_end_is_an_error_that_names_the_end(
    client: Client, topic: str, text: str, message: str
) -> None:
    fill(client, topic, [100, 50])
    with pytest.raises(OffsetOutOfRange, match=message):
        ranges(client, topic + text)


@pytest.mark.parametrize("text", ["@10..10", "@20..10", "@2014-01-01..latest", "@earliest..2013-10-01"])
def test_an_empty_range_is_an_error_that_names_what_is_there(client: Client, topic: str, text: str) -> None:
    fill(client, topic, [100, 50])
    with pytest.raises(
        EmptyRange,
        match=rf"{topic}: nothing between .* and .*; the partitions hold 0: 0 to 100, 1: 0 to 50; use a wider",
    ):
        ranges(client, topic + text)


def test_an_empty_topic_is_an_error_that_says_so(client: Client, topic: str) -> None:
    make(client, topic, 2)
    with pytest.raises(EmptyRange, match=rf"{topic}: nothing between earliest and latest; the topic holds no records"):
        resolve(client, [TopicSelection(topic)])


def test_unknown_topics_and_partitions_are_errors(client: Client, topic: str) -> None:
    fill(client, topic, [1])
    with pytest.raises(UnknownTopic, match=rf"did you mean '{topic}'"):
        ranges(client, f"{topic}z")
    with pytest.raises(UnknownPartition, match="has no partition 4; it has only partition 0"):
        ranges(client, f"{topic}[0,4]")


def test_an_open_transaction_ends_the_stream_and_is_told(client: Client, broker: Connection, topic: str) -> None:
    fill(client, topic, [5])
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(10)
    writer.begin_transaction()
    for _ in range(3):
        writer.produce(topic, b"open", partition=0)
    writer.flush(10)
    try:
        assert bounds(client, topic) == {0: Bounds(0, 5, 8)}
        assert ranges(client, topic) == [(0, 0, 5)]
        with pytest.raises(OffsetOutOfRange, match=r"ends at 5 \(3 records more are in transactions that are still"):
            ranges(client, f"{topic}@0..8")
        with pytest.raises(EmptyRange, match="transactions that are still open; try again when they are committed"):
            ranges(client, f"{topic}@5..latest")
    finally:
        writer.commit_transaction(10)
    wait_until_stable(client, topic)
    assert resolve(client, [TopicSelection(topic, None, EARLIEST, LATEST)]) == [PartitionRange(topic, 0, 0, 9)]
