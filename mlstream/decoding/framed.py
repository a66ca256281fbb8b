"""The Confluent wire format: a zero byte, a schema's id (int32, big-endian), then the body. Knows no schema."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding.copy_kernels import copy
from mlstream.decoding.values import Mask, bytes_and_offsets

HEADER_BYTES = 5
NO_ID = -1


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema that records name by its id; `references` are (name, text) of what it refers to, dependencies first."""

    id: int
    type: str
    text: str
    references: Sequence[tuple[str, str]] = ()


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


def bodies(values: pa.BinaryArray, wanted: Mask) -> pa.BinaryArray:
    """What follows the header, of the wanted values; null elsewhere. Only values that have a header may be wanted."""
    data, offsets = bytes_and_offsets(values)
    starts = offsets[:-1].astype(np.int64) + HEADER_BYTES
    ends = np.empty(len(values) + 1, np.int64)
    out = np.empty(max(int((offsets[1:] - starts)[wanted].sum()), 1), np.uint8)
    copy(data, wanted, starts, offsets[1:], ends, out)
    buffers = [pa.py_buffer(np.packbits(wanted, bitorder="little")), pa.py_buffer(ends.astype(np.int32))]
    return pa.Array.from_buffers(pa.binary(), len(values), [*buffers, pa.py_buffer(out)])


def frame_faults(values: pa.BinaryArray, ids: npt.NDArray[np.int64], known: Collection[int] | None) -> dict[int, str]:
    """Why values have no body to decode, by their rows.

    Args:
        ids: what `header_ids` says of them.
        known: the ids whose schemas are known; None: any will do.
    """
    reasons: dict[int, str] = {}
    for row in map(int, np.flatnonzero(ids == NO_ID)):
        value = values[row].as_py()
        if value is None:
            reasons[row] = "it has no value (null)"
        elif not value:
            reasons[row] = "its value is empty"
        else:
            reasons[row] = f"it names no schema: it begins with {value[:HEADER_BYTES].hex(' ')}"
    if known is not None:
        named = np.unique(ids)
        for number in named[~np.isin(named, [NO_ID, *known])]:
            for row in map(int, np.flatnonzero(ids == number)):
                reasons[row] = f"it names schema {number}, which the snapshot does not hold"
    return reasons
