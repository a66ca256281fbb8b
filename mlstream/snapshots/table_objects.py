"""Parquet objects of a table's rows: written into a staging folder, hashed on the way. Knows no order and no digest."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlstream.snapshots.objects import HashedFile
from mlstream.snapshots.storage import Piece, StoredObject
from mlstream.snapshots.store import store_error

_GROUP_BYTES = 32 << 20  # a row group is closed at so many bytes of rows, or at so many rows
_GROUP_ROWS = 1 << 17
_OBJECT_BYTES = 256 << 20  # an object ends at so many bytes of rows, so that big tables travel in parts


class TableWriter:
    """Writes rows as one or more objects; there is one even without rows, so that the columns are known.

    Attributes:
        pieces: what was written, in order.
        objects: digest → the file and what the storage map says of it.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._written_bytes = 0
        self._rows = 0
        self._file: HashedFile | None = None
        self._parquet: pq.ParquetWriter | None = None
        self.pieces: list[Piece] = []
        self.objects: dict[str, tuple[Path, StoredObject]] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows behind those that are there.

        Raises:
            StoreError: when the disk is full or cannot be written.
        """
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= _GROUP_ROWS or self._waiting_bytes >= _GROUP_BYTES:
            self._flush()
            if self._written_bytes >= _OBJECT_BYTES:
                self._finish()

    def close(self) -> None:
        """Write what is left.

        Raises:
            StoreError: when the disk is full or cannot be written.
        """
        if self._waiting or (not self.pieces and self._parquet is None):
            self._flush()
        if self._parquet is not None:
            self._finish()

    def discard(self) -> None:
        """Remove what was written."""
        self._waiting.clear()
        if self._parquet is not None and self._file is not None:
            with suppress(OSError):  # what cannot be written is not wanted either
                self._parquet.close()
            self._file.close()
            self._file.path.unlink(missing_ok=True)
            self._parquet = self._file = None
        for path, _ in self.objects.values():
            path.unlink(missing_ok=True)
        self.objects.clear()
        self.pieces.clear()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._waiting, schema=self._schema)
        try:
            if self._parquet is None:
                self._file = HashedFile(self._folder / secrets.token_hex(8))
                self._parquet = pq.ParquetWriter(
                    self._file, self._schema, version="2.6", compression="zstd", compression_level=1
                )
            self._parquet.write_table(table, row_group_size=max(len(table), 1))
        except OSError as exc:
            raise store_error(self._folder, exc) from exc
        self._rows += len(table)
        self._written_bytes += self._waiting_bytes
        self._waiting = []
        self._waiting_rows = self._waiting_bytes = 0

    def _finish(self) -> None:
        parquet, file = self._parquet, self._file
        if parquet is None or file is None:
            raise ValueError("nothing was written")
        self._parquet = self._file = None
        try:
            parquet.close()
            file.finish()
            digest = file.hash.hexdigest()
            target = file.path.replace(self._folder / digest)
        except OSError as exc:
            raise store_error(self._folder, exc) from exc
        self.pieces.append(Piece(digest, 0, self._rows))
        self.objects[digest] = (target, StoredObject(file.size, self._rows))
        self._rows = self._written_bytes = 0
