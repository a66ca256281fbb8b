"""Rows to cells, objects and digests: whatever the batches, the threads, the objects and what the store had before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstream.errors import CorruptBatch
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.snapshots import assemble as assembling
from mlstream.snapshots import groups as grouping
from mlstream.snapshots import manifest
from mlstream.snapshots import plan as planning
from mlstream.snapshots.assemble import Assembled
from mlstream.snapshots.manifest import CELL_OFFSETS, PartitionContent, partition_content
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.plan import Known, plan_partition
from mlstream.snapshots.store import Store
from mlstream.wire.columns import SCHEMA
from tests.snapshots import oracle
from tests.snapshots.making import Row, assemble, columns, known_of, make_snapshot, plain, values

CELL = CELL_OFFSETS


def content_of(done: Assembled, wanted: PartitionRange) -> PartitionContent:
    cells = [cell.cell for cell in done.cells]
    return partition_content(wanted.partition, wanted.start, wanted.stop, cells=cells, groups=done.groups)


def expected(batches: Sequence[pa.RecordBatch], wanted: PartitionRange) -> tuple[int, str, str]:
    """Rows, root and payload digest by the plain twin."""
    records = [record for batch in batches for record in oracle.rows_of(pa.Table.from_batches([batch]))]
    records = [record for record in records if wanted.start <= record[0] < wanted.stop]
    return len(records), oracle.root(records, wanted.start, wanted.stop), oracle.payload_digest(records)


def found(content: PartitionContent) -> tuple[int, str, str]:
    return content.rows, content.root, content.payload_digest


def stored(home: Home, done: Assembled) -> pa.Table:
    pieces = [piece for cell in done.cells for piece in cell.pieces]
    batches = [b for piece in pieces for b in read_rows(Store(home).object(piece.object), piece.row, piece.rows)]
    return pa.Table.from_batches(batches, schema=SCHEMA)


@pytest.mark.parametrize(("start", "batch_rows"), [(0, 1000), (7, CELL), (CELL, 100_000), (CELL + 3, 30_000)])
def test_digests_are_those_of_the_plain_twin_for_any_start_and_batch(home: Home, start: int, batch_rows: int) -> None:
    rows = plain(CELL + 500, start=start)
    wanted = PartitionRange("t", 0, start, start + len(rows))
    batches = [rows.slice(first, batch_rows) for first in range(0, len(rows), batch_rows)]
    done = assemble(home, plan_partition(wanted), batches)
    assert found(content_of(done, wanted)) == expected([rows], wanted)
    assert stored(home, done).equals(pa.Table.from_batches([rows]))


def test_gaps_shift_groups_against_cells_and_digests_still_agree(home: Home) -> None:
    stop = 2 * CELL + 300
    keep = [n for n in range(stop) if n % 10 != 3 or n > CELL + 100]
    gapped = plain(stop).take(pa.array(keep))
    wanted = PartitionRange("t", 0, 0, stop)
    done = assemble(home, plan_partition(wanted), [gapped.slice(0, 50_000), gapped.slice(50_000)])
    assert found(content_of(done, wanted)) == expected([gapped], wanted)


def test_threads_and_memory_pressure_do_not_show_in_the_digests(home: Home) -> None:
    rows = plain(CELL + 10)
    wanted = PartitionRange("t", 0, 0, CELL + 10)
    batches = [rows.slice(first, 3000) for first in range(0, len(rows), 3000)]
    calm = assemble(home, plan_partition(wanted), batches)
    pressed = assemble(home, plan_partition(wanted), batches, flush_each=True, budget_bytes=1)
    assert content_of(calm, wanted) == content_of(pressed, wanted)
    assert set(calm.sizes) != set(pressed.sizes)  # other row groups: other bytes, the same content


def test_row_groups_objects_and_their_limits_do_not_show_in_the_digests(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plain(5000, size=300)
    wanted = PartitionRange("t", 0, 0, 5000)
    whole = assemble(home, plan_partition(wanted), [rows])
    monkeypatch.setattr(assembling, "ROW_GROUP_BYTES", 50_000)
    monkeypatch.setattr(assembling, "OBJECT_MAX_BYTES", 400_000)
    pieces = assemble(home, plan_partition(wanted), [rows])
    assert len(pieces.cells[0].pieces) > 3
    assert content_of(whole, wanted) == content_of(pieces, wanted)
    assert stored(home, pieces).equals(stored(home, whole))


def test_small_cells_share_an_object_and_large_ones_have_their_own(home: Home) -> None:
    sparse = columns([Row(n * 4096) for n in range(64)])  # 16 rows a cell
    wanted = PartitionRange("t", 0, 0, 64 * 4096)
    assert len(assemble(home, plan_partition(wanted), [sparse]).sizes) == 1
    full = plain(2 * CELL, size=150)
    wanted = PartitionRange("t", 0, 0, 2 * CELL)
    assert len(assemble(home, plan_partition(wanted), [full]).sizes) == 2


def test_a_range_without_records_has_no_cells(home: Home) -> None:
    wanted = PartitionRange("t", 0, 10, 20)
    done = assemble(home, plan_partition(wanted), [columns([])])
    content = content_of(done, wanted)
    assert (content.rows, content.timestamp_type, content.min_timestamp_ms) == (0, None, None)
    assert found(content) == expected([], wanted)


def test_times_and_timestamp_types_are_those_of_the_rows(home: Home) -> None:
    rows = [Row(0, timestamp=50), Row(1, timestamp=None), Row(2, timestamp=20, timestamp_type=1)]
    wanted = PartitionRange("t", 0, 0, 3)
    content = content_of(assemble(home, plan_partition(wanted), [columns(rows)]), wanted)
    assert (content.min_timestamp_ms, content.max_timestamp_ms, content.timestamp_type) == (20, 50, "mixed")


@pytest.mark.parametrize(
    ("first", "more"), [(100, 1), (100, CELL), (CELL, 50), (CELL + 100, 50), (CELL + 100, CELL), (2 * CELL, 1)]
)
def test_a_grown_partition_has_the_digests_of_one_that_was_copied_whole(home: Home, first: int, more: int) -> None:
    rows = plain(first + more)
    small, large = PartitionRange("t", 0, 0, first), PartitionRange("t", 0, 0, first + more)
    before = assemble(home, plan_partition(small), [rows.slice(0, first)])
    plan = plan_partition(large, [known_of(before, small)])
    grown = assemble(home, plan, [rows.slice(first)])
    whole = assemble(home, plan_partition(large), [rows])
    assert content_of(grown, large) == content_of(whole, large)
    assert (grown.fetched, grown.reused) == (more, first)
    assert stored(home, grown).equals(pa.Table.from_batches([rows]))


def test_growing_again_and_again_keeps_the_pieces_of_a_cell_few(home: Home) -> None:
    rows = plain(40)
    known, content = [], None
    for stop in range(1, 41):
        wanted = PartitionRange("t", 0, 0, stop)
        done = assemble(home, plan_partition(wanted, known), [rows.slice(stop - 1, 1)])
        known, content = [known_of(done, wanted)], content_of(done, wanted)
        assert len(done.cells[0].pieces) <= 17
    assert content is not None
    assert found(content) == expected([rows], PartitionRange("t", 0, 0, 40))


@pytest.fixture
def small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells and groups of 64, and small objects, so that a few thousand records have many of each."""
    for module in (manifest, planning):
        monkeypatch.setattr(module, "CELL_OFFSETS", 64)
    for module in (manifest, planning, grouping):
        monkeypatch.setattr(module, "GROUP_ROWS", 64)
    monkeypatch.setattr(oracle, "CELL", 64)
    monkeypatch.setattr(oracle, "GROUP", 64)
    monkeypatch.setattr(assembling, "OBJECT_BYTES", 8000)
    monkeypatch.setattr(assembling, "ROW_GROUP_BYTES", 3000)


