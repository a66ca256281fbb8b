"""Parquet objects of stream records: written to a file that is hashed on the way, and read back by rows.

An object holds rows of one partition in offset order. Its bytes may change with the library that writes them, so
nothing is identified by them except the object itself.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlstream.errors import IntegrityError
from mlstream.snapshots.storage import StoredObject
from mlstream.snapshots.store import store_error
from mlstream.wire.columns import SCHEMA, repeated

PARTITION = pa.field("partition", pa.int32(), nullable=False)
OBJECT_SCHEMA = pa.schema([PARTITION, *SCHEMA])
_READ_ROWS = 1 << 16
_SAMPLE_ROWS = 4096
_DELTA = "DELTA_BINARY_PACKED"


class ObjectWriter:
    """One object being written into a staging folder: a row group for each call of `write`, hashed as it goes out.

    `partition` is stored as a constant column, so that a file can be read alone.
    """

    def __init__(self, folder: Path, partition: int) -> None:
        self._folder = folder
        self._partition = partition
        self._file: HashedFile | None = None
        self._parquet: pq.ParquetWriter | None = None
        self.rows = 0

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write these rows (columns of `wire.columns.SCHEMA`) as one row group.

        Raises:
            StoreError: when the disk is full or cannot be written.
        """
        table = pa.Table.from_batches(batches, schema=SCHEMA)
        try:
            if self._parquet is None:
                self._file = HashedFile(self._folder / secrets.token_hex(8))
                self._parquet = _open_parquet(self._file, table)
            constant = repeated(self._partition, len(table))
            self._parquet.write_table(table.add_column(0, PARTITION, constant), row_group_size=max(len(table), 1))
        except OSError as exc:
            raise store_error(self._folder, exc) from exc
        self.rows += len(table)

    def close(self) -> tuple[str, Path, StoredObject]:
        """Finish and flush the file; its digest, where it is, and what the storage map says of it.

        Raises:
            StoreError: when the disk is full or cannot be written.
        """
        parquet, file = self._parquet, self._file
        if parquet is None or file is None:
            raise ValueError("nothing was written")
        self._parquet = self._file = None  # with them goes the memory that they hold
        try:
            parquet.close()
            file.finish()
            digest = file.hash.hexdigest()
            target = file.path.replace(self._folder / digest)
        except OSError as exc:
            raise store_error(self._folder, exc) from exc
        return digest, target, StoredObject(file.size, self.rows)


def read_rows(path: Path, row: int, rows: int, *, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows `[row, row + rows)` of an object, at most 65,536 at a time, with the columns of `wire.columns.SCHEMA`.

    Args:
        columns: only these of them, which spares reading the others.

    Raises:
        IntegrityError: when the file is missing, is not Parquet or has fewer rows.
    """
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            groups, skip = _groups(file.metadata, row, rows)
            left = rows
            for batch in file.iter_batches(_READ_ROWS, row_groups=groups, columns=schema.names):
                part = batch.slice(skip, left)
                skip = max(skip - len(batch), 0)
                if len(part) > 0:
                    left -= len(part)
                    yield _as_schema(part, schema)
                if left == 0:
                    break
    except FileNotFoundError:
        raise IntegrityError(
            f"object {path.name[:12]}…: it is missing", hint="run `mlstream snapshot verify`", object=path.name
        ) from None
    except (OSError, pa.ArrowException) as exc:
        raise IntegrityError(
            f"object {path.name[:12]}…: it cannot be read: {exc}",
            hint="run `mlstream snapshot verify`",
            object=path.name,
        ) from exc
    if left > 0:
        raise IntegrityError(f"object {path.name[:12]}…: it has fewer rows than row {row + rows}", object=path.name)


def _groups(metadata: pq.FileMetaData, row: int, rows: int) -> tuple[list[int], int]:
    """The row groups that hold rows `[row, row + rows)`, and how many rows of the first come before `row`."""
    groups: list[int] = []
    skip = 0
    first = 0
    for number in range(metadata.num_row_groups):
        count = metadata.row_group(number).num_rows
        if first + count > row and first < row + rows:
            if not groups:
                skip = row - first
            groups.append(number)
        first += count
    return groups, skip


def _as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _open_parquet(file: HashedFile, first: pa.Table) -> pq.ParquetWriter:
    dictionary = ["partition", "timestamp_type", "headers.list.element.key"]
    if _repeats(first.column("key")):
        dictionary.append("key")
    return pq.ParquetWriter(
        file,
        OBJECT_SCHEMA,
        version="2.6",
        compression="zstd",
        compression_level=1,
        use_dictionary=dictionary,
        column_encoding={"offset": _DELTA, "timestamp": _DELTA},
        write_statistics=["partition", "offset", "timestamp"],
    )


def _repeats(keys: pa.ChunkedArray) -> bool:
    """Whether a dictionary pays: fewer than half of a sample's keys are distinct."""
    sample = keys.slice(0, _SAMPLE_ROWS)
    return bool(pc.count_distinct(sample, mode="all").as_py() * 2 < len(sample))


class HashedFile:
    """A file for pyarrow to write into, that hashes and counts what passes. Not a buffer: each call is a write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hash = hashlib.sha256()
        self.size = 0
        self._file: IO[bytes] = path.open("wb", buffering=0)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.hash.update(view)
        done = 0
        while done < len(view):
            done += self._file.write(view[done:])
        self.size += done
        return done

    def tell(self) -> int:
        return self.size

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._file.close()

    def finish(self) -> None:
        """Flush to the disk and close."""
        os.fsync(self._file.fileno())
        self._file.close()
