"""The canonical encoding of stream records, and the digests over it. Touches columns only; docs/format.md explains it.

Everything is little-endian. Two byte streams are made of a run of rows, one item a row, nothing between them:

    positions   offset int64 · timestamp type uint8
    payloads    timestamp int64 (-1: none)
                key length int32 (-1: null) · key
                value length int32 (-1: null) · value
                header count int32, then for each header:
                    name length int32 (-1: null) · name · value length int32 (-1: null) · value

A run's *records digest* is SHA-256( SHA-256(positions) ‖ SHA-256(payloads) ). It streams over rows, so it cannot tell
how they were chunked, compressed or stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numba
import numpy as np
import pyarrow as pa

from mlstream.wire.columns import flags_of, numbers_of

if TYPE_CHECKING:
    from hashlib import _Hash as Hash
else:
    Hash: TypeAlias = object

Bytes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"
Ints: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int32]]"

POSITION = np.dtype([("offset", "<i8"), ("timestamp_type", "u1")])
_ROWS_AT_ONCE = 8192  # canonical bytes are made and hashed in pieces that stay in the processor's cache
_NO_TIMESTAMP = -1


@dataclass(frozen=True, slots=True)
class RunDigest:
    """The digests of a run of rows: SHA-256 of its two canonical streams, 32 bytes each."""

    positions: bytes
    payloads: bytes

    @property
    def records(self) -> bytes:
        """The records digest: one SHA-256 over both."""
        return hashlib.sha256(self.positions + self.payloads).digest()


class RunHasher:
    """The digests of rows that arrive piece by piece."""

    __slots__ = ("_positions", "payloads", "rows")

    def __init__(self) -> None:
        self._positions: Hash = hashlib.sha256()
        self.payloads = PayloadHasher()
        self.rows = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """Go on with these rows (columns as in `wire.columns.SCHEMA`, more may be there)."""
        self._positions.update(positions_of(rows))
        self.payloads.update(rows)
        self.rows += rows.num_rows

    def digest(self) -> RunDigest:
        """The digests of all rows so far; more may follow."""
        return RunDigest(self._positions.digest(), self.payloads.digest())


class PayloadHasher:
    """SHA-256 over the payload stream of rows that arrive piece by piece."""

    __slots__ = ("_hash", "rows")

    def __init__(self) -> None:
        self._hash: Hash = hashlib.sha256()
        self.rows = 0

    def update(self, rows: pa.RecordBatch) -> None:
        """Go on with these rows."""
        for first in range(0, rows.num_rows, _ROWS_AT_ONCE):
            self._hash.update(payloads_of(rows.slice(first, _ROWS_AT_ONCE)))
        self.rows += rows.num_rows

    def copy(self) -> PayloadHasher:
        """An independent hasher in the same state."""
        twin = PayloadHasher.__new__(PayloadHasher)
        twin._hash = self._hash.copy()
        twin.rows = self.rows
        return twin

    def digest(self) -> bytes:
        """SHA-256 of the payload stream so far; more may follow."""
        return self._hash.digest()


def positions_of(rows: pa.RecordBatch) -> memoryview:
    """The positions stream of these rows: 9 bytes a row."""
    out = np.empty(rows.num_rows, dtype=POSITION)
    out["offset"] = numbers_of(rows.column("offset"), np.int64)
    out["timestamp_type"] = numbers_of(rows.column("timestamp_type"), np.int8)
    return out.view(np.uint8).data


def payloads_of(rows: pa.RecordBatch) -> memoryview:
    """The payload stream of these rows."""
    timestamps = numbers_of(rows.column("timestamp").cast(pa.int64()), np.int64, null=_NO_TIMESTAMP)
    key, value = rows.column("key"), rows.column("value")
    headers = rows.column("headers")
    first, last = (headers.offsets[0].as_py(), headers.offsets[-1].as_py()) if len(headers) else (0, 0)
    pairs = headers.values.slice(first, last - first)
    name, content = pairs.field(0), pairs.field(1)
    ends = numbers_of(headers.offsets, np.int32) - np.int32(first)
    out = np.empty(20 * len(rows) + _size(key) + _size(value) + 8 * len(pairs) + _size(name) + _size(content), np.uint8)
    used = _write_payloads(out, timestamps, *_binary(key), *_binary(value), ends, *_binary(name), *_binary(content))
    return out[:used].data


def _size(column: pa.BinaryArray) -> int:
    offsets = _offsets(column)
    return int(offsets[-1]) - int(offsets[0])


def _offsets(column: pa.BinaryArray) -> Ints:
    buffer = column.buffers()[1]
    if buffer is None or buffer.size == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, count=len(column) + 1, offset=4 * column.offset)


def _binary(column: pa.BinaryArray) -> tuple[Ints, Bytes, Bytes]:
    """A binary column as (offsets, data, 1 for each null or nothing when there are none)."""
    data = column.buffers()[2]
    nulls = flags_of(column.is_null()).view(np.uint8) if column.null_count else np.empty(0, np.uint8)
    return _offsets(column), np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8), nulls


# Indices are unsigned: a signed one may be negative, and the check for that keeps LLVM from making a copy of the loop
# (455 ns a row of 157 bytes against 9).
@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _put32(out: Bytes, at: np.uint64, number: int) -> np.uint64:
    for i in range(4):
        out[at + np.uint64(i)] = (number >> (8 * i)) & 0xFF
    return at + np.uint64(4)


@numba.njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _put_bytes(out: Bytes, at: np.uint64, offsets: Ints, data: Bytes, nulls: Bytes, row: int) -> np.uint64:
    if nulls.size > 0 and nulls[row] != 0:
        return _put32(out, at, -1)  # type: ignore[no-any-return]
    start = np.uint64(offsets[row])
    length = np.uint64(offsets[row + 1]) - start
    at = _put32(out, at, np.int64(length))
    for i in range(length):
        out[at + np.uint64(i)] = data[start + np.uint64(i)]
    return at + length


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _write_payloads(
    out: Bytes,
    timestamps: np.ndarray[tuple[int], np.dtype[np.int64]],
    key_offsets: Ints,
    key_data: Bytes,
    key_nulls: Bytes,
    value_offsets: Ints,
    value_data: Bytes,
    value_nulls: Bytes,
    header_ends: Ints,
    name_offsets: Ints,
    name_data: Bytes,
    name_nulls: Bytes,
    content_offsets: Ints,
    content_data: Bytes,
    content_nulls: Bytes,
) -> np.uint64:
    at = np.uint64(0)
    for row in range(timestamps.size):
        moment = timestamps[row]
        for i in range(8):
            out[at + np.uint64(i)] = (moment >> (8 * i)) & 0xFF
        at = _put_bytes(out, at + np.uint64(8), key_offsets, key_data, key_nulls, row)
        at = _put_bytes(out, at, value_offsets, value_data, value_nulls, row)
        at = _put32(out, at, header_ends[row + 1] - header_ends[row])
        for pair in range(header_ends[row], header_ends[row + 1]):
            at = _put_bytes(out, at, name_offsets, name_data, name_nulls, pair)
            at = _put_bytes(out, at, content_offsets, content_data, content_nulls, pair)
    return at
