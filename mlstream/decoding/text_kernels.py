"""Compiled loops over fields of text: where the fields of a CSV record are, and what numbers they hold.

Bytes in, positions and numbers out; nothing here makes a Python object a record.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from mlstream.decoding.values import Bytes, Ints, Mask

Longs = npt.NDArray[np.int64]

# What a field is.
MISSING: Final = 0  # the record ends before it
EMPTY: Final = 1  # nothing, and not quoted
PLAIN: Final = 2
ESCAPED: Final = 3  # quoted, with doubled quotes in it

# What is wrong with a record.
OK: Final = 0
NO_VALUE: Final = 1
NO_RECORD: Final = 2
OPEN_QUOTE: Final = 3
AFTER_QUOTE: Final = 4
STRAY_QUOTE: Final = 5
SECOND_LINE: Final = 6
TOO_FEW: Final = 7
TOO_MANY: Final = 8
TOO_SHORT: Final = 9

# What a number is.
FITS: Final = 0
WRONG: Final = 1
LONG: Final = 2  # more than the fast loop holds: to be read by Python's exact numbers

_LF: Final = 0x0A
_CR: Final = 0x0D
_SPACE: Final = 0x20
_PLUS: Final = 0x2B
_MINUS: Final = 0x2D
_DOT: Final = 0x2E
_ZERO: Final = 0x30
_SMALL_E: Final = 0x65
_LARGE_E: Final = 0x45
_SAFE_DIGITS: Final = 18  # of any sign, in int64
_EXACT_DIGITS: Final = 15  # any integer of so many digits is exact as float64

_njit = numba.njit(nogil=True, cache=True)


@_njit  # type: ignore[untyped-decorator]
def split(
    data: Bytes,
    offsets: Ints,
    delimiter: int,
    quote: int,
    columns: Ints,
    exact: bool,
    kinds: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int32],
    stops: npt.NDArray[np.int32],
    faults: Bytes,
    fault_at: Ints,
) -> None:
    """Find the fields of one CSV line a record (RFC 4180); an end of line at the end of the record is passed over.

    Args:
        quote: -1 for none.
        columns: the column of each field, -1 for none; its length is how many fields are looked at.
        exact: more fields than `columns` has are a fault.
        kinds, starts, stops: out, [column, row]; quotes around a field are left out.
        faults, fault_at: out: what is wrong with a record, and where in `data`. Those with a fault are passed over.
    """
    for row in range(offsets.size - 1):
        if faults[row] != OK:
            continue
        at = np.int64(offsets[row])
        end = np.int64(offsets[row + 1])
        if end > at and data[end - 1] == _LF:
            end -= 1
            if end > at and data[end - 1] == _CR:
                end -= 1
        if at == end:
            faults[row] = NO_RECORD
            continue
        field = 0
        fault = OK
        while True:
            quoted = at < end and np.int64(data[at]) == quote
            escaped = False
            if quoted:
                at += 1
                start = at
                closed = False
                while at < end:
                    if np.int64(data[at]) == quote:
                        if at + 1 < end and np.int64(data[at + 1]) == quote:
                            escaped = True
                            at += 2
                            continue
                        closed = True
                        break
                    at += 1
                if not closed:
                    fault = OPEN_QUOTE
                    break
                stop = at
                at += 1
                if at < end and np.int64(data[at]) != delimiter:
                    fault = AFTER_QUOTE
                    break
            else:
                start = at
                while at < end:
                    char = np.int64(data[at])
                    if char == delimiter:
                        break
                    if char == quote:
                        fault = STRAY_QUOTE
                        break
                    if char in (_LF, _CR):
                        fault = SECOND_LINE
                        break
                    at += 1
                if fault != OK:
                    break
                stop = at
            if field < columns.size:
                column = columns[field]
                if column >= 0:
                    starts[column, row] = start
                    stops[column, row] = stop
                    if escaped:
                        kinds[column, row] = ESCAPED
                    elif quoted or stop > start:
                        kinds[column, row] = PLAIN
                    else:
                        kinds[column, row] = EMPTY
            elif exact:
                fault = TOO_MANY
                break
            field += 1
            if at >= end:
                break
            at += 1  # the delimiter; a field follows, if an empty one
        if fault != OK:
            faults[row] = fault
            fault_at[row] = at


@_njit  # type: ignore[untyped-decorator]
def trim(data: Bytes, kinds: Bytes, starts: Ints, stops: Ints) -> None:
    """Drop the spaces around each field; one of nothing but spaces becomes EMPTY."""
    for row in range(kinds.size):
        if kinds[row] != PLAIN:
            continue
        start = np.int64(starts[row])
        stop = np.int64(stops[row])
        while start < stop and data[start] == _SPACE:
            start += 1
        while stop > start and data[stop - 1] == _SPACE:
            stop -= 1
        starts[row] = start
        stops[row] = stop
        if start == stop:
            kinds[row] = EMPTY


@_njit  # type: ignore[untyped-decorator]
def copy(
    data: Bytes, wanted: Mask, kinds: Bytes, starts: Ints, stops: Ints, quote: int, ends: Longs, out: Bytes
) -> None:
    """The wanted fields one after another, doubled quotes as one."""
    to = np.int64(0)
    ends[0] = 0
    for row in range(kinds.size):
        if wanted[row]:
            at = np.int64(starts[row])
            stop = np.int64(stops[row])
            escaped = kinds[row] == ESCAPED
            while at < stop:
                char = data[at]
                out[to] = char
                to += 1
                at += 2 if escaped and np.int64(char) == quote else 1
        ends[row + 1] = to


@_njit  # type: ignore[untyped-decorator]
def scaled(data: Bytes, ends: Longs, wanted: Mask, scale: int, implied: int, values: Longs, states: Bytes) -> None:
    """Decimal numbers as integers of 10^-scale: a sign, digits, perhaps a point and digits.

    Args:
        implied: how many of the digits stand behind a point that is not written; -1: the point is written.
        states: out: FITS, WRONG, or LONG for more digits than the loop holds, and for exponents.
    """
    for row in range(wanted.size):
        if not wanted[row]:
            continue
        at = ends[row]
        stop = ends[row + 1]
        negative = False
        if at < stop and (data[at] == _MINUS or data[at] == _PLUS):
            negative = data[at] == _MINUS
            at += 1
        value = np.int64(0)
        digits = 0  # without leading zeros
        seen = 0
        behind = -1  # digits behind the point; -1: no point yet
        state = FITS
        while at < stop:
            char = np.int64(data[at])
            at += 1
            if char == _DOT and behind < 0 and implied < 0:
                behind = 0
                continue
            digit = char - _ZERO
            if digit < 0 or digit > 9:
                state = LONG if (char in (_SMALL_E, _LARGE_E)) and seen > 0 and implied < 0 else WRONG
                break
            seen += 1
            if behind >= 0:
                behind += 1
                if behind > scale:
                    if digit != 0:  # it would be rounded
                        state = WRONG
                        break
                    continue
            if digits > 0 or digit != 0:
                digits += 1
            if digits > _SAFE_DIGITS:
                state = LONG
                break
            value = value * 10 + digit
        if state == FITS and seen == 0:
            state = WRONG
        if state == FITS:
            there = implied if implied >= 0 else min(max(behind, 0), scale)
            for _ in range(scale - there):
                if digits > 0:
                    digits += 1
                if digits > _SAFE_DIGITS:
                    state = LONG
                    break
                value *= 10
        states[row] = state
        if state == FITS:
            values[row] = -value if negative else value


@_njit  # type: ignore[untyped-decorator]
def check_numbers(data: Bytes, ends: Longs, wanted: Mask, states: Bytes) -> bool:
    """Whether each field is a number: a sign, digits with a point among or beside them, perhaps an exponent.

    Args:
        states: out: FITS, WRONG, or LONG for integers of more than 15 digits.

    Returns:
        whether any of them begins with a plus.
    """
    plus = False
    for row in range(wanted.size):
        if not wanted[row]:
            continue
        at = ends[row]
        stop = ends[row + 1]
        if at < stop and (data[at] == _MINUS or data[at] == _PLUS):
            plus |= data[at] == _PLUS
            at += 1
        digits = 0
        point = False
        while at < stop:
            char = np.int64(data[at])
            if char == _DOT and not point:
                point = True
            elif _ZERO <= char <= _ZERO + 9:
                digits += 1
            else:
                break
            at += 1
        state = FITS if digits > 0 else WRONG
        whole = not point
        if state == FITS and at < stop:
            char = np.int64(data[at])
            at += 1
            whole = False
            if char in (_SMALL_E, _LARGE_E):
                if at < stop and (data[at] == _MINUS or data[at] == _PLUS):
                    at += 1
                first = at
                while at < stop and _ZERO <= np.int64(data[at]) <= _ZERO + 9:
                    at += 1
                if at == first or at < stop:
                    state = WRONG
            else:
                state = WRONG
        if state == FITS and whole and digits > _EXACT_DIGITS:
            state = LONG
        states[row] = state
    return plus
