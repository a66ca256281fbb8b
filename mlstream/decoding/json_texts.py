"""Compiled loops over JSON tokens: integers to int64, strings to UTF-8, the text of anything as it stands.

The tokens are those that `json_kernels.tokenise` found, so they are well formed; nothing is checked again.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from mlstream.decoding.json_kernels import ESCAPED, INT, LONG, STRING, Bytes, Ints

Longs = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_BACKSLASH = 0x5C
_MINUS = 0x2D
_ZERO = 0x30

_njit = numba.njit(nogil=True, cache=True)
_inlined = numba.njit(nogil=True, cache=True, inline="always")


@_inlined  # type: ignore[untyped-decorator]
def _at(data: Bytes, at: int) -> int:
    return np.int64(data[np.uint64(at)])  # type: ignore[return-value]  # wide, so that sums with it are signed


@_njit  # type: ignore[untyped-decorator]
def integers(data: Bytes, kinds: Bytes, starts: Ints, stops: Ints, values: Longs, beyond: Mask) -> None:
    """The int64 of each INT and LONG token; `beyond` where it does not fit."""
    for row in range(kinds.size):
        if kinds[row] != INT and kinds[row] != LONG:
            continue
        at = starts[row]
        negative = _at(data, at) == _MINUS
        if negative:
            at += 1
        # Counted downward: the most negative int64 has no positive twin.
        value = np.int64(0)
        fits = True
        for i in range(at, stops[row]):
            digit = _at(data, i) - _ZERO
            if value < -922337203685477580 or (value == -922337203685477580 and digit > 8):
                fits = False
                break
            value = value * 10 - digit
        if fits and not negative:
            if value == np.int64(-9223372036854775808):
                fits = False
            else:
                value = -value
        if fits:
            values[row] = value
        else:
            beyond[row] = True


@_njit  # type: ignore[untyped-decorator]
def texts(data: Bytes, wanted: Mask, starts: Ints, stops: Ints, trim: int, ends: Ints, out: Bytes) -> None:
    """Copy the wanted tokens one after another; `trim` bytes (the quotes) are left out at both of their ends."""
    at = np.uint64(0)
    ends[0] = 0
    for row in range(wanted.size):
        if wanted[row]:
            start = np.uint64(starts[row] + trim)
            length = np.uint64(stops[row] - trim) - start
            for i in range(length):
                out[at + np.uint64(i)] = data[start + np.uint64(i)]
            at += length
        ends[row + 1] = np.int32(at)


@_inlined  # type: ignore[untyped-decorator]
def _hex4(data: Bytes, at: int) -> int:
    number = 0
    for i in range(4):
        char = _at(data, at + i)
        if char <= 0x39:
            digit = char - 0x30
        elif char <= 0x46:
            digit = char - 0x41 + 10
        else:
            digit = char - 0x61 + 10
        number = number * 16 + digit
    return number


@_njit  # type: ignore[untyped-decorator]
def strings(data: Bytes, kinds: Bytes, starts: Ints, stops: Ints, ends: Ints, out: Bytes, broken: Mask) -> None:
    """The text of each STRING and ESCAPED token as UTF-8; `broken` where a surrogate stands alone."""
    to = 0
    ends[0] = 0
    for row in range(kinds.size):
        if kinds[row] == STRING or kinds[row] == ESCAPED:
            at = np.int64(starts[row]) + 1
            stop = np.int64(stops[row]) - 1
            begin = to
            while at < stop:
                char = _at(data, at)
                at += 1
                if char == _BACKSLASH:
                    char = _at(data, at)
                    at += 1
                    if char == 0x75:
                        code = _hex4(data, at)
                        at += 4
                        if 0xD800 <= code < 0xDC00:
                            low = 0
                            if at + 6 <= stop and _at(data, at) == _BACKSLASH and _at(data, at + 1) == 0x75:
                                low = _hex4(data, at + 2)
                            if not 0xDC00 <= low < 0xE000:
                                broken[row] = True
                                break
                            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                            at += 6
                        elif 0xDC00 <= code < 0xE000:
                            broken[row] = True
                            break
                        if code < 0x80:
                            out[to] = code
                            to += 1
                        elif code < 0x800:
                            out[to] = 0xC0 | (code >> 6)
                            out[to + 1] = 0x80 | (code & 0x3F)
                            to += 2
                        elif code < 0x10000:
                            out[to] = 0xE0 | (code >> 12)
                            out[to + 1] = 0x80 | ((code >> 6) & 0x3F)
                            out[to + 2] = 0x80 | (code & 0x3F)
                            to += 3
                        else:
                            out[to] = 0xF0 | (code >> 18)
                            out[to + 1] = 0x80 | ((code >> 12) & 0x3F)
                            out[to + 2] = 0x80 | ((code >> 6) & 0x3F)
                            out[to + 3] = 0x80 | (code & 0x3F)
                            to += 4
                        continue
                    if char == 0x62:
                        char = 0x08
                    elif char == 0x66:
                        char = 0x0C
                    elif char == 0x6E:
                        char = 0x0A
                    elif char == 0x72:
                        char = 0x0D
                    elif char == 0x74:
                        char = 0x09
                out[to] = char
                to += 1
            if broken[row]:
                to = begin
        ends[row + 1] = to
