"""Compare tables of two snapshots: columns, and rows by primary key, or as multisets where there is none.

Two values are the same when their canonical bytes are. Rows are in order of their keys in both, so that they are
merged as they are read; without a key, 24 bytes of memory are taken for each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.databases.types import ColumnType
from mlstream.snapshots.content import TableColumn, TableContent
from mlstream.snapshots.difference import ColumnChange, RowChange, TableDifference
from mlstream.snapshots.multisets import hashed, unmatched
from mlstream.snapshots.storage import StoredTable
from mlstream.snapshots.table_rows import canonical_rows
from mlstream.snapshots.tables import column_types, read_table_rows

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class TableSide:
    """A table of one of the two snapshots: what its manifest says, and where its rows are."""

    snapshot: Snapshot
    content: TableContent
    stored: StoredTable

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, in order."""
        return read_table_rows(self.content, self.stored.pieces, self.snapshot.store.obtain)

    def types(self, names: Sequence[str]) -> list[ColumnType]:
        """The types of these columns."""
        kinds = column_types(self.content)
        places = {column.name: place for place, column in enumerate(self.content.columns)}
        return [kinds[places[name]] for name in names]


def compare_tables(old: TableSide, new: TableSide, *, limit: int) -> TableDifference:
    """How two tables differ, and the first `limit` rows that do."""
    a, b = old.content, new.content
    columns = _column_changes(a.columns, b.columns)
    other = {change.name for change in columns}
    common = tuple(column.name for column in a.columns if column.name not in other)
    order = [c.name for c in a.columns if c.name in common] != [c.name for c in b.columns if c.name in common]
    key = a.primary_key if a.primary_key == b.primary_key and not other & set(a.primary_key) else ()
    if not columns and not order and a.primary_key == b.primary_key and a.records_digest == b.records_digest:
        found = _Found(same=a.rows)
    elif key:
        found = _Merge(old, new, common, key, limit).run()
    else:
        found = _as_multisets(old, new, common, limit)
    return TableDifference(
        a.name,
        key,
        a.rows,
        b.rows,
        same=found.same,
        changed=found.changed,
        removed=found.removed,
        added=found.added,
        columns=columns,
        order=order,
        query=a.query != b.query,
        key=a.primary_key != b.primary_key,
        rows=tuple(found.rows),
    )


@dataclass(slots=True)
class _Found:
    same: int = 0
    changed: int = 0
    removed: int = 0
    added: int = 0
    rows: Sequence[RowChange] = ()


def _column_changes(old: Sequence[TableColumn], new: Sequence[TableColumn]) -> tuple[ColumnChange, ...]:
    mine = {column.name: column.type for column in old}
    theirs = {column.name: column.type for column in new}
    names = dict.fromkeys([*mine, *theirs])
    return tuple(
        ColumnChange(name, mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)
    )


