"""Tables in a snapshot: rows in their canonical order, their digest, and the objects that hold them. Opens no database.

A database that can sorts the rows itself, and they are digested and written while they stream by: the memory that this
takes does not depend on their number. Where their order turns out to be another one than the canonical (arrays,
intervals, floats with both zeros, databases that do not order text by bytes), the rows are sorted here, and all of
that table's are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlstream.databases.arrow import fits
from mlstream.databases.database import TableRows
from mlstream.databases.types import ColumnType, parse_type
from mlstream.errors import DatabaseError, IntegrityError
from mlstream.snapshots.content import TableColumn, TableContent
from mlstream.snapshots.storage import Piece, StoredObject
from mlstream.snapshots.table_objects import TableWriter
from mlstream.snapshots.table_rows import CanonicalRows, Encoded, TableHasher, canonical_rows

_ROWS_AT_ONCE = 1 << 14  # canonical bytes are made and hashed in pieces that stay in the processor's cache
_RUN_BYTES = 1 << 30  # Arrow's text columns hold 2 GiB at most


@dataclass(frozen=True, slots=True)
class FrozenTable:
    """A table in a staging folder, to be published with its snapshot.

    Attributes:
        content: what the manifest says of it.
        pieces: what the storage map says of it.
        objects: digest → the file in the staging folder, and what the storage map says of it.
    """

    content: TableContent
    pieces: tuple[Piece, ...]
    objects: dict[str, tuple[Path, StoredObject]]


def freeze_table(rows: TableRows, staged: Path) -> FrozenTable:
    """Write a table's rows to objects in a staging folder, in canonical order, and digest them.

    The primary key that the manifest names is the database's, unless it does not tell the rows apart (SQLite allows
    null in it, PostgreSQL's inherited tables have none in common): then there is none, and whole rows are the order.

    Raises:
        DatabaseError: when the rows cannot be kept.
        StoreError: when the disk is full or cannot be written.
    """
    types = [parse_type(column.type) for column in rows.columns]
    attempts: list[tuple[tuple[str, ...], Callable[[], Iterator[pa.RecordBatch]]]] = [
        (rows.primary_key, rows.batches),
        (rows.primary_key, lambda: _sorted_rows(rows, types, rows.primary_key)),
    ]
    if rows.primary_key:
        attempts.append(((), lambda: _sorted_rows(rows, types, ())))
    for key, batches in attempts:
        writer = TableWriter(staged, rows.schema)
        try:
            digest = _write(batches(), types, key, writer)
        except _OutOfOrder:
            writer.discard()
            continue
        except BaseException:
            writer.discard()
            raise
        if digest.rows != rows.rows:
            writer.discard()
            raise DatabaseError(f"{rows.name}: {digest.rows} rows came where {rows.rows} were counted")
        columns = tuple(TableColumn(column.name, column.type) for column in rows.columns)
        content = TableContent(rows.name, rows.query, columns, key, digest.rows, digest.hexdigest())
        return FrozenTable(content, tuple(writer.pieces), writer.objects)
    raise DatabaseError(f"{rows.name}: its rows come otherwise each time they are read", hint="freeze again")


def read_table_rows(
    table: TableContent, pieces: Sequence[Piece], obtain: Callable[[str], Path]
) -> Iterator[pa.RecordBatch]:
    """The rows of a table from its objects, in order, at most 16,384 at a time.

    Args:
        pieces: what the storage map says of the table.
        obtain: the file of an object (`Store.obtain`).

    Raises:
        IntegrityError: when an object is missing, is not Parquet, has fewer rows or other columns.
    """
    kinds = column_types(table)
    names = [column.name for column in table.columns]
    for piece in pieces:
        skip, left = piece.row, piece.rows
        for batch in _batches(obtain(piece.object), table.name):
            forms = batch.schema.types
            if batch.schema.names != names or not all(fits(k, form) for k, form in zip(kinds, forms, strict=True)):
                raise IntegrityError(
                    f"table {table.name}: object {piece.object[:12]}… has other columns than the manifest says",
                    object=piece.object,
                )
            part = batch.slice(skip, left)
            skip = max(skip - batch.num_rows, 0)
            left -= part.num_rows
            if part.num_rows > 0:
                yield part
            if left == 0:
                break
        if left > 0:
            raise IntegrityError(
                f"table {table.name}: object {piece.object[:12]}… has fewer rows than row {piece.row + piece.rows}",
                object=piece.object,
            )


def check_table(table: TableContent, batches: Iterable[pa.RecordBatch]) -> None:
    """Check that rows are those that the manifest's digest covers, in their order, their keys unlike each other.

    Raises:
        IntegrityError: saying what is wrong.
    """
    kinds = column_types(table)
    order = _Order(table.primary_key)
    hasher = TableHasher()
    for batch in batches:
        for some in canonical_batches(batch, kinds, table.primary_key):
            try:
                order.check(some.keys)
            except _OutOfOrder:
                raise IntegrityError(f"table {table.name}: its rows are not in order near row {hasher.rows}") from None
            hasher.update(some.rows)
    if hasher.rows != table.rows or hasher.hexdigest() != table.records_digest:
        raise IntegrityError(
            f"table {table.name}: its {hasher.rows} rows are not those of the manifest's digest",
            hint="restore the object from a copy, or freeze again",
        )


def canonical_batches(
    batch: pa.RecordBatch, types: Sequence[ColumnType], key: Sequence[str] = ()
) -> Iterator[CanonicalRows]:
    """The canonical bytes of a batch's rows and keys, some rows at a time."""
    for first in range(0, batch.num_rows, _ROWS_AT_ONCE):
        yield canonical_rows(batch.slice(first, _ROWS_AT_ONCE), types, key)


