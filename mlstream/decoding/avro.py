"""Avro values in the Confluent wire format → columns of one reader's schema, whichever schema each was written by.

Every body is walked and checked byte by byte first (`avro_kernels`). Flat fields come out of that walk, fields with
parts in them go through fastavro. The writer's schema is resolved to the reader's as Avro's specification has it, and
one thing stricter: where both give a field a logical type, it must be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding import avro_kernels as kernels
from mlstream.decoding.avro_flat import FlatColumn, FlatField
from mlstream.decoding.avro_nested import NestedColumn, default_array
from mlstream.decoding.avro_program import compile_schema
from mlstream.decoding.avro_schema import (
    AvroSchema,
    ColumnType,
    Schema,
    base,
    branches,
    column_type,
    is_flat,
    logical,
    read_schema,
)
from mlstream.decoding.columns import Columns, bad_rows, faults_of, with_nulls
from mlstream.decoding.framed import HEADER_BYTES, RegisteredSchema, frame_faults, header_ids
from mlstream.decoding.values import Ints, bytes_and_offsets

_REASONS = {
    kernels.ENDS_EARLY: "the record ends too early",
    kernels.BAD_VARINT: "a number of more than 64 bits",
    kernels.BAD_INT: "an int of more than 32 bits",
    kernels.BAD_BOOL: "a boolean that is neither 0 nor 1",
    kernels.BAD_LENGTH: "a length below 0",
    kernels.BAD_ENUM: "a symbol that the enum does not have",
    kernels.BAD_BRANCH: "a branch that the union does not have",
    kernels.BAD_COUNT: "a block of more items than there are bytes",
    kernels.MORE_AFTER: "something follows the record",
}


@dataclass(frozen=True, slots=True)
class _Field:
    """A column that is wanted: a field of the reader's schema."""

    name: str
    field: dict[str, Any]
    column: ColumnType