class _Merge:
    """Two tables whose rows are in order of the same key, merged."""

    def __init__(self, old: TableSide, new: TableSide, common: Sequence[str], key: Sequence[str], limit: int) -> None:
        self._sides = (old, new)
        self._common = list(common)
        self._key = list(key)
        self._limit = limit
        self._found = _Found()
        self._rows: list[RowChange] = []

    def run(self) -> _Found:
        streams = [_Keyed(side, self._common, self._key) for side in self._sides]
        left, right = (next(stream, None) for stream in streams)
        while left is not None and right is not None:
            bound = min(left.last, right.last)
            here, there = left.upto(bound), right.upto(bound)
            self._compare(left.slice(0, here), right.slice(0, there))
            left, right = left.slice(here), right.slice(there)
            left = next(streams[0], None) if len(left) == 0 else left
            right = next(streams[1], None) if len(right) == 0 else right
        while left is not None:
            self._alone(left, range(len(left)), is_old=True)
            left = next(streams[0], None)
        while right is not None:
            self._alone(right, range(len(right)), is_old=False)
            right = next(streams[1], None)
        self._found.rows = self._rows
        return self._found

    def _compare(self, left: _Rows, right: _Rows) -> None:
        """Two runs of rows over the same keys."""
        there = pc.index_in(left.keys, value_set=right.keys)
        both = np.flatnonzero(there.is_valid().to_numpy(zero_copy_only=False))
        places = there.drop_null().to_numpy()
        equal = pc.equal(left.rows.take(pa.array(both)), right.rows.take(pa.array(places)))
        changed = np.flatnonzero(~equal.to_numpy(zero_copy_only=False).astype(np.bool_))
        self._found.same += len(both) - len(changed)
        self._found.changed += len(changed)
        for at in changed[: max(self._limit - len(self._rows), 0)]:
            self._rows.append(self._changed(left, int(both[at]), right, int(places[at])))
        self._alone(left, np.setdiff1d(np.arange(len(left)), both).tolist(), is_old=True)
        self._alone(right, np.setdiff1d(np.arange(len(right)), places).tolist(), is_old=False)

    def _alone(self, rows: _Rows, numbers: Sequence[int], *, is_old: bool) -> None:
        if is_old:
            self._found.removed += len(numbers)
        else:
            self._found.added += len(numbers)
        for row in numbers[: max(self._limit - len(self._rows), 0)]:
            values = _values(rows.batch, row)
            self._rows.append(RowChange(values if is_old else None, None if is_old else values))

    def _changed(self, left: _Rows, here: int, right: _Rows, there: int) -> RowChange:
        kinds = self._sides[0].types(self._common)
        names = tuple(
            name
            for name, kind in zip(self._common, kinds, strict=True)
            if _bytes_of(left.batch, name, kind, here) != _bytes_of(right.batch, name, kind, there)
        )
        return RowChange(_values(left.batch, here), _values(right.batch, there), names)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of a table: the canonical bytes of their keys and of the columns that are compared, and themselves."""

    keys: pa.LargeBinaryArray
    rows: pa.LargeBinaryArray
    batch: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def last(self) -> bytes:
        found: bytes = self.keys[len(self) - 1].as_py()
        return found

    def upto(self, bound: bytes) -> int:
        """How many of them have a key that is not greater."""
        fitting = pc.less_equal(self.keys, pa.scalar(bound, pa.large_binary()))
        return int(np.count_nonzero(fitting.to_numpy(zero_copy_only=False)))

    def slice(self, first: int, rows: int | None = None) -> _Rows:
        return _Rows(self.keys.slice(first, rows), self.rows.slice(first, rows), self.batch.slice(first, rows))


class _Keyed(Iterator[_Rows]):
    """A table's rows in order of their key, some at a time, never none."""

    def __init__(self, side: TableSide, columns: Sequence[str], key: Sequence[str]) -> None:
        self._batches = side.batches()
        self._columns, self._key = list(columns), list(key)
        self._types, self._key_types = side.types(columns), side.types(key)

    def __next__(self) -> _Rows:
        batch = next(self._batches)
        keys = canonical_rows(batch.select(self._key), self._key_types).rows.to_arrow()
        return _Rows(keys, canonical_rows(batch.select(self._columns), self._types).rows.to_arrow(), batch)


def _as_multisets(old: TableSide, new: TableSide, common: Sequence[str], limit: int) -> _Found:
    """Rows without a key: they are the same when all values in the common columns are."""
    if not common:
        return _Found(removed=old.content.rows, added=new.content.rows)
    found = unmatched(hashed(_numbered(old, common)), hashed(_numbered(new, common)))
    rows = [RowChange(values, None) for values in _rows_at(old, found.old[:limit].tolist())]
    rows += [RowChange(None, values) for values in _rows_at(new, found.new[: limit - len(rows)].tolist())]
    same = old.content.rows - len(found.old)
    return _Found(same, 0, len(found.old), len(found.new), rows)


def _numbered(side: TableSide, columns: Sequence[str]) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
    kinds = side.types(columns)
    at = 0
    for batch in side.batches():
        yield at, canonical_rows(batch.select(list(columns)), kinds).rows.to_arrow()
        at += batch.num_rows


def _rows_at(side: TableSide, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    at = 0
    for batch in side.batches() if numbers else ():
        yield from (_values(batch, number - at) for number in numbers if at <= number < at + batch.num_rows)
        at += batch.num_rows


def _bytes_of(batch: pa.RecordBatch, name: str, kind: ColumnType, row: int) -> bytes:
    return canonical_rows(batch.slice(row, 1).select([name]), [kind]).rows[0]


def _values(batch: pa.RecordBatch, row: int) -> dict[str, Any]:
    return {name: _value(column, row) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _value(column: pa.Array, row: int) -> Any:
    try:
        return column[row].as_py()
    except (ValueError, OverflowError):  # a time outside of Python's calendar
        return column.slice(row, 1).cast(pa.int64())[0].as_py()
