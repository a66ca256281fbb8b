"""JSON records → where each member of their objects is, a batch of records at a time. Decides no types.

Written for this project instead of a library's NDJSON reader, because what is asked for is exact: readers turn a
number where a string is declared into text, keep one of two equal keys, round integers above 2^53, and cannot keep
the text of a value as it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding import json_kernels as kernels
from mlstream.decoding.values import bytes_and_offsets

MAX_COLUMNS = 2048
BATCH_ROWS = 8192

_REASONS = {
    kernels.NOT_AN_OBJECT: "it is not a JSON object",
    kernels.ENDS_EARLY: "the JSON ends too early",
    kernels.UNEXPECTED: "not JSON",
    kernels.BAD_STRING: "a string with a character or escape that JSON does not allow",
    kernels.BAD_NUMBER: "a number that JSON does not allow",
    kernels.NOT_A_NUMBER: "NaN and Infinity are not JSON",
    kernels.REPEATED_KEY: "a key that the object has twice",
    kernels.TOO_DEEP: f"nested more than {kernels.MAX_DEPTH} deep",
    kernels.MORE_AFTER: "something follows the JSON object",
}
_CONTEXT = 20


# Keys that are no column, of which it is kept how they are spelled: to find out that a key is none of many costs more
# than to read its value, and to see that it is the one that mostly comes next costs little.
_PASSED_OVER = 32
_ANY_NUMBER = 2**31 - 1


class TooManyColumns(ValueError):
    """The objects have more different keys than a table may have columns."""


class Names:
    """The keys that are known, in the order in which they were met, and how they are spelled in the text."""

    def __init__(self, names: tuple[str, ...] = (), *, closed: bool = False) -> None:
        self.closed = closed  # other keys are no columns
        self.columns = list(names)
        self._number = {name: number for number, name in enumerate(names)}
        spellings = [json.dumps(name, ensure_ascii=False)[1:-1].encode() for name in names]
        self._spelled = list(zip(spellings, range(len(names)), strict=True))
        self.most = len(names) + _PASSED_OVER if closed else _ANY_NUMBER  # spellings that are learnt
        self._pack()

    def add(self, spelled: bytes) -> None:
        """Learn a key as it stands in the text, escapes and all.

        Raises:
            UnicodeEncodeError: it holds half of a surrogate pair, which is no text.
            TooManyColumns: there are too many.
        """
        name = json.loads(b'"' + spelled + b'"')
        name.encode()
        if name not in self._number and not self.closed:
            if len(self.columns) == MAX_COLUMNS:
                raise TooManyColumns
            self._number[name] = len(self.columns)
            self.columns.append(name)
        if len(self._spelled) == 2 * MAX_COLUMNS:
            raise TooManyColumns
        self._spelled.append((spelled, self._number.get(name, -1)))
        self._pack()

    def _pack(self) -> None:
        spelled = b"".join(text for text, _ in self._spelled)
        self.text = np.frombuffer(spelled, np.uint8) if spelled else np.zeros(1, np.uint8)
        self.ends = np.cumsum([0, *(len(text) for text, _ in self._spelled)], dtype=np.int32)
        self.numbers = np.array([number for _, number in self._spelled], dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The members of a batch of JSON objects.

    Attributes:
        data: the records' bytes.
        kinds, starts, stops: [column, row]: `json_kernels`' kind of the value, and where its text is in `data`.
        faults: for each row what is wrong with it, 0 when nothing is.
        fault_at: where.
        offsets: where each record is in `data`.
    """

    data: kernels.Bytes
    offsets: kernels.Ints
    kinds: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int32]
    stops: npt.NDArray[np.int32]
    faults: kernels.Bytes
    fault_at: kernels.Ints

    def reason(self, row: int) -> str:
        """What is wrong with a record, and where in it."""
        fault = int(self.faults[row])
        if fault == kernels.NO_VALUE:
            return "it has no value (null)"
        if fault == kernels.EMPTY:
            return "its value is empty"
        if fault == kernels.NOT_UTF8:
            return "its value is not UTF-8"
        first, last = int(self.offsets[row]), int(self.offsets[row + 1])
        at = int(self.fault_at[row])
        near = bytes(self.data[max(at - _CONTEXT, first) : min(at + _CONTEXT, last)]).decode(errors="replace")
        return f"{_REASONS[fault]}, at byte {at - first}, near {near!r}"


def tokenise(values: pa.BinaryArray, names: Names) -> Tokens:
    """Find the members of one JSON object a record; keys that are not known yet are added to `names`.

    Raises:
        TooManyColumns: there are more than 2,048 different keys.
    """
    rows = len(values)
    data, offsets = bytes_and_offsets(values)
    faults = np.zeros(rows, np.uint8)
    fault_at = offsets[:-1].copy()
    faults[np.diff(offsets) == 0] = kernels.EMPTY
    if values.null_count:
        faults[values.is_null().to_numpy(zero_copy_only=False)] = kernels.NO_VALUE
    _check_utf8(values, faults)
    room = max(len(names.columns), 1)
    kinds = np.zeros((room, rows), np.uint8)
    starts = np.empty((room, rows), np.int32)
    stops = np.empty((room, rows), np.int32)
    row = 0
    while True:
        row, start, stop = kernels.tokenise(
            data,
            offsets,
            names.text,
            names.ends,
            names.numbers,
            names.most,
            row,
            kinds,
            starts,
            stops,
            faults,
            fault_at,
        )
        if row == rows:
            return Tokens(data, offsets, kinds, starts, stops, faults, fault_at)
        try:
            names.add(bytes(data[start:stop]))
        except UnicodeEncodeError:
            faults[row], fault_at[row] = kernels.BAD_STRING, start
        kinds[:, row] = kernels.MISSING
        if len(names.columns) > len(kinds):
            more = min(2 * len(kinds), MAX_COLUMNS) + 1 - len(kinds)
            kinds = np.concatenate([kinds, np.zeros((more, rows), np.uint8)])
            starts = np.concatenate([starts, np.empty((more, rows), np.int32)])
            stops = np.concatenate([stops, np.empty((more, rows), np.int32)])


def _check_utf8(values: pa.BinaryArray, faults: kernels.Bytes) -> None:
    try:
        values.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(values.to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                faults[row] = kernels.NOT_UTF8
