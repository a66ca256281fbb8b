"""Avro fields with parts in them → Arrow columns, by fastavro, which also resolves the writer's type to the reader's.

The walk has checked every byte before and knows where each field is, so that the values of a batch go through
fastavro at once, as the items of one array. A batch with a value that it refuses goes one by one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from fastavro import schemaless_reader
from fastavro.read import SchemaResolutionError
from fastavro.schema import parse_schema

from mlstream.decoding.avro_flat import decimal_text
from mlstream.decoding.avro_schema import AvroSchema, ColumnType, Schema, base, branches, column_type, logical
from mlstream.decoding.copy_kernels import copy
from mlstream.decoding.types import MOST_DIGITS
from mlstream.decoding.values import Bytes, Ints, Mask

Converter = Callable[[Any], Any]

_REFUSED = (SchemaResolutionError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError)
_WRAPPER = "mlstream_value"
_DAY_NS = 86_400_000_000_000
_TO_NS = {"time-millis": 1_000_000, "time-micros": 1_000}


class NestedColumn:
    """A field of the writer, read as a field of the reader's, parts and all."""

    def __init__(
        self, name: str, writer: AvroSchema, written: Schema, reader: AvroSchema, wanted: Schema, column: ColumnType
    ) -> None:
        self._name = name
        self._arrow = column.arrow
        one, other = writer.spelled_out(written), reader.spelled_out(wanted)
        self._one = _prepare(one, writer), _prepare(other, reader)
        self._many = (
            _prepare({"type": "array", "items": one}, writer),
            _prepare({"type": "array", "items": other}, reader),
        )
        self._convert = converter(wanted, reader)

    def read(self, data: Bytes, starts: Ints, stops: Ints, good: Mask, reasons: dict[int, str]) -> pa.Array:
        """The column, null in rows that are not good.

        Args:
            starts, stops: where the field's bytes are.
            good: the rows that decode so far.
            reasons: what does not fit is added here, by its row.
        """
        rows = np.flatnonzero(good)
        found: list[Any] = [None] * len(good)
        for row, value in zip(rows, self._values(data, starts, stops, good, reasons), strict=True):
            found[row] = value
        return pa.array(found, self._arrow)

    def _values(self, data: Bytes, starts: Ints, stops: Ints, good: Mask, reasons: dict[int, str]) -> list[Any]:
        rows = np.flatnonzero(good)
        if not len(rows):
            return []
        ends = np.empty(len(good) + 1, np.int64)
        out = np.empty(max(int((stops.astype(np.int64) - starts)[good].sum()), 1), np.uint8)
        copy(data, good, starts.astype(np.int64), stops, ends, out)
        joined = _long(len(rows)) + out[: ends[-1]].tobytes() + b"\0"
        try:
            values = _read(joined, self._many[0], self._many[1])
            return values if self._convert is None else [self._convert(value) for value in values]
        except _REFUSED:
            return [self._value(bytes(data[starts[row] : stops[row]]), int(row), reasons) for row in rows]

    def _value(self, body: bytes, row: int, reasons: dict[int, str]) -> Any:
        try:
            value = _read(body, self._one[0], self._one[1])
            return value if self._convert is None else self._convert(value)
        except UnicodeDecodeError:
            reasons.setdefault(row, f"field {self._name!r}: it is not UTF-8")
        except _REFUSED as exc:
            reasons.setdefault(row, f"field {self._name!r}: {' '.join(str(exc).split())[:200]}")
        return None


def _prepare(schema: Schema, of: AvroSchema) -> Any:
    """A schema as fastavro takes it at once, in a record of one field: of others it reads the schema anew each time.

    fastavro hands defaults out as the schema's JSON has them, bytes as text: they are put right here.
    """
    wrapped = parse_schema({"type": "record", "name": _WRAPPER, "fields": [{"name": "value", "type": schema}]})
    try:
        _put_defaults_right(wrapped, of)
    except (*_REFUSED, AttributeError) as exc:
        raise ValueError(f"a default that does not fit its type: {exc}") from exc
    return wrapped


