"""Avro schemas: read with what they refer to, checked, and what type of column each part becomes. Reads no records.

Schemas that refer to themselves, and arrays whose items have no bytes, are refused: no bound could be set on what a
record of them makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
from fastavro.schema import SchemaParseException, UnknownType, parse_schema

from mlstream.decoding.framed import RegisteredSchema
from mlstream.decoding.types import MOST_DIGITS, arrow_type

Schema: TypeAlias = Any  # a name, a list of branches, or a mapping, as Avro's JSON has it

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_LOGICAL = {
    ("int", "date"): "date",
    ("int", "time-millis"): "time_of_day",
    ("long", "time-micros"): "time_of_day",
    ("long", "timestamp-millis"): "time",
    ("long", "timestamp-micros"): "time(us)",
    ("long", "timestamp-nanos"): "time(ns)",
    ("long", "local-timestamp-millis"): "datetime",
    ("long", "local-timestamp-micros"): "datetime(us)",
    ("long", "local-timestamp-nanos"): "datetime(ns)",
}
_WORDS = {
    "null": "string",  # a column that is always null, as in JSON
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "bytes": "binary",
    "string": "string",
    "fixed": "binary",
    "enum": "string",
}
_MOST_PARTS = 20_000
_SAME = ({"int", "long"}, {"float", "double"}, {"string", "enum"})  # branches that make one column


@dataclass(frozen=True, slots=True)
class AvroSchema:
    """A schema that records are written or read by.

    Attributes:
        id: the registry's number; 0 for one that was declared.
        root: the schema, names resolved to full ones.
        named: full name → definition, of all that it has and refers to.
    """

    id: int
    root: Schema
    named: Mapping[str, Schema]

    def __str__(self) -> str:
        return f"schema {self.id}" if self.id else "the declared schema"

    @property
    def fields(self) -> tuple[dict[str, Any], ...]:
        """The fields of the record; a schema of anything else has one, `value`."""
        root = self.definition(self.root)
        if base(root) == "record":
            return tuple(root["fields"])
        return ({"name": "value", "type": self.root},)

    @property
    def record(self) -> str | None:
        """The name of the record, None for a schema of anything else."""
        root = self.definition(self.root)
        return str(root["name"]) if base(root) == "record" else None

    def definition(self, schema: Schema) -> Schema:
        """What a name stands for; anything else is itself."""
        name = schema["type"] if isinstance(schema, dict) else schema
        return self.named[name] if isinstance(name, str) and name in self.named else schema

    def spelled_out(self, schema: Schema) -> Schema:
        """A part of the schema that refers to nothing outside of it, without logical types."""
        return _spell_out(schema, self.named, set())


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a schema becomes as a column: its word (docs/decoding.md) and Arrow type."""

    word: str
    arrow: pa.DataType


def read_schema(registered: RegisteredSchema) -> AvroSchema:
    """A schema from its text.

    Raises:
        ValueError: it is no Avro schema, lacks what it refers to, or cannot be decoded with bounds.
    """
    what = f"schema {registered.id}" if registered.id else "the declared schema"
    named: dict[str, Schema] = {}
    try:
        for _, text in registered.references:
            parse_schema(json.loads(text), named_schemas=named)
        root = parse_schema(json.loads(registered.text), named_schemas=named)
    except UnknownType as exc:
        raise ValueError(f"{what} refers to {exc.name}, which the snapshot does not hold") from exc
    except (SchemaParseException, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"{what} is no Avro schema: {exc}") from exc
    found = AvroSchema(registered.id, root, named)
    _check(found, root, (), what, [0])
    return found


def base(schema: Schema) -> str:
    """`union`, `record`, `enum`, `array`, `map`, `fixed`, the name of a primitive, or that of a named type."""
    if isinstance(schema, list):
        return "union"
    if isinstance(schema, dict):
        kind = schema["type"]
        return "union" if isinstance(kind, list) else base(kind) if isinstance(kind, dict) else str(kind)
    return str(schema)


def branches(schema: Schema) -> list[Schema]:
    """The branches of a union; of anything else, itself."""
    if isinstance(schema, list):
        return schema
    return [schema]


def logical(schema: Schema) -> tuple[Any, ...] | None:
    """A logical type with its parameters, where it is one that applies; what is unknown does not count."""
    if not isinstance(schema, dict):
        return None
    kind, name = base(schema), schema.get("logicalType")
    if (kind, name) in _LOGICAL:
        return (name,)
    if name == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if isinstance(precision, int) and isinstance(scale, int) and 0 <= scale <= precision and precision > 0:
            return name, precision, scale
    return None


