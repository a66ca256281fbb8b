"""Compiled loops over Avro bodies: every byte of a record is walked and checked, flat fields are read on the way.

A schema is a program (`avro_program` writes it), so that one compiled loop serves all schemas. An instruction is four
numbers: what to do, its parameter, the slot that the value goes to (-1: it is only passed over), unused.

    NULL BOOL INT LONG FLOAT DOUBLE BYTES STRING      a value
    FIXED size, ENUM symbols                          a value
    UNION table, branches                             go to the branch that the record names
    JUMP to                                           go on there
    BLOCKS                                            an array or a map begins
    NEXT after                                        its next item follows; when there is none, go to `after`
    FIELD number                                      a field of the record begins
    END                                               the record must end here
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from mlstream.decoding.values import Bytes, Ints, Mask

Longs = npt.NDArray[np.int64]
Code = npt.NDArray[np.int32]

NULL: Final = 0
BOOL: Final = 1
INT: Final = 2
LONG: Final = 3
FLOAT: Final = 4
DOUBLE: Final = 5
BYTES: Final = 6
STRING: Final = 7
FIXED: Final = 8
ENUM: Final = 9
UNION: Final = 10
JUMP: Final = 11
BLOCKS: Final = 12
NEXT: Final = 13
FIELD: Final = 14
END: Final = 15

# What is wrong with a record.
OK: Final = 0
ENDS_EARLY: Final = 1
BAD_VARINT: Final = 2
BAD_INT: Final = 3
BAD_BOOL: Final = 4
BAD_LENGTH: Final = 5
BAD_ENUM: Final = 6
BAD_BRANCH: Final = 7
BAD_COUNT: Final = 8
MORE_AFTER: Final = 9
PASSED_OVER: Final = 255  # by the caller: it is not looked at

# What a decimal is.
FITS: Final = 0
EMPTY: Final = 1
WIDE: Final = 2  # more than int64 holds

_VARINT_BYTES: Final = 10

_njit = numba.njit(nogil=True, cache=True)


@_njit  # type: ignore[untyped-decorator]
def _varint(data: Bytes, at: int, end: int) -> tuple[int, int, int]:
    """A zig-zag number → (its value, position after it or of the fault, fault)."""
    found = np.uint64(0)
    for n in range(_VARINT_BYTES):
        if at >= end:
            return 0, at, ENDS_EARLY
        byte = np.uint64(data[at])
        at += 1
        if n == _VARINT_BYTES - 1 and byte > 1:
            return 0, at - 1, BAD_VARINT  # more than 64 bits
        found |= (byte & np.uint64(0x7F)) << np.uint64(7 * n)
        if byte < 0x80:
            value = np.int64(found >> np.uint64(1)) ^ -np.int64(found & np.uint64(1))
            return value, at, OK  # type: ignore[return-value]  # int64, which mypy tells from int
    return 0, at, BAD_VARINT


@_njit  # type: ignore[untyped-decorator]
def walk(
    data: Bytes,
    firsts: Ints,
    ends: Ints,
    code: Code,
    table: Ints,
    depth: int,
    present: npt.NDArray[np.bool_],
    values: npt.NDArray[np.int64],
    stops: npt.NDArray[np.int32],
    field_starts: npt.NDArray[np.int32],
    field_stops: npt.NDArray[np.int32],
    faults: Bytes,
    fault_at: Ints,
    fault_field: Ints,
) -> None:
    """Walk the bodies of a batch.

    Args:
        firsts, ends: where each body is in `data`. Rows with a fault already are passed over.
        depth: how many arrays and maps are inside one another at most.
        present, values, stops: out, [slot, row]: whether the value is not null; the number, the bits of a float, an
            enum's symbol, or where bytes begin; where bytes end.
        field_starts, field_stops: out, [field, row]: where each field's bytes are.
        faults, fault_at, fault_field: out: what is wrong with a record, where in `data`, in which field.
    """
    left = np.zeros(depth + 1, np.int64)
    for row in range(firsts.size):
        if faults[row] != OK:
            continue
        at = np.int64(firsts[row])
        end = np.int64(ends[row])
        level = 0
        step = 0
        field = -1
        fault = OK
        while True:
            what = code[step, 0]
            parameter = code[step, 1]
            slot = code[step, 2]
            step += 1
            if what == FIELD:
                if field >= 0:
                    field_stops[field, row] = at
                field = parameter
                field_starts[field, row] = at
            elif what in (INT, LONG, ENUM):
                number, at, fault = _varint(data, at, end)
                if fault != OK:
                    break
                if what == INT and not -2147483648 <= number <= 2147483647:
                    fault = BAD_INT
                    break
                if what == ENUM and not 0 <= number < parameter:
                    fault = BAD_ENUM
                    break
                if slot >= 0:
                    values[slot, row] = number
                    present[slot, row] = True
            elif what in (BYTES, STRING, FIXED):
                length = np.int64(parameter)
                if what != FIXED:
                    length, at, fault = _varint(data, at, end)
                    if fault != OK:
                        break
                    if length < 0:
                        fault = BAD_LENGTH
                        break
                if length > end - at:
                    fault = ENDS_EARLY
                    break
                if slot >= 0:
                    values[slot, row] = at
                    stops[slot, row] = at + length
                    present[slot, row] = True
                at += length
            elif what in (FLOAT, DOUBLE):
                length = np.int64(4 if what == FLOAT else 8)
                if length > end - at:
                    fault = ENDS_EARLY
                    break
                if slot >= 0:
                    bits = np.uint64(0)
                    for n in range(length):
                        bits |= np.uint64(data[at + n]) << np.uint64(8 * n)
                    values[slot, row] = np.int64(bits)
                    present[slot, row] = True
                at += length
            elif what == UNION:
                branch, at, fault = _varint(data, at, end)
                if fault != OK:
                    break
                if not 0 <= branch < slot:
                    fault = BAD_BRANCH
                    break
                step = table[parameter + branch]
            elif what == BOOL:
                if at >= end:
                    fault = ENDS_EARLY
                    break
                if data[at] > 1:
                    fault = BAD_BOOL
                    break
                if slot >= 0:
                    values[slot, row] = data[at]
                    present[slot, row] = True
                at += 1
            elif what == JUMP:
                step = parameter
            elif what == BLOCKS:
                left[level] = 0
                level += 1
            elif what == NEXT:
                if left[level - 1] == 0:
                    count, at, fault = _varint(data, at, end)
                    if fault != OK:
                        break
                    if count < 0:
                        size, at, fault = _varint(data, at, end)
                        if fault != OK:
                            break
                        if size < 0 or size > end - at:
                            fault = BAD_COUNT
                            break
                        count = -count
                    # An item has one byte at least: more items than bytes are none.
                    if count < 0 or count > end - at:
                        fault = BAD_COUNT
                        break
                    left[level - 1] = count
                if left[level - 1] == 0:
                    level -= 1
                    step = parameter
                else:
                    left[level - 1] -= 1
            elif what == END:
                if field >= 0:
                    field_stops[field, row] = at
                if at != end:
                    fault = MORE_AFTER
                break
            # NULL has no bytes, and its slot is not present.
        if fault != OK:
            faults[row] = fault
            fault_at[row] = at
            fault_field[row] = field


@_njit  # type: ignore[untyped-decorator]
def big_endian(data: Bytes, wanted: Mask, starts: Longs, stops: Ints, values: Longs, states: Bytes) -> None:
    """The wanted runs of bytes as signed numbers, highest byte first; WIDE where they have more than eight bytes."""
    for row in range(wanted.size):
        if not wanted[row]:
            continue
        start = starts[row]
        stop = np.int64(stops[row])
        if start == stop:
            states[row] = EMPTY
        elif stop - start > 8:
            states[row] = WIDE
        else:
            value = np.int64(np.int8(data[start]))
            for at in range(start + 1, stop):
                value = (value << 8) | np.int64(data[at])
            values[row] = value
            states[row] = FITS
