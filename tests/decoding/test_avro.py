"""Avro to columns: what fastavro wrote is read back exactly, and no body that is wrong is ever read as something."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.decoding import plain_avro
from tests.decoding.avro_records import as_column, decoder, encode, framed, record, records, rows_of, values

_EMPTY: dict[str, Any] = {"array": [], "map": {}, "enum": "A"}
NAN = struct.pack("<d", float("nan"))


@given(records())
@settings(max_examples=150, deadline=None)
def test_what_fastavro_wrote_is_read_back(made: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    schema, found = made
    read = decoder(schema).decode(values(*(framed(1, encode(schema, each)) for each in found)))
    assert read.faults == ()
    expected = [[as_column(field["type"], each[field["name"]]) for field in schema["fields"]] for each in found]
    assert repr(rows_of(read)) == repr(expected)


@given(records(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_body_that_was_changed_is_read_as_the_plain_twin_reads_it_or_not_at_all(
    made: tuple[dict[str, Any], list[dict[str, Any]]], data: st.DataObject
) -> None:
    schema, found = made
    bodies = []
    for each in found:
        body = bytearray(encode(schema, each))
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(body)))
            change = data.draw(st.sampled_from(["cut", "set", "insert"]))
            if change == "cut":
                del body[at:]
            elif change == "insert" or at == len(body):
                body[at:at] = bytes([data.draw(st.integers(0, 255))])
            else:
                body[at] = data.draw(st.integers(0, 255))
        bodies.append(bytes(body))
    expected: list[Any] = []
    for body in bodies:
        try:
            value = plain_avro.decode(schema, body)
            expected.append([as_column(field["type"], value[field["name"]]) for field in schema["fields"]])
        except plain_avro.Wrong:
            expected.append(None)
    assert repr(rows_of(decoder(schema).decode(values(*(framed(1, body) for body in bodies))))) == repr(expected)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("int", b"\x80\x80\x80\x80\x10", "field 'f0': an int of more than 32 bits, at byte 10"),
        ("long", b"\xff" * 9 + b"\x02", "field 'f0': a number of more than 64 bits, at byte 14"),
        ("long", b"\xff" * 11, "field 'f0': a number of more than 64 bits"),
        ("long", b"\x80", "field 'f0': the record ends too early, at byte 6"),
        ("double", b"\0" * 7, "field 'f0': the record ends too early"),
        ("boolean", b"\2", "field 'f0': a boolean that is neither 0 nor 1"),
        ("string", b"\x06ab", "field 'f0': the record ends too early"),
        ("string", b"\x01", "field 'f0': a length below 0"),
        ("string", b"\x02\xff", "field 'f0': it is not UTF-8"),
        ({"type": "array", "items": "string"}, b"\x02\x02\xff\0", "field 'f0': it is not UTF-8"),
        (["null", "int"], b"\x04\x02", "field 'f0': a branch that the union does not have"),
        (["null", "int"], b"\x01\x02", "field 'f0': a branch that the union does not have"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x04", "field 'f0': a symbol that the enum"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x01", "field 'f0': a symbol that the enum"),
        ({"type": "array", "items": "int"}, b"\x80\x80\x80\x80\x08\x02", "field 'f0': a block of more items than"),
        ({"type": "array", "items": "int"}, b"\xff" * 9 + b"\x01\x02", "field 'f0': a block of more items than"),
        ({"type": "map", "values": "int"}, b"\x02\x02a", "field 'f0': the record ends too early"),
        ("int", b"\x02\x02", "something follows the record, at byte 6"),
        ("int", b"", "field 'f0': the record ends too early, at byte 5"),
    ],
)
def test_a_body_that_is_wrong_is_a_fault_that_says_where(kind: Any, body: bytes, reason: str) -> None:
    schema = record([kind])
    empty = {"int": 0, "long": 0, "double": 0.0, "boolean": False, "string": ""}
    good = empty[kind] if isinstance(kind, str) else None if isinstance(kind, list) else _EMPTY[kind["type"]]
    before = framed(1, encode(schema, {"f0": good}))
    found = decoder(schema).decode(values(before, framed(1, body), before))
    assert [fault.row for fault in found.faults] == [1]
    assert found.faults[0].reason.startswith(reason)
    assert found.arrays[0].to_pylist() == [as_column(kind, good), None, as_column(kind, good)]


def test_values_without_the_wire_format_s_header_are_faults() -> None:
    schema = record(["int"])
    found = decoder(schema).decode(
        values(None, b"", b"\0\0\0", b'{"a":1}', framed(7, b"\x02"), framed(2**32 - 1, b"\x02"), framed(1, b"\x02"))
    )
    assert [fault.reason for fault in found.faults] == [
        "it has no value (null)",
        "its value is empty",
        "it names no schema: it begins with 00 00 00",
        "it names no schema: it begins with 7b 22 61 22 3a",
        "it names schema 7, which the snapshot does not hold",
        "it names schema 4294967295, which the snapshot does not hold",
    ]
    assert found.arrays[0].to_pylist() == [None] * 6 + [1]


def test_a_slice_of_a_larger_batch_is_read_as_it_is() -> None:
    schema = record(["int", "string", {"type": "array", "items": "int"}])
    bodies = [framed(1, encode(schema, {"f0": n, "f1": f"{n}", "f2": [n]})) for n in range(20)]
    found = decoder(schema).decode(values(*bodies).slice(5, 3))
    assert rows_of(found) == [[n, f"{n}", [n]] for n in (5, 6, 7)]


def test_logical_types_are_typed_columns() -> None:
    def of(base: Any, name: str, **more: Any) -> dict[str, Any]:
        return {"type": base, "logicalType": name, **more}

    kinds = {
        "day": of("int", "date"),
        "ms": of("long", "timestamp-millis"),
        "us": of("long", "timestamp-micros"),
        "ns": of("long", "timestamp-nanos"),
        "local": of("long", "local-timestamp-micros"),
        "clock_ms": of("int", "time-millis"),
        "clock_us": of("long", "time-micros"),
        "price": of("bytes", "decimal", precision=9, scale=4),
        "wide": of("bytes", "decimal", precision=38, scale=10),
        "wider": of("bytes", "decimal", precision=50, scale=2),
        "fixed": {"type": "fixed", "name": "F", "size": 12, "logicalType": "decimal", "precision": 20, "scale": 0},
        "uuid": of("string", "uuid"),
        "odd": of("int", "no-such-type"),
    }
    schema = {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in kinds.items()]}

    def number(value: int, size: int | None = None) -> bytes:
        body = value.to_bytes(size or (value.bit_length() // 8 + 1), "big", signed=True)
        return body if size else _varint(len(body)) + body

    body = b"".join(
        [
            _varint(-1),
            _varint(-1),
            _varint(1_700_000_000_123_456),
            _varint(1_700_000_000_123_456_789),
            _varint(0),
            _varint(86_399_999),
            _varint(1),
            number(-123_456_789),
            number(10**37 + 1),
            number(-5),
            number(-(10**19), 12),
            _varint(4) + b"abcd",
            _varint(7),
        ]
    )
    made = decoder(schema)
    assert dict(made.columns) == {
        "day": "date",
        "ms": "time",
        "us": "time(us)",
        "ns": "time(ns)",
        "local": "datetime(us)",
        "clock_ms": "time_of_day",
        "clock_us": "time_of_day",
        "price": "decimal(9,4)",
        "wide": "decimal(38,10)",
        "wider": "string",
        "fixed": "decimal(20,0)",
        "uuid": "string",
        "odd": "int",
    }
    found = made.decode(values(framed(1, body)))
    assert found.faults == ()
    row = {name: array[0] for (name, _), array in zip(made.columns, found.arrays, strict=True)}
    assert row["day"].as_py() == date(1969, 12, 31)
    assert row["ms"].as_py() == datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)
    assert row["us"].as_py() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=1_700_000_000_123_456)
    assert row["ns"].value == 1_700_000_000_123_456_789
    assert row["local"].as_py() == datetime(1970, 1, 1)  # noqa: DTZ001  # it has no zone
    assert row["clock_ms"].as_py() == time(23, 59, 59, 999000)
    assert row["clock_us"].as_py() == time(0, 0, 0, 1)
    assert row["price"].as_py() == Decimal("-12345.6789")
    assert row["wide"].as_py() == Decimal("1000000000000000000000000000.0000000001")
    assert row["wider"].as_py() == "-0.05"
    assert row["fixed"].as_py() == Decimal(-(10**19))
    assert (row["uuid"].as_py(), row["odd"].as_py()) == ("abcd", 7)


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ({"type": "int", "logicalType": "time-millis"}, b"\x01", "-1 is no time of day"),
        ({"type": "long", "logicalType": "time-micros"}, b"\x80\x80\xbb\xdd\x83\x05", "is no time of day"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1}, b"\x02\x64", "decimal of 2 digits"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1}, b"\x00", "decimal of 2 digits"),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1},
            b"\x14" + b"\x01" * 10,
            "of 2 digits",
        ),
    ],
)
def test_a_number_that_its_logical_type_does_not_have_is_a_fault(kind: Any, body: bytes, reason: str) -> None:
    for schema, data in ((record([kind]), body), (record([{"type": "array", "items": kind}]), b"\x02" + body + b"\0")):
        (fault,) = decoder(schema).decode(values(framed(1, data))).faults
        assert fault.reason.startswith("field 'f0': ")
        assert reason in fault.reason


def test_nested_values_keep_their_logical_types() -> None:
    price = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    at = {"type": "long", "logicalType": "timestamp-millis"}
    leg = {"type": "record", "name": "Leg", "fields": [{"name": "price", "type": price}, {"name": "at", "type": at}]}
    schema = record([{"type": "array", "items": leg}, {"type": "map", "values": ["null", price]}])
    body = b"\x02" + b"\x02\x7d" + b"\x02" + b"\0" + b"\x02" + b"\x02k" + b"\x02" + b"\x02\xff" + b"\0"
    made = decoder(schema)
    assert made.columns == (
        ("f0", "list[struct[price: decimal(6,2), at: time]]"),
        ("f1", "map[decimal(6,2)]"),
    )
    ((legs, more),) = rows_of(made.decode(values(framed(1, body))))  # type: ignore[misc]
    assert [(each["price"], each["at"].isoformat()) for each in legs] == [
        (Decimal("1.25"), "1970-01-01T00:00:00.001000+00:00")
    ]
    assert more == [{"key": "k", "value": Decimal("-0.01")}]


@pytest.mark.parametrize(
    ("branches", "word", "found"),
    [
        (["null", "int", "long"], "int", [None, 1, -5]),
        (["float", "double"], "float", [0.5, 0.1]),
        (["null", "string", "long"], "json", [None, '"x"', "7"]),
        (["null", "bytes", {"type": "array", "items": "int"}], "json", [None, '"\\u00ff"', "[1, 2]"]),
        (["null"], "string", [None]),
    ],
)
def test_a_union_is_one_column_where_its_branches_are_alike_and_else_json(
    branches: list[Any], word: str, found: list[Any]
) -> None:
    schema = record([branches])
    made = decoder(schema)
    assert made.columns == (("f0", word),)
    given = {'"x"': "x", "7": 7, '"\\u00ff"': b"\xff", "[1, 2]": [1, 2]}
    bodies = [framed(1, encode(schema, {"f0": given.get(each, each)})) for each in found]
    assert rows_of(made.decode(values(*bodies))) == [[each] for each in found]


def test_a_schema_of_something_else_than_a_record_is_one_column() -> None:
    for schema, value, word in (("string", "x", "string"), ({"type": "array", "items": "long"}, [1], "list[int]")):
        made = decoder(schema)
        assert made.columns == (("value", word),)
        assert rows_of(made.decode(values(framed(1, encode(schema, value))))) == [[value]]


def test_nan_and_infinity_stay_what_they_are() -> None:
    found = decoder(record(["double"])).decode(values(framed(1, NAN), framed(1, struct.pack("<d", float("-inf")))))
    assert found.faults == ()
    assert str(found.arrays[0].to_pylist()) == "[nan, -inf]"


def test_decoding_does_not_depend_on_how_records_are_batched() -> None:
    schema = record(["long", ["null", "string"], {"type": "map", "values": "double"}])
    bodies = [
        framed(1, encode(schema, {"f0": n, "f1": None if n % 2 else "é" * n, "f2": {"a": n / 3}})) for n in range(50)
    ]
    bodies[17] = b"broken"
    made = decoder(schema)
    whole = rows_of(made.decode(values(*bodies)))
    assert whole[17] is None
    assert whole == [row for body in bodies for row in rows_of(made.decode(values(body)))]
    assert pa.concat_arrays([made.decode(values(body)).arrays[0] for body in bodies]).null_count == 1


def _varint(number: int) -> bytes:
    left = (number << 1) ^ (number >> 63)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
