"""A restored topic holds the snapshot's records as another client reads them; the tool notices if not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstream import snapshot
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_records, delete_topic, topic_config
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.errors import IntegrityError, TopicExists
from mlstream.home import Home, find_home
from mlstream.snapshots.restore import Progress, restore
from mlstream.snapshots.snapshot import open_snapshot
from mlstream.streams.write import StreamWriter
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, Transactions, consume, produce
from tests.snapshots.making import Row, columns, make_snapshot, plain

pytestmark = pytest.mark.broker
Call = Callable[..., Any]

# One row of each kind that there is: null and empty apart, no UTF-8, headers repeated and null, times missing,
# before 1970 and far ahead, and gaps between the offsets.
ODD = [
    Row(0, b"v", key=b"k", timestamp=1_380_585_600_000),
    Row(1, None, key=None, timestamp=None),
    Row(5, b"", key=b"", timestamp=0, headers=((b"a", b"1"), (b"a", b"2"), (b"b", None), (b"", b""))),
    Row(6, b"\xff\xfe\x00", key=b"\x80", timestamp=253_402_300_799_999),
    Row(9, b"x" * 3_000_000, timestamp=1_700_000_000_000, timestamp_type=1),
    Row(70_000, b"last", key=b"k", timestamp=-5_000),
]


def payloads(records: Sequence[oracle.Record]) -> list[Any]:
    return [(timestamp, key, value, headers) for _, timestamp, _, key, value, headers in records]


def expected(rows: Sequence[Row]) -> list[Any]:
    return [(row.timestamp, row.key, row.value, list(row.headers)) for row in rows]


def read_back(broker: Connection, client: Client, topic: str) -> dict[int, list[oracle.Record]]:
    return {
        part: consume(broker, topic, part, 0, kept.high_watermark) if kept.high_watermark else []
        for part, kept in bounds(client, topic).items()
    }


def test_every_record_comes_back_in_its_partition_and_order(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    made = make_snapshot(home, "odd", {"ticks": {0: columns(ODD), 2: plain(100_000), 3: columns([])}})
    done = made.restore(topic, connection=broker)
    found = read_back(broker, client, topic)
    assert sorted(found) == [0, 1, 2, 3]
    assert payloads(found[0]) == [
        (None if row.timestamp is None or row.timestamp < 0 else row.timestamp, *rest[1:])
        for row, rest in zip(ODD, expected(ODD), strict=True)
    ]
    assert [record[0] for record in found[2]] == list(range(100_000))
    assert [record[4] for record in found[2]] == [b"%020d" % n for n in range(100_000)]
    assert found[1] == found[3] == []
    assert (done.rows, done.done, done.topic) == (100_006, True, topic)


def test_freezing_the_restored_topic_gives_the_same_payload_digests(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    transactions = Transactions(broker, f"{topic}-tx")
    for number in range(10):
        sent = [Sent(b"%d-%d" % (number, n), partition=n % 2, timestamp=10**12 + n) for n in range(20)]
        transactions.send(topic, sent, commit=number % 3 != 1)
    old = snapshot("old", topics=[topic], connection=broker, home=home)
    old.restore(f"{topic}-new", connection=broker)
    new = snapshot("new", topics=[f"{topic}-new"], connection=broker, home=home)
    before, after = old.stream(topic).partitions, new.stream(f"{topic}-new").partitions
    assert [part.payload_digest for part in after] == [part.payload_digest for part in before]
    assert [part.root for part in after] != [part.root for part in before]  # the offsets are others
    assert [part.stop for part in after] == [part.rows for part in before]


def test_times_that_the_broker_gave_come_back_as_the_records_own(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    create_topic(client, topic, partitions=1, config={"message.timestamp.type": "LogAppendTime"})
    produce(broker, topic, [Sent(b"a"), Sent(b"b")])
    old = snapshot("old", topics=[topic], connection=broker, home=home)
    assert old.stream(topic).partitions[0].timestamp_type == "LogAppendTime"
    old.restore(f"{topic}-new", connection=broker)
    before, after = consume(broker, topic, 0, 0, 2), consume(broker, f"{topic}-new", 0, 0, 2)
    assert payloads(before) == payloads(after)
    assert [record[2] for record in after] == [0, 0]


def test_the_new_topic_keeps_old_times_and_takes_the_largest_record(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    made = make_snapshot(home, "odd", {"ticks": {0: columns(ODD)}})
    made.restore(topic, connection=broker, codec="none", partitions=5)
    config = topic_config(client, topic)
    assert {name: config[name] for name in KEEP_EVERYTHING} == dict(KEEP_EVERYTHING)
    assert 3_000_000 < int(config["max.message.bytes"]) < 3_001_000
    assert len(client.topic(topic).partitions) == 5


def test_the_translation_table_leads_from_every_old_offset_to_its_record(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    made = make_snapshot(home, "odd", {"ticks": {0: columns(ODD), 1: plain(70_000)}})
    made.restore(topic, connection=broker)
    (kept,) = open_snapshot("odd", home=home).restored(topic)
    assert kept.translation().rows() == [
        (0, 0, 0, 2),
        (0, 5, 2, 2),
        (0, 9, 4, 1),
        (0, 70_000, 5, 1),
        (1, 0, 0, 70_000),
    ]
    found = read_back(broker, client, topic)[0]
    for row in ODD:
        new = kept.new_offset(0, row.offset)
        assert new is not None
        assert found[new][4] == row.value
    assert [kept.new_offset(0, offset) for offset in (2, 7, 10, 70_001)] == [None] * 4
    assert kept.new_offset(2, 0) is None


def test_a_snapshot_knows_its_own_restores_the_newest_first(broker: Connection, home: Home, topic: str) -> None:
    first = make_snapshot(home, "a", {"ticks": {0: plain(3)}})
    other = make_snapshot(home, "b", {"ticks": {0: plain(4)}})
    for name in (topic, f"{topic}-2"):
        first.restore(name, connection=broker)
    assert [found.topic for found in first.restored()] == [f"{topic}-2", topic]
    assert [found.topic for found in first.restored(topic)] == [topic]
    assert other.restored() == []


def test_a_home_at_a_url_keeps_what_became_of_the_offsets(
    broker: Connection, s3: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "here"))
    make_snapshot(find_home(s3), "jan", {"ticks": {0: columns(ODD)}}).restore(topic, connection=broker)
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "there"))
    (found,) = open_snapshot("jan", home=find_home(s3)).restored(topic)
    assert (found.done, found.new_offset(0, 9)) == (True, 4)


def test_restoring_again_checks_again_and_writes_nothing(cli: Call, home: Home, topic: str) -> None:
    make_snapshot(home, "jan", {"ticks": {0: plain(50)}})
    assert cli("snapshot", "restore", "jan", "--topic", topic, "--json").json["written"] == 50
    again = cli("snapshot", "restore", "jan", "--topic", topic, "--json").json
    assert (again["written"], again["rows"], again["done"]) == (0, 50, True)


def test_the_screen_says_what_was_checked_and_fits(cli: Call, home: Home, topic: str) -> None:
    make_snapshot(home, "jan", {"ticks": {0: plain(50), 1: plain(7)}})
    said = cli("snapshot", "restore", "jan", "--topic", topic)
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert lines[0].split() == ["snapshot", "jan,", "topic", "ticks"]
    assert "read back: the payload digests of 2 partitions are the snapshot's" in said.stdout
    assert max(map(len, lines[:-1])) <= 80 + len(topic)
    assert Path(lines[-1].split()[-1]).is_file()
    assert "writing: 57 records" in said.stderr
    assert "checking: 57 records" in said.stderr


# What does not belong there


def writing(broker: Connection, topic: str, record: Sent) -> Callable[[Progress], None]:
    """Another producer that writes a record while the restore does."""
    left = [record]

    def progress(found: Progress) -> None:
        if left and found.step == "writing":
            produce(broker, topic, [left.pop()])

    return progress


def test_a_record_that_comes_in_between_is_noticed(broker: Connection, client: Client, home: Home, topic: str) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: [plain(200_000)]}})
    with pytest.raises(IntegrityError, match=rf"{topic}\[0\]: it has the offsets 0 to 200001 instead of 0 to 200000"):
        restore(client, made, topic, progress=writing(broker, topic, Sent(b"stray")))
    assert [found.done for found in made.restored()] == [False]
    with pytest.raises(IntegrityError, match="delete the topic, and restore again"):
        restore(client, made, topic)
    delete_topic(client, topic)
    assert restore(client, made, topic).written == 200_000


def test_a_record_in_a_partition_that_should_be_empty_is_noticed(
    broker: Connection, client: Client, home: Home, topic: str
) -> None:
    made = make_snapshot(home, "jan", {"ticks": {1: plain(10)}})
    with pytest.raises(IntegrityError, match=rf"{topic}\[0\]: it has the offsets 0 to 1 instead of 0 to 0"):
        restore(client, made, topic, progress=writing(broker, topic, Sent(b"stray", partition=0)))


def altered(column: str, value: Any) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """Rows of which the fourth is another in one column."""

    def alter(rows: pa.RecordBatch) -> pa.RecordBatch:
        at = rows.schema.get_field_index(column)
        found = rows.column(at).slice(0, 3), pa.array([value], rows.column(at).type), rows.column(at).slice(4)
        return rows.set_column(at, rows.schema.field(at), pa.concat_arrays(found))

    return alter


def swapped(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of which the fourth and the fifth have changed places."""
    return rows.take([0, 1, 2, 4, 3, *range(5, len(rows))])