@pytest.mark.usefixtures("small_cells")
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_parts_that_the_store_has_lead_to_the_same_content(home: Home, data: st.DataObject) -> None:
    total = 1200
    rows = plain(total)
    gone = data.draw(st.sets(st.integers(0, total - 1), max_size=12) | st.just(set(range(100, 300))))
    rows = rows.take(pa.array([n for n in range(total) if n not in gone]))
    offsets = rows.column("offset").to_numpy()

    def between(low: int, high: int) -> pa.RecordBatch:
        first, last = (int(n) for n in np.searchsorted(offsets, (low, high)))
        return rows.slice(first, last - first)

    edge = st.sampled_from([0, 64, 128, 640]) | st.integers(0, total)
    known: list[Known] = []
    for _ in range(data.draw(st.integers(1, 4))):
        low, high = sorted((data.draw(edge), data.draw(edge)))
        wanted = PartitionRange("t", 0, low, high)
        plan = plan_partition(wanted, known)
        fetched = [between(part.start, part.stop) for part in plan.fetches()]
        cut = data.draw(st.integers(1, 200))
        batches = [part.slice(first, cut) for part in fetched for first in range(0, len(part), cut)]
        done = assemble(home, plan, batches, flush_each=data.draw(st.booleans()))
        assert found(content_of(done, wanted)) == expected([between(low, high)], wanted)
        assert stored(home, done).equals(pa.Table.from_batches([between(low, high)]))
        assert done.fetched == sum(map(len, fetched))
        known.insert(data.draw(st.integers(0, len(known))), known_of(done, wanted))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Row(3), Row(3)], "do not increase"),
        ([Row(4), Row(2)], "do not increase"),
        ([Row(50)], "not an offset that was asked for"),
    ],
)
def test_rows_out_of_order_or_range_are_refused(home: Home, rows: list[Row], message: str) -> None:
    with pytest.raises(CorruptBatch, match=message):
        assemble(home, plan_partition(PartitionRange("t", 0, 0, 10)), [columns(rows)])


def test_keys_are_stored_as_a_dictionary_only_where_they_repeat(home: Home) -> None:
    def encodings(keys: list[bytes]) -> tuple[str, ...]:
        rows = [Row(n, b"v", key=key) for n, key in enumerate(keys)]
        done = assemble(home, plan_partition(PartitionRange("t", 0, 0, len(rows))), [columns(rows)])
        (name,) = done.sizes
        group = pq.read_metadata(Store(home).object(name)).row_group(0)
        return next(
            group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "key"
        ).encodings

    assert any("DICT" in name for name in encodings([b"a", b"b"] * 50))
    assert not any("DICT" in name for name in encodings([b"%d" % n for n in range(100)]))


def test_an_object_can_be_read_alone(home: Home) -> None:
    made = make_snapshot(home, "one", {"t": {3: columns(values([b"a", b"b"]))}})
    (name,) = made.storage.objects
    path = Store(home).object(name)
    table = pq.read_table(path)
    assert table.column("partition").to_pylist() == [3, 3]
    assert table.column("value").to_pylist() == [b"a", b"b"]