def is_flat(schema: Schema, of: AvroSchema) -> bool:
    """Whether it is a value without parts, or such a one or null."""
    rest = [each for each in branches(of.definition(schema)) if base(of.definition(each)) != "null"]
    if len(branches(of.definition(schema))) > 2 or len(rest) > 1:
        return False
    return all(base(of.definition(each)) in (*PRIMITIVES, "fixed", "enum") for each in rest)


def column_type(schema: Schema, of: AvroSchema) -> ColumnType:
    """The type of the column that a schema becomes."""
    schema = of.definition(schema)
    kind = base(schema)
    if kind == "union":
        rest = [of.definition(each) for each in branches(schema) if base(of.definition(each)) != "null"]
        if not rest:
            return ColumnType("string", arrow_type("string"))
        kinds = {base(each) for each in rest}
        alike = any(kinds <= same for same in _SAME) and not any(logical(each) for each in rest)
        if len(rest) == 1 or alike:
            return column_type(rest[0], of)
        return ColumnType("json", arrow_type("json"))
    if kind == "record":
        parts = [(field["name"], column_type(field["type"], of)) for field in schema["fields"]]
        words = ", ".join(f"{name}: {part.word}" for name, part in parts)
        return ColumnType(f"struct[{words}]", pa.struct([pa.field(name, part.arrow) for name, part in parts]))
    if kind == "array":
        item = column_type(schema["items"], of)
        return ColumnType(f"list[{item.word}]", pa.large_list(item.arrow))
    if kind == "map":
        value = column_type(schema["values"], of)
        entry = pa.struct([pa.field("key", pa.large_string()), pa.field("value", value.arrow)])
        return ColumnType(f"map[{value.word}]", pa.large_list(entry))
    word = _flat_word(schema)
    return ColumnType(word, arrow_type(word))


def _flat_word(schema: Schema) -> str:
    found = logical(schema)
    if found is None:
        return _WORDS[base(schema)]
    if found[0] == "decimal":
        # Arrow's and polars' decimals end at 38 digits: wider ones are text, exact all the same.
        return f"decimal({found[1]},{found[2]})" if found[1] <= MOST_DIGITS else "string"
    return _LOGICAL[base(schema), found[0]]


def _spell_out(schema: Schema, named: Mapping[str, Schema], told: set[str]) -> Schema:
    if isinstance(schema, list):
        return [_spell_out(branch, named, told) for branch in schema]
    if isinstance(schema, str):
        if schema not in named or schema in told:
            return schema
        return _spell_out(named[schema], named, told)
    kind = base(schema)
    if kind in PRIMITIVES:
        return kind
    found = {key: value for key, value in schema.items() if not key.startswith("__") and key != "logicalType"}
    if "name" in found:
        told.add(found["name"])
    if kind == "record":
        found["fields"] = [{**field, "type": _spell_out(field["type"], named, told)} for field in schema["fields"]]
    elif kind in ("array", "map"):
        items = "items" if kind == "array" else "values"
        found[items] = _spell_out(schema[items], named, told)
    return found


def _check(of: AvroSchema, schema: Schema, path: tuple[str, ...], what: str, seen: list[int]) -> None:
    """Refuse what has no bound; `seen` counts the parts."""
    seen[0] += 1
    if seen[0] > _MOST_PARTS:
        raise ValueError(f"{what} has more than {_MOST_PARTS:,} parts")
    schema = of.definition(schema)
    kind = base(schema)
    name = schema.get("name") if isinstance(schema, dict) else None
    if name is not None and kind == "record":
        if name in path:
            raise ValueError(f"{what}: record {name} contains itself, and such schemas are not decoded")
        path = (*path, name)
    for part in _parts(schema, kind):
        _check(of, part, path, what, seen)
    if kind == "array" and not _has_bytes(of, schema["items"]):
        raise ValueError(f"{what}: an array whose items have no bytes, and such schemas are not decoded")


def _parts(schema: Schema, kind: str) -> Iterator[Schema]:
    if kind == "union":
        yield from branches(schema)
    elif kind == "record":
        yield from (field["type"] for field in schema["fields"])
    elif kind == "array":
        yield schema["items"]
    elif kind == "map":
        yield schema["values"]


def _has_bytes(of: AvroSchema, schema: Schema) -> bool:
    """Whether any value of a schema has one byte at least. Only for what does not contain itself."""
    schema = of.definition(schema)
    kind = base(schema)
    if kind == "record":
        return any(_has_bytes(of, field["type"]) for field in schema["fields"])
    return int(schema["size"]) > 0 if kind == "fixed" else kind != "null"
