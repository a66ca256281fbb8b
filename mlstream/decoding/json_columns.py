"""Tokens of JSON records → Arrow columns of pinned types. A value that does not fit is a fault of its record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding import json_kernels as kernels
from mlstream.decoding import json_texts
from mlstream.decoding.json_schema import ColumnType, Schema, fits_float
from mlstream.decoding.json_tokens import Tokens

TIME = pa.timestamp("ms", tz="UTC")
TYPES: dict[ColumnType, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.large_string(),
    "bool": pa.bool_(),
    "time": TIME,
    "json": pa.large_string(),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SHOWN = 40

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that does not decode: its row in the batch, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of decoded records; rows of `faults` are null in every column."""

    arrays: tuple[pa.Array, ...]
    faults: tuple[Fault, ...]


def arrow_schema(schema: Schema) -> pa.Schema:
    """The Arrow types of a pinned schema."""
    return pa.schema([pa.field(name, TYPES[kind]) for name, kind in schema])


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
    bad = np.zeros(rows, np.bool_)
    bad[list(reasons)] = True
    arrays = tuple(reader.array(kind, bad) for reader, (_, kind) in zip(readers, schema, strict=True))
    return Columns(arrays, tuple(Fault(row, reasons[row]) for row in sorted(reasons)))


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
        text = bytes(self._data[self._starts[row] : self._stops[row]]).decode(errors="replace")
        return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"

    def misfits(self, kind: ColumnType) -> Mask:
        """The records whose value is of another type; converts the others."""
        return {
            "int": self._read_int,
            "float": self._read_float,
            "string": self._read_string,
            "bool": self._read_bool,
            "time": self._read_time,
            "json": self._read_json,
        }[kind]()

    def array(self, kind: ColumnType, bad: Mask) -> pa.Array:
        """The column, null where a value is null or missing or the record is bad. After `misfits`."""
        null = bad | ~self._present
        values = self._values
        if values is None:
            return pa.nulls(len(null), TYPES[kind])
        if not null.any():
            return values
        return pc.if_else(pa.array(~null), values, pa.scalar(None, TYPES[kind]))

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

    def _read_time(self) -> Mask:
        """ISO 8601 text, UTC unless it says otherwise, or whole milliseconds since 1970."""
        values, beyond = self._integers()
        bad = self._present & (beyond | ~self._is(kernels.INT, kernels.LONG, kernels.STRING, kernels.ESCAPED))
        texts = self._is(kernels.STRING, kernels.ESCAPED)
        if texts.any():
            broken = self._read_string() & texts
            strings = self._values
            if strings is None:
                return bad
            parsed, wrong = _parse_times(strings, texts & ~broken)
            values = np.where(texts, parsed, values)
            bad |= broken | wrong
        self._values = pa.array(values).cast(TIME)
        return bad

    def _texts(self, wanted: Mask, *, empty: str = "") -> pa.Array:
        """The wanted tokens as they stand in the text; `empty` for the others."""
        ends = np.empty(len(wanted) + 1, np.int32)
        out = np.empty(max(int((self._stops - self._starts)[wanted].sum()), 1), np.uint8)
        json_texts.texts(self._data, wanted, self._starts, self._stops, 0, ends, out)
        found = _text_array(ends, out)
        if empty and not wanted.all():
            return pc.if_else(pa.array(wanted), found, empty)
        return found


def _text_array(ends: kernels.Ints, data: kernels.Bytes) -> pa.Array:
    buffers = [None, pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string(), len(ends) - 1, buffers, 0)


def _parse_times(texts: pa.Array, wanted: Mask) -> tuple[npt.NDArray[np.int64], Mask]:
    """ISO 8601 texts → milliseconds since 1970 (finer parts are cut off), and those that are not ISO 8601."""
    values = np.zeros(len(texts), np.int64)
    wrong = np.zeros(len(texts), np.bool_)
    rows = np.flatnonzero(wanted)
    chosen = texts.take(pa.array(rows))
    for parse in (_parse_zoned, _parse_plain):
        fast = parse(chosen)
        if fast is not None:
            values[rows] = fast
            return values, wrong
    for row, text in zip(rows, chosen.to_pylist(), strict=True):
        try:
            values[row] = _parse_time(text)
        except ValueError:
            wrong[row] = True
    return values, wrong


def _parse_zoned(texts: pa.Array) -> npt.NDArray[np.int64] | None:
    return _cast(texts, pa.timestamp("ms", tz="UTC"))


def _parse_plain(texts: pa.Array) -> npt.NDArray[np.int64] | None:
    return _cast(texts, pa.timestamp("ms"))


def _cast(texts: pa.Array, kind: pa.DataType) -> npt.NDArray[np.int64] | None:
    try:
        found: npt.NDArray[np.int64] = texts.cast(kind).cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid:  # other forms, finer than milliseconds, some with and some without a zone
        return None
    return found


def _parse_time(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
