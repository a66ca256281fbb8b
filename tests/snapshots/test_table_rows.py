"""The canonical encoding of tables: against its plain twin, in its order, and as docs/format.md shows it."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlstream
from mlstream.databases.arrow import arrow_type
from mlstream.databases.types import parse_type
from mlstream.snapshots.table_rows import TableHasher, canonical_rows, encode
from tests.snapshots import plain_table

FORMAT = (Path(mlstream.__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
DECIMALS = st.decimals(min_value=Decimal("-1e20"), max_value=Decimal("1e20"), places=10, allow_nan=False)
INTERVALS = st.fixed_dictionaries(
    {
        "months": st.integers(-(1 << 31), (1 << 31) - 1),
        "days": st.integers(-(1 << 31), (1 << 31) - 1),
        "microseconds": st.integers(-(1 << 63), (1 << 63) - 1),
    }
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int16": st.integers(-(1 << 15), (1 << 15) - 1),
    "int32": st.integers(-(1 << 31), (1 << 31) - 1),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "decimal": DECIMALS,
    "decimal(31,10)": DECIMALS,
    "text": st.text(),
    "binary": st.binary(),
    "json": st.text(),
    "enum('a','b')": st.sampled_from(["a", "b"]),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
    "interval": INTERVALS,
}
KINDS = [*VALUES, *(f"list({kind})" for kind in VALUES), "list(list(text))", "list(list(decimal))"]


def values_of(kind: str) -> st.SearchStrategy[Any]:
    if kind.startswith("list("):
        return st.lists(values_of(kind[5:-1]) | st.none(), max_size=3)
    return VALUES[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)  # the first call compiles
@given(data=st.data())
def test_values_are_encoded_as_the_plain_twin_does(kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(values_of(kind) | st.none(), max_size=6))
    column = pa.array(values, arrow_type(parse_type(kind), 10))
    start = data.draw(st.integers(0, len(values)))
    coded = encode(column.slice(start), parse_type(kind))
    assert [coded[row] for row in range(len(coded))] == [plain_table.encode(value, kind) for value in values[start:]]


# Each list in ascending order.
ORDERED: list[tuple[str, list[Any]]] = [
    ("bool", [False, True, None]),
    ("int64", [-(1 << 63), -1, 0, 1, (1 << 63) - 1, None]),
    ("float64", [-math.inf, -1.5, -5e-324, -0.0, 0.0, 5e-324, 1.0, math.inf, math.nan, None]),
    ("decimal", [Decimal(n) for n in ("-100", "-99.5", "-99", "-0.5", "-0.05", "0", "0.05", "0.5", "0.55", "9", "10")]),
    ("text", ["", "\0", "\0a", "a", "a\0", "a\0b", "aa", "ab", "b", "é", "🧀", None]),
    ("binary", [b"", b"\0", b"\0\0", b"\0\1", b"\0\xff", b"\1", b"\xff", None]),
    ("date", [date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(9999, 12, 31), None]),
    ("time", [time(0), time(0, 0, 0, 1), time(23, 59), None]),
    ("timestamptz", [datetime(1969, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None]),
    ("list(text)", [[], ["", "z"], ["a"], ["a", "a"], ["a", None], ["b"], [None], None]),
    ("list(list(int32))", [[], [[]], [[1]], [[1], [0]], [[1, 2]], [[2]]]),
]


@pytest.mark.parametrize(("kind", "values"), ORDERED, ids=[kind for kind, _ in ORDERED])
def test_encoded_values_order_as_the_values_do(kind: str, values: list[Any]) -> None:
    coded = encode(pa.array(values, arrow_type(parse_type(kind), 2)), parse_type(kind))
    found = [coded[row] for row in range(len(values))]
    assert found == sorted(set(found))


@settings(deadline=None)
@given(st.lists(st.tuples(DECIMALS, DECIMALS), min_size=1, max_size=1))
def test_decimals_order_as_numbers_do(pairs: list[tuple[Decimal, Decimal]]) -> None:
    ((left, right),) = pairs
    coded = encode(pa.array([left, right], pa.decimal128(38, 10)), parse_type("decimal"))
    assert (coded[0] < coded[1], coded[0] == coded[1]) == (left < right, left == right)


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=3), st.text(max_size=2))))
def test_no_two_rows_share_their_bytes(rows: list[tuple[bytes, str]]) -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([a for a, _ in rows], pa.binary()), pa.array([b for _, b in rows], pa.string())], ["a", "b"]
    )
    coded = canonical_rows(batch, [parse_type("binary"), parse_type("text")])
    assert len({coded.rows[n] for n in range(len(rows))}) == len(set(rows))


def test_a_decimal_has_the_same_bytes_whatever_its_scale_and_its_digits() -> None:
    narrow = encode(pa.array([Decimal("1.5"), Decimal(0)], pa.decimal128(2, 1)), parse_type("decimal(2,1)"))
    wide = encode(pa.array([Decimal("1.5"), Decimal(0)], pa.decimal128(38, 20)), parse_type("decimal"))
    assert [narrow[0], narrow[1]] == [wide[0], wide[1]]


@pytest.mark.parametrize(
    "number", [(10**38 - 1), -(10**38 - 1), 10**37, 1 << 64, (1 << 64) - 1, -(1 << 64), (1 << 96) + 7, 1, -1]
)
def test_the_widest_decimals_are_encoded_as_the_plain_twin_does(number: int) -> None:
    digits = tuple(map(int, str(abs(number))))
    for scale in (0, 19, 38):
        value = Decimal((0 if number > 0 else 1, digits, -scale))
        coded = encode(pa.array([value], pa.decimal128(38, scale)), parse_type("decimal"))
        assert coded[0] == b"\x01" + plain_table.decimal(value)


def test_every_nan_is_the_same() -> None:
    odd = pa.Array.from_buffers(
        pa.float64(), 2, [None, pa.py_buffer(bytes.fromhex("010000000000f87f 000000000000f8ff"))]
    )
    coded = encode(odd, parse_type("float64"))
    assert coded[0] == coded[1] == b"\x01" + plain_table.double(math.nan)


def test_the_digest_cannot_tell_how_rows_were_cut_into_batches() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(200_000), pa.int32())], ["n"])
    kinds = [parse_type("int32")]
    found = set()
    for size in (200_000, 65_536, 9_999):
        hasher = TableHasher()
        for first in range(0, 200_000, size):
            hasher.update(canonical_rows(batch.slice(first, size), kinds).rows)
        found.add(hasher.hexdigest())
    assert found == {plain_table.digest([(n,) for n in range(200_000)], ["int32"])}


# The worked example of docs/format.md.
EXAMPLE_KINDS = ["int32", "decimal(6,2)", "text", "timestamptz", "list(text)"]
EXAMPLE = [
    (2, Decimal("-12.50"), "a\0b", datetime(2024, 1, 1, tzinfo=UTC), ["x", None]),
    (1, Decimal("1000.00"), "", None, []),
    (-1, None, "käse", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None),
]
EXAMPLE_DIGEST = "ecb08409ac304cd01d555c7d281c8812ca79d07fd8d3444a50bbdef75591467a"


def test_the_worked_example_of_the_format_is_what_is_computed() -> None:
    ordered = sorted(EXAMPLE, key=lambda values: values[0])
    arrays = [
        pa.array([values[n] for values in ordered], arrow_type(parse_type(kind)))
        for n, kind in enumerate(EXAMPLE_KINDS)
    ]
    names = ["id", "price", "note", "at", "tags"]
    coded = canonical_rows(pa.RecordBatch.from_arrays(arrays, names), [parse_type(k) for k in EXAMPLE_KINDS], ["id"])
    hasher = TableHasher()
    hasher.update(coded.rows)
    section = FORMAT.partition("### A worked table")[2].partition("\n## ")[0]
    shown = [re.sub(r"\s", "", block) for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]
    assert shown[0] == "".join(coded.rows[row].hex() for row in range(3))
    assert shown[1] == hasher.hexdigest() == plain_table.digest(EXAMPLE, EXAMPLE_KINDS, key=[0]) == EXAMPLE_DIGEST
