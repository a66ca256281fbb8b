"""Compiled loops that check and copy the records of batches. Allocate and raise nothing: problems come back as codes.

Every read is preceded by a check against the end of its piece, and every write goes to an array that was sized from
what was checked, so corrupt bytes end in a code, never outside a buffer. Nothing here calls what is compiled in another
file: see `compiled`.
"""

from __future__ import annotations

import numpy as np

from mlstream.wire.batches import Batches
from mlstream.wire.columns import Bytes, Ints, Longs
from mlstream.wire.compiled import compiled

# What becomes of a batch's records: rows, a count, or nothing at all, not even a check.
KEPT, MARKER, ABORTED, SKIPPED = range(4)

# Problems.
(
    FINE,
    VARINT,
    RECORD_LENGTH,
    TIMESTAMP,
    OFFSET_DELTA,
    KEY_LENGTH,
    VALUE_LENGTH,
    HEADER_COUNT,
    HEADER_LENGTH,
    RECORD_REST,
    BATCH_REST,
    CONTROL_KEY,
) = range(12)

# What `parse` counts.
(
    ROWS_FILLED,
    NULL_TIMESTAMPS,
    NULL_KEYS,
    NULL_VALUES,
    HEADERS,
    NAME_BYTES,
    CONTENT_BYTES,
    CONTROLS,
    ABORTS,
    BAD_BATCH,
    BAD_RECORD,
) = range(11)
COUNTS = 11

_MIN_BODY_BYTES = 6  # a record without its length

# The ends of int64. Sums are checked before they are made: compiled code takes it that they do not overflow.
_MOST = 2**63 - 1
_LEAST = -(2**63)


