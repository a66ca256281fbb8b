"""Compare two ranges of one and the same partition, offset by offset. Reads only what may differ.

Cells with the same digest are the same. Of two cells with different digests the rows that are the same rows of the same
object are the same, too: that is so for the cell in which a topic had ended when it was frozen first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.snapshots.diff_rows import Side, record_of
from mlstream.snapshots.difference import PartitionDifference, RecordChange
from mlstream.snapshots.storage import Piece, StoredCell
from mlstream.wire.columns import no_rows

_NO_ROWS = no_rows()

Rows = npt.NDArray[np.int64]


def compare_offsets(old: Side, new: Side, *, limit: int) -> tuple[PartitionDifference, list[RecordChange]]:
    """How two ranges of a partition differ, and the first `limit` records that do."""
    found = _Comparison(old, new, limit)
    a, b = old.content, new.content
    for left, right in _side_by_side(old.stored.cells, new.stored.cells):
        found.cells(left, right)
    difference = PartitionDifference(
        a.partition,
        (a.start, a.stop),
        (b.start, b.stop),
        a.rows,
        b.rows,
        (found.low, found.high) if found.low < found.high else None,
        same=found.same,
        changed=found.changed,
        removed=found.removed,
        added=found.added,
        old_only=a.rows - found.same - found.changed - found.removed,
        new_only=b.rows - found.same - found.changed - found.added,
        rows_read=found.read,
    )
    return difference, found.records


def _side_by_side(
    old: Sequence[StoredCell], new: Sequence[StoredCell]
) -> Iterator[tuple[StoredCell | None, StoredCell | None]]:
    mine = {found.cell.number: found for found in old}
    theirs = {found.cell.number: found for found in new}
    for number in sorted(mine.keys() | theirs.keys()):
        yield mine.get(number), theirs.get(number)


@dataclass
class _Comparison:
    """The counts so far, over the offsets `[low, high)` that both hold."""

    old: Side
    new: Side
    limit: int
    same: int = 0
    changed: int = 0
    removed: int = 0
    added: int = 0
    read: int = 0
    records: list[RecordChange] = field(default_factory=list)

    @property
    def low(self) -> int:
        return max(self.old.content.start, self.new.content.start)

    @property
    def high(self) -> int:
        return min(self.old.content.stop, self.new.content.stop)

    def cells(self, left: StoredCell | None, right: StoredCell | None) -> None:
        """Go on with a cell, as each of the two has it."""
        if left is not None and right is not None and _equal(left, right):
            self.same += left.cell.rows
            return
        mine = self._of_interest(left)
        theirs = self._of_interest(right)
        shared, mine, theirs = _unshared(mine, theirs)
        self.same += shared
        if mine and theirs:
            for one, other in _aligned(self._read(self.old, mine), self._read(self.new, theirs)):
                self._compare(one, other)
        elif mine:
            self.removed += self._count(self.old, mine, is_old=True)
        elif theirs:
            self.added += self._count(self.new, theirs, is_old=False)

    def _of_interest(self, found: StoredCell | None) -> tuple[Piece, ...]:
        if found is None or found.cell.stop <= self.low or self.high <= found.cell.start:
            return ()
        return found.pieces

    def _read(self, side: Side, pieces: Sequence[Piece]) -> Iterator[pa.RecordBatch]:
        for batch in side.read(pieces):
            self.read += len(batch)
            if len(part := self._inside(batch)) > 0:
                yield part

    def _inside(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        first, last = np.searchsorted(_offsets(batch), (self.low, self.high))
        return batch.slice(int(first), int(last - first))

    def _count(self, side: Side, pieces: Sequence[Piece], *, is_old: bool) -> int:
        """How many rows of these lie in the common range; they are on one side only."""
        count = 0
        for batch in side.read(pieces, columns=["offset"]):
            self.read += len(batch)
            count += len(self._inside(batch))
        if count > 0 and len(self.records) < self.limit:
            for batch in side.read(pieces):
                part = self._inside(batch)
                self._show(part, range(len(part)), is_old=is_old)
        return count

    def _compare(self, left: pa.RecordBatch, right: pa.RecordBatch) -> None:
        """Two runs of rows over the same offsets."""
        mine, theirs = _offsets(left), _offsets(right)
        _, here, there = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
        alone, new = _others(here, len(mine)), _others(there, len(theirs))
        equal = _same_rows(left, here, right, there)
        changed = np.flatnonzero(~equal)
        self.same += len(here) - len(changed)
        self.changed += len(changed)
        self.removed += len(alone)
        self.added += len(new)
        for at in changed[: max(self.limit - len(self.records), 0)]:
            one, other = record_of(left, int(here[at])), record_of(right, int(there[at]))
            self.records.append(RecordChange(self.old.content.partition, one, other))
        self._show(left, alone, is_old=True)
        self._show(right, new, is_old=False)

    def _show(self, rows: pa.RecordBatch, numbers: Sequence[int] | Rows, *, is_old: bool) -> None:
        for row in numbers[: max(self.limit - len(self.records), 0)]:
            found = record_of(rows, int(row))
            partition = self.old.content.partition
            self.records.append(RecordChange(partition, found if is_old else None, None if is_old else found))


def _equal(left: StoredCell, right: StoredCell) -> bool:
    a, b = left.cell, right.cell
    return (a.start, a.stop, a.rows, a.records) == (b.start, b.stop, b.rows, b.records)


def _unshared(mine: Sequence[Piece], theirs: Sequence[Piece]) -> tuple[int, tuple[Piece, ...], tuple[Piece, ...]]:
    """How many rows are the same rows of the same objects, and what is left on each side."""
    left, right = _without(mine, theirs), _without(theirs, mine)
    return sum(piece.rows for piece in mine) - sum(piece.rows for piece in left), left, right


def _without(pieces: Sequence[Piece], others: Sequence[Piece]) -> tuple[Piece, ...]:
    left = list(pieces)
    for other in others:
        rest: list[Piece] = []
        for piece in left:
            if piece.object != other.object:
                rest.append(piece)
                continue
            start, stop = piece.row, piece.row + piece.rows
            cut_start, cut_stop = max(start, other.row), min(stop, other.row + other.rows)
            if cut_start >= cut_stop:
                rest.append(piece)
                continue
            for first, last in ((start, cut_start), (cut_stop, stop)):
                if first < last:
                    rest.append(Piece(piece.object, first, last - first))
        left = rest
    return tuple(left)


def _aligned(
    old: Iterator[pa.RecordBatch], new: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Two streams of rows, cut so that each pair covers the same offsets; one of a pair may be empty."""
    left, right = next(old, _NO_ROWS), next(new, _NO_ROWS)
    while len(left) > 0 and len(right) > 0:
        mine, theirs = _offsets(left), _offsets(right)
        bound = min(mine[-1], theirs[-1])
        here, there = (int(np.searchsorted(found, bound, side="right")) for found in (mine, theirs))
        yield left.slice(0, here), right.slice(0, there)
        left, right = left.slice(here), right.slice(there)
        left = next(old, _NO_ROWS) if len(left) == 0 else left
        right = next(new, _NO_ROWS) if len(right) == 0 else right
    while len(left) > 0:
        yield left, _NO_ROWS
        left = next(old, _NO_ROWS)
    while len(right) > 0:
        yield _NO_ROWS, right
        right = next(new, _NO_ROWS)


