"""The records of a partition as they were stored, found by their offsets. Decodes nothing.

What is asked for comes in order, so a reader goes forward through the objects; one that has to go back begins again at
the cell of the record. It holds one stretch of stored rows: a row group, 32 MiB or one record.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlstream.errors import IntegrityError
from mlstream.snapshots.objects import read_rows

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot
    from mlstream.snapshots.storage import StoredCell

Offsets = NDArray[np.int64]


class Originals:
    """Finds records of one partition of a snapshot.

    Args:
        snapshot: it must stay in the store.
        topic, partition: whose records.
    """

    def __init__(self, snapshot: Snapshot, topic: str, partition: int) -> None:
        self._snapshot = snapshot
        self._where = f"{topic}[{partition}]"
        stored = (part for part in snapshot.stored(topic) if part.partition == partition)
        self._cells = next((part.cells for part in stored), ())
        self._starts = np.array([each.cell.start for each in self._cells], np.int64)
        self._cell = -1
        self._ahead: Iterator[pa.RecordBatch] = iter(())
        self._stretch: pa.RecordBatch | None = None
        self._offsets: Offsets = np.empty(0, np.int64)

    def find(self, offsets: Offsets) -> Iterator[pa.RecordBatch]:
        """The records at these offsets, with the columns of `wire.columns.SCHEMA`, a stretch at a time.

        Args:
            offsets: in order, each once.

        Raises:
            IntegrityError: the snapshot has no record there, or an object is missing or damaged.
        """
        at = 0
        while at < len(offsets):
            stretch = self._stretch_of(int(offsets[at]))
            stop = int(np.searchsorted(offsets, self._offsets[-1], side="right"))
            rows = np.searchsorted(self._offsets, offsets[at:stop])
            if not np.array_equal(self._offsets[rows], offsets[at:stop]):
                missing = np.setdiff1d(offsets[at:stop], self._offsets)
                raise IntegrityError(f"{self._where}@{missing[0]}: the snapshot has no such record")
            yield stretch.take(pa.array(rows))
            at = stop

    def _stretch_of(self, offset: int) -> pa.RecordBatch:
        """The stretch that an offset is in."""
        cell = int(np.searchsorted(self._starts, offset, side="right")) - 1
        behind = len(self._offsets) > 0 and offset < self._offsets[0]
        if cell >= 0 and (cell != self._cell or behind):
            self._cell = cell
            self._ahead = self._read(self._cells[cell])
            self._offsets = np.empty(0, np.int64)
        while self._stretch is None or len(self._offsets) == 0 or offset > self._offsets[-1]:
            self._stretch = next(self._ahead, None)
            if self._stretch is None:
                raise IntegrityError(f"{self._where}@{offset}: the snapshot has no such record")
            self._offsets = np.asarray(self._stretch.column("offset").to_numpy(), np.int64)
        return self._stretch

    def _read(self, stored: StoredCell) -> Iterator[pa.RecordBatch]:
        for piece in stored.pieces:
            path = self._snapshot.store.obtain(piece.object)
            yield from (rows for rows in read_rows(path, piece.row, piece.rows) if len(rows))
