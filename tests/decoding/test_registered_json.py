"""JSON behind a registry's header: the columns that its JSON Schema declares."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from mlstream.config import DecodeConfig
from mlstream.decoding.decoder import open_decoder
from mlstream.decoding.framed import RegisteredSchema
from mlstream.decoding.json_registered import columns_of
from tests.decoding.avro_records import framed, rows_of, values

ORDER: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Order",
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "price": {"type": "number"},
        "note": {"oneOf": [{"type": "null"}, {"type": "string"}]},
        "paid": {"type": ["boolean", "null"]},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "lines": {"type": "array"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "buyer": {"$ref": "#/definitions/name"},
        "open": {},
    },
    "definitions": {"name": {"type": "string"}},
}


def schema(schema_id: int, text: Any, *references: tuple[str, Any]) -> RegisteredSchema:
    found = tuple((name, json.dumps(each)) for name, each in references)
    return RegisteredSchema(schema_id, "JSON", json.dumps(text), found)


def test_properties_are_columns_of_the_types_that_they_declare() -> None:
    assert columns_of(schema(1, ORDER)) == (
        ("id", "int"),
        ("price", "float"),
        ("note", "string"),
        ("paid", "bool"),
        ("at", "time"),
        ("day", "date"),
        ("lines", "json"),
        ("either", "json"),
        ("buyer", "string"),
        ("open", "json"),
    )


def test_properties_of_what_it_is_made_of_and_refers_to_count() -> None:
    base = {"type": "object", "properties": {"id": {"type": "integer"}, "unit": {"$ref": "#/$defs/unit"}}}
    whole = {**base, "$defs": {"unit": {"type": "string"}}}
    made = {"allOf": [{"$ref": "base.json"}, {"properties": {"x": {"$ref": "other.json#/definitions/n~1m"}}}]}
    other = {"$id": "http://example.com/other", "definitions": {"n/m": {"type": "number"}}}
    found = columns_of(schema(1, made, ("base.json", whole), ("other.json", other)))
    assert found == (("id", "int"), ("unit", "string"), ("x", "float"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ({"type": "string"}, "schema 1 does not describe a JSON object"),
        (True, "schema 1 does not describe a JSON object"),
        ({"$ref": "gone.json"}, "schema 1 refers to gone.json, which the snapshot does not hold"),
        ({"properties": {"a": {"$ref": "#/definitions/gone"}}}, "schema 1 refers to #/definitions/gone, and there is"),
        ({"$ref": "#"}, "schema 1: its references go round in a circle"),
    ],
)
def test_a_schema_that_says_no_columns_is_refused(text: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        columns_of(schema(1, text))


def test_records_of_every_known_schema_come_out_in_the_newest_s_columns() -> None:
    old = {"type": "object", "properties": {"id": {"type": "integer"}}}
    made = open_decoder(DecodeConfig(format="json-schema"), [schema(3, old), schema(8, ORDER)])
    body = {"id": 5, "price": 1, "at": "2013-10-27T16:05:59Z", "day": "2013-10-27", "lines": [1], "either": "x"}
    found = made.decode(
        values(framed(8, json.dumps(body).encode()), framed(3, b'{"id":4}'), framed(4, b'{"id":4}'), b'{"id":4}')
    )
    assert rows_of(found) == [
        [
            5,
            1.0,
            None,
            None,
            datetime(2013, 10, 27, 16, 5, 59, tzinfo=UTC),
            date(2013, 10, 27),
            "[1]",
            '"x"',
            None,
            None,
        ],
        [4, *[None] * 9],
        None,
        None,
    ]
    assert [fault.reason for fault in found.faults] == [
        "it names schema 4, which the snapshot does not hold",
        "it names no schema: it begins with 7b 22 69 64 22",
    ]


def test_declared_columns_need_no_schema() -> None:
    made = open_decoder(DecodeConfig(format="json-schema", columns={"price": "decimal(9,2)", "day": "date"}))
    found = made.decode(
        values(
            framed(77, b'{"price": 1.50, "day": "2013-10-27"}'),
            framed(1, b'{"price": "2e1"}'),
            framed(1, b'{"price": 0.001}'),
            framed(1, b'{"day": 5}'),
            framed(1, b""),
        )
    )
    assert rows_of(found) == [[Decimal("1.50"), date(2013, 10, 27)], [Decimal("20.00"), None], None, None, None]
    assert [fault.reason for fault in found.faults] == [
        "column 'price' is decimal(9,2), and the value is 0.001",
        "column 'day' is date, and the value is 5",
        "its value is empty",
    ]


def test_a_declared_schema_decides_the_columns_and_ids_may_be_declared_too() -> None:
    reader = {"properties": {"b": {"type": "string"}}}
    config = DecodeConfig(format="json-schema", reader_schema=reader, schemas={4: {"properties": {}}})
    found = open_decoder(config).decode(values(framed(4, b'{"a":1,"b":"x"}')))
    assert rows_of(found) == [["x"]]
    with pytest.raises(ValueError, match="schema 4 is given under `schemas`, and the snapshot holds another"):
        open_decoder(config, [schema(4, ORDER)])
    with pytest.raises(ValueError, match="schema 4 is of type AVRO, not JSON"):
        open_decoder(config, [RegisteredSchema(4, "AVRO", '"int"')])
    with pytest.raises(ValueError, match="the snapshot holds no schemas for it"):
        open_decoder(DecodeConfig(format="json-schema"))
