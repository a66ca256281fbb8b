"""The canonical encoding of a table's rows, and the digest over it. Touches columns only; docs/format.md explains it.

A row is the encodings of its values, one after another. They order as the values do: rows are compared as bytes.

    null            02
    number          01 · 8 bytes big-endian; integers (bool, days, microseconds too) plus 2^63; a float64's bits, all
                    inverted when negative, else the sign bit only; one NaN, above infinity
    interval        01 · months, days, microseconds, as integers
    text, binary    01 · the bytes, a zero byte followed by FF · 00
    decimal         01 · 01 for zero; else 01 · sign (00, 02) · exponent plus 128 · digits in ASCII · 00, where the
                    value is 0.DIGITS * 10^exponent; after the sign all inverted when negative
    list            01 · the items · 00

A table's *records digest* is SHA-256 over the SHA-256 of each group of 65,536 rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa

from mlstream.databases.types import ColumnType
from mlstream.snapshots.manifest import GROUP_ROWS
from mlstream.snapshots.table_kernels import (
    DECIMAL_BYTES,
    Bytes,
    Flags,
    Longs,
    Words,
    append,
    count_zeros,
    write_bytes,
    write_decimals,
    write_lists,
    write_words,
)

if TYPE_CHECKING:
    from hashlib import _Hash as Hash
else:
    Hash: TypeAlias = object

_SIGN = np.uint64(1 << 63)
_NAN = np.uint64(0x7FF8_0000_0000_0000)
_NO_ROWS = np.zeros(1, np.int64)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Byte strings, one after another: number `i` is `data[starts[i]:starts[i + 1]]`."""

    starts: Longs
    data: Bytes

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> bytes:
        return self.data[self.starts[row] : self.starts[row + 1]].tobytes()

    def to_arrow(self) -> pa.LargeBinaryArray:
        """The same as an Arrow column, which shares the memory."""
        buffers = [None, pa.py_buffer(self.starts), pa.py_buffer(self.data)]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self), buffers)


@dataclass(frozen=True, slots=True)
class CanonicalRows:
    """The canonical bytes of some rows: of each whole row, and of its primary key (the row, where there is no key)."""

    rows: Encoded
    keys: Encoded


def canonical_rows(batch: pa.RecordBatch, types: Sequence[ColumnType], key: Sequence[str] = ()) -> CanonicalRows:
    """The canonical bytes of each row.

    Args:
        batch: the columns, in the Arrow form of their types.
        types: of its columns, in their order.
        key: names of the columns of the primary key, in its order.
    """
    encoded = [encode(array, kind) for array, kind in zip(batch.columns, types, strict=True)]
    rows = _joined(encoded, batch.num_rows)
    if not key:
        return CanonicalRows(rows, rows)
    return CanonicalRows(rows, _joined([encoded[batch.schema.get_field_index(name)] for name in key], batch.num_rows))


class TableHasher:
    """The records digest of rows that arrive piece by piece, in order."""

    __slots__ = ("_group", "_groups", "_in_group", "rows")

    def __init__(self) -> None:
        self._groups: list[bytes] = []
        self._group: Hash = hashlib.sha256()
        self._in_group = 0
        self.rows = 0

    def update(self, rows: Encoded) -> None:
        """Go on with these rows."""
        first = 0
        while first < len(rows):
            last = min(len(rows), first + GROUP_ROWS - self._in_group)
            self._group.update(rows.data[rows.starts[first] : rows.starts[last]].data)
            self._in_group += last - first
            if self._in_group == GROUP_ROWS:
                self._groups.append(self._group.digest())
                self._group, self._in_group = hashlib.sha256(), 0
            first = last
        self.rows += len(rows)

    def hexdigest(self) -> str:
        """The digest of all rows so far; more may follow."""
        last = [self._group.digest()] if self._in_group else []
        return hashlib.sha256(b"".join(self._groups + last)).hexdigest()


def encode(array: pa.Array, kind: ColumnType) -> Encoded:
    """The canonical bytes of each value of a column."""
    if kind.item is not None:
        return _lists(array, kind.item)
    if kind.name == "decimal":
        return _decimals(array)
    if kind.name == "interval":
        parts = [_integers(array.field(number)) for number in range(3)]
        return _words(np.stack(parts, axis=1), array)
    if kind.name in ("float32", "float64"):
        return _words(_floats(array)[:, None], array)
    if kind.name in ("text", "enum", "json", "jsonb", "uuid", "binary"):
        return _strings(array)
    return _words(_integers(array)[:, None], array)


def _integers(array: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    if pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    numbers: Longs = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return numbers.view(np.uint64) ^ _SIGN


def _floats(array: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    numbers = array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    bits = np.where(np.isnan(numbers), _NAN, numbers.view(np.uint64))
    return np.where(bits & _SIGN != 0, ~bits, bits | _SIGN)


def _words(words: Words, array: pa.Array) -> Encoded:
    starts = np.empty(len(array) + 1, np.int64)
    out = np.empty(len(array) * (1 + 8 * words.shape[1]), np.uint8)
    write_words(np.ascontiguousarray(words), _nulls(array), starts, out)
    return Encoded(starts, out)


def _strings(array: pa.Array) -> Encoded:
    offsets = _offsets(array)
    buffer = array.buffers()[2]
    data = np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
    starts = np.empty(len(array) + 1, np.int64)
    out = np.empty(2 * len(array) + int(offsets[-1] - offsets[0]) + count_zeros(offsets, data), np.uint8)
    write_bytes(offsets, data, _nulls(array), starts, out)
    return Encoded(starts, out)


def _decimals(array: pa.Array) -> Encoded:
    buffer = array.buffers()[1]
    words = np.frombuffer(b"" if buffer is None else buffer, "<u8").reshape(-1, 2)
    starts = np.empty(len(array) + 1, np.int64)
    out = np.empty(DECIMAL_BYTES * len(array), np.uint8)
    write_decimals(words[array.offset : array.offset + len(array)], array.type.scale, _nulls(array), starts, out)
    return Encoded(starts, out)


def _lists(array: pa.Array, item: ColumnType) -> Encoded:
    offsets = _offsets(array)
    items = encode(array.values.slice(offsets[0], offsets[-1] - offsets[0]), item)
    starts = np.empty(len(array) + 1, np.int64)
    out = np.empty(2 * len(array) + int(items.starts[-1]), np.uint8)
    write_lists(offsets - offsets[0], _nulls(array), items.starts, items.data, starts, out)
    return Encoded(starts, out)


def _joined(columns: Sequence[Encoded], rows: int) -> Encoded:
    """Rows from columns: the bytes of each row's values side by side."""
    if len(columns) == 1:
        return columns[0]
    starts = np.zeros(rows + 1, np.int64)
    for column in columns:
        starts[1:] += np.diff(column.starts)
    np.cumsum(starts, out=starts)
    out = np.empty(int(starts[-1]), np.uint8)
    ends = starts[:-1].copy()
    for column in columns:
        append(column.starts, column.data, ends, out)
    return Encoded(starts, out)


def _offsets(array: pa.Array) -> Longs:
    """Where each value of a binary or list column begins, as int64."""
    large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    buffer = array.buffers()[1]
    if buffer is None or buffer.size == 0 or len(array) == 0:
        return _NO_ROWS
    kind = np.dtype(np.int64 if large else np.int32)
    found = np.frombuffer(buffer, kind, count=len(array) + 1, offset=kind.itemsize * array.offset)
    return found.astype(np.int64)


def _nulls(array: pa.Array) -> Flags:
    if array.null_count == 0:
        return np.zeros(len(array), np.bool_)
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
