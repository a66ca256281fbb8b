"""Compiled loops that walk, check and copy record batches. Allocate and raise nothing: problems come back as codes.

Every read is preceded by a check against the end of its piece, and every write goes to an array that was sized from
what was checked, so corrupt bytes end in a code, never outside a buffer.

Nothing here calls what is compiled in another file: see `compiled`.
"""

from __future__ import annotations

import numpy as np

from mlstream.wire.columns import Bytes, Ints, Longs
from mlstream.wire.compiled import compiled

# Columns of the table of batches: what the header says …
(
    BEGIN,  # position of the batch in the data
    END,
    BASE_OFFSET,
    LAST_DELTA,
    LEADER_EPOCH,
    MAGIC,
    CRC,
    ATTRIBUTES,
    BASE_TIMESTAMP,
    MAX_TIMESTAMP,
    PRODUCER_ID,
    RECORDS,
    # … and what decode.py adds: where the plain records are, and what becomes of them.
    SCRATCH,  # 1 when they were decompressed, 0 when they are in the data itself
    FIRST,  # position of the first record there
    LAST,  # position after the last one
    KIND,  # one of the kinds below
    ROW,  # the row that its first record went to
    ROWS,  # how many of its records became rows
) = range(18)
FIELDS = 18

KEEP, CONTROL, ABORTED, SKIP = range(4)

HEADER_BYTES = 61
MIN_RECORD_BYTES = 7

# The ends of int64. Sums are checked before they are made: compiled code takes it that they do not overflow.
_MOST = 2**63 - 1
_LEAST = -(2**63)

# Problems.
(
    FINE,
    BATCH_LENGTH,
    OLD_MAGIC,
    NEW_MAGIC,
    BATCH_OFFSET,
    BATCH_ORDER,
    RECORD_COUNT,
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
) = range(18)

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
def walk(data: Bytes, table: Longs) -> tuple[int, int, int]:
    """Fill `table` (FIELDS × `count_batches`) with the headers of the complete batches.

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
        table[BEGIN, found] = at
        table[END, found] = at + 12 + length
        table[BASE_OFFSET, found] = base
        table[LAST_DELTA, found] = delta
        table[LEADER_EPOCH, found] = _big_endian(data, at + 12, 4)
        table[MAGIC, found] = magic
        table[CRC, found] = _big_endian(data, at + 17, 4) & 0xFFFFFFFF
        table[ATTRIBUTES, found] = _big_endian(data, at + 21, 2)
        table[BASE_TIMESTAMP, found] = _big_endian(data, at + 27, 8)
        table[MAX_TIMESTAMP, found] = _big_endian(data, at + 35, 8)
        table[PRODUCER_ID, found] = _big_endian(data, at + 43, 8)
        table[RECORDS, found] = records
        table[SCRATCH, found] = 0
        table[FIRST, found] = at + HEADER_BYTES
        table[LAST, found] = at + 12 + length
        table[KIND, found] = KEEP
        at += 12 + length
        found += 1
    return found, FINE, at


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
    if at < 0 or length < 0 or length > end - at or length < 1:
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
    return _big_endian(data, at + 2, 2)


@compiled
def parse(
    data: Bytes,
    scratch: Bytes,
    table: Longs,
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
    """Check every record of the batches in `table` and note where keys, values and headers are.

    Args:
        table: FIELDS × batches.
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
    for batch in range(table.shape[1]):
        kind = table[KIND, batch]
        table[ROW, batch] = row
        table[ROWS, batch] = 0
        if kind == SKIP:
            continue
        counts[BAD_BATCH] = batch
        source = scratch if table[SCRATCH, batch] else data
        at = table[FIRST, batch]
        end = table[LAST, batch]
        base_offset = table[BASE_OFFSET, batch]
        last_delta = table[LAST_DELTA, batch]
        base_time = table[BASE_TIMESTAMP, batch]
        appended = (table[ATTRIBUTES, batch] & 8) != 0
        records = table[RECORDS, batch]
        previous = -1
        for record in range(records):
            counts[BAD_RECORD] = record
            length, at = _varint(source, at, end)
            if at < 0:
                return VARINT
            if length < MIN_RECORD_BYTES - 1 or length > end - at:
                return RECORD_LENGTH
            rest = at + length
            delta, at = _varlong(source, at + 1, rest)
            if at < 0:
                return VARINT
            time = table[MAX_TIMESTAMP, batch]
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
            if kind == CONTROL and key_size < 4:
                return CONTROL_KEY
            if offset < start or offset >= stop:
                continue
            if kind == CONTROL:
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
        table[ROWS, batch] = row - table[ROW, batch]
    counts[ROWS_FILLED] = row
    counts[HEADERS] = headers
    return FINE


@compiled
def _copy(source: Bytes, out: Bytes) -> None:
    """Copy between slices of one length: a loop from 0 over slices is what becomes vector instructions."""
    for k in range(len(out)):
        out[k] = source[k]


@compiled
def copy_binaries(data: Bytes, scratch: Bytes, table: Longs, starts: Longs, ends: Ints, out: Bytes) -> None:
    """Copy each row's bytes (a key or a value, found by `parse`) to `out`, one after the other."""
    for batch in range(table.shape[1]):
        source = scratch if table[SCRATCH, batch] else data
        first = table[ROW, batch]
        for row in range(first, first + table[ROWS, batch]):
            to = ends[row]
            size = ends[row + 1] - to
            at = starts[row]
            _copy(source[at : at + size], out[to : to + size])


@compiled
def copy_headers(
    data: Bytes,
    scratch: Bytes,
    table: Longs,
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
    for batch in range(table.shape[1]):
        source = scratch if table[SCRATCH, batch] else data
        end = table[LAST, batch]
        first = table[ROW, batch]
        for row in range(first, first + table[ROWS, batch]):
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
