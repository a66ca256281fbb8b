"""Rows of one partition of a snapshot, for a comparison: as columns, as records. Compares nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from mlstream.snapshots.difference import Record
from mlstream.snapshots.manifest import PartitionContent
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.storage import Piece, StoredPartition

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

_WINDOW = 1 << 16  # rows that are read to find single ones


@dataclass(frozen=True, slots=True)
class Side:
    """One partition of one of the two snapshots: what its manifest says, and where its rows are."""

    snapshot: Snapshot
    content: PartitionContent
    stored: StoredPartition

    def read(self, pieces: Sequence[Piece], *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Rows of objects, in order."""
        for piece in pieces:
            yield from read_rows(self.snapshot.store.obtain(piece.object), piece.row, piece.rows, columns=columns)

    def rows(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Rows `[start, stop)` of the range, counted from 0."""
        at = 0
        for piece in (piece for cell in self.stored.cells for piece in cell.pieces):
            first, last = max(start - at, 0), min(stop - at, piece.rows)
            at += piece.rows
            if first < last:
                yield from self.read([Piece(piece.object, piece.row + first, last - first)])
            if at >= stop:
                return

    def records(self, numbers: Sequence[int]) -> dict[int, Record]:
        """The records of these numbers, which ascend."""
        found: dict[int, Record] = {}
        left = list(numbers)
        while left:
            start = left[0]
            now = [number for number in left if number < start + _WINDOW]
            left = left[len(now) :]
            at = start
            for batch in self.rows(start, now[-1] + 1):
                for number in now:
                    if at <= number < at + len(batch):
                        found[number] = record_of(batch, number - at)
                at += len(batch)
        return found


def record_of(rows: pa.RecordBatch, row: int) -> Record:
    """One row as a record."""
    one = rows.slice(row, 1)
    timestamp = one.column("timestamp").cast(pa.int64())[0].as_py()
    headers = one.column("headers")[0].as_py()
    return Record(
        one.column("offset")[0].as_py(),
        timestamp,
        one.column("timestamp_type")[0].as_py(),
        one.column("key")[0].as_py(),
        one.column("value")[0].as_py(),
        tuple((header["key"], header["value"]) for header in headers),
    )
