"""Compiled loops over the headers of record batches. Allocate and raise nothing: problems come back as codes.

Every read is preceded by a check against the end of the data. Nothing here calls what is compiled in another file: see
`compiled`.
"""

from __future__ import annotations

import numpy as np

from mlstream.wire.batches import Batches
from mlstream.wire.columns import Bytes
from mlstream.wire.compiled import compiled

HEADER_BYTES = 61
MIN_RECORD_BYTES = 7
_MOST = 2**63 - 1

# Problems.
FINE, BATCH_LENGTH, OLD_MAGIC, NEW_MAGIC, BATCH_OFFSET, BATCH_ORDER, RECORD_COUNT = range(7)


@compiled
def _big_endian(data: Bytes, at: int, size: int) -> int:
    """A signed integer of `size` bytes; the caller has checked that they are there."""
    value = int(np.int8(data[at]))
    for k in range(1, size):
        value = (value << 8) | int(np.int64(data[at + k]))
    return value


@compiled
def count_batches(data: Bytes) -> int:
    """How many complete batches `data` can hold at most; stops at a length that is no length."""
    size = len(data)
    at = 0
    found = 0
    while size - at >= 17:
        length = _big_endian(data, at + 8, 4)
        if length < 0 or length > size - at - 12:
            break
        at += 12 + length
        found += 1
    return found + 1


@compiled
def walk(data: Bytes, batches: Batches) -> tuple[int, int, int]:
    """Fill `batches`, which has room for `count_batches`, with the headers of the complete batches.

    Returns:
        How many there are, a problem's code (FINE when there is none), and the position of the batch that has it.
    """
    size = len(data)
    at = 0
    found = 0
    previous = -1
    while size - at >= 17:
        length = _big_endian(data, at + 8, 4)
        magic = _big_endian(data, at + 16, 1)
        if length < 14:  # the least that any format has
            return found, BATCH_LENGTH, at
        if length > size - at - 12:
            break
        if magic < 0 or magic > 2:
            return found, NEW_MAGIC, at
        if magic < 2:
            return found, OLD_MAGIC, at
        if length < HEADER_BYTES - 12:
            return found, BATCH_LENGTH, at
        base = _big_endian(data, at, 8)
        delta = _big_endian(data, at + 23, 4)
        records = _big_endian(data, at + 57, 4)
        if base < 0 or delta < 0 or base >= _MOST - delta:
            return found, BATCH_OFFSET, at
        if base <= previous:
            return found, BATCH_ORDER, at
        if records < 0 or records > delta + 1:
            return found, RECORD_COUNT, at
        if data[at + 22] & 7 == 0 and records * MIN_RECORD_BYTES > length + 12 - HEADER_BYTES:
            return found, RECORD_COUNT, at
        previous = base + delta
        batches.begin[found] = at
        batches.end[found] = at + 12 + length
        batches.base_offset[found] = base
        batches.last_delta[found] = delta
        batches.leader_epoch[found] = _big_endian(data, at + 12, 4)
        batches.checksum[found] = _big_endian(data, at + 17, 4) & 0xFFFFFFFF
        batches.attributes[found] = _big_endian(data, at + 21, 2)
        batches.base_timestamp[found] = _big_endian(data, at + 27, 8)
        batches.max_timestamp[found] = _big_endian(data, at + 35, 8)
        batches.producer_id[found] = _big_endian(data, at + 43, 8)
        batches.records[found] = records
        batches.unpacked[found] = 0
        batches.first[found] = at + HEADER_BYTES
        batches.last[found] = at + 12 + length
        at += 12 + length
        found += 1
    return found, FINE, at