def column_types(table: TableContent) -> list[ColumnType]:
    """The types of a table's columns.

    Raises:
        IntegrityError: when the manifest names a type or a key that there is not.
    """
    try:
        types = [parse_type(column.type) for column in table.columns]
    except ValueError as exc:
        raise IntegrityError(f"table {table.name}: {exc}") from exc
    names = [column.name for column in table.columns]
    if len(set(names)) != len(names) or not set(table.primary_key) <= set(names) or not names:
        raise IntegrityError(f"table {table.name}: its columns are not those of a table: {', '.join(names)}")
    return types


class _OutOfOrder(Exception):
    """Rows that are not in canonical order, or two rows with one key."""


class _Order:
    """Watches that keys ascend; without a primary key, equal rows may follow each other."""

    def __init__(self, key: Sequence[str]) -> None:
        self._strict = bool(key)
        self._last: bytes | None = None

    def check(self, keys: Encoded) -> None:
        """Go on with these.

        Raises:
            _OutOfOrder: when one does not come after the one before.
        """
        if len(keys) == 0:
            return
        compare = pc.less if self._strict else pc.less_equal
        column = keys.to_arrow()
        ascending = bool(pc.all(compare(column.slice(0, len(keys) - 1), column.slice(1)), min_count=0).as_py())
        first = keys[0]
        if self._last is not None and (first < self._last or (self._strict and first == self._last)):
            ascending = False
        if not ascending:
            raise _OutOfOrder
        self._last = keys[len(keys) - 1]


def _write(
    batches: Iterable[pa.RecordBatch], types: Sequence[ColumnType], key: Sequence[str], writer: TableWriter
) -> TableHasher:
    hasher = TableHasher()
    order = _Order(key)
    for batch in batches:
        for some in canonical_batches(batch, types, key):
            order.check(some.keys)
            hasher.update(some.rows)
        writer.write(batch)
    writer.close()
    return hasher


def _sorted_rows(rows: TableRows, types: Sequence[ColumnType], key: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows in canonical order; all of them are in memory meanwhile."""
    runs: list[pa.RecordBatch] = []
    keys: list[pa.LargeBinaryArray] = []
    for run in _runs(rows):
        keys.extend(some.keys.to_arrow() for some in canonical_batches(run, types, key))
        runs.append(run)
    order = pc.sort_indices(pa.chunked_array(keys, pa.large_binary())).to_numpy().astype(np.int64)
    del keys
    firsts = np.cumsum([0, *(run.num_rows for run in runs)])
    for first in range(0, len(order), _ROWS_AT_ONCE):
        wanted = order[first : first + _ROWS_AT_ONCE]
        owners = np.searchsorted(firsts, wanted, side="right") - 1
        parts = [run.take(pa.array(wanted[owners == n] - firsts[n])) for n, run in enumerate(runs) if n in owners]
        # Where each wanted row is now: behind each other by run, and within a run in their order.
        places = np.empty(len(wanted), np.int64)
        places[np.argsort(owners, kind="stable")] = np.arange(len(wanted))
        table = pa.Table.from_batches(parts, schema=rows.schema).combine_chunks().take(pa.array(places))
        yield from table.to_batches()


def _runs(rows: TableRows) -> Iterator[pa.RecordBatch]:
    """All rows in few, large batches."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in rows.batches():
        waiting.append(batch)
        size += batch.nbytes
        if size >= _RUN_BYTES:
            yield from pa.Table.from_batches(waiting, schema=rows.schema).combine_chunks().to_batches()
            waiting, size = [], 0
    if waiting:
        yield from pa.Table.from_batches(waiting, schema=rows.schema).combine_chunks().to_batches()


def _batches(path: Path, name: str) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(_ROWS_AT_ONCE)
    except FileNotFoundError:
        raise IntegrityError(
            f"table {name}: object {path.name[:12]}… is missing",
            hint="run `mlstream snapshot verify`",
            object=path.name,
        ) from None
    except (OSError, pa.ArrowException) as exc:
        raise IntegrityError(
            f"table {name}: object {path.name[:12]}… cannot be read: {exc}",
            hint="run `mlstream snapshot verify`",
            object=path.name,
        ) from exc