@pytest.mark.parametrize(
    "alter",
    [
        altered("value", b"other"),
        altered("value", None),
        altered("key", b""),
        altered("timestamp", 4),
        altered("headers", [{"key": b"h", "value": None}]),
        swapped,
    ],
    ids=["value", "null", "empty-key", "time", "header", "order"],
)
def test_one_wrong_record_among_right_ones_is_named(
    broker: Connection,
    client: Client,
    home: Home,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
    alter: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> None:
    class Wrong(StreamWriter):
        def write(self, partition: int, columns: Any) -> None:
            super().write(partition, alter(columns) if columns.column("offset")[0].as_py() == 200 else columns)

    monkeypatch.setattr("mlstream.snapshots.restore.StreamWriter", Wrong)
    rows = [Row(n + 200, b"%d" % n, timestamp=n) for n in range(70_000)]
    made = make_snapshot(home, "jan", {"ticks": {0: columns(rows)}})
    with pytest.raises(IntegrityError, match=rf"{topic}\[0\]@3: it is not the record .* of ticks\[0\]@203"):
        restore(client, made, topic)
    assert [found.done for found in made.restored()] == [False]


def test_a_damaged_snapshot_is_blamed_and_not_the_topic(client: Client, home: Home, topic: str) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(100)}})
    (digest,) = made.storage.objects
    path = made.store.object(digest)
    table = pq.read_table(path)
    path.chmod(0o644)
    pq.write_table(table.set_column(4, table.schema.field(4), pa.array([b"x"] * 100, pa.binary())), path)
    with pytest.raises(IntegrityError, match=r"its rows of ticks\[0\] are not those of its digest; .* verify --deep"):
        restore(client, made, topic)


