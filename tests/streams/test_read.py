"""What `read` gives is what an independent client reads, record by record."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from confluent_kafka import Producer
from kafka.protocol.consumer import FetchRequest

from mlstream.broker.admin import delete_records, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.fetch import Fetched
from mlstream.broker.positions import resolve
from mlstream.errors import BrokerUnavailable, CorruptBatch, OffsetOutOfRange, TopicChanged
from mlstream.ranges import PartitionRange, TopicSelection
from mlstream.streams import read as read_module
from mlstream.streams.read import Block, read
from mlstream.streams.write import StreamWriter
from mlstream.wire.columns import SCHEMA
from mlstream.wire.encode import encode
from tests.broker.scripted import Cluster, client_of
from tests.broker.topics import EVENT_MS, Record, columns, consume, fill, make, producer, records, wait_until_stable
from tests.proxy import FaultProxy

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def rows_of(blocks: Iterator[Block]) -> dict[int, list[Record]]:
    """All records by partition; blocks of a partition must follow each other without a gap."""
    found: dict[int, list[Record]] = defaultdict(list)
    reached: dict[int, int] = {}
    for block in blocks:
        assert block.columns.schema == SCHEMA
        assert block.start == reached.get(block.partition, block.start)
        reached[block.partition] = block.next_offset
        found[block.partition] += records(block.columns)
    return dict(found)


def read_all(client: Client, topic: str, **options: int) -> dict[int, list[Record]]:
    return rows_of(read(client, resolve(client, [TopicSelection(topic)]), **options))  # type: ignore[arg-type]


def send_varied(writer: Producer, topic: str, partitions: int, count: int) -> None:
    """Records with and without keys, values, headers; empty ones too; of all sizes."""
    for number in range(count):
        headers: list[tuple[str, bytes | None]] = [("n", b"%d" % number), ("n", None), ("", b""), ("ü", b"\x00\xff")]
        writer.produce(
            topic,
            partition=number % partitions,
            key=(None, b"", b"k%d" % number)[number % 3],
            value=(b"", None, b"v%d" % number, b"x" * (number % 700))[number % 4],
            headers=headers[: number % 5],
            timestamp=EVENT_MS + number * 7 - (number % 11) * 1000,
        )
    assert writer.flush(20) == 0


@pytest.mark.broker
@pytest.mark.parametrize("codec", CODECS)
def test_all_that_another_client_writes_is_read(client: Client, broker: Connection, topic: str, codec: str) -> None:
    make(client, topic, 3)
    send_varied(producer(broker, **{"compression.type": codec, "batch.num.messages": 70}), topic, 3, 2000)
    expected = consume(broker, topic, range(3))
    assert sum(map(len, expected.values())) == 2000
    assert read_all(client, topic) == expected
    assert read_all(client, topic, partition_max_bytes=4000, buffer_bytes=20_000, threads=3) == expected


@pytest.mark.broker
def test_ranges_start_and_stop_where_they_say(client: Client, topic: str) -> None:
    fill(client, topic, [1000, 500, 300])
    asked = [PartitionRange(topic, 0, 17, 983), PartitionRange(topic, 2, 299, 300), PartitionRange(topic, 1, 40, 40)]
    found = rows_of(read(client, asked, partition_max_bytes=1000))
    assert {part: [row[0] for row in rows] for part, rows in found.items()} == {0: list(range(17, 983)), 2: [299]}
    assert [row[3] for row in found[0]] == [b"%d" % number for number in range(17, 983)]
    assert list(read(client, [])) == []


@pytest.mark.broker
def test_log_append_time_is_told_apart(client: Client, topic: str) -> None:
    make(client, topic, **{"message.timestamp.type": "LogAppendTime"})
    with StreamWriter(client, topic) as writer:
        writer.write(0, columns([b"a"], [EVENT_MS]))
    (block,) = read(client, resolve(client, [TopicSelection(topic)]))
    (row,) = block.columns.to_pylist()
    assert row["timestamp_type"] == 1
    assert row["timestamp"].timestamp() * 1000 > EVENT_MS


@pytest.mark.broker
def test_records_of_transactions_are_read_as_a_committed_reader_sees_them(
    client: Client, broker: Connection, topic: str
) -> None:
    """Committed, aborted and open transactions of three producers, interleaved with plain records."""
    make(client, topic, 2)
    plain = producer(broker)
    writers = [producer(broker, **{"transactional.id": f"{topic}-{name}"}) for name in range(3)]
    for writer in writers:
        writer.init_transactions(10)
    number = 0

    def write(writer: Producer, count: int) -> None:
        nonlocal number
        for _ in range(count):
            writer.produce(topic, b"%d" % number, partition=number % 2, timestamp=EVENT_MS + number)
            number += 1
        writer.flush(10)

    ends = (Producer.commit_transaction, Producer.abort_transaction)
    for turn in range(8):
        for writer in writers[:2]:
            writer.begin_transaction()
            write(writer, 3)
        write(plain, 2)
        for place, writer in enumerate(writers[:2]):
            write(writer, 2)
            ends[(turn >> place) % 2](writer, 10)
    wait_until_stable(client, topic)
    expected = consume(broker, topic, [0, 1])
    everything = consume(broker, topic, [0, 1], isolation="read_uncommitted")
    assert 0 < sum(map(len, expected.values())) < sum(map(len, everything.values()))
    # And one that stays open: what follows its first record is not there yet for a committed reader.
    writers[2].begin_transaction()
    write(writers[2], 2)
    write(plain, 5)
    try:
        blocks = list(read(client, resolve(client, [TopicSelection(topic)]), partition_max_bytes=2000))
        found = rows_of(iter(blocks))
        assert found == expected == consume(broker, topic, [0, 1])
        assert sum(block.control for block in blocks) == 2 * 16  # a marker for each transaction in each partition
        read_or_dropped = sum(map(len, found.values())) + sum(block.aborted for block in blocks)
        assert read_or_dropped == sum(map(len, everything.values()))
    finally:
        writers[2].abort_transaction(10)
    wait_until_stable(client, topic)
    assert read_all(client, topic) == consume(broker, topic, [0, 1])


@pytest.mark.broker
def test_a_range_that_ends_with_markers_is_finished(client: Client, broker: Connection, topic: str) -> None:
    make(client, topic)
    writer = producer(broker, **{"transactional.id": topic})
    writer.init_transactions(10)
    for end in (Producer.commit_transaction, Producer.abort_transaction):
        writer.begin_transaction()
        writer.produce(topic, b"x", partition=0)
        writer.flush(10)
        end(writer, 10)
    wait_until_stable(client, topic)
    blocks = list(read(client, resolve(client, [TopicSelection(topic)])))
    assert [row["offset"] for block in blocks for row in block.columns.to_pylist()] == [0]
    assert blocks[-1].next_offset == 4
    assert [sum(block.control for block in blocks), sum(block.aborted for block in blocks)] == [2, 1]


@pytest.mark.broker
def test_records_larger_than_a_request_are_read(client: Client, broker: Connection, topic: str) -> None:
    make(client, topic, 2, **{"max.message.bytes": str(12 << 20)})
    large = bytes(range(256)) * (20 << 10)  # 5 MiB, more than two of what `read` asks for
    writer = producer(broker, **{"message.max.bytes": 12 << 20})
    for number in range(6):
        writer.produce(topic, large if number % 3 else b"small", partition=number % 2)
    assert writer.flush(20) == 0
    found = read_all(client, topic, partition_max_bytes=64 << 10, buffer_bytes=1 << 20)
    assert {part: [row[3] for row in rows] for part, rows in found.items()} == {
        0: [b"small", large, large],
        1: [large, b"small", large],
    }


@pytest.mark.broker
def test_deleted_records_are_an_error_and_never_skipped(client: Client, topic: str) -> None:
    fill(client, topic, [1000])
    asked = resolve(client, [TopicSelection(topic)])
    delete_records(client, topic, {0: 600})
    message = rf"{topic}\[0\]: asked from 0, the broker keeps 600 onward: the records before were deleted; use --from"
    with pytest.raises(OffsetOutOfRange, match=message):
        list(read(client, asked))


@pytest.mark.broker
def test_a_topic_that_is_made_anew_is_noticed(client: Client, topic: str) -> None:
    fill(client, topic, [1000])
    asked = resolve(client, [TopicSelection(topic)])
    known = {topic: client.topic(topic).topic_id}
    delete_topic(client, topic)
    fill(client, topic, [1000])
    with pytest.raises(TopicChanged, match=rf"topic {topic} was deleted and made anew"):
        list(read(client, asked, topic_ids=known))


@pytest.mark.broker
def test_a_topic_that_is_deleted_while_it_is_read_is_noticed(client: Client, topic: str) -> None:
    make(client, topic)
    for _ in range(20):
        with StreamWriter(client, topic, codec="none") as writer:
            writer.write(0, columns([b"x" * 10_000] * 10))
    blocks = read(client, resolve(client, [TopicSelection(topic)]), partition_max_bytes=100_000, buffer_bytes=100_000)
    next(blocks)
    delete_topic(client, topic)
    with pytest.raises(TopicChanged, match=rf"topic {topic} was deleted while it was read"):
        list(blocks)


@pytest.mark.broker
def test_connections_that_break_cost_no_record(client: Client, broker: Connection, topic: str) -> None:
    fill(client, topic, [20_000, 20_000], batch_rows=500)
    expected = read_all(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker)) as distant:
        asked = resolve(distant, [TopicSelection(topic)])
        proxy.cut_after(30_000)  # in the middle of an answer
        found: dict[int, list[Record]] = defaultdict(list)
        dropped = 0
        for turn, block in enumerate(read(distant, asked, partition_max_bytes=3000, buffer_bytes=6000)):
            found[block.partition] += records(block.columns)
            if turn % 3 == 0 and dropped < 2:  # a cut finds no connection while one is being made anew
                dropped += proxy.drop()
    assert found == expected
    assert dropped >= 2, "no connection was cut: the test shows nothing"


@pytest.mark.broker
def test_brokers_that_stay_away_are_an_error_in_time(client: Client, broker: Connection, topic: str) -> None:
    fill(client, topic, [20_000], batch_rows=100)
    with FaultProxy() as proxy, Client(proxy.through(broker), timeout_s=2.0) as distant:
        asked = resolve(distant, [TopicSelection(topic)])
        blocks = read(distant, asked, partition_max_bytes=1000, buffer_bytes=2000, stall_s=0.5)
        next(blocks)
        proxy.refuse()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=rf"{topic}\[0\]: no answer from"):
            list(blocks)
        assert time.monotonic() - started < 8


@pytest.mark.broker
def test_a_reader_that_leaves_early_leaves_no_thread(client: Client, topic: str) -> None:
    fill(client, topic, [5000, 5000], batch_rows=100)
    before = set(threading.enumerate())
    blocks = read(client, resolve(client, [TopicSelection(topic)]), partition_max_bytes=5000, buffer_bytes=10_000)
    next(blocks)
    assert set(threading.enumerate()) > before
    blocks.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before
    assert len(read_all(client, topic)[1]) == 5000


@pytest.mark.broker
def test_two_readers_do_not_disturb_each_other(client: Client, topic: str) -> None:
    fill(client, topic, [5000, 5000], batch_rows=100)
    asked = resolve(client, [TopicSelection(topic)])
    first, second = (read(client, asked, partition_max_bytes=5000) for _ in range(2))
    found: list[dict[int, list[Record]]] = [defaultdict(list), defaultdict(list)]
    for pair in zip(first, second, strict=False):
        for place, block in enumerate(pair):
            found[place][block.partition] += records(block.columns)
    for place, rest in enumerate((first, second)):
        for block in rest:
            found[place][block.partition] += records(block.columns)
    # `zip` may have taken one block of the first that had no partner.
    assert sum(map(len, found[1].values())) == 10_000
    assert read_all(client, topic) == found[1]


def test_what_is_under_way_is_bounded_when_the_caller_is_slow() -> None:
    cluster = Cluster(2)
    for part in cluster.partitions.values():
        for _ in range(100):
            part.append([b"x" * 1000])
    with client_of(cluster) as client:
        asked = [PartitionRange("ticks", part, 0, 100) for part in (0, 1)]
        blocks = read(client, asked, partition_max_bytes=1000, buffer_bytes=5000, threads=1)
        first = next(blocks)
        time.sleep(0.3)
        # One with the caller, three to be decoded or decoded, one waits for room there, and four in the buffer.
        assert cluster.count(FetchRequest) <= 9
        assert sum(block.columns.num_rows for block in [first, *blocks]) == 200


def answer_of(batches: list[bytes], start: int, stop: int) -> Fetched:
    return Fetched("ticks", 0, start, b"".join(batches), stop, (), 0, stop)


def numbered(values: list[bytes], base: int) -> bytes:
    made = bytearray(encode(columns(values), codec="zstd"))
    made[0:8] = base.to_bytes(8, "big")
    return bytes(made)


def test_an_answer_that_becomes_large_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = PartitionRange("ticks", 0, 3, 65)
    answer = answer_of([numbered([b"%d" % number * 1000] * 10, 10 * number) for number in range(7)], 3, 65)
    (whole,) = read_module._blocks(answer, asked)
    monkeypatch.setattr(read_module, "PART_BYTES", 25_000)
    first, others = read_module._decode(answer, asked)
    parts = [first, *others]
    assert len(parts) > 2
    assert (parts[0].start, parts[-1].next_offset) == (whole.start, whole.next_offset) == (3, 65)
    assert all(before.next_offset == after.start for before, after in pairwise(parts))
    assert [row for part in parts for row in records(part.columns)] == records(whole.columns)


def test_an_answer_without_records_settles_its_offsets() -> None:
    (block,) = read_module._blocks(answer_of([], 40, 65), PartitionRange("ticks", 0, 0, 65))
    assert (block.columns.num_rows, block.start, block.next_offset) == (0, 40, 65)


@pytest.mark.broker
def test_a_damaged_answer_is_an_error_that_names_the_place(
    client: Client, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, topic, [100])
    real = read_module.fetch

    def damaged(*args: object, **options: object) -> Iterator[Fetched]:
        for answer in real(*args, **options):  # type: ignore[arg-type]
            data = bytearray(answer.data)
            data[-1] ^= 1
            yield Fetched(topic, 0, answer.start, bytes(data), answer.next_offset, (), 0, 100)

    monkeypatch.setattr(read_module, "fetch", damaged)
    with pytest.raises(CorruptBatch, match=rf"{topic}\[0\] at offset 0"):
        list(read(client, resolve(client, [TopicSelection(topic)])))
