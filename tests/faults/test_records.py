"""Records as odd as brokers take them are frozen byte for byte, and can be read, shown, verified and frozen again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.snapshots.snapshot import Snapshot
from tests.faults.topics import set_config
from tests.faults.writers import CODECS
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, consume, produce

pytestmark = pytest.mark.broker

Freeze = Callable[..., Snapshot]
MIB = 1 << 20


def records(snapshot: Snapshot, topic: str, partition: int = 0) -> list[oracle.Record]:
    """The rows of a partition as the oracle's; times as numbers, because Python's end in the year 9999."""
    frame = snapshot.scan(topic).collect()
    table = frame.filter(frame["partition"] == partition).to_arrow()
    times = table.column("timestamp").cast(pa.int64()).to_pylist()
    plain = table.drop_columns("timestamp").to_pylist()
    return [
        (
            row["offset"],
            time,
            row["timestamp_type"],
            row["key"],
            row["value"],
            [(header["key"], header["value"]) for header in row["headers"]],
        )
        for row, time in zip(plain, times, strict=True)
    ]


def check(snapshot: Snapshot, broker: Connection, topic: str) -> list[oracle.Record]:
    """A snapshot of one partition has what librdkafka reads, under the digests that the format's page says."""
    (part,) = snapshot.stream(topic).partitions
    found = records(snapshot, topic)
    assert found == consume(broker, topic, 0, part.start, part.stop)
    assert oracle.root(found, part.start, part.stop) == part.root
    assert oracle.payload_digest(found) == part.payload_digest
    snapshot.verify(deep=True)
    return found


def test_codecs_timestamp_types_headers_and_bytes_of_all_kinds_in_one_topic(
    client: Client, broker: Connection, topic: str, freeze: Freeze, cli: Callable[..., Any]
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    odd = [
        Sent(None, None),
        Sent(None, b"tombstone"),
        Sent(b"", b""),
        Sent(b"", None, headers=[("", b""), ("", None), ("again", b"1"), ("again", b"1"), ("again", None)]),
        Sent(b"\xff\xfe\x00\xc3\x28", b"\x80\x00", headers=[("bytes", b"\x00\xff"), ("ключ", "значение".encode())]),
        Sent(b'{"n": 1}\r\n{"n": 2}\n', "schlüssel".encode()),
        Sent(b"x" * 70_000, b"k" * 40_000, headers=[(f"h{n}", b"%d" % n) for n in range(300)]),
    ]
    for codec in CODECS:
        produce(broker, topic, odd, codec=codec)
    set_config(broker, topic, message_timestamp_type="LogAppendTime")
    for codec in CODECS:
        produce(broker, topic, odd, codec=codec)
    set_config(broker, topic, message_timestamp_type="CreateTime")
    produce(broker, topic, odd)
    found = freeze("odd", topic)
    kinds = [record[2] for record in check(found, broker, topic)]
    count = len(CODECS) * len(odd)
    assert kinds == [0] * count + [1] * count + [0] * len(odd)
    assert found.stream(topic).partitions[0].timestamp_type == "mixed"
    assert cli("snapshot", "show", "odd").exit_code == 0
    assert freeze("again", topic).id == found.id


def test_times_of_minus_one_of_the_far_past_and_of_the_far_future(
    client: Client, broker: Connection, topic: str, freeze: Freeze, cli: Callable[..., Any]
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    times = [-1, 1, -2, -62_135_596_800_000, -(2**60), 253_402_300_799_999, 2**62, -1, 1_700_000_000_000]
    produce(broker, topic, [Sent(b"%d" % time, timestamp=time) for time in times])
    found = freeze("times", topic)
    # librdkafka takes all negative times for none, so the values say what was sent.
    rows = records(found, topic)
    assert [row[1] for row in rows] == [None if time == -1 else time for time in times]
    assert [row[4] for row in rows] == [b"%d" % time for time in times]
    (part,) = found.stream(topic).partitions
    assert (part.min_timestamp_ms, part.max_timestamp_ms) == (-(2**60), 2**62)
    assert oracle.root(rows, 0, len(times)) == part.root
    found.verify(deep=True)
    for command in (["show", "times"], ["show", "times", "--json"], ["ls"], ["ls", "--json"], ["verify", "times"]):
        called = cli("snapshot", *command)
        assert (called.exit_code, "Traceback" in called.stderr) == (0, False), called.stderr


def test_a_topic_without_any_time_has_none(client: Client, broker: Connection, topic: str, freeze: Freeze) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"x", timestamp=-1)] * 5)
    found = freeze("timeless", topic)
    check(found, broker, topic)
    (part,) = found.stream(topic).partitions
    assert (part.min_timestamp_ms, part.max_timestamp_ms, part.timestamp_type) == (None, None, "CreateTime")


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_keys_and_values_of_8_mb(client: Client, broker: Connection, topic: str, freeze: Freeze, codec: str) -> None:
    create_topic(client, topic, partitions=1, config={**KEEP_EVERYTHING, "max.message.bytes": str(40 * MIB)})
    producer = Producer(
        {"bootstrap.servers": broker.servers, "message.max.bytes": 40 * MIB, "compression.type": codec, "linger.ms": 0}
    )
    body = b"".join(b"%08d" % n for n in range(MIB))
    for key, value in ((None, body), (body, None), (b"small", b"small"), (body, body[::-1]), (b"", body)):
        producer.produce(topic, value, key, 0, timestamp=5)
        assert producer.flush(60) == 0
    producer.close()
    found = freeze("large", topic)
    check(found, broker, topic)
    assert found.rows == 5


def test_the_check_notices_a_changed_byte_anywhere_in_a_record(
    client: Client, broker: Connection, topic: str, freeze: Freeze
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"value", b"key", timestamp=7, headers=[("h", b"x")])])
    found = freeze("one", topic)
    ((offset, time, kind, key, value, headers),) = check(found, broker, topic)
    root = found.stream(topic).partitions[0].root
    changes: list[oracle.Record] = [
        (offset, time, kind, b"kex", value, headers),
        (offset, time, kind, key, b"valuf", headers),
        (offset, 8, kind, key, value, headers),
        (offset, time, 1, key, value, headers),
        (offset, time, kind, key, value, [(b"i", b"x")]),
        (offset, time, kind, key, value, [(b"h", None)]),
        (offset, time, kind, None, value, headers),
    ]
    assert all(oracle.root([changed], 0, 1) != root for changed in changes)
