"""Rows of one partition of a snapshot, for a comparison: canonical bytes, records, by number. Compares nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.snapshots.canonical import payloads_of
from mlstream.snapshots.difference import Record
from mlstream.snapshots.manifest import PartitionContent
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.storage import Piece, StoredPartition

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

_FIXED = 20  # bytes of a payload beside key, value and headers: the time, three lengths
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


def payload_rows(rows: pa.RecordBatch) -> pa.LargeBinaryArray:
    """The canonical payload of each row, as one value a row: two are equal where the records are."""
    sizes = _FIXED + _lengths(rows.column("key")) + _lengths(rows.column("value"))
    headers = rows.column("headers")
    if len(rows) > 0:
        ends = headers.offsets.to_numpy().astype(np.int64)
        pairs = headers.values.slice(int(ends[0]), int(ends[-1] - ends[0]))
        before = np.zeros(len(pairs) + 1, np.int64)
        np.cumsum(8 + _lengths(pairs.field(0)) + _lengths(pairs.field(1)), out=before[1:])
        sizes += np.diff(before[ends - ends[0]])
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    data = payloads_of(rows)
    if starts[-1] != len(data):
        raise ValueError(f"{len(data)} bytes of payload where {starts[-1]} were counted")
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(rows), [None, pa.py_buffer(starts), pa.py_buffer(data)]
    )


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


def _lengths(column: pa.BinaryArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.int64)