class AvroDecoder:
    """Avro values → columns.

    Args:
        writers: the schemas that records may name.
        reader: the schema whose fields are the columns; all of them, or those in `columns`.
        columns: names and types of the columns that are wanted; their types must be the schema's.

    Raises:
        ValueError: the reader's schema is none, or does not have a column that is wanted. Says what it is.
    """

    def __init__(
        self,
        writers: Sequence[RegisteredSchema],
        reader: RegisteredSchema,
        *,
        columns: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        self._reader = read_schema(reader)
        self._fields = _wanted(self._reader, columns)
        self._writers: dict[int, _Resolved | str] = {}
        for schema in writers:
            try:
                self._writers[schema.id] = _Resolved(read_schema(schema), self._reader, self._fields)
            except ValueError as exc:
                self._writers[schema.id] = f"it names schema {schema.id}, and that cannot be read: {exc}"

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types."""
        return tuple((field.name, field.column.word) for field in self._fields)

    @property
    def schema(self) -> pa.Schema:
        """The same as Arrow says it."""
        return pa.schema([pa.field(field.name, field.column.arrow) for field in self._fields])

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        ids = header_ids(values)
        reasons = frame_faults(values, ids, self._writers)
        data, offsets = bytes_and_offsets(values)
        firsts, ends = offsets[:-1] + np.int32(HEADER_BYTES), offsets[1:]
        parts: list[tuple[npt.NDArray[np.int64], tuple[pa.Array, ...]]] = []
        for number in np.unique(ids):
            writer = self._writers.get(int(number))
            rows = np.flatnonzero(ids == number)
            if isinstance(writer, _Resolved):
                found = writer.decode(data, firsts[rows], ends[rows])
                reasons |= {int(rows[row]): reason for row, reason in found[1].items()}
                parts.append((rows, found[0]))
            elif writer is not None:
                reasons |= {int(row): writer for row in rows}
        arrays = self._in_order(parts, len(values))
        bad = bad_rows(reasons, len(values))
        return Columns(tuple(with_nulls(array, bad) for array in arrays), faults_of(reasons))

    def _in_order(
        self, parts: Sequence[tuple[npt.NDArray[np.int64], tuple[pa.Array, ...]]], rows: int
    ) -> list[pa.Array]:
        """The parts' rows where they belong; null elsewhere."""
        if len(parts) == 1 and len(parts[0][0]) == rows:
            return list(parts[0][1])
        place = np.full(rows, -1, np.int64)
        at = 0
        for numbers, _ in parts:
            place[numbers] = np.arange(at, at + len(numbers))
            at += len(numbers)
        taken = pa.array(place, mask=place < 0)
        return [
            pa.concat_arrays([pa.array([], field.column.arrow), *(arrays[number] for _, arrays in parts)]).take(taken)
            for number, field in enumerate(self._fields)
        ]


class _Resolved:
    """How records of one writer's schema become the reader's columns."""

    def __init__(self, writer: AvroSchema, reader: AvroSchema, fields: Sequence[_Field]) -> None:
        if not _same_record(writer, reader):
            raise ValueError(f"it is of {writer.record or 'no record'}, and {reader} of {reader.record or 'no record'}")
        self._names = [str(field["name"]) for field in writer.fields]
        self._program = compile_schema(writer)
        self._columns: list[tuple[int, FlatColumn] | tuple[int, NestedColumn] | pa.Array] = []
        for field in fields:
            self._columns.append(self._column(writer, reader, field))

    def _column(
        self, writer: AvroSchema, reader: AvroSchema, field: _Field
    ) -> tuple[int, FlatColumn] | tuple[int, NestedColumn] | pa.Array:
        wanted = field.field["type"]
        number = next(
            (self._names.index(name) for name in (field.name, *field.field.get("aliases", ())) if name in self._names),
            None,
        )
        if number is None:
            if "default" not in field.field:
                raise ValueError(f"it has no field {field.name!r}, and that has no default")
            return default_array(field.name, field.field["default"], reader, wanted, field.column)
        written = writer.fields[number]["type"]
        _check_logical(field.name, writer, written, reader, wanted)
        slot = self._program.slots[number]
        if slot is not None and is_flat(wanted, reader):
            return slot, FlatColumn(field.name, writer, written, reader, wanted, field.column)
        return number, NestedColumn(field.name, writer, written, reader, wanted, field.column)

    def decode(
        self, data: np.ndarray[tuple[int], np.dtype[np.uint8]], firsts: Ints, ends: Ints
    ) -> tuple[tuple[pa.Array, ...], dict[int, str]]:
        """Columns, and why records do not decode, by their rows; these rows may hold anything."""
        rows = len(firsts)
        slots = max(sum(slot is not None for slot in self._program.slots), 1)
        present = np.zeros((slots, rows), np.bool_)
        values, stops = np.zeros((slots, rows), np.int64), np.zeros((slots, rows), np.int32)
        field_starts = np.zeros((max(len(self._names), 1), rows), np.int32)
        field_stops = np.zeros_like(field_starts)
        faults, fault_at, fault_field = np.zeros(rows, np.uint8), np.zeros(rows, np.int32), np.zeros(rows, np.int32)
        kernels.walk(
            data,
            firsts,
            ends,
            self._program.code,
            self._program.table,
            self._program.depth,
            present,
            values,
            stops,
            field_starts,
            field_stops,
            faults,
            fault_at,
            fault_field,
        )
        reasons = {
            int(row): self._reason(int(faults[row]), int(fault_field[row]), int(fault_at[row] - firsts[row]))
            for row in np.flatnonzero(faults)
        }
        good = faults == kernels.OK
        arrays = []
        for column in self._columns:
            if isinstance(column, pa.Array):
                arrays.append(column.take(pa.array(np.zeros(rows, np.int64))))
                continue
            number, found = column
            if isinstance(found, FlatColumn):
                field = FlatField(data, present[number] & good, values[number], stops[number])
                arrays.append(with_nulls(found.read(field, good, reasons), ~field.present))
            else:
                arrays.append(found.read(data, field_starts[number], field_stops[number], good, reasons))
        return tuple(arrays), reasons

    def _reason(self, fault: int, field: int, at: int) -> str:
        name = self._names[field] if 0 <= field < len(self._names) else ""
        where = "" if fault == kernels.MORE_AFTER or not name else f"field {name!r}: "
        return f"{where}{_REASONS[fault]}, at byte {at + HEADER_BYTES}"


def _wanted(reader: AvroSchema, columns: Sequence[tuple[str, str]] | None) -> list[_Field]:
    found = {
        str(field["name"]): _Field(str(field["name"]), field, column_type(field["type"], reader))
        for field in reader.fields
    }
    if columns is None:
        return list(found.values())
    for name, word in columns:
        if name not in found:
            raise ValueError(f"{reader} has no field {name!r}; it has: {', '.join(found)}")
        if found[name].column.word != word:
            raise ValueError(f"column {name!r} is declared as {word}, and {reader} makes it {found[name].column.word}")
    return [found[name] for name, _ in columns]


def _same_record(writer: AvroSchema, reader: AvroSchema) -> bool:
    """Whether both are records of one name, without its namespace, or neither is a record."""
    if writer.record is None or reader.record is None:
        return writer.record is reader.record
    aliases = reader.definition(reader.root).get("aliases", ())
    names = {str(name).rpartition(".")[2] for name in (reader.record, *aliases)}
    return writer.record.rpartition(".")[2] in names


def _check_logical(name: str, writer: AvroSchema, written: Schema, reader: AvroSchema, wanted: Schema) -> None:
    """Refuse to read a number of one logical type as one of another: milliseconds as microseconds, for example.

    Raises:
        ValueError: naming the field.
    """
    written, wanted = writer.definition(written), reader.definition(wanted)
    kinds = base(written), base(wanted)
    if "union" in kinds:
        for one in branches(written):
            for other in branches(wanted):
                if base(writer.definition(one)) == base(reader.definition(other)):
                    _check_logical(name, writer, one, reader, other)
    elif kinds == ("record", "record"):
        others = {field["name"]: field for field in wanted["fields"]}
        for field in written["fields"]:
            if field["name"] in others:
                inner = others[field["name"]]["type"]
                _check_logical(f"{name}.{field['name']}", writer, field["type"], reader, inner)
    elif kinds in (("array", "array"), ("map", "map")):
        items = "items" if kinds[0] == "array" else "values"
        _check_logical(name, writer, written[items], reader, wanted[items])
    else:
        one, other = logical(written), logical(wanted)
        if one is not None and other is not None and one != other:
            raise ValueError(f"field {name!r} is {_said(one)} in one and {_said(other)} in the other")


def _said(found: tuple[Any, ...]) -> str:
    return str(found[0]) + (f"({','.join(map(str, found[1:]))})" if len(found) > 1 else "")
