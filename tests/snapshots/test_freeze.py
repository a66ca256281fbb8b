"""Freezing from a real Kafka: what comes out is what an independent consumer reads, once, whole, under a stable id."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import (
    UnknownSnapshot,
    UnknownTopic,
)
from mlstream.home import Home
from mlstream.ranges import Position, TopicSelection
from mlstream.snapshots.capture import Frozen
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.raw_rows import RAW_SCHEMA
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, Transactions, consume, produce

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]


def records(snapshot: Snapshot, topic: str, partition: int = 0) -> list[oracle.Record]:
    frame = snapshot.scan(topic).collect()
    return list(oracle.rows_of(frame.filter(frame["partition"] == partition).to_arrow()))


ODD = [
    Sent(b'{"n": 1}', b"k1", headers=[("a", b"1"), ("a", None), ("", b"")]),
    Sent(None, b"tombstone"),
    Sent(b"", b""),
    Sent(b"\x00\xff\n", None, timestamp=0),
    Sent("ü".encode() * 2000, "schlüssel".encode(), timestamp=4_000_000_000_000),
]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_what_is_frozen_is_what_an_independent_consumer_reads(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, codec: str
) -> None:
    make()
    produce(broker, topic, ODD, codec=codec)
    found = froze("odd").snapshot
    assert records(found, topic) == consume(broker, topic, 0, 0, len(ODD))
    assert oracle.recomputed_id(found.store.path, found.id) == found.id


def test_markers_and_aborted_records_are_gaps_counted_by_cause(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"plain")] * 3)
    writer = Transactions(broker, topic)
    writer.send(topic, [Sent(b"kept")] * 5)
    writer.send(topic, [Sent(b"lost")] * 7, commit=False)
    writer.send(topic, [Sent(b"kept too")] * 2)
    frozen = froze("gaps")
    (part,) = frozen.snapshot.streams[0].partitions
    (cut,) = frozen.cut.streams[0].partitions
    assert (part.stop, part.rows) == (20, 10)
    assert (cut.gaps.control, cut.gaps.aborted, cut.gaps.other) == (3, 7, 0)
    assert records(frozen.snapshot, topic) == consume(broker, topic, 0, 0, 20)
    assert oracle.recomputed_id(frozen.snapshot.store.path, frozen.snapshot.id) == frozen.snapshot.id
    again = froze("again")
    assert (again.snapshot.id, again.fetched, again.reused) == (frozen.snapshot.id, 0, 10)


def test_records_of_open_transactions_are_left_out_and_reported(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"before")])
    writer = Transactions(broker, topic)
    writer.send(topic, [Sent(b"open")] * 4, commit=None)
    try:
        frozen = froze("open")
        (cut,) = frozen.cut.streams[0].partitions
        assert frozen.snapshot.rows == 1
        assert cut.high_watermark - cut.last_stable == 4
    finally:
        writer.abort()


def test_log_append_time_is_frozen_as_such(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make(message_timestamp_type="LogAppendTime")
    produce(broker, topic, [Sent(b"x", timestamp=5)] * 2)
    found = froze("stamped").snapshot
    assert found.streams[0].partitions[0].timestamp_type == "LogAppendTime"
    assert records(found, topic) == consume(broker, topic, 0, 0, 2)


def test_the_same_content_frozen_twice_has_the_same_id_even_in_another_home(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(1000)])
    first, second, elsewhere = froze("one"), froze("two"), froze("one", at=Home(tmp_path / "elsewhere"))
    assert first.snapshot.id == second.snapshot.id == elsewhere.snapshot.id
    assert (second.fetched, second.reused, second.written_bytes) == (0, 1000, 0)
    assert elsewhere.fetched == 1000
    assert first.snapshot.names == ("one", "two")
    assert len(first.snapshot.cuts()) == 2


def test_freezing_while_a_producer_writes_takes_what_was_stable_at_the_cut(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(20_000)])
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            produce(broker, topic, [Sent(b"later", partition=n % 2) for n in range(200)])

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        found = froze("moving").snapshot
    finally:
        stop.set()
        writer.join()
    assert found.rows >= 20_000
    for part in found.streams[0].partitions:
        assert part.rows == part.stop - part.start
        want = consume(broker, topic, part.partition, part.start, part.stop)
        assert oracle.root(want, part.start, part.stop) == part.root
    rest = froze("rest").snapshot
    assert rest.rows > found.rows


def test_ranges_of_time_and_groups_of_several_topics_make_one_snapshot(
    broker: Connection, make: Callable[..., None], client: Client, home: Home, topic: str
) -> None:
    make(2)
    other = f"{topic}-b"
    create_topic(client, other, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2, timestamp=1_000_000 + n * 1000) for n in range(100)])
    produce(broker, other, [Sent(b"b")] * 5)
    found = mlstream.snapshot(
        "both",
        topics=[f"{topic}[1]@1970-01-01T00:17:00..1970-01-01T00:17:30", TopicSelection(other)],
        start=Position(offset=2),
        connection=broker,
        home=home,
    )
    assert found.topics == (topic, other)
    values = found.scan(topic).collect()["value"].to_list()
    assert values == [b"%d" % n for n in range(100) if n % 2 == 1 and 1020 <= 1000 + n < 1050]
    assert found.scan(other).collect()["offset"].to_list() == [0, 1, 2, 3, 4]
    assert found.complete


def test_a_limit_on_the_rate_is_kept_by_all_partitions_together_and_changes_no_byte(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make(3)
    values = random.Random(7).randbytes(3000)
    produce(broker, topic, [Sent(values[n:] + values[:n], partition=n % 3) for n in range(1500)], codec="none")
    began = time.monotonic()
    slow = froze("slow", max_bytes_s=2e6)
    seconds = time.monotonic() - began
    assert seconds > (4.5e6 - 2e6) / 2e6  # what may be under way at once came for nothing
    assert seconds < 30
    assert froze("quick", at=Home(tmp_path / "elsewhere")).snapshot == slow.snapshot


def test_progress_ends_with_everything_done(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"x" * 50)] * 3000)
    seen: list[Progress] = []
    froze("one", progress=seen.append)
    assert [each.offsets_done for each in seen] == sorted(each.offsets_done for each in seen)
    assert (seen[-1].rows, seen[-1].offsets_done, seen[-1].offsets_total) == (3000, 3000, 3000)
    assert seen[-1].size_bytes > 150_000


def test_names_ids_and_beginnings_of_ids_open_a_snapshot(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")])
    found = froze("mine").snapshot
    for way in ("mine", found.id, found.id[:8]):
        assert mlstream.open_snapshot(way, home=home) == found
        assert mlstream.open_snapshot(way, home=home).name == "mine"
    with pytest.raises(UnknownSnapshot, match="did you mean 'mine'"):
        mlstream.open_snapshot("mime", home=home)
    with pytest.raises(UnknownSnapshot, match="8 digits"):
        mlstream.open_snapshot(found.id[:7], home=home)


def test_scan_gives_the_documented_columns(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"x")])
    found = froze("x").snapshot
    assert found.scan(topic).collect_schema() == RAW_SCHEMA
    with pytest.raises(UnknownTopic, match="it holds"):
        found.scan("nope")
    table = found.scan(topic).collect().to_arrow()
    assert pc.sum(table.column("partition")).as_py() == 0