def _same_rows(left: pa.RecordBatch, here: Rows, right: pa.RecordBatch, there: Rows) -> npt.NDArray[np.bool_]:
    """Which of the rows `here` on the left are the rows `there` on the right, byte for byte."""
    if len(here) == 0:
        return np.empty(0, np.bool_)
    one, other = left.take(_numbers(here)), right.take(_numbers(there))
    same = np.ones(len(here), np.bool_)
    for name in ("timestamp", "timestamp_type", "key", "value"):
        mine, theirs = one.column(name), other.column(name)
        same &= _flags(pc.equal(mine, theirs)) | _flags(pc.and_(pc.is_null(mine), pc.is_null(theirs)))
    if len(pc.list_flatten(one.column("headers"))) + len(pc.list_flatten(other.column("headers"))) > 0:
        # Arrow does not compare lists; compiled kernels, which most topics do not need.
        from mlstream.snapshots.payload_rows import payload_rows

        same &= _flags(pc.equal(payload_rows(one), payload_rows(other)))
    return same


# pyarrow's own ways between its columns and numpy's arrays import pandas, which takes longer than most comparisons.
def _numbers(rows: Rows) -> pa.Array:
    """An Arrow column over row numbers."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows.astype(np.int64))])


def _offsets(rows: pa.RecordBatch) -> Rows:
    column = rows.column("offset")
    if len(column) == 0:
        return np.empty(0, np.int64)
    return np.frombuffer(column.buffers()[1], np.int64, count=len(column), offset=8 * column.offset)


def _flags(column: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    """True where it is true, False where it is false or null."""
    found = np.ones(len(column), np.bool_)
    for buffer in column.buffers():
        if buffer is not None:
            bits = np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")
            found &= bits[column.offset : column.offset + len(column)].astype(np.bool_)
    return found


def _others(numbers: Rows, count: int) -> Rows:
    """Which of `count` rows are not among these."""
    mask = np.ones(count, np.bool_)
    mask[numbers] = False
    return np.flatnonzero(mask)
