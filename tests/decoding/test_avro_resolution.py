"""Avro schemas that change: records of different writers in one topic come out as the reader's columns."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.decoding.avro import AvroDecoder
from tests.decoding.avro_records import INTS, as_column, decoder, encode, framed, record, registered, rows_of, values

PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
V1 = record(["int", "string"])
V2 = {
    "type": "record",
    "name": "R",
    "fields": [
        {"name": "f2", "type": ["null", "string"], "default": None},
        {"name": "f0", "type": "long"},
        {"name": "f3", "type": {"type": "array", "items": "int"}, "default": [1, 2]},
        {"name": "renamed", "type": "string", "aliases": ["f1"]},
        {"name": "f4", "type": "bytes", "default": "\xff"},
        {"name": "f5", "type": "double", "default": 1},
    ],
}


def test_records_of_an_older_schema_come_out_in_the_newest_s_columns() -> None:
    made = decoder(V1, V2)
    assert [name for name, _ in made.columns] == ["f2", "f0", "f3", "renamed", "f4", "f5"]
    new = {"f2": "x", "f0": 2**40, "f3": [], "renamed": "n", "f4": b"", "f5": 0.5}
    old = framed(1, encode(V1, {"f0": 7, "f1": "old"}))
    found = made.decode(values(old, framed(2, encode(V2, new)), None, old))
    expected = [None, 7, [1, 2], "old", b"\xff", 1.0]
    assert rows_of(found) == [expected, list(new.values()), None, expected]


def test_a_reader_s_schema_that_is_declared_decides_the_columns() -> None:
    reader = record(["double"])
    found = decoder(V1, V2, reader=reader)
    assert found.columns == (("f0", "float"),)
    new = {"f2": None, "f0": 5, "f3": [], "renamed": "", "f4": b"", "f5": 0.0}
    read = found.decode(values(framed(1, encode(V1, {"f0": 7, "f1": ""})), framed(2, encode(V2, new))))
    assert rows_of(read) == [[7.0], [5.0]]


def test_columns_may_be_chosen_and_must_have_the_schema_s_types() -> None:
    made = decoder(V1, V2, columns=[("f0", "int"), ("f2", "string")])
    found = made.decode(values(framed(1, encode(V1, {"f0": 7, "f1": "x"}))))
    assert (made.columns, rows_of(found)) == ((("f0", "int"), ("f2", "string")), [[7, None]])
    with pytest.raises(ValueError, match="schema 2 has no field 'nope'; it has: f2, f0, f3"):
        decoder(V1, V2, columns=[("nope", "int")])
    with pytest.raises(ValueError, match="column 'f0' is declared as float, and schema 2 makes it int"):
        decoder(V1, V2, columns=[("f0", "float")])


@pytest.mark.parametrize(
    ("written", "wanted", "reason"),
    [
        (record(["int"]), record(["int"], name="Other"), "it is of R, and schema 2 of Other"),
        (record(["int"]), "int", "it is of R, and schema 2 of no record"),
        (record(["int"]), record(["int", "int"]), "it has no field 'f1', and that has no default"),
        (record(["long"]), record(["int"]), "field 'f0' is long in one and int in the other"),
        (record(["string"]), record(["long"]), "field 'f0' is string in one and long in the other"),
        (record([MILLIS]), record([MICROS]), "field 'f0' is timestamp-millis in one and timestamp-micros in the other"),
        (
            record([{"type": "array", "items": ["null", MILLIS]}]),
            record([{"type": "array", "items": MICROS}]),
            "field 'f0' is timestamp-millis in one and timestamp-micros in the other",
        ),
        (
            record([PRICE]),
            record([{**PRICE, "scale": 3}]),
            "field 'f0' is decimal(9,2) in one and decimal(9,3) in the other",
        ),
        (
            record([{"type": "fixed", "name": "F", "size": 4}]),
            record([{"type": "fixed", "name": "F", "size": 5}]),
            "field 'f0' has 4 bytes in one and 5 in the other",
        ),
        (
            record([{"type": "enum", "name": "E", "symbols": ["A"]}]),
            record([{"type": "enum", "name": "Z", "symbols": ["A"]}]),
            "field 'f0' is E in one and Z in the other",
        ),
    ],
)
def test_records_of_a_schema_that_does_not_resolve_are_faults_and_others_are_not(
    written: Any, wanted: Any, reason: str
) -> None:
    empty = wanted if wanted == "int" else None
    body = encode("int", 3) if empty else encode(wanted, _zero(wanted))
    found = decoder(written, wanted).decode(values(framed(1, b"\0"), framed(2, body)))
    assert [fault.row for fault in found.faults] == [0]
    assert found.faults[0].reason == f"it names schema 1, and that cannot be read: {reason}"


def test_a_value_that_the_reader_has_no_place_for_is_a_fault_of_its_record() -> None:
    letters = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    fewer = {"type": "enum", "name": "E", "symbols": ["B"]}
    old = record([["null", "int"], letters, {"type": "array", "items": "E"}])
    new = record(["int", fewer, {"type": "array", "items": "E"}])
    records = [
        {"f0": 1, "f1": "B", "f2": ["B"]},
        {"f0": None, "f1": "B", "f2": []},
        {"f0": 1, "f1": "A", "f2": []},
        {"f0": 1, "f1": "B", "f2": ["B", "A"]},
    ]
    found = decoder(old, new).decode(values(*(framed(1, encode(old, each)) for each in records)))
    assert rows_of(found) == [[1, "B", ["B"]], None, None, None]
    assert [fault.reason.partition(":")[0] for fault in found.faults] == [
        "field 'f0' is null, and its type has no null",
        "field 'f1'",
        "field 'f2'",
    ]
    with_default = record([["null", "int"], {**fewer, "default": "B"}])
    again = decoder(record([["null", "int"], letters]), with_default)
    assert rows_of(again.decode(values(framed(1, encode(old, records[2])[:3])))) == [[1, "B"]]


FLAT = st.sampled_from(["int", "long", "float", "double", "string", "bytes", "boolean"])


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_flat_fields_resolve_as_fastavro_resolves_them(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 4))
    written = {
        "type": "record",
        "name": "R",
        "fields": [{"name": f"f{n}", "type": _maybe(data, data.draw(FLAT))} for n in range(number)],
    }
    names = data.draw(st.permutations([f"f{n}" for n in range(number + 2)]))
    wanted = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": name, "type": _maybe(data, data.draw(FLAT)), **data.draw(st.sampled_from([{}, {"default": None}]))}
            for name in names
        ],
    }
    for field in wanted["fields"]:
        if "default" in field and field["type"][0] != "null":
            field["default"] = {"string": "d", "bytes": "d", "boolean": True}.get(_plain(field["type"]), 3)
            if _plain(field["type"]) in ("float", "double"):
                field["default"] = 3.0
            field["type"] = _plain(field["type"])
    row = {field["name"]: data.draw(_value(field["type"])) for field in written["fields"]}
    body = encode(written, row)
    try:
        expected = fastavro.schemaless_reader(
            io.BytesIO(body), fastavro.parse_schema(written), fastavro.parse_schema(wanted)
        )
    except (fastavro.read.SchemaResolutionError, UnicodeDecodeError):
        expected = None
    (found,) = rows_of(decoder(written, wanted).decode(values(framed(1, body))))
    if expected is None or found is None:
        # Stricter in one thing: a nullable field of another type is refused even where it holds null.
        assert found is None
        return
    written_names = {field["name"] for field in written["fields"]}
    for field in wanted["fields"]:
        if field["type"] == "bytes" and field["name"] not in written_names:
            expected[field["name"]] = b"d"  # fastavro gives defaults as the schema's JSON has them
    assert repr(found) == repr([as_column(field["type"], expected[field["name"]]) for field in wanted["fields"]])


def test_defaults_inside_of_parts_are_values_of_their_types() -> None:
    price = {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}
    whole = {"type": "record", "name": "W", "fields": [{"name": "b", "type": "bytes", "default": "\xff"}]}
    more = [
        {"name": "price", "type": price, "default": "\u0001\u0000"},
        {"name": "w", "type": whole, "default": {}},
        {"name": "maybe", "type": ["null", "W"], "default": None},
        {"name": "all", "type": {"type": "map", "values": "bytes"}, "default": {"k": "\xfe"}},
    ]
    old = record([{"type": "array", "items": record(["int"], name="Part")}])
    part = {**record(["int"], name="Part"), "fields": [{"name": "f0", "type": "int"}, *more]}
    new = record([{"type": "array", "items": part}])
    found = decoder(old, new).decode(values(framed(1, encode(old, {"f0": [{"f0": 1}, {"f0": 2}]}))))
    assert found.faults == ()
    rest = {"price": Decimal("2.56"), "w": {"b": b"\xff"}, "maybe": None, "all": [{"key": "k", "value": b"\xfe"}]}
    assert rows_of(found) == [[[{"f0": 1, **rest}, {"f0": 2, **rest}]]]


def test_what_a_schema_refers_to_is_read_with_it() -> None:
    leg = record(["long"], name="Leg")
    deal = {"type": "record", "name": "Deal", "fields": [{"name": "leg", "type": "Leg"}, {"name": "b", "type": "Leg"}]}
    whole = {**deal, "fields": [{"name": "leg", "type": leg}, {"name": "b", "type": "Leg"}]}
    schema = registered(1, deal, ("Leg", leg))
    made = AvroDecoder([schema], schema)
    assert made.columns == (("leg", "struct[f0: int]"), ("b", "struct[f0: int]"))
    body = encode(whole, {"leg": {"f0": 1}, "b": {"f0": 2}})
    assert rows_of(made.decode(values(framed(1, body)))) == [[{"f0": 1}, {"f0": 2}]]
    with pytest.raises(ValueError, match="schema 1 refers to Leg, which the snapshot does not hold"):
        decoder(deal)


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "record", "fields": []}, "schema 1 is no Avro schema"),
        (record(["no-such"]), "schema 1 refers to no-such"),
        (
            {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]},
            "record R contains itself",
        ),
        (record([{"type": "array", "items": "null"}]), "an array whose items have no bytes"),
        (record([{"type": "array", "items": record([], name="Q")}]), "an array whose items have no bytes"),
    ],
)
def test_schemas_without_a_bound_and_what_is_no_schema_are_refused(schema: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decoder(schema)


def test_a_schema_that_unfolds_without_end_is_refused_at_once() -> None:
    made: Any = record(["int"], name="T0")
    for depth in range(1, 30):
        fields = [{"name": "a", "type": made}, {"name": "b", "type": f"T{depth - 1}"}]
        made = {"type": "record", "name": f"T{depth}", "fields": fields}
    with pytest.raises(ValueError, match="has more than 20,000 parts"):
        decoder(made)


def _maybe(data: st.DataObject, kind: str) -> Any:
    return ["null", kind] if data.draw(st.booleans()) else kind


def _plain(kind: Any) -> str:
    return str(kind[1] if isinstance(kind, list) else kind)


def _value(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.none() | _value(kind[1])
    return {
        "int": INTS,
        "long": st.integers(-(2**63), 2**63 - 1),
        "float": st.floats(width=32, allow_nan=False),
        "double": st.floats(allow_nan=False),
        "string": st.text(max_size=4),
        "bytes": st.binary(max_size=4),
        "boolean": st.booleans(),
    }[kind]


def _zero(schema: Any) -> dict[str, Any]:
    found = {}
    for field in schema["fields"]:
        kind = field["type"]["type"] if isinstance(field["type"], dict) else field["type"]
        size = field["type"].get("size", 0) if isinstance(field["type"], dict) else 0
        zero: dict[str, Any] = {"int": 0, "long": 0, "array": [], "bytes": b"\0", "fixed": b"\0" * size, "enum": "A"}
        found[field["name"]] = zero[kind]
    return found
