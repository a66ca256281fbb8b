"""diff of streams: by offset within a topic, by content between topics; the plain twin is a dict; little is read."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlstream
from mlstream.broker.admin import create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.content import SchemaContent
from mlstream.snapshots.difference import Difference, PartitionDifference
from mlstream.snapshots.manifest import CELL_OFFSETS
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import Row, columns, make_snapshot, plain, values

OTHER_TOPIC = "topic-000000000000000B"
numbers = count()


def one(difference: Difference) -> PartitionDifference:
    (stream,) = difference.streams
    (part,) = stream.partitions
    return part


def counts(part: PartitionDifference) -> tuple[int, ...]:
    return part.same, part.changed, part.removed, part.added, part.old_only, part.new_only


def with_value(rows: pa.RecordBatch, at: int, value: bytes) -> pa.RecordBatch:
    found = rows.column("value").to_pylist()
    found[at] = value
    return rows.set_column(4, rows.schema.field(4), pa.array(found, pa.binary()))


def test_a_snapshot_does_not_differ_from_itself_and_nothing_is_read(home: Home) -> None:
    made = make_snapshot(home, "a", {"t": {0: plain(100)}})
    for path in (made.store.object(name) for name in made.storage.objects):
        path.unlink()
    found = made.diff(mlstream.open_snapshot(made.id, home=home))
    assert (found.differs, counts(one(found)), one(found).rows_read) == (False, (100, 0, 0, 0, 0, 0), 0)


def test_only_the_cell_that_differs_is_read(home: Home) -> None:
    rows = plain(4 * CELL_OFFSETS, size=150)
    old = make_snapshot(home, "a", {"t": {0: rows, 1: plain(10)}})
    new = make_snapshot(home, "b", {"t": {0: with_value(rows, 70_000, b"other"), 1: plain(10)}})
    for made in old, new:  # all other objects may be gone
        needed = {piece.object for piece in made.stored("t")[0].cells[1].pieces}
        for name in made.storage.objects.keys() - needed:
            made.store.object(name).unlink(missing_ok=True)
    (stream,) = old.diff(new).streams
    part, same = stream.partitions
    assert counts(part) == (4 * CELL_OFFSETS - 1, 1, 0, 0, 0, 0)
    assert part.rows_read == 2 * CELL_OFFSETS
    assert (same.differs, same.rows_read) == (False, 0)
    (record,) = stream.records
    assert (record.change, record.fields, record.partition) == ("changed", ("value",), 0)
    assert record.old is not None
    assert record.new is not None
    assert (record.old.offset, record.old.value, record.new.value) == (70_000, b"%0150d" % 70_000, b"other")


def test_an_object_that_is_needed_and_missing_is_named(home: Home) -> None:
    old = make_snapshot(home, "a", {"t": {0: columns(values([b"a"]))}})
    new = make_snapshot(home, "b", {"t": {0: columns(values([b"b"]))}})
    (name,) = new.storage.objects
    new.store.object(name).unlink()
    with pytest.raises(IntegrityError, match=f"object {name}: it is missing"):
        old.diff(new)


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        (Row(0, b"w", key=b"k"), ("value",)),
        (Row(0, None, key=b"k"), ("value",)),
        (Row(0, b"v", key=b""), ("key",)),
        (Row(0, b"v", key=b"k", timestamp=None), ("timestamp_ms",)),
        (Row(0, b"v", key=b"k", timestamp_type=1), ("timestamp_type",)),
        (Row(0, b"v", key=b"k", headers=((b"h", None), (b"h", b""))), ("headers",)),
        (Row(0, b"", key=None, timestamp=1), ("timestamp_ms", "key", "value")),
    ],
)
def test_every_field_of_a_record_counts(home: Home, changed: Row, fields: tuple[str, ...]) -> None:
    old = make_snapshot(home, "a", {"t": {0: columns([Row(0, b"v", key=b"k")])}})
    new = make_snapshot(home, "b", {"t": {0: columns([changed])}})
    (record,) = old.diff(new).streams[0].records
    assert record.fields == fields


@pytest.mark.parametrize(
    ("old", "new", "common", "found"),
    [
        ((0, 1000), (0, 1000), (0, 1000), (1000, 0, 0, 0, 0, 0)),
        ((0, 1000), (500, 2000), (500, 1000), (500, 0, 0, 0, 500, 1000)),
        ((0, 1000), (1000, 2000), None, (0, 0, 0, 0, 1000, 1000)),
        ((100, 200), (0, 70_000), (100, 200), (100, 0, 0, 0, 0, 69_900)),
        ((70_000, 140_000), (60_000, 80_000), (70_000, 80_000), (10_000, 0, 0, 0, 60_000, 10_000)),
    ],
)
def test_ranges_that_overlap_in_part_or_not_at_all(
    home: Home, old: tuple[int, int], new: tuple[int, int], common: tuple[int, int] | None, found: tuple[int, ...]
) -> None:
    made = [
        make_snapshot(home, name, {"t": {0: plain(stop - start, start=start)}}, ranges={0: (start, stop)})
        for name, (start, stop) in (("a", old), ("b", new))
    ]
    part = one(made[0].diff(made[1]))
    assert (part.common, counts(part)) == (common, found)
    assert (part.old_range, part.new_range) == (old, new)


records = st.dictionaries(
    st.integers(0, 9),  # times 20,000: offsets in several cells
    st.tuples(st.sampled_from([None, b"", b"x", b"y"]), st.sampled_from([None, 5])),
    max_size=8,
)
contents = st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=12)
bounds = st.tuples(st.integers(0, 10), st.integers(0, 10)).map(lambda found: (min(found), max(found)))


def made_of(home: Home, found: dict[int, tuple[bytes | None, int | None]], span: tuple[int, int]) -> Snapshot:
    start, stop = span[0] * 20_000, span[1] * 20_000
    rows = [
        Row(offset * 20_000, value, timestamp=timestamp)
        for offset, (value, timestamp) in sorted(found.items())
        if start <= offset * 20_000 < stop
    ]
    return make_snapshot(home, f"s{next(numbers)}", {"t": {0: columns(rows)}}, ranges={0: (start, stop)})


@given(old=records, new=records, old_span=bounds, new_span=bounds)
@settings(deadline=None, max_examples=40)
def test_comparing_by_offset_equals_its_plain_twin(
    old: dict[int, tuple[bytes | None, int | None]],
    new: dict[int, tuple[bytes | None, int | None]],
    old_span: tuple[int, int],
    new_span: tuple[int, int],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        left, right = made_of(home, old, old_span), made_of(home, new, new_span)
        difference = left.diff(right, limit=100)
    mine = {offset: row for offset, row in old.items() if old_span[0] <= offset < old_span[1]}
    theirs = {offset: row for offset, row in new.items() if new_span[0] <= offset < new_span[1]}
    common = range(max(old_span[0], new_span[0]), min(old_span[1], new_span[1]))
    both = mine.keys() & theirs.keys()
    changed = {offset for offset in both if mine[offset] != theirs[offset]}
    removed, added = (mine.keys() - theirs.keys()) & {*common}, (theirs.keys() - mine.keys()) & {*common}
    part = one(difference)
    assert counts(part) == (
        len(both) - len(changed),
        len(changed),
        len(removed),
        len(added),
        len(mine.keys() - {*common}),
        len(theirs.keys() - {*common}),
    )
    shown = [(r.change, (r.old or r.new).offset // 20_000) for r in difference.streams[0].records]  # type: ignore[union-attr]
    kinds = {"changed": changed, "removed": removed, "added": added}
    assert shown == sorted(
        ((kind, offset) for kind, found in kinds.items() for offset in found), key=lambda each: each[1]
    )


@given(old=contents, new=contents)
@settings(deadline=None, max_examples=40)
def test_comparing_by_content_equals_its_plain_twin(old: list[bytes | None], new: list[bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        left = make_snapshot(Home(Path(folder)), "a", {"t": {0: rows_of(old)}})
        right = make_snapshot(Home(Path(folder)), "b", {"t": {0: rows_of(new, start=7)}}, topic_id=OTHER_TOPIC)
        difference = left.diff(right, limit=100)
    part = one(difference)
    removed, added = Counter(old) - Counter(new), Counter(new) - Counter(old)
    assert part.removed + part.changed == removed.total()
    assert part.added + part.changed == added.total()
    assert part.same == len(old) - removed.total()
    gone = Counter(record.old.value for record in difference.streams[0].records if record.old is not None)
    come = Counter(record.new.value for record in difference.streams[0].records if record.new is not None)
    assert (gone, come) == (removed, added)
    if not removed and not added:
        assert part.reordered == (old != new)


def rows_of(found: Sequence[bytes | None], *, start: int = 0) -> pa.RecordBatch:
    return columns([Row(start + n, value) for n, value in enumerate(found)])


def test_a_copy_in_another_topic_is_the_same_whatever_its_offsets_and_is_not_read(home: Home) -> None:
    old = make_snapshot(home, "a", {"t": {0: plain(1000), 1: plain(10)}})
    moved = plain(1000).set_column(0, "offset", pa.array(range(50, 3050, 3), pa.int64()))
    new = make_snapshot(home, "b", {"restored": {0: moved, 1: plain(10)}}, topic_id=OTHER_TOPIC)
    found = old.diff(new)
    (stream,) = found.streams
    assert (stream.old, stream.new, stream.by, stream.change) == ("t", "restored", "content", "same")
    assert [part.rows_read for part in stream.partitions] == [0, 0]
    assert found.differs  # they are not the same dataset: the topics are others


def changed_by(
    home: Home, change: Callable[[list[bytes | None]], list[bytes | None]], size: int = 200
) -> PartitionDifference:
    found: list[bytes | None] = [b"%d" % n for n in range(size)]
    old = make_snapshot(home, "a", {"t": {0: rows_of(found)}})
    new = make_snapshot(home, "b", {"t": {0: rows_of(change(found))}}, cluster_id="elsewhere")
    return one(old.diff(new))


def test_by_content_an_insertion_is_one_added_record(home: Home) -> None:
    part = changed_by(home, lambda found: [*found[:50], b"new", *found[50:]])
    assert (counts(part), part.reordered) == ((200, 0, 0, 1, 0, 0), False)


def test_by_content_a_record_that_was_replaced_in_its_place_is_changed(home: Home) -> None:
    part = changed_by(home, lambda found: [*found[:50], b"new", *found[51:]])
    assert (counts(part), part.reordered) == ((199, 1, 0, 0, 0, 0), False)


def test_by_content_another_order_is_told(home: Home) -> None:
    part = changed_by(home, lambda found: [*found[:50], found[51], found[50], *found[52:]])
    assert (counts(part), part.reordered, part.differs) == ((200, 0, 0, 0, 0, 0), True, True)


def test_by_content_of_repeated_records_the_right_one_is_missed(home: Home) -> None:
    part = changed_by(home, lambda found: [b"x", b"y", b"x"][1:], size=0)
    assert part.added == 2
    old = make_snapshot(home, "c", {"t": {0: rows_of([b"x", b"y", b"x"])}})
    for name, left in (("d", [b"y", b"x"]), ("e", [b"x", b"y"])):
        new = make_snapshot(home, name, {"t": {0: rows_of(left)}}, cluster_id="elsewhere")
        assert (counts(one(old.diff(new))), one(old.diff(new)).reordered) == ((2, 0, 1, 0, 0, 0), False)


def test_by_content_equal_groups_in_the_same_place_are_not_read(home: Home) -> None:
    rows = plain(3 * CELL_OFFSETS)
    old = make_snapshot(home, "a", {"t": {0: rows}})
    new = make_snapshot(home, "b", {"t": {0: with_value(rows, 70_000, b"new")}}, cluster_id="elsewhere")
    part = one(old.diff(new))
    assert (counts(part), part.rows_read) == ((3 * CELL_OFFSETS - 1, 1, 0, 0, 0, 0), 2 * CELL_OFFSETS)


def test_topics_and_partitions_that_one_does_not_hold_are_named(home: Home) -> None:
    old = make_snapshot(home, "a", {"gone": {0: plain(5)}, "lost": {0: plain(6)}, "t": {0: plain(1), 1: plain(2)}})
    new = make_snapshot(home, "b", {"came": {0: plain(7)}, "t": {1: plain(2), 2: plain(3)}})
    found = old.diff(new)
    assert [(stream.old, stream.new, stream.change) for stream in found.streams] == [
        (None, "came", "added"),
        ("gone", None, "removed"),
        ("lost", None, "removed"),
        ("t", "t", "changed"),
    ]
    assert [counts(part) for part in found.streams[3].partitions] == [
        (0, 0, 0, 0, 1, 0),
        (2, 0, 0, 0, 0, 0),
        (0, 0, 0, 0, 0, 3),
    ]


def test_a_topic_that_was_made_anew_is_compared_by_content(home: Home) -> None:
    old = make_snapshot(home, "a", {"t": {0: plain(5)}})
    new = make_snapshot(home, "b", {"t": {0: plain(5)}}, topic_id=OTHER_TOPIC)
    assert old.diff(new).streams[0].by == "content"


def test_records_are_counted_beyond_those_that_are_shown(home: Home) -> None:
    old = make_snapshot(home, "a", {"t": {0: columns(values([b"a"] * 50)), 1: columns(values([b"a"] * 50))}})
    new = make_snapshot(home, "b", {"t": {0: columns(values([b"b"] * 50)), 1: columns(values([b"b"] * 50))}})
    for limit in 0, 3, 60:
        (stream,) = old.diff(new, limit=limit).streams
        places = [(record.partition, record.old.offset) for record in stream.records if record.old is not None]
        assert places == [(part, offset) for part in (0, 1) for offset in range(50)][:limit]
        assert sum(part.changed for part in stream.partitions) == 100


def test_schemas_of_a_registry_are_compared_by_their_ids(home: Home) -> None:
    first = SchemaContent(1, "AVRO", '"string"')
    text, other = SchemaContent(2, "AVRO", '"int"'), SchemaContent(3, "JSON", "{}")
    old = make_snapshot(home, "a", {"t": {0: plain(5)}}, schemas={"t": (first, text)})
    new = make_snapshot(home, "b", {"t": {0: plain(5)}}, schemas={"t": (replace(first, text='"long"'), other)})
    (stream,) = old.diff(new).streams
    assert [(schema.id, schema.change) for schema in stream.schemas] == [(1, "changed"), (2, "removed"), (3, "added")]
    assert stream.change == "changed"


def test_snapshots_of_two_homes_are_compared(home: Home, tmp_path: Path) -> None:
    old = make_snapshot(home, "a", {"t": {0: columns(values([b"a", b"b"]))}})
    new = make_snapshot(Home(tmp_path / "other"), "a", {"t": {0: columns(values([b"a", b"c"]))}})
    assert counts(one(old.diff(new))) == (1, 1, 0, 0, 0, 0)


@pytest.mark.broker
def test_of_a_topic_that_grew_only_the_new_rows_of_one_cell_are_looked_at(
    broker: Connection, client: Client, topic: str, home: Home
) -> None:
    create_topic(client, topic, partitions=1)
    produce(broker, topic, [Sent(b"%d" % n) for n in range(70_000)])
    old = mlstream.snapshot("old", topics=[topic], connection=broker, home=home)
    produce(broker, topic, [Sent(b"new")] * 100)
    new = mlstream.snapshot("new", topics=[topic], connection=broker, home=home)
    part = one(old.diff(new))
    assert counts(part) == (70_000, 0, 0, 0, 0, 100)
    assert part.rows_read == 100
    assert counts(one(new.diff(old))) == (70_000, 0, 0, 0, 100, 0)


def test_comparing_by_offset_loads_no_kernels_and_no_pandas(home: Home) -> None:
    make_snapshot(home, "a", {"t": {0: columns([Row(0, b"v"), Row(1, None)])}})
    make_snapshot(home, "b", {"t": {0: columns([Row(0, b"w"), Row(2, b"")])}})
    program = (
        "import sys\n"
        "from mlstream.cli.main import run\n"
        "assert run(['--home', sys.argv[1], 'snapshot', 'diff', 'a', 'b']) == 0\n"
        "print([name for name in ('pandas', 'numba', 'kafka') if name in sys.modules])\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, str(home.path)], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "~ [0]@0" in done.stdout
