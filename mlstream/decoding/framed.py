"""The Confluent wire format: a zero byte, a schema's id (int32, big-endian), then the body. Knows no schema."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding.values import Bytes, Ints, bytes_and_offsets

HEADER_BYTES = 5
NO_ID = -1


def header_ids(values: pa.BinaryArray) -> npt.NDArray[np.int64]:
    """The id that each value's header names; -1 where it is null, shorter than a header, or begins with another byte.

    An id is read as an unsigned number: registries give out positive ones.
    """
    data, offsets = bytes_and_offsets(values)
    ids = np.full(len(values), NO_ID, np.int64)
    framed = np.diff(offsets) >= HEADER_BYTES
    rows = np.flatnonzero(framed)
    rows = rows[data[offsets[rows]] == 0]
    if values.null_count:
        rows = rows[values.is_valid().to_numpy(zero_copy_only=False)[rows]]
    starts = offsets[rows].astype(np.int64)
    found = np.zeros(len(rows), np.int64)
    for byte in range(1, HEADER_BYTES):
        found = found << 8 | data[starts + byte]
    ids[rows] = found
    return ids


def bodies(values: pa.BinaryArray) -> tuple[Bytes, Ints, Ints]:
    """Where the bodies of framed values are: (bytes, starts, stops). Only for rows that have a header."""
    data, offsets = bytes_and_offsets(values)
    return data, offsets[:-1] + HEADER_BYTES, offsets[1:]
