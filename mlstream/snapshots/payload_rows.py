"""The canonical payload of each row as a value of its own, so that whole records can be compared and hashed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.snapshots.canonical import payloads_of

_FIXED = 20  # bytes of a payload beside key, value and headers: the time, three lengths


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


def _lengths(column: pa.BinaryArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    found = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.int64)
