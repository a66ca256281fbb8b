"""Compiled loops over JSON text (RFC 8259): where the members of each object are. What they say is `json_texts`'.

Bytes in, positions out; nothing here makes a Python object a record. Each read is checked against the end
of its record. Indices are unsigned where they index, which spares the check for negative ones.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]

# What a token is. INT has at most 15 digits, so that any is exact as float64; LONG has more. FLOAT cannot overflow;
# WIDE may: it has an exponent or more than 300 characters. ESCAPED is a string with a backslash in it.
MISSING: Final = 0
NULL: Final = 1
FALSE: Final = 2
TRUE: Final = 3
INT: Final = 4
LONG: Final = 5
FLOAT: Final = 6
WIDE: Final = 7
STRING: Final = 8
ESCAPED: Final = 9
NESTED: Final = 10

# What is wrong with a record.
OK: Final = 0
NOT_AN_OBJECT: Final = 1
ENDS_EARLY: Final = 2
UNEXPECTED: Final = 3
BAD_STRING: Final = 4
BAD_NUMBER: Final = 5
NOT_A_NUMBER: Final = 6
REPEATED_KEY: Final = 7
TOO_DEEP: Final = 8
MORE_AFTER: Final = 9
NO_VALUE: Final = 10
EMPTY: Final = 11
NOT_UTF8: Final = 12

MAX_DEPTH: Final = 512
_EXACT_DIGITS: Final = 15
_SAFE_LENGTH: Final = 300

_QUOTE: Final = 0x22
_BACKSLASH: Final = 0x5C
_COMMA: Final = 0x2C
_COLON: Final = 0x3A
_OPEN_OBJECT: Final = 0x7B
_CLOSE_OBJECT: Final = 0x7D
_OPEN_ARRAY: Final = 0x5B
_CLOSE_ARRAY: Final = 0x5D
_MINUS: Final = 0x2D
_PLUS: Final = 0x2B
_DOT: Final = 0x2E
_ZERO: Final = 0x30
_NINE: Final = 0x39

# Bytes that may stand in a string without more ado: no quote, backslash or control character.
_PLAIN: Final = np.array([byte >= 0x20 and byte not in (_QUOTE, _BACKSLASH) for byte in range(256)])

_njit = numba.njit(nogil=True, cache=True)
_inlined = numba.njit(nogil=True, cache=True, inline="always")


@_inlined  # type: ignore[untyped-decorator]
def _at(data: Bytes, at: int) -> int:
    return np.int64(data[np.uint64(at)])  # type: ignore[return-value]  # wide, so that sums with it are signed


@_njit  # type: ignore[untyped-decorator]
def _skip_space(data: Bytes, at: int, end: int) -> int:
    while at < end:
        char = _at(data, at)
        if char > 0x20 or char not in (0x20, 0x0A, 0x0D, 0x09):
            break
        at += 1
    return at


@_inlined  # type: ignore[untyped-decorator]
def _is_hex(char: int) -> bool:
    return 0x30 <= char <= 0x39 or 0x41 <= char <= 0x46 or 0x61 <= char <= 0x66


@_njit  # type: ignore[untyped-decorator]
def _string(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """From the opening quote on → (position after the closing one or of the fault, STRING or ESCAPED, fault)."""
    at += 1
    kind = STRING
    while at < end:
        while at < end and _PLAIN[data[np.uint64(at)]]:
            at += 1
        if at == end:
            break
        char = _at(data, at)
        if char == _QUOTE:
            return at + 1, kind, OK
        if char == _BACKSLASH:
            kind = ESCAPED
            at += 1
            if at >= end:
                break
            char = _at(data, at)
            if char == 0x75:  # u
                for _ in range(4):
                    at += 1
                    if at >= end:
                        return at, kind, ENDS_EARLY
                    if not _is_hex(_at(data, at)):
                        return at, kind, BAD_STRING
            elif char not in (0x22, 0x5C, 0x2F, 0x62, 0x66, 0x6E, 0x72, 0x74):
                return at, kind, BAD_STRING
        elif char < 0x20:
            return at, kind, BAD_STRING
        at += 1
    return at, kind, ENDS_EARLY


@_inlined  # type: ignore[untyped-decorator]
def _digits(data: Bytes, at: int, end: int) -> int:
    while at < end and _ZERO <= _at(data, at) <= _NINE:
        at += 1
    return at


@_njit  # type: ignore[untyped-decorator]
def _number(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """From a minus or digit on → (position after it or of the fault, its kind, fault)."""
    start = at
    if _at(data, at) == _MINUS:
        at += 1
        if at < end and _at(data, at) == 0x49:  # -Infinity
            return at, FLOAT, NOT_A_NUMBER
    first = at
    at = _digits(data, at, end)
    digits = at - first
    if digits == 0 or (digits > 1 and _at(data, first) == _ZERO):
        return first, INT, BAD_NUMBER
    kind = INT if digits <= _EXACT_DIGITS else LONG
    if at < end and _at(data, at) == _DOT:
        first = at + 1
        at = _digits(data, first, end)
        if at == first:
            return at, FLOAT, BAD_NUMBER
        kind = FLOAT
    if at < end and (_at(data, at) == 0x65 or _at(data, at) == 0x45):  # e E
        first = at + 1
        if first < end and (_at(data, first) == _PLUS or _at(data, first) == _MINUS):
            first += 1
        at = _digits(data, first, end)
        if at == first:
            return at, FLOAT, BAD_NUMBER
        kind = WIDE
    if kind == FLOAT and at - start > _SAFE_LENGTH:
        kind = WIDE
    return at, kind, OK


@_njit  # type: ignore[untyped-decorator]
def _literal(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """`null`, `true` or `false` → (position after it or of the fault, its kind, fault)."""
    char = _at(data, at)
    left = end - at
    if char == 0x6E:  # null
        if left >= 4 and _at(data, at + 1) == 0x75 and _at(data, at + 2) == 0x6C and _at(data, at + 3) == 0x6C:
            return at + 4, NULL, OK
    elif char == 0x74:  # true
        if left >= 4 and _at(data, at + 1) == 0x72 and _at(data, at + 2) == 0x75 and _at(data, at + 3) == 0x65:
            return at + 4, TRUE, OK
    elif char == 0x66:  # false
        if (
            left >= 5
            and _at(data, at + 1) == 0x61
            and _at(data, at + 2) == 0x6C
            and _at(data, at + 3) == 0x73
            and _at(data, at + 4) == 0x65
        ):
            return at + 5, FALSE, OK
    elif char in (0x4E, 0x49):  # NaN, Infinity
        return at, FLOAT, NOT_A_NUMBER
    return at, NULL, UNEXPECTED


@_njit  # type: ignore[untyped-decorator]
def _scalar(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    char = _at(data, at)
    if char == _QUOTE:
        return _string(data, at, end)  # type: ignore[no-any-return]
    if char == _MINUS or _ZERO <= char <= _NINE:
        return _number(data, at, end)  # type: ignore[no-any-return]
    return _literal(data, at, end)  # type: ignore[no-any-return]


@_njit  # type: ignore[untyped-decorator]
def _nested(data: Bytes, at: int, end: int, stack: Bytes) -> tuple[int, int]:
    """From an opening brace or bracket on → (position after the one that closes it or of the fault, fault)."""
    depth = 0
    after = False  # a value is complete: a comma or a closing one follows
    first = False  # just opened: it may close at once
    key = False  # a key follows
    while True:
        at = _skip_space(data, at, end)
        if at >= end:
            return at, ENDS_EARLY
        char = _at(data, at)
        if (after or first) and char in (_CLOSE_OBJECT, _CLOSE_ARRAY):
            if stack[depth - 1] != char:
                return at, UNEXPECTED
            depth -= 1
            at += 1
            if depth == 0:
                return at, OK
            after, first = True, False
            continue
        if after:
            if char != _COMMA:
                return at, UNEXPECTED
            at += 1
            after = False
            key = stack[depth - 1] == _CLOSE_OBJECT
            continue
        first = False
        if key:
            if char != _QUOTE:
                return at, UNEXPECTED
            at, _, fault = _string(data, at, end)
            if fault != OK:
                return at, fault
            at = _skip_space(data, at, end)
            if at >= end:
                return at, ENDS_EARLY
            if _at(data, at) != _COLON:
                return at, UNEXPECTED
            at += 1
            key = False
            continue
        if char in (_OPEN_OBJECT, _OPEN_ARRAY):
            if depth == stack.size:
                return at, TOO_DEEP
            stack[depth] = _CLOSE_OBJECT if char == _OPEN_OBJECT else _CLOSE_ARRAY
            depth += 1
            at += 1
            first = True
            key = char == _OPEN_OBJECT
            continue
        at, _, fault = _scalar(data, at, end)
        if fault != OK:
            return at, fault
        after = True


@_inlined  # type: ignore[untyped-decorator]
def _same(data: Bytes, start: int, stop: int, names: Bytes, ends: Ints, name: int) -> bool:
    first = ends[name]
    length = stop - start
    if ends[name + 1] - first != length:
        return False
    same = True
    for i in range(length):
        if _at(data, start + i) != _at(names, first + i):
            same = False
            break
    return same


@_njit  # type: ignore[untyped-decorator]
def tokenise(
    data: Bytes,
    offsets: Ints,
    names: Bytes,
    ends: Ints,
    columns: Ints,
    most_names: int,
    first_row: int,
    kinds: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int32],
    stops: npt.NDArray[np.int32],
    faults: Bytes,
    fault_at: Ints,
) -> tuple[int, int, int]:
    """Find the members of one JSON object a record.

    Args:
        data, offsets: the records, as in an Arrow binary column.
        names, ends, columns: the keys as they are spelled, one after another, and the column of each, -1 for none.
        most_names: where there are so many, pass over keys that are not among them, unless they have escapes.
        first_row: where to begin; records that have a fault already are passed over.
        kinds, starts, stops: out, [column, row]: the kind of the token, and where it is in `data`, quotes and all.
        faults, fault_at: out: what is wrong with a record, and where in `data`.

    Returns:
        (rows, 0, 0) when all is done; else (row, start, stop) of a key that is not known: add it, clear that row of
        `kinds`, and go on with that row.
    """
    rows = offsets.size - 1
    stack = np.empty(MAX_DEPTH, np.uint8)
    known = columns.size
    # Keys mostly come in the same order: which one was last seen after each; the last entry is for the first key.
    after = np.arange(1, known + 2)
    after[known] = 0
    for row in range(first_row, rows):
        if faults[row] != OK:
            continue
        end = np.int64(offsets[row + 1])
        at = _skip_space(data, np.int64(offsets[row]), end)
        fault = OK
        if at >= end or _at(data, at) != _OPEN_OBJECT:
            faults[row] = NOT_AN_OBJECT
            fault_at[row] = at
            continue
        at = _skip_space(data, at + 1, end)
        before = known
        if at < end and _at(data, at) == _CLOSE_OBJECT:
            at += 1
        else:
            while True:
                if at >= end:
                    fault = ENDS_EARLY
                    break
                if _at(data, at) != _QUOTE:
                    fault = UNEXPECTED
                    break
                start = at + 1
                at, spelling, fault = _string(data, at, end)
                if fault != OK:
                    break
                stop = at - 1
                name = -1
                guess = after[before]
                if guess < known and _same(data, start, stop, names, ends, guess):
                    name = guess
                else:
                    for other in range(known):
                        if _same(data, start, stop, names, ends, other):
                            name = other
                            after[before] = other
                            break
                if name < 0 and (spelling == ESCAPED or known < most_names):
                    return row, start, stop
                at = _skip_space(data, at, end)
                if at >= end:
                    fault = ENDS_EARLY
                    break
                if _at(data, at) != _COLON:
                    fault = UNEXPECTED
                    break
                at = _skip_space(data, at + 1, end)
                if at >= end:
                    fault = ENDS_EARLY
                    break
                value = at
                char = _at(data, at)
                if char in (_OPEN_OBJECT, _OPEN_ARRAY):
                    kind = NESTED
                    at, fault = _nested(data, at, end, stack)
                else:
                    at, kind, fault = _scalar(data, at, end)
                if fault != OK:
                    break
                if name >= 0:
                    before = name
                    column = columns[name]
                    if column >= 0:
                        if kinds[column, row] != MISSING:
                            fault = REPEATED_KEY
                            at = start - 1
                            break
                        kinds[column, row] = kind
                        starts[column, row] = value
                        stops[column, row] = at
                at = _skip_space(data, at, end)
                if at >= end:
                    fault = ENDS_EARLY
                    break
                char = _at(data, at)
                if char == _CLOSE_OBJECT:
                    at += 1
                    break
                if char != _COMMA:
                    fault = UNEXPECTED
                    break
                at = _skip_space(data, at + 1, end)
        if fault == OK:
            at = _skip_space(data, at, end)
            if at < end:
                fault = MORE_AFTER
        if fault != OK:
            faults[row] = fault
            fault_at[row] = at
    return rows, 0, 0
