"""Recompute the digests of stored stream records from their rows. Reads objects, trusts nothing but the manifest.

The unit of work is a segment: sixteen cells of a partition. Segments are checked side by side, and one that several
snapshots share is the same value in each, so that it need not be checked twice. A group of 65,536 rows belongs to the
segment in which it begins; where it reaches into the next one, those rows are read twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlstream.errors import MlstreamError
from mlstream.snapshots.canonical import RunDigest, payloads_of, positions_of
from mlstream.snapshots.findings import Finding
from mlstream.snapshots.manifest import GROUP_ROWS
from mlstream.snapshots.objects import PARTITION, read_rows
from mlstream.snapshots.storage import Piece, StoredCell, StoredPartition
from mlstream.snapshots.store import Store

SEGMENT_CELLS = 16
_ROWS_AT_ONCE = 8192  # canonical bytes are made and hashed in pieces that stay in the processor's cache
# What reading rows that are not what they should be may raise: a store from elsewhere can hold anything.
UNREADABLE = (MlstreamError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError, OSError)


@dataclass(frozen=True, slots=True)
class Segment:
    """Successive cells of a partition, and what their rows have to come to.

    Attributes:
        row: how many rows of the range come before, counted from the start of the group that is under way.
        groups: digests of the groups that begin in it.
        tail: the cells after it that the last of these groups reaches into.
        number: which group the first of `groups` is.
    """

    topic: str
    partition: int
    row: int
    cells: tuple[StoredCell, ...]
    tail: tuple[StoredCell, ...]
    groups: tuple[bytes, ...]
    number: int

    @property
    def pieces(self) -> Iterator[Piece]:
        """The rows of objects that its own cells are made of."""
        return (piece for cell in self.cells for piece in cell.pieces)


def segments(topic: str, part: StoredPartition) -> Iterator[Segment]:
    """A partition cut into segments, at the same offsets whatever its range."""
    first = 0
    rows = 0
    while first < len(part.cells):
        place = part.cells[first].cell.number // SEGMENT_CELLS
        last = first
        until = rows
        while last < len(part.cells) and part.cells[last].cell.number // SEGMENT_CELLS == place:
            until += part.cells[last].cell.rows
            last += 1
        number, after = -(-rows // GROUP_ROWS), -(-until // GROUP_ROWS)
        reach, tail = until, last
        while tail < len(part.cells) and number < after and reach < after * GROUP_ROWS:
            reach += part.cells[tail].cell.rows
            tail += 1
        yield Segment(
            topic,
            part.partition,
            rows % GROUP_ROWS,
            part.cells[first:last],
            part.cells[last:tail],
            part.groups[number:after],
            number,
        )
        first, rows = last, until


def check_segment(store: Store, segment: Segment, broken: Container[str] = ()) -> list[Finding]:
    """Recompute a segment's cells and groups.

    Args:
        broken: objects that are known to be missing or changed; what needs them is left out.
    """
    return _Check(store, segment, broken).run()


class _Check:
    """One segment under way: the row that comes next, and the groups that it spoils or completes."""

    def __init__(self, store: Store, segment: Segment, broken: Container[str]) -> None:
        self._store = store
        self._segment = segment
        self._broken = broken
        self._cells = (*segment.cells, *segment.tail)
        self._findings: list[Finding] = []
        self._row = segment.row
        self._group = hashlib.sha256()
        self._found: dict[int, bytes] = {}  # groups, counted from the one that `row` is counted from
        # With a row before it, group 0 began earlier and is the business of the segment before.
        first = 1 if segment.row > 0 else 0
        self._wanted = set(range(first, first + len(segment.groups)))
        self._first_group = first
        self._end = max(self._wanted, default=-1) * GROUP_ROWS + GROUP_ROWS

    def run(self) -> list[Finding]:
        at = 0
        while at < len(self._cells):
            stop = at
            while stop < len(self._cells) and not any(p.object in self._broken for p in self._cells[stop].pieces):
                stop += 1
            if stop == at:
                self._spoil(self._cells[at], self._row)
                at += 1
            else:
                at = self._read(at, stop)
        self._check_partition_column()
        self._check_groups()
        return self._findings

    def _read(self, at: int, stop: int) -> int:
        """Check cells from number `at` on, all below `stop` unless one cannot be read; the number of the next."""
        base = self._row
        try:
            cell = self._open(at)
            for rows in _rows_of(self._store, self._cells[at:stop]):
                while len(rows) > 0:
                    part = rows.slice(0, cell.left)
                    rows = rows.slice(len(part))
                    self._take(cell, part)
                    if cell.left == 0:
                        self._close(cell)
                        at, base = at + 1, self._row
                        if at < stop:
                            cell = self._open(at)
                    elif not cell.own and self._row >= self._end:
                        return len(self._cells)
        except UNREADABLE as exc:
            if at < len(self._segment.cells):
                self._report(self._cells[at], f"its rows cannot be read: {exc}")
            self._spoil(self._cells[at], base)
            at += 1
        return at

    def _open(self, at: int) -> _Cell:
        found = self._cells[at]
        # Where a group is just this cell, its rows are hashed once.
        own = at < len(self._segment.cells)
        is_group = own and self._row % GROUP_ROWS == 0 and found.cell.rows == GROUP_ROWS
        return _Cell(found, own=own, is_group=is_group)

    def _take(self, cell: _Cell, rows: pa.RecordBatch) -> None:
        if cell.own:
            cell.look_at(rows)
        while len(rows) > 0:
            room = GROUP_ROWS - self._row % GROUP_ROWS
            part = rows.slice(0, min(room, _ROWS_AT_ONCE))
            rows = rows.slice(len(part))
            payloads = payloads_of(part)
            if cell.own:
                cell.payloads.update(payloads)
            if not cell.is_group and self._row // GROUP_ROWS in self._wanted:
                self._group.update(payloads)
            cell.left -= len(part)
            self._row += len(part)
            if self._row % GROUP_ROWS == 0 and not cell.is_group:
                self._end_group()

    def _close(self, cell: _Cell) -> None:
        if cell.is_group:
            self._found[self._row // GROUP_ROWS - 1] = cell.payloads.digest()
        for problem in cell.problems():
            self._report(cell.found, problem)

    def _end_group(self) -> None:
        self._found[(self._row - 1) // GROUP_ROWS] = self._group.digest()
        self._group = hashlib.sha256()

    def _spoil(self, found: StoredCell, base: int) -> None:
        """A cell's rows were not had: neither are the groups that they are part of."""
        self._row = base + found.cell.rows
        self._wanted.difference_update(range(base // GROUP_ROWS, (self._row - 1) // GROUP_ROWS + 1))
        self._group = hashlib.sha256()

    def _check_groups(self) -> None:
        if self._row % GROUP_ROWS > 0:
            self._end_group()
        for number, wanted in enumerate(self._segment.groups, self._first_group):
            if number in self._wanted and self._found.get(number) != wanted:
                where = f"{self._segment.topic}[{self._segment.partition}]"
                name = f"{where} group {self._segment.number + number - self._first_group}"
                problem = "its rows are not those of its payload digest"
                self._findings.append(Finding("rows", name, problem, (where,)))

    def _check_partition_column(self) -> None:
        """The column that says the partition: no digest covers it, and readers see it."""
        for name in sorted({piece.object for piece in self._segment.pieces if piece.object not in self._broken}):
            try:
                with pq.ParquetFile(self._store.obtain(name)) as file:
                    column = file.read(columns=[PARTITION.name]).column(PARTITION.name)
                right = column.null_count == 0 and pc.unique(column).to_pylist() == [self._segment.partition]
            except UNREADABLE as exc:
                problem = f"its partition column cannot be read: {exc}"
            else:
                problem = "" if right else f"its partition column says something else than {self._segment.partition}"
            if problem:
                where = f"{self._segment.topic}[{self._segment.partition}]"
                self._findings.append(Finding("object", name, problem, (where,)))

    def _report(self, found: StoredCell, problem: str) -> None:
        where = f"{self._segment.topic}[{self._segment.partition}]"
        breaks = f"{where} offsets {found.cell.start} to {found.cell.stop}"
        self._findings.append(Finding("rows", f"{where} cell {found.cell.number}", problem, (breaks,)))


class _Cell:
    """A cell whose rows are being read. `own`: it is checked itself, not only read for a group."""

    def __init__(self, found: StoredCell, *, own: bool, is_group: bool) -> None:
        self.found = found
        self.own = own
        self.is_group = is_group
        self.left = found.cell.rows
        self.payloads = hashlib.sha256()
        self._positions = hashlib.sha256()
        self._before = found.cell.start - 1
        self._in_order = True
        self._times: list[int] = []
        self._types = 0

    def look_at(self, rows: pa.RecordBatch) -> None:
        """All of a row but its payload.

        Raises:
            ValueError: when a column that has no nulls has some.
        """
        for name in ("offset", "timestamp_type", "headers"):
            if rows.column(name).null_count > 0:
                raise ValueError(f"column {name} has nulls")
        offsets = rows.column("offset").to_numpy()
        inside = self._before < offsets[0] and offsets[-1] < self.found.cell.stop
        self._in_order = self._in_order and bool(inside) and bool(np.all(np.diff(offsets) > 0))
        self._before = int(offsets[-1])
        self._positions.update(positions_of(rows))
        span = pc.min_max(rows.column("timestamp").cast(pa.int64()))
        self._times += [moment for moment in (span["min"].as_py(), span["max"].as_py()) if moment is not None]
        for kind in pc.unique(rows.column("timestamp_type")).to_pylist():
            self._types |= 1 << kind if kind in (0, 1) else 4

    def problems(self) -> Iterator[str]:
        """What is wrong with it, now that all its rows were seen."""
        if not self.own:
            return
        said = self.found.cell
        if not self._in_order:
            yield "its offsets do not increase, or lie outside of it"
        if RunDigest(self._positions.digest(), self.payloads.digest()).records != said.records:
            yield "its rows are not those of its digest"
            return  # nor is what follows from them
        if (min(self._times, default=None), max(self._times, default=None)) != (
            said.min_timestamp_ms,
            said.max_timestamp_ms,
        ):
            yield "its rows have another range of time than it says"
        if self._types != said.timestamp_types:
            yield "its rows have other types of timestamp than it says"


def _rows_of(store: Store, cells: Sequence[StoredCell]) -> Iterator[pa.RecordBatch]:
    """The rows of successive cells; rows that lie together in an object are read together."""
    run: Piece | None = None
    for piece in (piece for cell in cells for piece in cell.pieces):
        if run is not None and run.object == piece.object and run.row + run.rows == piece.row:
            run = Piece(run.object, run.row, run.rows + piece.rows)
            continue
        if run is not None:
            yield from read_rows(store.obtain(run.object), run.row, run.rows)
        run = piece
    if run is not None:
        yield from read_rows(store.obtain(run.object), run.row, run.rows)
