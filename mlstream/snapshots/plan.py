"""How a partition's range is put together: cell by cell, from what the store holds and from the broker. Pure.

A cell that a snapshot holds exactly as wanted is taken over without reading it. A cell that is held in part is
completed: its known rows are read from the store, only the rest comes from the broker. When a cell would end in too
many pieces, its rows are written anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlstream.ranges import PartitionRange
from mlstream.snapshots.manifest import CELL_OFFSETS, GROUP_ROWS
from mlstream.snapshots.storage import StoredCell

MAX_PIECES = 16


@dataclass(frozen=True, slots=True)
class Known:
    """What one snapshot holds of a partition, checked to be still the broker's: `[start, stop)`, gaps and all.

    Attributes:
        cells: its cells that have rows, by number.
        groups: the payload digests of its groups of 65,536 rows.
    """

    start: int
    stop: int
    cells: dict[int, StoredCell]
    groups: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """Offsets `[start, stop)` from the store: rows of `cell`, or no rows at all when it is None.

    `rewrite`: copy them into a new object, because the cell's pieces are too many.
    """

    start: int
    stop: int
    cell: StoredCell | None
    rewrite: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Offsets `[start, stop)` from the broker."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell's part of the range. `exact` is the stored cell that is just that part; there are no `parts` then."""

    start: int
    stop: int
    parts: tuple[Stored | Fetch, ...]
    exact: StoredCell | None = None


@dataclass(frozen=True, slots=True)
class PartitionPlan:
    """A partition's range, cell by cell; cells that are known to be empty are left out.

    Attributes:
        groups: payload digests of the first groups of rows, known without reading them.
    """

    wanted: PartitionRange
    cells: tuple[PlannedCell, ...]
    groups: tuple[bytes, ...]
    groups_rows: int

    def fetches(self) -> list[PartitionRange]:
        """What has to come from the broker: ranges that do not touch, in order."""
        found: list[PartitionRange] = []
        for cell in self.cells:
            for part in cell.parts:
                if not isinstance(part, Fetch):
                    continue
                if found and found[-1].stop == part.start:
                    part = Fetch(found.pop().start, part.stop)
                found.append(PartitionRange(self.wanted.topic, self.wanted.partition, part.start, part.stop))
        return found


def plan_partition(wanted: PartitionRange, known: Sequence[Known] = ()) -> PartitionPlan:
    """How to get `wanted`, given what is known of the partition; earlier entries of `known` are preferred."""
    cells = []
    for start, stop in cell_ranges(wanted.start, wanted.stop):
        cell = _plan_cell(start, stop, known)
        if cell.exact is not None or cell.parts:
            cells.append(cell)
    groups, rows = _known_groups(wanted, cells, known)
    return PartitionPlan(wanted, tuple(cells), groups, rows)


def cell_ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """`[start, stop)` cut at the cells' edges."""
    while start < stop:
        edge = min((start // CELL_OFFSETS + 1) * CELL_OFFSETS, stop)
        yield start, edge
        start = edge


def _plan_cell(start: int, stop: int, known: Sequence[Known]) -> PlannedCell:
    number = start // CELL_OFFSETS
    for holder in known:
        if holder.start <= start and stop <= holder.stop:
            cell = holder.cells.get(number)
            if cell is None:
                return PlannedCell(start, stop, ())
            if (cell.cell.start, cell.cell.stop) == (start, stop):
                return PlannedCell(start, stop, (), exact=cell)
    parts: list[Stored | Fetch] = []
    at = start
    while at < stop:
        holding = max((h for h in known if h.start <= at < h.stop), key=lambda h: h.stop, default=None)
        if holding is not None:
            part: Stored | Fetch = Stored(at, min(holding.stop, stop), holding.cells.get(number))
        else:
            part = Fetch(at, min((h.start for h in known if at < h.start < stop), default=stop))
        parts.append(part)
        at = part.stop
    pieces = sum(len(part.cell.pieces) for part in parts if isinstance(part, Stored) and part.cell is not None)
    if pieces >= MAX_PIECES:
        parts = [Stored(p.start, p.stop, p.cell, rewrite=True) if isinstance(p, Stored) else p for p in parts]
    return PlannedCell(start, stop, tuple(parts))


def _known_groups(
    wanted: PartitionRange, cells: Sequence[PlannedCell], known: Sequence[Known]
) -> tuple[tuple[bytes, ...], int]:
    """Groups of rows that need no hashing: those of a snapshot with the same start, as far as the cells are its own."""
    best: tuple[tuple[bytes, ...], int] = ((), 0)
    for holder in known:
        if holder.start != wanted.start:
            continue
        rows = 0
        whole = True
        for cell in cells:
            if cell.exact is None or holder.cells.get(cell.start // CELL_OFFSETS) != cell.exact:
                whole = False
                break
            rows += cell.exact.cell.rows
        if whole and holder.stop == wanted.stop:
            return holder.groups, rows
        full = rows // GROUP_ROWS
        if full * GROUP_ROWS > best[1]:
            best = holder.groups[:full], full * GROUP_ROWS
    return best
