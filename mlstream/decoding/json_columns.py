"""Tokens of JSON records → Arrow columns of pinned types. A value that does not fit is a fault of its record."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding import json_kernels as kernels
from mlstream.decoding import json_texts, texts
from mlstream.decoding.columns import Columns, bad_rows, faults_of, shown
from mlstream.decoding.json_schema import Schema, fits_float
from mlstream.decoding.json_tokens import Tokens
from mlstream.decoding.texts import Texts, parse_times
from mlstream.decoding.types import arrow_type
from mlstream.decoding.values import Mask

_STRINGS = (kernels.STRING, kernels.ESCAPED)
_NUMBERS = (kernels.INT, kernels.LONG, kernels.FLOAT, kernels.WIDE)


def to_columns(tokens: Tokens, numbers: dict[str, int], schema: Schema) -> Columns:
    """Columns of a batch.

    Args:
        numbers: where `tokens` has each column; one that it does not have is missing in every record.
        schema: names and types of the columns, in order.
    """
    rows = len(tokens.faults)
    good = tokens.faults == kernels.OK
    reasons = {int(row): tokens.reason(int(row)) for row in np.flatnonzero(~good)}
    readers = [_Reader(tokens, numbers.get(name), good, rows) for name, _ in schema]
    # Which records fit comes first: one that does not is null in every column.
    for reader, (name, kind) in zip(readers, schema, strict=True):
        for row in np.flatnonzero(reader.misfits(kind)):
            reasons.setdefault(int(row), f"column {name!r} is {kind}, and the value is {reader.shown(int(row))}")
    bad = bad_rows(reasons, rows)
    arrays = tuple(reader.array(kind, bad) for reader, (_, kind) in zip(readers, schema, strict=True))
    return Columns(arrays, faults_of(reasons))


class _Reader:
    """One column of a batch: which values fit a type, and the array of those that do."""

    def __init__(self, tokens: Tokens, number: int | None, good: Mask, rows: int) -> None:
        self._data = tokens.data
        none = np.zeros(rows, np.int32)
        self._kinds = np.zeros(rows, np.uint8) if number is None else np.where(good, tokens.kinds[number], 0)
        self._kinds = self._kinds.astype(np.uint8)
        self._starts = none if number is None else tokens.starts[number]
        self._stops = none if number is None else tokens.stops[number]
        self._present = self._kinds > kernels.NULL
        self._values: pa.Array | None = None

    def shown(self, row: int) -> str:
        """A value for a message."""
        return shown(bytes(self._data[self._starts[row] : self._stops[row]]))

    def misfits(self, kind: str) -> Mask:
        """The records whose value is of another type; converts the others."""
        if kind.startswith("time") and kind != "time_of_day":
            return self._read_time(kind)
        if kind.startswith("decimal"):
            return self._read_text(kind, *_STRINGS, *_NUMBERS)
        if kind in ("date", "time_of_day"):
            return self._read_text(kind, *_STRINGS)
        return {
            "int": self._read_int,
            "float": self._read_float,
            "string": self._read_string,
            "bool": self._read_bool,
            "json": self._read_json,
        }[kind]()

    def array(self, kind: str, bad: Mask) -> pa.Array:
        """The column, null where a value is null or missing or the record is bad. After `misfits`."""
        null = bad | ~self._present
        values = self._values
        if values is None:
            return pa.nulls(len(null), arrow_type(kind))
        if not null.any():
            return values
        return pc.if_else(pa.array(~null), values, pa.scalar(None, arrow_type(kind)))

    def _is(self, *kinds: int) -> Mask:
        return np.isin(self._kinds, kinds)

    def _integers(self) -> tuple[npt.NDArray[np.int64], Mask]:
        values = np.zeros(len(self._kinds), np.int64)
        beyond = np.zeros(len(self._kinds), np.bool_)
        json_texts.integers(self._data, self._kinds, self._starts, self._stops, values, beyond)
        return values, beyond

    def _read_int(self) -> Mask:
        values, beyond = self._integers()
        self._values = pa.array(values)
        return self._present & (beyond | ~self._is(kernels.INT, kernels.LONG))

    def _read_float(self) -> Mask:
        wanted = self._is(kernels.INT, kernels.LONG, kernels.FLOAT, kernels.WIDE)
        self._values = self._texts(wanted, empty="0").cast(pa.float64())
        bad = self._present & ~wanted
        long = self._is(kernels.LONG)
        for row in np.flatnonzero(long):
            bad[row] = not fits_float(bytes(self._data[self._starts[row] : self._stops[row]]))
        wide = self._is(kernels.WIDE)
        if wide.any():
            bad |= wide & np.isinf(self._values.to_numpy())
        return bad

    def _read_bool(self) -> Mask:
        self._values = pa.array(self._kinds == kernels.TRUE)
        return self._present & ~self._is(kernels.FALSE, kernels.TRUE)

    def _read_string(self) -> Mask:
        wanted = self._is(kernels.STRING, kernels.ESCAPED)
        broken = np.zeros(len(wanted), np.bool_)
        ends = np.empty(len(wanted) + 1, np.int32)
        out = np.empty(max(int((self._stops - self._starts)[wanted].sum()), 1), np.uint8)
        json_texts.strings(self._data, self._kinds, self._starts, self._stops, ends, out, broken)
        self._values = _text_array(ends, out)
        return self._present & (broken | ~wanted)

    def _read_json(self) -> Mask:
        self._values = self._texts(self._present)
        return np.zeros(len(self._kinds), np.bool_)

    def _read_time(self, kind: str) -> Mask:
        """ISO 8601 text, UTC unless it says otherwise, or a whole number of the type's unit since 1970."""
        values, beyond = self._integers()
        strings = self._is(*_STRINGS)
        bad = self._present & (beyond | ~(strings | self._is(kernels.INT, kernels.LONG)))
        if strings.any():
            broken = self._read_string() & strings
            if self._values is None:
                return bad
            parsed, wrong = parse_times(self._values, strings & ~broken, kind)
            values = np.where(strings, parsed, values)
            bad |= broken | wrong
        self._values = pa.array(values).cast(arrow_type(kind))
        return bad

    def _read_text(self, kind: str, *tokens: int) -> Mask:
        """What is read from text: of strings what they say, of numbers as they stand."""
        wanted = self._is(*tokens)
        strings = self._is(*_STRINGS)
        broken = self._read_string() & strings
        found = self._values
        if found is None:
            return broken
        if (wanted & ~strings).any():
            found = pc.if_else(pa.array(strings), found, self._texts(wanted & ~strings))
        self._values, wrong = texts.read(_bytes_of(found), wanted & ~broken, kind)
        return wrong | broken | (self._present & ~wanted)

    def _texts(self, wanted: Mask, *, empty: str = "") -> pa.Array:
        """The wanted tokens as they stand in the text; `empty` for the others."""
        ends = np.empty(len(wanted) + 1, np.int32)
        out = np.empty(max(int((self._stops - self._starts)[wanted].sum()), 1), np.uint8)
        json_texts.texts(self._data, wanted, self._starts, self._stops, 0, ends, out)
        found = _text_array(ends, out)
        if empty and not wanted.all():
            return pc.if_else(pa.array(wanted), found, empty)
        return found


def _bytes_of(strings: pa.Array) -> Texts:
    _, ends, data = strings.buffers()
    found = np.zeros(1, np.uint8) if data is None or data.size == 0 else np.frombuffer(data, np.uint8)
    return Texts(found, np.frombuffer(ends, np.int64, count=len(strings) + 1, offset=8 * strings.offset))


def _text_array(ends: kernels.Ints, data: kernels.Bytes) -> pa.Array:
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers, 0)
