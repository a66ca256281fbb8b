"""The stored rows of one partition of a snapshot, from any row to any other, in order. Decodes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from mlstream.snapshots.objects import read_rows

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot


def stored_rows(
    snapshot: Snapshot,
    topic: str,
    partition: int,
    *,
    start: int = 0,
    stop: int | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Rows `[start, stop)` of a partition, counted from 0 in order of offset, at most 65,536 at a time.

    Args:
        stop: the end of the partition when None.
        columns: of `wire.columns.SCHEMA`; all when None.

    Raises:
        UnknownPartition: when the snapshot holds nothing of it.
        IntegrityError: when an object is missing, is not Parquet or has fewer rows.
    """
    at = 0
    for piece in snapshot.pieces(topic, partition):
        first = max(start - at, 0)
        last = piece.rows if stop is None else min(stop - at, piece.rows)
        at += piece.rows
        if first < last:
            path = snapshot.store.obtain(piece.object)
            yield from read_rows(path, piece.row + first, last - first, columns=columns)