def test_a_topic_with_other_records_is_refused(
    cli: Call, broker: Connection, client: Client, home: Home, topic: str
) -> None:
    make_snapshot(home, "jan", {topic: {0: plain(10)}})
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"mine")])
    said = cli("snapshot", "restore", "jan", "--topic", topic)
    assert (said.exit_code, said.stdout) == (1, "")
    assert f"topic {topic} exists already, and is not empty" in said.stderr
    assert bounds(client, topic)[0].high_watermark == 1


def test_a_topic_that_was_made_anew_is_refused(broker: Connection, client: Client, home: Home, topic: str) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(10)}})
    restore(client, made, topic)
    delete_topic(client, topic)
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"other")])
    with pytest.raises(TopicExists, match="is not empty"):
        restore(client, made, topic)


def test_records_that_were_deleted_since_are_noticed(client: Client, home: Home, topic: str) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(10)}})
    restore(client, made, topic)
    delete_records(client, topic, {0: 4})
    with pytest.raises(IntegrityError, match=rf"{topic}\[0\]: it has the offsets 4 to 10 .* its oldest records were"):
        restore(client, made, topic)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, ""),
        ({"message.timestamp.type": "LogAppendTime"}, "message.timestamp.type=LogAppendTime"),
        ({"cleanup.policy": "compact"}, "cleanup.policy=compact"),
        ({"retention.ms": "1000"}, "retention.ms=1000"),
        ({"max.message.bytes": "1000"}, "set max.message.bytes=1048588"),
    ],
)
def test_an_empty_topic_is_taken_if_it_keeps_every_record(
    client: Client, home: Home, topic: str, config: dict[str, str], words: str
) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(10)}})
    create_topic(client, topic, partitions=2, config={**KEEP_EVERYTHING, **config})
    if not words:
        assert restore(client, made, topic).written == 10
        return
    with pytest.raises(TopicExists, match=words):
        restore(client, made, topic)
    assert bounds(client, topic)[0].high_watermark == 0


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["two"], 2, ["holds 2 topics", "--from-topic a"]),
        (["two", "--from-topic", "c"], 1, ["holds no topic 'c'"]),
        (["two", "--from-topic", "b", "--partitions", "2"], 2, ["2 partitions are too few for b[2]", "use 3 or more"]),
        (["two", "--from-topic", "a", "--codec", "zip"], 2, ["codec 'zip' is not known"]),
        (["none"], 1, ["no snapshot is called 'none'"]),
    ],
)
def test_a_wrong_call_says_what_to_do_and_makes_nothing(
    cli: Call, client: Client, home: Home, topic: str, args: list[str], code: int, words: list[str]
) -> None:
    make_snapshot(home, "two", {"a": {0: plain(2)}, "b": {2: plain(3)}})
    said = cli("snapshot", "restore", *args, "--topic", topic)
    assert (said.exit_code, said.stdout) == (code, "")
    assert all(word in said.stderr for word in words), said.stderr
    assert topic not in client.topics()
    assert cli("snapshot", "restore", "two", "--from-topic", "b", "--topic", topic, "--json").json["rows"] == 3


def test_two_restores_into_one_topic_at_once_are_refused(client: Client, home: Home, topic: str) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(10)}})

    def again(found: Progress) -> None:
        with pytest.raises(TopicExists, match="another process is restoring into it"):
            restore(client, made, topic)

    assert restore(client, made, topic, progress=again).written == 10
