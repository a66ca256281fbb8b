"""Flat Avro fields → Arrow columns: what the walk found, resolved to the reader's type. One column at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding import avro_kernels as kernels
from mlstream.decoding.avro_schema import AvroSchema, ColumnType, Schema, base, branches, logical
from mlstream.decoding.copy_kernels import copy
from mlstream.decoding.texts import Texts, decimal_array
from mlstream.decoding.types import MOST_DIGITS, arrow_type
from mlstream.decoding.values import Bytes, Ints, Mask

Longs = npt.NDArray[np.int64]

_DAY_NS = 86_400_000_000_000
_TO_NS = {"time-millis": 1_000_000, "time-micros": 1_000}
_PROMOTED = {  # what a writer's type may become
    "int": ("int", "long", "float", "double"),
    "long": ("long", "float", "double"),
    "float": ("float", "double"),
    "double": ("double",),
    "string": ("string", "bytes"),
    "bytes": ("bytes", "string"),
    "boolean": ("boolean",),
    "fixed": ("fixed",),
    "enum": ("enum",),
}


@dataclass(frozen=True, slots=True)
class FlatField:
    """What the walk found of one field."""

    data: Bytes
    present: Mask
    values: Longs
    stops: Ints

    def texts(self) -> Texts:
        """The bytes of a field of bytes."""
        ends = np.empty(len(self.present) + 1, np.int64)
        size = int((self.stops.astype(np.int64) - self.values)[self.present].sum()) if self.present.any() else 0
        out = np.empty(max(size, 1), np.uint8)
        copy(self.data, self.present, self.values, self.stops, ends, out)
        return Texts(out, ends)


class FlatColumn:
    """A flat field of the writer, read as a flat field of the reader's.

    Raises:
        ValueError: the one cannot be read as the other. Says why.
    """

    def __init__(
        self, name: str, writer: AvroSchema, written: Schema, reader: AvroSchema, wanted: Schema, column: ColumnType
    ) -> None:
        self._name = name
        self._column = column
        self._wanted = _value(wanted, reader)
        self._nullable = any(base(reader.definition(each)) == "null" for each in branches(reader.definition(wanted)))
        self._written = _value(written, writer)
        kind = base(self._written)
        if kind != "null" and base(self._wanted) not in _PROMOTED[kind]:
            raise ValueError(f"field {name!r} is {kind} in one and {base(self._wanted)} in the other")
        if kind in ("fixed", "enum") and _plain(self._written["name"]) not in _names(self._wanted):
            one, other = self._written["name"], self._wanted["name"]
            raise ValueError(f"field {name!r} is {one} in one and {other} in the other")
        if kind == "fixed" and self._written["size"] != self._wanted["size"]:
            one, other = self._written["size"], self._wanted["size"]
            raise ValueError(f"field {name!r} has {one} bytes in one and {other} in the other")

    def read(self, field: FlatField, good: Mask, reasons: dict[int, str]) -> pa.Array:
        """The column; nulls stand where there are nulls, other rows that are not good may hold anything.

        Args:
            good: the rows that decode so far.
            reasons: what does not fit is added here, by its row.
        """
        if not self._nullable:
            for row in map(int, np.flatnonzero(good & ~field.present)):
                reasons.setdefault(row, f"field {self._name!r} is null, and its type has no null")
        array, wrong, why = self._convert(field)
        for row in map(int, np.flatnonzero(good & field.present & wrong)):
            reasons.setdefault(row, f"field {self._name!r}: {why(row)}")
        return array

    def _convert(self, field: FlatField) -> tuple[pa.Array, Mask, Callable[[int], str]]:
        none = np.zeros(len(field.present), np.bool_)
        kind, target = base(self._written), base(self._wanted)
        if kind == "null":
            return pa.nulls(len(none), self._column.arrow), none, str
        if logical(self._wanted) is not None:
            return self._logical(field)
        if target == "boolean":
            return pa.array(field.values == 1), none, str
        if target in ("int", "long"):
            return pa.array(field.values), none, str
        if target in ("float", "double"):
            return pa.array(_numbers(field.values, kind)), none, str
        if target == "string":
            strings, wrong = field.texts().strings(field.present)
            return strings, wrong, lambda _: "it is not UTF-8"
        if target == "enum":
            return self._enum(field)
        return field.texts().binary(), none, str

    def _enum(self, field: FlatField) -> tuple[pa.Array, Mask, Callable[[int], str]]:
        symbols = self._written["symbols"]
        known, default = set(self._wanted["symbols"]), self._wanted.get("default")
        meant = [symbol if symbol in known else default for symbol in symbols]
        lost = np.array([symbol is None for symbol in meant])
        numbers = np.where(field.present, field.values, 0)
        array = pa.array(meant, pa.large_string()).take(pa.array(numbers))
        return array, lost[numbers], lambda row: f"its symbol {symbols[int(numbers[row])]!r} is not one of the reader's"

    def _logical(self, field: FlatField) -> tuple[pa.Array, Mask, Callable[[int], str]]:
        found: tuple[Any, ...] = logical(self._wanted) or ()
        values = field.values
        none = np.zeros(len(values), np.bool_)
        if found[0] == "decimal":
            return self._decimal(field, found[1], found[2])
        if found[0] == "date":
            return pa.array(values.astype(np.int32)).cast(pa.date32()), none, str
        if found[0] in _TO_NS:
            scale = _TO_NS[found[0]]
            wrong = (values < 0) | (values >= _DAY_NS // scale)
            array = pa.array(np.where(wrong, 0, values) * scale).cast(arrow_type("time_of_day"))
            return array, wrong, lambda row: f"{values[row]} is no time of day"
        return pa.array(values).cast(self._column.arrow), none, str

    def _decimal(self, field: FlatField, precision: int, scale: int) -> tuple[pa.Array, Mask, Callable[[int], str]]:
        rows = len(field.values)
        values, states = np.zeros(rows, np.int64), np.zeros(rows, np.uint8)
        kernels.big_endian(field.data, field.present, field.values, field.stops, values, states)
        long = {
            int(row): int.from_bytes(bytes(field.data[field.values[row] : field.stops[row]]), "big", signed=True)
            for row in np.flatnonzero(states == kernels.WIDE)
        }
        limit = 10**precision
        wrong = (states == kernels.EMPTY) & field.present
        if limit < 2**63:
            wrong |= (values >= limit) | (values <= -limit)
        for row, value in long.items():
            wrong[row] = abs(value) >= limit
        why = f"it is no decimal of {precision} digits"
        if precision > MOST_DIGITS:
            texts = [decimal_text(long.get(row, int(values[row])), scale) for row in range(rows)]
            return pa.array(texts, pa.large_string()), wrong, lambda _: why
        kept = {row: value for row, value in long.items() if not wrong[row]}
        return decimal_array(values, precision, scale, kept), wrong, lambda _: why


def decimal_text(value: int, scale: int) -> str:
    """An integer of 10^-scale as it is written."""
    digits = str(abs(value)).rjust(scale + 1, "0")
    whole, behind = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{'-' if value < 0 else ''}{whole}{'.' + behind if behind else ''}"


def _value(schema: Schema, of: AvroSchema) -> Schema:
    """The branch that is not null; null itself where there is none."""
    rest = [of.definition(each) for each in branches(of.definition(schema)) if base(of.definition(each)) != "null"]
    return rest[0] if rest else "null"


def _numbers(values: Longs, kind: str) -> npt.NDArray[np.float64]:
    """Integers and floats as float64, as near as they come."""
    if kind == "double":
        return values.view(np.float64)
    with np.errstate(invalid="ignore"):  # one kind of NaN becomes another
        return (values.astype(np.uint32).view(np.float32) if kind == "float" else values).astype(np.float64)


def _plain(name: str) -> str:
    return name.rpartition(".")[2]


def _names(schema: Schema) -> set[str]:
    return {_plain(str(schema["name"])), *(_plain(str(alias)) for alias in schema.get("aliases", ()))}
