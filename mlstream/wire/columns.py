"""The columns that records become: their types, and Arrow arrays over buffers that the kernels fill. Parses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HEADER = pa.struct([pa.field("key", pa.binary()), pa.field("value", pa.binary())])
HEADERS = pa.list_(HEADER)

# One row a record. `timestamp` is null where the record has none (-1 on the wire); `timestamp_type` is 0 for
# CreateTime and 1 for LogAppendTime; `headers` is never null: a record without headers has an empty list.
SCHEMA = pa.schema(
    [
        pa.field("offset", pa.int64()),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC")),
        pa.field("timestamp_type", pa.int8()),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", HEADERS),
    ]
)

NO_TIMESTAMP = -1
CREATE_TIME = 0
LOG_APPEND_TIME = 1

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


def make_room(size: int, kind: type[Scalar]) -> npt.NDArray[Scalar]:
    """Uninitialised room in Arrow's memory pool, which keeps its pages: fresh ones cost as much as filling them."""
    if size == 0:
        return np.empty(0, kind)
    return np.frombuffer(pa.allocate_buffer(size * np.dtype(kind).itemsize), kind)


def frozen(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The array, read-only: kernels are compiled once for what they only read, whoever owns it."""
    array.flags.writeable = False
    return array


def numbers_of(array: pa.Array, kind: type[Scalar], *, null: int = 0) -> npt.NDArray[Scalar]:
    """A column of fixed width, over Arrow's own buffer where it has no nulls; `null` is what those become.

    pyarrow's `to_numpy`, `scalar` and `fill_null` import pandas, where it is installed, which takes longer than most of
    what they are asked for.
    """
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return frozen(np.full(len(array), null, kind))
    found = np.frombuffer(data, kind, count=len(array), offset=array.offset * np.dtype(kind).itemsize)
    if array.null_count:
        found = np.where(flags_of(array.is_valid()), found, kind(null))
    return frozen(found)


def repeated(number: int, rows: int) -> pa.Array:
    """An int32 column of one number; see `numbers_of`."""
    return pa.Array.from_buffers(pa.int32(), rows, [None, pa.py_buffer(np.full(rows, number, np.int32))], 0)


def flags_of(array: pa.Array) -> npt.NDArray[np.bool_]:
    """A boolean column without nulls, a byte each; see `numbers_of`."""
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.empty(0, np.bool_)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=array.offset + len(array), bitorder="little")
    return bits[array.offset :].view(np.bool_)


def parts_of(array: pa.Array) -> tuple[Ints, Bytes]:
    """The offsets of a binary column's cells, one more than there are, and the bytes that they point into."""
    _, ends, data = array.buffers()
    found = np.zeros(len(array) + 1, np.int32) if ends is None else np.frombuffer(ends, np.int32)
    return (
        frozen(found[array.offset : array.offset + len(array) + 1]),
        frozen(np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)),
    )


@dataclass(frozen=True, slots=True)
class Binaries:
    """Buffers of a binary column: `ends` are Arrow's offsets; `valid` is a bitmap, and `nulls` counts its zeros."""

    ends: Ints
    data: Bytes
    valid: Bytes
    nulls: int

    def array(self, rows: int) -> pa.Array:
        """The column, over these very buffers."""
        return pa.Array.from_buffers(
            pa.binary(),
            rows,
            [_bitmap(self.valid, self.nulls), pa.py_buffer(self.ends), pa.py_buffer(self.data)],
            self.nulls,
        )


def timestamps(values: Longs, valid: Bytes, nulls: int) -> pa.Array:
    """A timestamp column over milliseconds since 1970."""
    buffers = [_bitmap(valid, nulls), pa.py_buffer(values)]
    return pa.Array.from_buffers(SCHEMA.field("timestamp").type, len(values), buffers, nulls)


def header_lists(ends: Ints, keys: Binaries, values: Binaries) -> pa.Array:
    """The headers column: `ends` delimit each row's headers in `keys` and `values`."""
    headers = int(ends[-1])
    pairs = pa.StructArray.from_arrays([keys.array(headers), values.array(headers)], fields=list(HEADER))
    return pa.Array.from_buffers(HEADERS, len(ends) - 1, [None, pa.py_buffer(ends)], 0, 0, [pairs])


def no_rows() -> pa.RecordBatch:
    """No rows with the columns of SCHEMA. (pyarrow imports pandas to find out what an empty Python list is.)"""
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in SCHEMA], schema=SCHEMA)


def no_headers(rows: int) -> pa.Array:
    """A headers column of `rows` empty lists."""
    none = pa.nulls(0, HEADER)
    return pa.Array.from_buffers(HEADERS, rows, [None, pa.py_buffer(np.zeros(rows + 1, np.int32))], 0, 0, [none])


def _bitmap(valid: Bytes, nulls: int) -> pa.Buffer | None:
    return pa.py_buffer(valid) if nulls else None