def _put_defaults_right(schema: Schema, of: AvroSchema) -> None:
    for part in branches(schema):
        if not isinstance(part, dict):
            continue
        for field in part.get("fields", ()):
            if "default" in field:
                field["default"] = _default(field["default"], field["type"], of)
            _put_defaults_right(field["type"], of)  # after: what is inside still has its JSON's defaults
        for key in ("items", "values"):
            if key in part:
                _put_defaults_right(part[key], of)


def _read(body: bytes, writer: Any, reader: Any) -> Any:
    found: Any = schemaless_reader(io.BytesIO(body), writer, reader)
    return found["value"]


def default_array(name: str, default: Any, reader: AvroSchema, wanted: Schema, column: ColumnType) -> pa.Array:
    """The one value that a field has where the writer has no such field.

    Raises:
        ValueError: the default does not fit the field's type.
    """
    try:
        value = _default(default, wanted, reader)
        convert = converter(wanted, reader)
        return pa.array([value if convert is None else convert(value)], column.arrow)
    except (*_REFUSED, AttributeError, pa.ArrowException) as exc:
        raise ValueError(f"field {name!r}: its default {default!r} does not fit its type") from exc


def converter(schema: Schema, of: AvroSchema) -> Converter | None:
    """What makes fastavro's values, read without logical types, Arrow's; None where they are already."""
    schema = of.definition(schema)
    kind = base(schema)
    if kind == "union":
        return _union(schema, of)
    if kind == "record":
        found = {str(field["name"]): converter(field["type"], of) for field in schema["fields"]}
        parts = {name: convert for name, convert in found.items() if convert is not None}
        return _record(parts) if parts else None
    if kind == "array":
        item = converter(schema["items"], of)
        return None if item is None else lambda values: [item(value) for value in values]
    if kind == "map":
        each = converter(schema["values"], of)
        return lambda found: [
            {"key": key, "value": value if each is None else each(value)} for key, value in found.items()
        ]
    meant = logical(schema)
    if meant is None:
        return None
    if meant[0] == "decimal":
        return _decimal(meant[1], meant[2])
    return _time_of_day(_TO_NS[meant[0]]) if meant[0] in _TO_NS else None


def _union(schema: Schema, of: AvroSchema) -> Converter | None:
    if column_type(schema, of).word == "json":
        return lambda value: None if value is None else json.dumps(value, default=_json_bytes, allow_nan=False)
    rest = [each for each in branches(schema) if base(of.definition(each)) != "null"]
    convert = converter(rest[0], of) if rest else None
    return None if convert is None else lambda value: None if value is None else convert(value)


def _record(parts: dict[str, Converter]) -> Converter:
    return lambda found: {**found, **{name: convert(found[name]) for name, convert in parts.items()}}


def _decimal(precision: int, scale: int) -> Converter:
    limit = 10**precision

    def convert(value: bytes) -> Any:
        number = int.from_bytes(value, "big", signed=True)
        if not value or abs(number) >= limit:
            raise ValueError(f"it is no decimal of {precision} digits")
        text = decimal_text(number, scale)
        return Decimal(text) if precision <= MOST_DIGITS else text

    return convert


def _time_of_day(scale: int) -> Converter:
    def convert(value: int) -> int:
        if not 0 <= value * scale < _DAY_NS:
            raise ValueError(f"{value} is no time of day")
        return value * scale

    return convert


def _json_bytes(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")  # as Avro's own JSON encoding has it
    raise TypeError(f"{type(value).__name__} has no JSON")


def _default(default: Any, schema: Schema, of: AvroSchema) -> Any:
    """A default as a schema's JSON has it → the value that fastavro would read."""
    schema = of.definition(schema)
    kind = base(schema)
    if kind == "union":
        for branch in branches(schema):
            if (default is None) == (base(of.definition(branch)) == "null"):
                return _default(default, branch, of)
        raise ValueError("no branch of the union fits")
    if kind in ("bytes", "fixed"):
        return default.encode("latin-1")
    if kind == "record":
        return {
            field["name"]: _default(default.get(field["name"], field.get("default")), field["type"], of)
            for field in schema["fields"]
        }
    if kind == "array":
        return [_default(item, schema["items"], of) for item in default]
    if kind == "map":
        return {key: _default(value, schema["values"], of) for key, value in default.items()}
    return float(default) if kind in ("float", "double") else default


def _long(number: int) -> bytes:
    """Avro's zig-zag encoding."""
    left = number << 1
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
