"""CSV to columns: fields as the standard library finds them, values exactly or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.config import DecodeConfig
from mlstream.decoding.decoder import open_decoder
from tests.decoding.avro_records import rows_of


def config(columns: dict[str, Any], **more: Any) -> DecodeConfig:
    return DecodeConfig(format="csv", columns=columns, **more)


def read(values: Sequence[bytes | None], columns: dict[str, Any], **more: Any) -> tuple[list[Any], list[str]]:
    found = open_decoder(config(columns, **more)).decode(pa.array(values, pa.binary()))
    return rows_of(found), [fault.reason for fault in found.faults]


fields = st.text(alphabet="ab,;\"' é\t0", max_size=6)


@given(st.lists(st.lists(fields, min_size=3, max_size=3), min_size=1, max_size=5), st.sampled_from(",;\t|"))
@settings(max_examples=200, deadline=None)
def test_what_the_standard_library_wrote_is_read_back(lines: list[list[str]], delimiter: str) -> None:
    values = []
    for line in lines:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(line)
        values.append(out.getvalue().encode())
    columns = {"a": "string", "b": "string", "c": "string"}
    assert read(values, columns, delimiter=delimiter) == (lines, [])


@given(st.binary(max_size=20).map(lambda noise: bytes(b"abc,\"\n\r'1"[byte % 9] for byte in noise)))
@settings(max_examples=300, deadline=None)
def test_a_line_is_read_as_the_standard_library_reads_it_strictly_or_not_at_all(line: bytes) -> None:
    (row,), _ = read([line], {"a": "string", "b": "string"}, nulls=[])
    try:
        rows = list(csv.reader([line.decode()], strict=True))
    except csv.Error:
        rows = []
    expected = [list(found) for found in rows] if len(rows) == 1 and len(rows[0]) == 2 else [None]
    if row is not None:  # stricter: a stray quote, a line's end in the middle
        assert [text or "" for text in row] == expected[0]


def test_empty_is_null_and_quoted_empty_is_empty() -> None:
    assert read([b'1,,"",x'], {"a": "int", "b": "int", "c": "string", "d": "string"}) == ([[1, None, "", "x"]], [])
    nulls = ["NA", r"\N"]
    assert read([b"NA,\\N,NA ,N"], dict.fromkeys("abcd", "string"), nulls=nulls) == ([[None, None, "NA ", "N"]], [])


def test_every_type_is_read_exactly() -> None:
    columns: dict[str, Any] = {
        "i": "int",
        "f": "float",
        "b": "bool",
        "s": "string",
        "d": "date",
        "t": "time",
        "us": "time(us)",
        "clock": "time_of_day",
        "price": "decimal(12,4)",
        "german": {"type": "time", "format": "%d.%m.%Y %H:%M"},
        "cents": {"type": "decimal(10,2)", "decimals": 2},
        "implied": {"type": "float", "decimals": 4},
    }
    line = (
        "-9223372036854775808,+1.5e-3,Yes,é,2013-10-27,2013-10-27T01:02:03+02:00,1700000000123456,"
        "16:05:59.123,-12.3400,27.10.2013 16:05,-0199,1234567\n"
    )
    (row,), faults = read([line.encode()], columns)
    assert faults == []
    assert row == [
        -(2**63),
        0.0015,
        True,
        "é",
        date(2013, 10, 27),
        datetime(2013, 10, 26, 23, 2, 3, tzinfo=UTC),
        datetime(2023, 11, 14, 22, 13, 20, 123456, UTC),
        time(16, 5, 59, 123000),
        Decimal("-12.3400"),
        datetime(2013, 10, 27, 16, 5, tzinfo=UTC),
        Decimal("-1.99"),
        123.4567,
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", "1.0"),
        ("int", "9223372036854775808"),
        ("int", "0x1F"),
        ("int", " 1"),
        ("int", "1_000"),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "1e999"),
        ("float", "9007199254740993"),
        ("float", "1,5".replace(",", "'")),
        ("float", "."),
        ("bool", "on"),
        ("date", "27.10.2013"),
        ("date", "2013-02-29"),
        ("time", "yesterday"),
        ("time(ns)", "9999-01-01"),
        ("time_of_day", "24:00:01"),
        ("decimal(6,2)", "1.234"),
        ("decimal(6,2)", "10000"),
        ("decimal(6,2)", "1e"),
        ({"type": "decimal(6,2)", "decimals": 2}, "1.23"),
        ({"type": "float", "decimals": 2}, "99999999999999999"),
        ({"type": "date", "format": "%d.%m.%Y"}, "31.02.2013"),
        ({"type": "time(ns)", "format": "%Y-%m-%d"}, "9999-01-01"),
    ],
)
def test_a_text_that_is_not_of_the_type_is_a_fault_that_shows_it(kind: Any, text: str) -> None:
    rows, faults = read([b"1,x", f"{text},x".encode()], {"a": "string", "b": "string"})
    assert (len(rows), faults) == (2, [])
    word = kind if isinstance(kind, str) else kind["type"]
    rows, faults = read([f"{text},x".encode()], {"a": kind, "b": "string"})
    assert rows == [None]
    assert faults == [f"column 'a' is {word}, and the value is {text!r}"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it has no value (null)"),
        (b"", "its value is empty"),
        (b"\r\n", "its value is empty"),
        (b"1", "it ends before column 'b'"),
        (b"1,2,3", "it has more than 2 fields"),
        (b'1,"2', "a quoted field that does not end"),
        (b'1,"2"3', "something follows a quoted field, at byte 5"),
        (b'1,2"3"', "a quote in a field that is not quoted, at byte 3"),
        (b"1,2\n3,4\n", "more than one line, at byte 3"),
        (b"1,\xff", "column 'b' is string, and the value is '�'"),
    ],
)
def test_a_record_that_is_no_line_of_the_columns_is_a_fault(value: bytes | None, reason: str) -> None:
    rows, faults = read([b"1,x", value, b"2,y\r\n"], {"a": "int", "b": "string"})
    assert rows == [[1, "x"], None, [2, "y"]]
    assert len(faults) == 1
    assert faults[0].startswith(reason)


def test_fields_may_be_chosen_by_number() -> None:
    columns = {"c": {"type": "int", "field": 3}, "a": {"type": "string", "field": 1}, "b": "string"}
    assert read([b"x,y,3,more,still more"], columns) == ([[3, "x", "y"]], [])
    with pytest.raises(ValueError, match="field 3 is two columns"):
        open_decoder(config({"a": {"type": "int", "field": 3}, "b": {"type": "int", "field": 3}}))


def test_a_column_at_the_end_may_be_optional() -> None:
    columns = {"a": "int", "b": {"type": "int", "optional": True}}
    assert read([b"1", b"1,2", b"1,"], columns) == ([[1, None], [1, 2], [1, None]], [])


def test_spaces_are_kept_unless_they_are_trimmed() -> None:
    columns = {"a": "string", "b": "string"}
    assert read([b' x ," y "'], columns) == ([[" x ", " y "]], [])
    assert read([b' x , " y "'], columns)[1][0].startswith("a quote in a field that is not quoted")
    assert read([b" x ,  "], columns, trim=True) == ([["x", None]], [])


def test_without_a_quote_quotes_are_signs_like_others() -> None:
    assert read([b'a"b;"'], {"a": "string", "b": "string"}, delimiter=";", quote=None) == ([['a"b', '"']], [])


def test_a_date_s_format_that_says_no_date_is_refused_with_its_column() -> None:
    with pytest.raises(ValueError, match="column 't': the format '%H:%M' does not say a date and time"):
        open_decoder(config({"t": {"type": "time", "format": "%H:%M"}}))
