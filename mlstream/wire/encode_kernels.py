"""Compiled loops that write records and measure them. Allocate and raise nothing.

Nothing here calls what is compiled in another file: see `compiled`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlstream.wire.columns import Bytes, Ints, Longs
from mlstream.wire.compiled import compiled

# What a record takes beside its bytes, at most: length, attributes, timestamp delta, offset delta, the lengths of key
# and value; what a list of headers takes beside them, its number; and what a header takes beside its bytes.
RECORD_OVERHEAD = 5 + 1 + 10 + 5 + 5 + 5
BLOCK_OVERHEAD = 5
HEADER_OVERHEAD = 5 + 5


class Cells(NamedTuple):
    """A binary column: cell i is `data[ends[i]:ends[i + 1]]`, null where `valid[i]` is false; no `valid`: no nulls."""

    ends: Ints
    data: Bytes
    valid: npt.NDArray[np.bool_]


class Records(NamedTuple):
    """The columns of records. Row i's headers are `blocks[block_of[i]]`, written by `write_blocks`."""

    times: Longs
    keys: Cells
    values: Cells
    blocks: Cells
    block_of: Ints


@compiled
def _zigzag(value: int) -> np.uint64:
    """A signed number as an unsigned one, small where it is near zero."""
    return (np.uint64(value) << np.uint64(1)) ^ np.uint64(value >> 63)


@compiled
def _varint_bytes(value: int) -> int:
    """How many bytes a zigzag varint takes."""
    raw = _zigzag(value)
    size = 1
    while raw >= np.uint64(0x80):
        raw >>= np.uint64(7)
        size += 1
    return size


@compiled
def _write_varint(out: Bytes, at: int, value: int) -> int:
    """Write a zigzag varint at `at`; returns the position after it."""
    raw = _zigzag(value)
    while raw >= np.uint64(0x80):
        out[at] = np.uint8(raw & np.uint64(0x7F)) | np.uint8(0x80)
        raw >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(raw)
    return at + 1


@compiled
def _size(ends: Ints, valid: npt.NDArray[np.bool_], cell: int) -> int:
    """The size of a cell, -1 when it is null."""
    if len(valid) > 0 and not valid[cell]:
        return -1
    return int(ends[cell + 1]) - int(ends[cell])


@compiled
def _sized_bytes(size: int) -> int:
    """How many bytes a cell of that size takes, its length included."""
    return _varint_bytes(size) + max(size, 0)


@compiled
def _write_bytes(out: Bytes, at: int, data: Bytes, start: int, size: int) -> int:
    """Write bytes at `at`; returns the position after them."""
    if size <= 0:
        return at
    # A loop from 0 over slices is what becomes vector instructions.
    source = data[start : start + size]
    target = out[at : at + size]
    for k in range(size):
        target[k] = source[k]
    return at + size


@compiled
def write_blocks(header_ends: Ints, names: Cells, values: Cells, out: Bytes, ends: Ints) -> None:
    """Write lists of headers as records hold them: their number, and the length and bytes of each name and value.

    Args:
        header_ends: list i has the headers `header_ends[i]:header_ends[i + 1]`.
        out: has room for BLOCK_OVERHEAD a list, HEADER_OVERHEAD a header, and the bytes of all cells.
        ends: filled with where each list ends in `out`, after a zero.
    """
    name_ends, name_data, name_valid = names.ends, names.data, names.valid
    value_ends, value_data, value_valid = values.ends, values.data, values.valid
    at = 0
    ends[0] = 0
    for found in range(len(header_ends) - 1):
        first, stop = int(header_ends[found]), int(header_ends[found + 1])
        at = _write_varint(out, at, stop - first)
        for header in range(first, stop):
            size = _size(name_ends, name_valid, header)
            at = _write_varint(out, at, size)
            at = _write_bytes(out, at, name_data, int(name_ends[header]), size)
            size = _size(value_ends, value_valid, header)
            at = _write_varint(out, at, size)
            at = _write_bytes(out, at, value_data, int(value_ends[header]), size)
        ends[found + 1] = at


@compiled
def write(records: Records, out: Bytes, at: int) -> int:
    """Write all rows to `out` from `at` on; returns the position after the last.

    `out` has room for RECORD_OVERHEAD a row and the bytes of all cells and of each row's block.
    """
    times = records.times
    key_ends, key_data, key_valid = records.keys.ends, records.keys.data, records.keys.valid
    value_ends, value_data, value_valid = records.values.ends, records.values.data, records.values.valid
    block_ends, block_data, block_of = records.blocks.ends, records.blocks.data, records.block_of
    for row in range(len(times)):
        delta = int(times[row] - times[0])
        key = _size(key_ends, key_valid, row)
        value = _size(value_ends, value_valid, row)
        start = int(block_ends[block_of[row]])
        block = int(block_ends[block_of[row] + 1]) - start
        body = 1 + _varint_bytes(delta) + _varint_bytes(row) + _sized_bytes(key) + _sized_bytes(value) + block
        at = _write_varint(out, at, body)
        out[at] = 0  # the attributes
        at = _write_varint(out, at + 1, delta)
        at = _write_varint(out, at, row)
        at = _write_varint(out, at, key)
        at = _write_bytes(out, at, key_data, int(key_ends[row]), key)
        at = _write_varint(out, at, value)
        at = _write_bytes(out, at, value_data, int(value_ends[row]), value)
        at = _write_bytes(out, at, block_data, start, block)
    return at


@compiled
def split(records: Records, header_bytes: int, max_bytes: int, max_rows: int, stops: Longs) -> tuple[int, int, int]:
    """Cut the rows into batches, each as long as fits.

    Args:
        header_bytes: what a batch takes beside its records.
        stops: filled with the row after each batch's last; one place a row.

    Returns:
        How many batches there are, the first row that fits into none or -1, and the size of a batch of that row.
    """
    times = records.times
    key_ends, key_valid = records.keys.ends, records.keys.valid
    value_ends, value_valid = records.values.ends, records.values.valid
    block_ends, block_of = records.blocks.ends, records.block_of
    found = 0
    first = 0
    size = header_bytes
    for row in range(len(times)):
        fixed = 1 + _sized_bytes(_size(key_ends, key_valid, row)) + _sized_bytes(_size(value_ends, value_valid, row))
        fixed += int(block_ends[block_of[row] + 1]) - int(block_ends[block_of[row]])
        body = fixed + _varint_bytes(int(times[row] - times[first])) + _varint_bytes(row - first)
        size += _varint_bytes(body) + body
        if row > first and (size > max_bytes or row - first >= max_rows):
            stops[found] = row
            found += 1
            first = row
            body = fixed + _varint_bytes(0) + _varint_bytes(0)
            size = header_bytes + _varint_bytes(body) + body
        if size > max_bytes:
            return found, row, size
    if len(times) > 0:
        stops[found] = len(times)
        found += 1
    return found, -1, 0
