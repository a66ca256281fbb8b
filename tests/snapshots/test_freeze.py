"""Freezing from a real Kafka: what comes out is what an independent consumer reads, once, whole, under a stable id."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_records, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import (
    BrokerUnavailable,
    EmptyRange,
    NameTaken,
    OffsetOutOfRange,
    StoreError,
    TopicChanged,
    UnknownPartition,
    UnknownSnapshot,
    UnknownTopic,
    UsageError,
)
from mlstream.home import Home
from mlstream.ranges import Position, TopicSelection
from mlstream.snapshots import copying
from mlstream.snapshots.capture import Frozen, Options, freeze, select
from mlstream.snapshots.copying import Copied, Progress
from mlstream.snapshots.fixing import ask_again, fix
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.snapshot import RAW_SCHEMA, Snapshot
from mlstream.snapshots.store import Store
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, Transactions, consume, produce
from tests.snapshots.making import assemble, plain

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]


@pytest.fixture
def make(client: Client, topic: str) -> Callable[..., None]:
    """Create the test's topic."""

    def create(partitions: int = 1, **config: str) -> None:
        settings = {**KEEP_EVERYTHING, **{key.replace("_", "."): value for key, value in config.items()}}
        create_topic(client, topic, partitions=partitions, config=settings)

    return create


@pytest.fixture
def froze(client: Client, home: Home, topic: str) -> Freeze:
    """Freeze the test's topic, or what is named, and tell everything of it."""

    def run(
        name: str,
        what: str | None = None,
        *,
        at: Home = home,
        allow_partial: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Frozen:
        selections = select([topic if what is None else what])
        how = Options(allow_partial=allow_partial)
        return freeze(client, Store(at), name, selections, options=how, progress=progress)

    return run


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


def test_a_grown_topic_shares_its_objects_and_fetches_only_the_tail(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%0100d" % n, partition=n % 2) for n in range(140_000)])
    before = froze("before")
    produce(broker, topic, [Sent(b"more %d" % n, partition=n % 2) for n in range(500)])
    after = froze("after")
    assert (after.fetched, after.reused) == (500, 140_000)
    assert set(before.snapshot.storage.objects) < set(after.snapshot.storage.objects)
    assert len(after.snapshot.storage.objects) == len(before.snapshot.storage.objects) + 2
    assert after.written_bytes < 30_000
    anew = froze("after", at=Home(tmp_path / "anew"))
    assert anew.snapshot.id == after.snapshot.id
    after.snapshot.verify(deep=True)
    inside = froze("inside", f"{topic}[0]@100..60000")
    assert (inside.fetched, inside.reused, inside.written_bytes) == (0, 59_900, 0)
    assert inside.snapshot.scan(topic).collect()["offset"].to_list() == list(range(100, 60_000))


def test_without_the_index_everything_is_fetched_again_to_the_same_id(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one")
    shutil.rmtree(home.path / "index")
    second = froze("two")
    assert (second.snapshot.id, second.fetched) == (first.snapshot.id, 10)


def test_a_log_with_another_leader_epoch_is_not_the_one_that_was_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one")
    (entry,) = (home.path / "index").rglob("*.json")
    known = json.loads(entry.read_text())
    assert known == {"start": "0", "last_offset": "9", "leader_epoch": 0}
    entry.write_text(json.dumps({**known, "leader_epoch": 7}))
    second = froze("two")
    assert (second.fetched, second.snapshot.id) == (10, first.snapshot.id)


@pytest.mark.parametrize("last_offset", [3, 99])
def test_many_partitions_are_asked_for_together_and_one_that_is_shorter_now_is_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, last_offset: int
) -> None:
    make(12)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 12) for n in range(60)])
    first = froze("one")
    assert (froze("two").fetched, froze("two").reused) == (0, 60)
    (entry,) = (home.path / "index").rglob(f"7/{first.snapshot.id}.json")
    # As if the log of partition 7 had been longer, or what is known of it ended earlier.
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "last_offset": str(last_offset)}))
    third = froze("three")
    assert (third.fetched, third.snapshot.id) == ({3: 1, 99: 5}[last_offset], first.snapshot.id)


def test_a_damaged_object_is_not_built_upon_and_is_healed_by_freezing_again(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one").snapshot
    (name,) = first.storage.objects
    first.store.object(name).unlink()
    again = froze("one")
    assert (again.existed, again.fetched, again.snapshot.id) == (True, 10, first.id)
    again.snapshot.verify(deep=True)


def test_compacted_topics_and_topics_made_anew_are_never_built_upon(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, client: Client
) -> None:
    make(cleanup_policy="compact")
    produce(broker, topic, [Sent(b"x", b"k")] * 10)
    froze("one")
    assert (froze("two").fetched, froze("two").reused) == (10, 0)
    delete_topic(client, topic)
    make()
    produce(broker, topic, [Sent(b"x", b"k")] * 10)
    anew = froze("three")
    assert anew.fetched == 10
    assert len({found.id for found in map(mlstream_open(anew.snapshot), ("one", "three"))}) == 2


def mlstream_open(snapshot: Snapshot) -> Callable[[str], Snapshot]:
    return lambda name: mlstream.open_snapshot(name, home=snapshot.store.home)


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


# --- bad input: a clear error that says what to do, and nothing half-written ---


def files(home: Home) -> list[str]:
    """Everything but locks."""
    if not home.path.exists():
        return []
    return sorted(str(p.relative_to(home.path)) for p in home.path.rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("{topic}x", UnknownTopic, "did you mean"),
        ("{topic}[7]", UnknownPartition, "has no partition 7"),
        ("{topic}@5..5", EmptyRange, "nothing between 5 and 5"),
        ("{topic}@0..11", OffsetOutOfRange, "use --to 10, or --to latest"),
        ("{topic}@99..latest", OffsetOutOfRange, "the stream ends at 10"),
        ("{topic}@yesterday..latest", UsageError, "not a position"),
        ("{topic}@group:nobody..latest", UsageError, "has committed no offset"),
    ],
)
def test_a_range_that_is_not_there_is_refused_and_leaves_nothing(
    broker: Connection,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    home: Home,
    what: str,
    error: type[Exception],
    message: str,
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    with pytest.raises(error, match=message):
        froze("bad", what.format(topic=topic))
    assert files(home) == []


def test_a_start_below_the_log_start_is_refused_unless_partial_is_allowed(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(200)])
    delete_records(client, topic, {0: 40})
    with pytest.raises(OffsetOutOfRange, match="asked from 0, the broker keeps 40 onward; use --from 40"):
        froze("whole", f"{topic}@0..latest")
    assert files(home) == []
    part = froze("part", f"{topic}@0..latest", allow_partial=True).snapshot
    assert not part.complete
    assert [found.missing for found in part.streams[0].partitions] == [((0, 40),), ()]
    assert part.rows == 160
    assert part.scan(topic).collect()["offset"].to_list() == [*range(40, 100), *range(100)]
    assert oracle.recomputed_id(home.path, part.id) == part.id