@compiled
def _varint(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """A zigzag varint of at most 32 bits in `data[at:end]`, and the position after it: -1 when there is none."""
    if at >= end:
        return 0, -1
    byte = int(np.int64(data[at]))
    at += 1
    raw = byte & 0x7F
    shift = 7
    while byte & 0x80:
        if at >= end or shift > 28:
            return 0, -1
        byte = int(np.int64(data[at]))
        at += 1
        if shift == 28 and byte > 0x0F:
            return 0, -1
        raw |= (byte & 0x7F) << shift
        shift += 7
    return (raw >> 1) ^ -(raw & 1), at


@compiled
def _varlong(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits in `data[at:end]`, and the position after it: -1 when there is none."""
    if at >= end:
        return 0, -1
    byte = np.uint64(data[at])
    at += 1
    raw = byte & np.uint64(0x7F)
    shift = np.uint64(7)
    while byte & np.uint64(0x80):
        if at >= end or shift > np.uint64(63):
            return 0, -1
        byte = np.uint64(data[at])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return 0, -1
        raw |= (byte & np.uint64(0x7F)) << shift
        shift += np.uint64(7)
    return int(np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1))), at


@compiled
def control_type(data: Bytes, at: int, end: int) -> int:
    """The type of a control batch's first record (0 abort, 1 commit, others), or -1 when it has none."""
    length, at = _varint(data, at, end)
    if at < 0 or length < 1 or length > end - at:
        return -1
    end = at + length
    _, at = _varlong(data, at + 1, end)
    if at < 0:
        return -1
    _, at = _varint(data, at, end)
    if at < 0:
        return -1
    size, at = _varint(data, at, end)
    if at < 0 or size < 4 or size > end - at:
        return -1
    return int(np.int8(data[at + 2])) << 8 | int(np.int64(data[at + 3]))


@compiled
def parse(
    data: Bytes,
    scratch: Bytes,
    batches: Batches,
    start: int,
    stop: int,
    offsets: Longs,
    times: Longs,
    types: Bytes,
    key_at: Longs,
    key_ends: Ints,
    value_at: Longs,
    value_ends: Ints,
    header_ends: Ints,
    valid: Bytes,
    counts: Longs,
) -> int:
    """Check every record of the batches and note where keys, values and headers are.

    Args:
        batches: each with its kind and place set; gets its rows.
        start, stop: records with other offsets are checked and left out.
        offsets, times, types, key_at, value_at: one place for each record that there may be.
        key_ends, value_ends, header_ends: one more, Arrow's offsets.
        valid: 3 × bitmap bytes, all ones: timestamps, keys, values. Nulls are cleared.
        counts: COUNTS zeros.

    Returns:
        A problem's code; `counts` then says in which batch and record (-1: after the last one).
    """
    row = 0
    key_bytes = 0
    value_bytes = 0
    headers = 0
    key_ends[0] = 0
    value_ends[0] = 0
    header_ends[0] = 0
    for batch in range(len(batches.first)):
        kind = batches.kind[batch]
        batches.row[batch] = row
        batches.rows[batch] = 0
        if kind == SKIPPED:
            continue
        counts[BAD_BATCH] = batch
        source = scratch if batches.unpacked[batch] else data
        at = batches.first[batch]
        end = batches.last[batch]
        base_offset = batches.base_offset[batch]
        last_delta = batches.last_delta[batch]
        base_time = batches.base_timestamp[batch]
        appended = (batches.attributes[batch] & 8) != 0
        records = batches.records[batch]
        previous = -1
        for record in range(records):
            counts[BAD_RECORD] = record
            length, at = _varint(source, at, end)
            if at < 0:
                return VARINT
            if length < _MIN_BODY_BYTES or length > end - at:
                return RECORD_LENGTH
            rest = at + length
            delta, at = _varlong(source, at + 1, rest)
            if at < 0:
                return VARINT
            time = batches.max_timestamp[batch]
            if not appended:
                if base_time > _MOST - max(delta, 0) or base_time < _LEAST - min(delta, 0):
                    return TIMESTAMP
                time = base_time + delta
            delta, at = _varint(source, at, rest)
            if at < 0:
                return VARINT
            if delta <= previous or delta > last_delta:
                return OFFSET_DELTA
            previous = delta
            offset = base_offset + delta
            key_size, key = _varint(source, at, rest)
            if key < 0:
                return VARINT
            if key_size < -1 or key_size > rest - key:
                return KEY_LENGTH
            at = key + max(key_size, 0)
            value_size, value = _varint(source, at, rest)
            if value < 0:
                return VARINT
            if value_size < -1 or value_size > rest - value:
                return VALUE_LENGTH
            at = value + max(value_size, 0)
            header_count, at = _varint(source, at, rest)
            if at < 0:
                return VARINT
            if header_count < 0 or header_count > (rest - at) // 2:
                return HEADER_COUNT
            names = 0
            contents = 0
            for _ in range(header_count):
                size, at = _varint(source, at, rest)
                if at < 0:
                    return VARINT
                if size < 0 or size > rest - at:
                    return HEADER_LENGTH
                names += size
                at += size
                size, at = _varint(source, at, rest)
                if at < 0:
                    return VARINT
                if size < -1 or size > rest - at:
                    return HEADER_LENGTH
                contents += max(size, 0)
                at += max(size, 0)
            if at != rest:
                return RECORD_REST
            if kind == MARKER and key_size < 4:
                return CONTROL_KEY
            if offset < start or offset >= stop:
                continue
            if kind == MARKER:
                counts[CONTROLS] += 1
                continue
            if kind == ABORTED:
                counts[ABORTS] += 1
                continue
            offsets[row] = offset
            times[row] = time
            types[row] = appended
            if time == -1:
                counts[NULL_TIMESTAMPS] += 1
                valid[0, row >> 3] &= ~(1 << (row & 7))
            if key_size < 0:
                counts[NULL_KEYS] += 1
                valid[1, row >> 3] &= ~(1 << (row & 7))
            else:
                key_bytes += key_size
            if value_size < 0:
                counts[NULL_VALUES] += 1
                valid[2, row >> 3] &= ~(1 << (row & 7))
            else:
                value_bytes += value_size
            key_at[row] = key
            value_at[row] = value
            headers += header_count
            counts[NAME_BYTES] += names
            counts[CONTENT_BYTES] += contents
            row += 1
            key_ends[row] = key_bytes
            value_ends[row] = value_bytes
            header_ends[row] = headers
        if at != end:
            counts[BAD_RECORD] = -1
            return BATCH_REST
        batches.rows[batch] = row - batches.row[batch]
    counts[ROWS_FILLED] = row
    counts[HEADERS] = headers
    return FINE


@compiled
def _copy(source: Bytes, out: Bytes) -> None:
    """Copy between slices of one length: a loop from 0 over slices is what becomes vector instructions."""
    for k in range(len(out)):
        out[k] = source[k]


@compiled
def copy_binaries(data: Bytes, scratch: Bytes, batches: Batches, starts: Longs, ends: Ints, out: Bytes) -> None:
    """Copy each row's bytes (a key or a value, found by `parse`) to `out`, one after the other."""
    for batch in range(len(batches.first)):
        source = scratch if batches.unpacked[batch] else data
        first = batches.row[batch]
        for row in range(first, first + batches.rows[batch]):
            to = ends[row]
            size = ends[row + 1] - to
            at = starts[row]
            _copy(source[at : at + size], out[to : to + size])


@compiled
def copy_headers(
    data: Bytes,
    scratch: Bytes,
    batches: Batches,
    value_at: Longs,
    value_ends: Ints,
    header_ends: Ints,
    name_ends: Ints,
    names: Bytes,
    content_ends: Ints,
    contents: Bytes,
    valid: Bytes,
) -> int:
    """Copy every row's headers, which `parse` has checked and counted. Returns how many values are null."""
    nulls = 0
    name_ends[0] = 0
    content_ends[0] = 0
    for batch in range(len(batches.first)):
        source = scratch if batches.unpacked[batch] else data
        end = batches.last[batch]
        first = batches.row[batch]
        for row in range(first, first + batches.rows[batch]):
            at = value_at[row] + value_ends[row + 1] - value_ends[row]
            _, at = _varint(source, at, end)
            for header in range(header_ends[row], header_ends[row + 1]):
                size, at = _varint(source, at, end)
                to = name_ends[header]
                _copy(source[at : at + size], names[to : to + size])
                name_ends[header + 1] = to + size
                size, at = _varint(source, at + size, end)
                if size < 0:
                    nulls += 1
                    valid[header >> 3] &= ~(1 << (header & 7))
                    size = 0
                to = content_ends[header]
                _copy(source[at : at + size], contents[to : to + size])
                content_ends[header + 1] = to + size
                at += size
    return nulls
