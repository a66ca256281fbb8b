"""Avro schemas and records of any shape for hypothesis, and their wire format by fastavro. No test is here."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import fastavro
import pyarrow as pa
from hypothesis import strategies as st

from mlstream.decoding.avro import AvroDecoder
from mlstream.decoding.columns import Columns
from mlstream.decoding.framed import RegisteredSchema

INTS = st.integers(-(2**31), 2**31 - 1)
LONGS = st.integers(-(2**63), 2**63 - 1)
_UNNAMED = "unnamed"
_FLAT: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": INTS,
    "long": LONGS,
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "bytes": st.binary(max_size=5),
    "string": st.text(max_size=5),
}


def framed(schema_id: int, body: bytes) -> bytes:
    """A value in the Confluent wire format."""
    return b"\0" + struct.pack(">I", schema_id) + body


def encode(schema: Any, value: Any) -> bytes:
    """A body, by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def registered(schema_id: int, schema: Any, *references: tuple[str, Any]) -> RegisteredSchema:
    """A schema as a snapshot holds it."""
    texts = tuple((name, json.dumps(text)) for name, text in references)
    return RegisteredSchema(schema_id, "AVRO", json.dumps(schema), texts)


def decoder(*schemas: Any, reader: Any = None, columns: Sequence[tuple[str, str]] | None = None) -> AvroDecoder:
    """A decoder of writers' schemas 1, 2, …; the reader's is the last, if it is not told."""
    writers = [registered(number, schema) for number, schema in enumerate(schemas, start=1)]
    return AvroDecoder(writers, writers[-1] if reader is None else registered(0, reader), columns=columns)


def rows_of(found: Columns) -> list[list[Any] | None]:
    """The records row by row, None where one does not decode. Maps are told as maps."""
    bad = {fault.row for fault in found.faults}
    columns = [array.to_pylist() for array in found.arrays]
    rows = len(columns[0]) if columns else 0
    return [None if row in bad else [column[row] for column in columns] for row in range(rows)]


def values(*found: bytes | None) -> pa.BinaryArray:
    """A batch."""
    return pa.array(found, pa.binary())


def record(types: Sequence[Any], *, name: str = "R") -> dict[str, Any]:
    """The schema of a record with fields f0, f1, … of these types."""
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{number}", "type": kind} for number, kind in enumerate(types)],
    }


@st.composite
def types(draw: st.DrawFn, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """A schema and its values."""
    kinds = [*_FLAT, "fixed", "enum", "nullable"]
    if depth > 0:
        kinds += ["array", "map", "record"]
    kind = draw(st.sampled_from(kinds))
    if kind == "fixed":
        size = draw(st.integers(1, 4))
        return {"type": "fixed", "name": _UNNAMED, "size": size}, st.binary(min_size=size, max_size=size)
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from("ABCDE"), min_size=1, unique=True))
        return {"type": "enum", "name": _UNNAMED, "symbols": symbols}, st.sampled_from(symbols)
    if kind == "nullable":
        inner, found = draw(types(depth - 1).filter(lambda made: not isinstance(made[0], list)))
        branches = ["null", inner]
        return (branches if draw(st.booleans()) else branches[::-1]), st.none() | found
    if kind == "array":
        inner, found = draw(types(depth - 1))
        return {"type": "array", "items": inner}, st.lists(found, max_size=3)
    if kind == "map":
        inner, found = draw(types(depth - 1))
        return {"type": "map", "values": inner}, st.dictionaries(st.text(max_size=3), found, max_size=3)
    if kind == "record":
        parts = draw(st.lists(types(depth - 1), min_size=1, max_size=3))
        made = record([schema for schema, _ in parts], name=_UNNAMED)
        return made, st.fixed_dictionaries({f"f{n}": found for n, (_, found) in enumerate(parts)})
    return kind, _FLAT[kind]


@st.composite
def records(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A record's schema and some records."""
    parts = draw(st.lists(types(), min_size=1, max_size=5))
    schema = _named(record([kind for kind, _ in parts]), count())
    one = st.fixed_dictionaries({f"f{n}": found for n, (_, found) in enumerate(parts)})
    return schema, draw(st.lists(one, min_size=1, max_size=4))


def as_column(schema: Any, value: Any) -> Any:
    """A value as Arrow tells it: a map is a list of entries."""
    if value is None:
        return None
    if isinstance(schema, list):
        return as_column(next(branch for branch in schema if branch != "null"), value)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return {field["name"]: as_column(field["type"], value[field["name"]]) for field in schema["fields"]}
    if kind == "array":
        return [as_column(schema["items"], item) for item in value]
    if kind == "map":
        return [{"key": key, "value": as_column(schema["values"], each)} for key, each in value.items()]
    return value


def _named(schema: Any, numbers: Iterator[int]) -> Any:
    """The schema, each named type with a name of its own."""
    if isinstance(schema, list):
        return [_named(branch, numbers) for branch in schema]
    if isinstance(schema, dict):
        made = {key: _named(value, numbers) if key != "symbols" else value for key, value in schema.items()}
        return {**made, "name": f"N{next(numbers)}"} if schema.get("name") == _UNNAMED else made
    return schema