def test_a_name_that_is_taken_is_refused_before_anything_is_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    froze("taken")
    before = files(home)
    seen: list[Progress] = []
    with pytest.raises(NameTaken, match="'taken' exists already and holds something else"):
        froze("taken", f"{topic}@0..5", progress=seen.append)
    assert (files(home), seen) == (before, [])
    again = froze("taken")
    assert again.existed


@pytest.mark.parametrize("name", ["Upper", "a b", "", "../x", "deadbeefdeadbeef"])
def test_a_name_that_is_none_is_refused(froze: Freeze, name: str) -> None:
    with pytest.raises(UsageError, match="snapshot"):
        froze(name)


def test_a_broker_that_is_not_there_is_an_error_within_ten_seconds(home: Home) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        mlstream.snapshot(
            "x", topics=["t"], connection=Connection(bootstrap_servers=("127.0.0.1:1",), settings={}), home=home
        )
    assert time.monotonic() - began < 11
    assert files(home) == []


def test_a_home_that_cannot_be_a_store_is_an_error(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")])
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="set MLSTREAM_HOME to a folder"):
        froze("x", at=Home(tmp_path / "file"))


def test_a_topic_that_is_made_anew_while_it_is_copied_is_an_error_and_nothing_is_kept(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    done: list[bool] = []

    def replace(_progress: Progress) -> None:
        if not done:
            done.append(True)
            delete_topic(client, topic)
            make()
            produce(broker, topic, [Sent(b"y")] * 10)

    with pytest.raises(TopicChanged, match=topic):
        froze("x", progress=replace, allow_partial=True)
    assert files(home) == []


def test_a_topic_that_is_deleted_while_it_is_copied_is_an_error(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    with pytest.raises(TopicChanged, match="deleted"):
        froze("x", progress=lambda _: delete_topic(client, topic, missing_ok=True))
    assert files(home) == []


@pytest.mark.parametrize("allow_partial", [False, True])
def test_records_that_expire_while_they_are_copied_are_an_error_or_missing(
    broker: Connection,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    home: Home,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    allow_partial: bool,
) -> None:
    monkeypatch.setattr(copying, "FETCH_BYTES", 1)  # one batch an answer
    monkeypatch.setattr(copying, "BUFFER_BYTES", 1)
    make()
    for _ in range(60):
        produce(broker, topic, [Sent(b"x" * 1000)] * 10, codec="none")

    def expire(_progress: Progress) -> None:
        delete_records(client, topic, {0: 500})

    if not allow_partial:
        with pytest.raises(OffsetOutOfRange, match="500"):
            froze("x", f"{topic}@0..600", progress=expire)
        assert files(home) == []
        return
    found = froze("x", f"{topic}@0..600", progress=expire, allow_partial=True).snapshot
    (part,) = found.streams[0].partitions
    ((lost, back),) = part.missing
    assert not found.complete
    assert (0 < lost < 500, back) == (True, 500)
    assert found.scan(topic).collect()["offset"].to_list() == [*range(lost), *range(500, 600)]
    assert not (home.path / "index").exists()  # nothing is built upon a partial one


def test_a_gap_that_the_log_start_has_passed_is_doubted(
    broker: Connection, make: Callable[..., None], topic: str, home: Home, client: Client
) -> None:
    # A copy of [0, 10) that got eight records, of a log that keeps only 5 onward now: did two expire, or were they
    # compacted away? Nobody can tell.
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    fixed = fix(client, select([topic]))
    (wanted,) = fixed.ranges
    plan = plan_partition(wanted)
    rows = assemble(home, plan, [plain(8)])
    copied = [Copied(plan, rows, (), control=0, aborted=0, leader_epochs=())]
    assert ask_again(client, fixed, copied, allow_partial=False) is False  # all is still there: it is no loss
    delete_records(client, topic, {0: 5})
    with pytest.raises(OffsetOutOfRange, match="records expired while they were copied; the broker keeps 5 onward"):
        ask_again(client, fixed, copied, allow_partial=False)
    assert ask_again(client, fixed, copied, allow_partial=True) is True
    explained = [Copied(plan, rows, (), control=2, aborted=0, leader_epochs=())]
    assert ask_again(client, fixed, explained, allow_partial=False) is False


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
