"""How a range is put together from what the store holds and what must be fetched: pure, cell by cell."""

from __future__ import annotations

import pytest

from mlstream.ranges import PartitionRange
from mlstream.snapshots.manifest import CELL_OFFSETS, Cell
from mlstream.snapshots.plan import MAX_PIECES, Fetch, Known, Stored, cell_ranges, plan_partition
from mlstream.snapshots.storage import Piece, StoredCell

CELL = CELL_OFFSETS


def wanted(start: int, stop: int) -> PartitionRange:
    return PartitionRange("t", 0, start, stop)


def holding(start: int, stop: int, *, empty: tuple[int, ...] = (), pieces: int = 1) -> Known:
    """A snapshot's part without gaps, except for cells in `empty`."""
    cells = {}
    groups = []
    for low, high in cell_ranges(start, stop):
        number = low // CELL
        groups.append(b"%032d" % number)
        if number not in empty:
            cell = Cell(low, high, high - low, b"p" * 32, b"%032d" % number, 0, 0, 1)
            cells[number] = StoredCell(cell, tuple(Piece(f"{number}-{n}", 0, 1) for n in range(pieces)))
    return Known(start, stop, cells, tuple(groups))


def test_a_range_is_cut_at_the_cells_edges() -> None:
    assert list(cell_ranges(5, 2 * CELL + 1)) == [(5, CELL), (CELL, 2 * CELL), (2 * CELL, 2 * CELL + 1)]
    assert list(cell_ranges(CELL, CELL)) == []
    assert list(cell_ranges(CELL, 2 * CELL)) == [(CELL, 2 * CELL)]


def test_with_nothing_known_everything_is_fetched_at_once() -> None:
    plan = plan_partition(wanted(5, 3 * CELL))
    assert plan.fetches() == [wanted(5, 3 * CELL)]
    assert len(plan.cells) == 3


def test_the_same_range_again_fetches_nothing_and_takes_the_cells_as_they_are() -> None:
    known = holding(5, 2 * CELL + 9)
    plan = plan_partition(wanted(5, 2 * CELL + 9), [known])
    assert plan.fetches() == []
    assert [cell.exact for cell in plan.cells] == list(known.cells.values())
    assert plan.groups == known.groups
    assert plan.groups_rows == 2 * CELL + 4


def test_growth_fetches_only_the_tail_and_completes_the_last_cell() -> None:
    known = holding(0, CELL + 100)
    plan = plan_partition(wanted(0, 2 * CELL + 7), [known])
    assert plan.fetches() == [wanted(CELL + 100, 2 * CELL + 7)]
    assert plan.cells[0].exact == known.cells[0]
    assert plan.cells[1].parts == (Stored(CELL, CELL + 100, known.cells[1]), Fetch(CELL + 100, 2 * CELL))
    assert (plan.groups, plan.groups_rows) == (known.groups[:1], CELL)


def test_a_range_inside_a_known_one_fetches_nothing() -> None:
    known = holding(0, 2 * CELL)
    plan = plan_partition(wanted(10, CELL + 10), [known])
    assert plan.fetches() == []
    assert plan.cells[0].parts == (Stored(10, CELL, known.cells[0]),)
    assert plan.groups == ()


def test_holes_between_known_ranges_are_fetched_one_by_one() -> None:
    known = [holding(CELL, 2 * CELL), holding(3 * CELL, 4 * CELL)]
    plan = plan_partition(wanted(0, 5 * CELL), known)
    assert plan.fetches() == [wanted(0, CELL), wanted(2 * CELL, 3 * CELL), wanted(4 * CELL, 5 * CELL)]


def test_two_snapshots_of_one_cell_are_put_together() -> None:
    known = [holding(0, 100), holding(50, 200)]
    plan = plan_partition(wanted(0, 300), known)
    assert plan.cells[0].parts == (
        Stored(0, 100, known[0].cells[0]),
        Stored(100, 200, known[1].cells[0]),
        Fetch(200, 300),
    )


def test_cells_known_to_be_empty_are_neither_fetched_nor_listed() -> None:
    plan = plan_partition(wanted(0, 3 * CELL), [holding(0, 3 * CELL, empty=(1,))])
    assert [cell.start for cell in plan.cells] == [0, 2 * CELL]
    assert plan.fetches() == []


def test_a_cell_of_too_many_pieces_is_written_anew() -> None:
    known = holding(0, 100, pieces=MAX_PIECES)
    assert plan_partition(wanted(0, 200), [known]).cells[0].parts[0] == Stored(0, 100, known.cells[0], rewrite=True)
    fewer = holding(0, 100, pieces=MAX_PIECES - 1)
    assert plan_partition(wanted(0, 200), [fewer]).cells[0].parts[0] == Stored(0, 100, fewer.cells[0])


@pytest.mark.parametrize("start", [1, CELL])
def test_groups_of_another_start_are_not_taken_over(start: int) -> None:
    plan = plan_partition(wanted(start, 4 * CELL), [holding(0, 4 * CELL)])
    assert (plan.groups, plan.groups_rows) == ((), 0)
