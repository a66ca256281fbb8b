"""Compiled loops that write records and measure them. Allocates nothing, raises nothing.

numba caches each function by the time of its own file only: nothing here calls what is compiled in another file.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from mlstream.wire.columns import Bytes, Ints, Longs

HEADER_BYTES = 61
# What a record takes beside its bytes, at most: length, attributes, timestamp delta, offset delta, the lengths of key
# and value, the number of headers; and what a header takes beside its.
RECORD_OVERHEAD = 5 + 1 + 10 + 5 + 5 + 5 + 5
HEADER_OVERHEAD = 5 + 5


class Cells(NamedTuple):
    """A binary column: cell i is `data[ends[i]:ends[i + 1]]`, or null where `valid[i]` is not set; empty `valid`: none is."""

    ends: Ints
    data: Bytes
    valid: npt.NDArray[np.bool_]


class Records(NamedTuple):
    """The columns of records. Row i has the headers `header_ends[i]:header_ends[i + 1]`; empty `header_ends`: none has."""

    times: Longs
    keys: Cells
    values: Cells
    header_ends: Ints
    header_names: Cells
    header_values: Cells


@njit(nogil=True, cache=True)
def _varint_bytes(value: int) -> int:
    """How many bytes a zigzag varint takes."""
    raw = np.uint64((value << 1) ^ (value >> 63))
    size = 1
    while raw >= np.uint64(0x80):
        raw >>= np.uint64(7)
        size += 1
    return size


@njit(nogil=True, cache=True)
def _write_varint(out: Bytes, at: int, value: int) -> int:
    """Write a zigzag varint at `at`; returns the position after it."""
    raw = np.uint64((value << 1) ^ (value >> 63))
    while raw >= np.uint64(0x80):
        out[at] = np.uint8(raw & np.uint64(0x7F)) | np.uint8(0x80)
        raw >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(raw)
    return at + 1


@njit(nogil=True, cache=True)
def _cell_bytes(cells: Cells, cell: int) -> int:
    """How many bytes a cell takes, its length included."""
    if len(cells.valid) > 0 and not cells.valid[cell]:
        return 1
    size = np.int64(cells.ends[cell + 1]) - np.int64(cells.ends[cell])
    return _varint_bytes(size) + size


@njit(nogil=True, cache=True)
def _write_cell(out: Bytes, at: int, cells: Cells, cell: int) -> int:
    """Write a cell and its length at `at`; returns the position after it."""
    if len(cells.valid) > 0 and not cells.valid[cell]:
        return _write_varint(out, at, -1)
    start = np.int64(cells.ends[cell])
    size = np.int64(cells.ends[cell + 1]) - start
    at = _write_varint(out, at, size)
    for k in range(size):
        out[at + k] = cells.data[start + k]
    return at + size


@njit(nogil=True, cache=True)
def _body_bytes(records: Records, row: int, first: int) -> int:
    """How many bytes a record takes after its length, in a batch that begins with row `first`."""
    size = 1 + _varint_bytes(records.times[row] - records.times[first]) + _varint_bytes(row - first)
    size += _cell_bytes(records.keys, row) + _cell_bytes(records.values, row)
    if len(records.header_ends) == 0:
        return size + 1
    size += _varint_bytes(np.int64(records.header_ends[row + 1]) - np.int64(records.header_ends[row]))
    for header in range(records.header_ends[row], records.header_ends[row + 1]):
        size += _cell_bytes(records.header_names, header) + _cell_bytes(records.header_values, header)
    return size


@njit(nogil=True, cache=True)
def write(records: Records, out: Bytes, at: int) -> int:
    """Write all rows to `out` from `at` on; returns the position after the last.

    `out` has room for RECORD_OVERHEAD a row, HEADER_OVERHEAD a header, and the bytes of all cells.
    """
    for row in range(len(records.times)):
        at = _write_varint(out, at, _body_bytes(records, row, 0))
        out[at] = 0
        at = _write_varint(out, at + 1, records.times[row] - records.times[0])
        at = _write_varint(out, at, row)
        at = _write_cell(out, at, records.keys, row)
        at = _write_cell(out, at, records.values, row)
        if len(records.header_ends) == 0:
            out[at] = 0
            at += 1
            continue
        at = _write_varint(out, at, np.int64(records.header_ends[row + 1]) - np.int64(records.header_ends[row]))
        for header in range(records.header_ends[row], records.header_ends[row + 1]):
            at = _write_cell(out, at, records.header_names, header)
            at = _write_cell(out, at, records.header_values, header)
    return at


@njit(nogil=True, cache=True)
def split(records: Records, max_bytes: int, max_rows: int, stops: Longs) -> tuple[int, int, int]:
    """Cut the rows into batches, each as long as fits.

    Args:
        stops: filled with the row after each batch's last; one place a row.

    Returns:
        How many batches there are, the first row that fits into none or -1, and the size of a batch of that row.
    """
    found = 0
    first = 0
    size = HEADER_BYTES
    for row in range(len(records.times)):
        body = _body_bytes(records, row, first)
        size += _varint_bytes(body) + body
        if row > first and (size > max_bytes or row - first >= max_rows):
            stops[found] = row
            found += 1
            first = row
            body = _body_bytes(records, row, first)
            size = HEADER_BYTES + _varint_bytes(body) + body
        if size > max_bytes:
            return found, row, size
    if len(records.times) > 0:
        stops[found] = len(records.times)
        found += 1
    return found, -1, 0
