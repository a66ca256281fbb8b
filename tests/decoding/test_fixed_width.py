"""Fixed width to columns: each at its own bytes, with points that are not written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlstream.config import DecodeConfig
from mlstream.decoding.decoder import open_decoder
from tests.decoding.avro_records import rows_of

TRADE: dict[str, Any] = {
    "at": {"type": "time_of_day", "width": 9, "format": "%H%M%S%3f"},
    "exchange": {"width": 1},
    "symbol": {"width": 6},
    "condition": {"start": 26, "width": 4},
    "volume": {"type": "int", "width": 9},
    "price": {"type": "decimal(11,4)", "width": 11, "decimals": 4},
    "sequence": {"type": "int", "start": 52, "width": 16},
}


def read(values: Sequence[bytes | None], columns: dict[str, Any], **more: Any) -> tuple[list[Any], list[str]]:
    decode = DecodeConfig(format="fixed-width", columns=columns, **more)
    found = open_decoder(decode).decode(pa.array(values, pa.binary()))
    return rows_of(found), [fault.reason for fault in found.faults]


def trade(price: str = "00001234500") -> bytes:
    return f"160559123T{'IBM':6}{'':10}@ X {'000000100'}{price}{'N0'}{7:016d}".encode()


def test_an_exchange_s_trade_record() -> None:
    assert len(trade()) == 68
    rows, faults = read([trade(), trade("-0000000001") + b"\n"], TRADE)
    assert faults == []
    assert rows == [
        [time(16, 5, 59, 123000), "T", "IBM", "@ X", 100, Decimal("123.4500"), 7],
        [time(16, 5, 59, 123000), "T", "IBM", "@ X", 100, Decimal("-0.0001"), 7],
    ]


def test_blank_is_null_and_spaces_around_a_text_are_dropped_unless_they_are_kept() -> None:
    columns = {"a": {"width": 3}, "b": {"type": "int", "width": 3}, "raw": {"type": "binary", "start": 0, "width": 4}}
    assert read([b" x  12", b"      "], columns) == ([["x", 12, b" x  "], [None, None, b"    "]], [])
    kept = read([b" x  12"], {"a": {"width": 3}}, trim=False)
    assert kept == ([[" x "]], [])
    assert read([b"***123"], {"a": {"width": 3}, "b": {"type": "int", "width": 3}}, nulls=["***"]) == (
        [[None, 123]],
        [],
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it has no value (null)"),
        (b"", "its value is empty"),
        (b"\n", "its value is empty"),
        (b"ab", "it ends before column 'b'"),
        (b"abc", "it ends inside column 'b': it has 3 bytes, not 4"),
        (b"ab1x", "column 'b' is int, and the value is '1x'"),
        (b"\xff\xff12", "column 'a' is string, and the value is '��'"),
    ],
)
def test_a_record_that_does_not_fit_is_a_fault(value: bytes | None, reason: str) -> None:
    columns = {"a": {"width": 2}, "b": {"type": "int", "width": 2}}
    rows, faults = read([b"ab12", value, b"cd34\r\n"], columns)
    assert rows == [["ab", 12], None, ["cd", 34]]
    assert faults == [reason]


def test_a_record_may_be_longer_and_optional_columns_may_be_missing() -> None:
    columns = {"a": {"width": 2}, "b": {"type": "int", "width": 2, "optional": True}}
    assert read([b"ab", b"ab12more"], columns) == ([["ab", None], ["ab", 12]], [])
    assert read([b"ab1"], columns)[1] == ["it ends inside column 'b': it has 3 bytes, not 4"]


def test_slices_are_read_as_they_are() -> None:
    decode = DecodeConfig(format="fixed-width", columns={"n": {"type": "int", "width": 3}})
    values = pa.array([b"%03d" % n for n in range(50)], pa.binary())
    assert open_decoder(decode).decode(values.slice(20, 5)).arrays[0].to_pylist() == [20, 21, 22, 23, 24]
