"""Compiled loops of the canonical encoding of tables. Bytes and numbers only; table_rows.py says what they mean.

Each kernel writes the encoded values of one column, one after another, and where each begins (`starts`, one more than
there are rows).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from mlstream.wire.compiled import compiled

Bytes: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint8]]"
Flags: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.bool_]]"
Longs: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
Limbs: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.uint64]]"
Words: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.uint64]]"

VALUE = 1
NULL = 2
END = 0
ESCAPE = 0xFF  # after a zero byte that belongs to a value
NEGATIVE, ZERO, POSITIVE = 0, 1, 2
DECIMAL_BYTES = 42  # the most that a decimal takes: marker, sign, exponent, 38 digits, end
_EXPONENT = 128


# Indices are unsigned wherever a loop copies bytes: see canonical.py.
@compiled
def write_words(words: Words, nulls: Flags, starts: Longs, out: Bytes) -> None:
    """Numbers of 64 bits each, in big-endian order: `words[row]` of each row."""
    at = np.uint64(0)
    width = words.shape[1]
    for row in range(words.shape[0]):
        starts[row] = at
        if nulls[row]:
            out[at] = NULL
            at += np.uint64(1)
            continue
        out[at] = VALUE
        at += np.uint64(1)
        for k in range(width):
            word = words[row, k]
            for i in range(8):
                out[at + np.uint64(i)] = (word >> np.uint64(56 - 8 * i)) & np.uint64(0xFF)
            at += np.uint64(8)
    starts[words.shape[0]] = at


@compiled
def count_zeros(offsets: Longs, data: Bytes) -> int:
    """How many zero bytes there are, each of which is written as two."""
    found = 0
    for i in range(offsets[0], offsets[-1]):
        if data[i] == 0:
            found += 1
    return found


@compiled
def write_bytes(offsets: Longs, data: Bytes, nulls: Flags, starts: Longs, out: Bytes) -> None:
    """Texts and binaries: a zero byte is followed by ESCAPE, the value by END."""
    at = np.uint64(0)
    for row in range(nulls.size):
        starts[row] = at
        if nulls[row]:
            out[at] = NULL
            at += np.uint64(1)
            continue
        out[at] = VALUE
        at += np.uint64(1)
        for i in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
            byte = data[i]
            out[at] = byte
            at += np.uint64(1)
            if byte == 0:
                out[at] = ESCAPE
                at += np.uint64(1)
        out[at] = END
        at += np.uint64(1)
    starts[nulls.size] = at


@compiled
def write_decimals(words: Words, scale: int, nulls: Flags, starts: Longs, out: Bytes) -> None:
    """Decimals of 128 bits (`words[row]`: low half, high half; two's complement), `scale` digits after the point."""
    digits = np.empty(40, np.uint8)
    limbs = np.empty(4, np.uint64)
    at = np.uint64(0)
    for row in range(words.shape[0]):
        starts[row] = at
        if nulls[row]:
            out[at] = NULL
            at += np.uint64(1)
            continue
        out[at] = VALUE
        at += np.uint64(1)
        low, high = words[row, 0], words[row, 1]
        negative = (high >> np.uint64(63)) != 0
        if negative:
            low = ~low + np.uint64(1)
            high = ~high + np.uint64(low == 0)
        count = _digits_of(low, high, limbs, digits)
        if count == 0:
            out[at] = ZERO
            at += np.uint64(1)
            continue
        flip = np.uint8(0xFF) if negative else np.uint8(0)
        out[at] = NEGATIVE if negative else POSITIVE
        out[at + np.uint64(1)] = np.uint8(count - scale + _EXPONENT) ^ flip
        at += np.uint64(2)
        least = 0  # digits stand in `digits` from the least one on
        while digits[least] == 0:
            least += 1
        for i in range(count - 1, least - 1, -1):
            out[at] = (digits[i] + np.uint8(48)) ^ flip
            at += np.uint64(1)
        out[at] = np.uint8(END) ^ flip
        at += np.uint64(1)
    starts[words.shape[0]] = at


@compiled
def _digits_of(low: np.uint64, high: np.uint64, limbs: Limbs, digits: Bytes) -> int:
    """The decimal digits of an unsigned number of 128 bits, the least first; how many."""
    count = 0
    ten = np.uint64(10)
    if high != 0:
        mask = np.uint64(0xFFFFFFFF)
        limbs[0] = high >> np.uint64(32)
        limbs[1] = high & mask
        limbs[2] = low >> np.uint64(32)
        limbs[3] = low & mask
        while limbs[0] != 0 or limbs[1] != 0:
            rest = np.uint64(0)
            for i in range(4):
                part = (rest << np.uint64(32)) | limbs[i]
                limbs[i] = part // ten
                rest = part % ten
            digits[count] = np.uint8(rest)
            count += 1
        low = (limbs[2] << np.uint64(32)) | limbs[3]
    while low != 0:
        digits[count] = np.uint8(low % ten)
        low = low // ten
        count += 1
    return count


@compiled
def write_lists(offsets: Longs, nulls: Flags, item_starts: Longs, items: Bytes, starts: Longs, out: Bytes) -> None:
    """Lists: their items as they are encoded already, one after another, then END."""
    at = np.uint64(0)
    for row in range(nulls.size):
        starts[row] = at
        if nulls[row]:
            out[at] = NULL
            at += np.uint64(1)
            continue
        out[at] = VALUE
        at += np.uint64(1)
        for i in range(np.uint64(item_starts[offsets[row]]), np.uint64(item_starts[offsets[row + 1]])):
            out[at] = items[i]
            at += np.uint64(1)
        out[at] = END
        at += np.uint64(1)
    starts[nulls.size] = at


@compiled
def append(starts: Longs, data: Bytes, ends: Longs, out: Bytes) -> None:
    """Put each row's bytes of one column behind what `out` has of the row already; `ends` moves along."""
    for row in range(ends.size):
        at = np.uint64(ends[row])
        for i in range(np.uint64(starts[row]), np.uint64(starts[row + 1])):
            out[at] = data[i]
            at += np.uint64(1)
        ends[row] = at
