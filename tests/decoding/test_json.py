"""JSON to columns: equal to the standard library's reading, exact, and independent of chunking and order."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.decoding import json_tokens
from mlstream.decoding.json_columns import Columns, to_columns
from mlstream.decoding.json_schema import Schema, join, schema_of, see
from mlstream.decoding.json_tokens import Names, TooManyColumns, tokenise
from tests.decoding import plain_json

names = st.sampled_from(["a", "b", "ab", "", "é", 'q"', "\n", "_x"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**15, 10**16 - 1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
objects = st.dictionaries(names, nested, max_size=5)
styles = st.sampled_from(
    [
        {"separators": (",", ":")},
        {"indent": 1},
        {"ensure_ascii": False},
        {"indent": "\t", "ensure_ascii": False, "separators": (" , ", " : ")},
    ]
)
padding = st.sampled_from(["", " ", "\r\n\t"])
documents = st.builds(
    lambda value, style, pad: (pad + json.dumps(value, **style) + pad).encode(), objects, styles, padding
)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
numeric = st.builds(lambda text: b'{"n":%s}' % text.encode(), numbers)
noise = st.text(alphabet='{}[]",:0123456789.eE+-truefalsn \\\nub\x00é', max_size=24).map(str.encode)
broken = st.builds(
    lambda text, at, byte: text[: at % (len(text) + 1)] + bytes([byte]) + text[at % (len(text) + 1) + 1 :],
    documents,
    st.integers(0, 200),
    st.integers(0, 255),
)
anything = documents | numeric | noise | broken | st.none() | st.just(b"")


def infer(values: Sequence[bytes | None], *, chunk: int = 1000) -> Schema:
    found = []
    for first in range(0, max(len(values), 1), chunk):
        known = Names()
        tokens = tokenise(pa.array(values[first : first + chunk], pa.binary()), known)
        found.append(see(tokens, known.columns))
    return schema_of(join(found))


def decode(values: Sequence[bytes | None], schema: Schema) -> tuple[list[list[Any] | None], Columns]:
    known = Names(tuple(name for name, _ in schema), closed=True)
    tokens = tokenise(pa.array(values, pa.binary()), known)
    found = to_columns(tokens, {name: number for number, (name, _) in enumerate(schema)}, schema)
    bad = {fault.row for fault in found.faults}
    columns = [array.to_pylist() for array in found.arrays]
    rows: list[list[Any] | None] = [None if row in bad else [c[row] for c in columns] for row in range(len(values))]
    return rows, found


def same(one: Any, other: Any) -> bool:
    """Equal and of the same type, so that -0.0, 1 and 1.0 and True are told apart."""
    return repr(one) == repr(other)


@given(values=st.lists(anything, max_size=12))
@settings(deadline=None, max_examples=150)
def test_types_and_values_are_those_of_the_plain_twin(values: list[bytes | None]) -> None:
    schema = infer(values)
    assert schema == plain_json.infer(values)
    rows, _ = decode(values, schema)
    assert same(rows, [plain_json.decode(value, schema) for value in values])


@given(values=st.lists(anything, max_size=8), kind=st.sampled_from(["int", "float", "string", "bool", "json"]))
@settings(deadline=None, max_examples=80)
def test_declared_types_take_what_the_plain_twin_takes(values: list[bytes | None], kind: Any) -> None:
    schema: Schema = (("n", kind), ("a", kind))
    rows, _ = decode(values, schema)
    assert same(rows, [plain_json.decode(value, schema) for value in values])


@given(values=st.lists(documents | numeric, max_size=20), chunk=st.integers(1, 20), seed=st.integers())
@settings(deadline=None)
def test_the_schema_is_independent_of_chunking_and_order(values: list[bytes], chunk: int, seed: int) -> None:
    shuffled = random.Random(seed).sample(values, len(values))
    assert infer(values) == infer(values, chunk=chunk) == infer(shuffled, chunk=chunk)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "int"),
        (["1", "null"], "int"),
        (["1", "2.5"], "float"),
        ([str(2**53), "2.5"], "float"),
        ([str(2**53 + 1), "2.5"], "json"),
        ([str(2**53 + 1), "2"], "int"),
        ([str(2**63)], "float"),
        ([str(2**63), str(2**63 - 1)], "json"),
        ([str(2**64 + 1)], "json"),
        (["1e400"], "json"),
        (["1e308", "1"], "float"),
        (["9" * 400], "json"),
        (["1", '"1"'], "json"),
        (["1", "true"], "json"),
        (["true", "false"], "bool"),
        (['"x"', '"\\u00e9"'], "string"),
        (["null"], "string"),
        (["[1]", "{}"], "json"),
        (["[1]", "1"], "json"),
        (["-0", "1"], "int"),
    ],
)
def test_the_least_upper_bound(values: list[str], kind: str) -> None:
    records = [b'{"x":%s}' % value.encode() for value in values]
    assert infer(records) == (("x", kind),)
    assert infer(records[::-1], chunk=1) == (("x", kind),)


def test_mixed_values_keep_their_text_byte_for_byte() -> None:
    values = [b'{"x": 1.50 }', b'{"x":"1"}', b'{"x":[1, 2 ]}', b'{"x":"\\u0031"}', b'{"x":null}', b"{}"]
    rows, _ = decode(values, infer(values))
    assert rows == [["1.50"], ['"1"'], ["[1, 2 ]"], ['"\\u0031"'], [None], [None]]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "it has no value (null)"),
        (b"", "its value is empty"),
        (b"   ", "it is not a JSON object"),
        (b"[1]", "it is not a JSON object"),
        (b"1", "it is not a JSON object"),
        (b'{"a":1', "the JSON ends too early"),
        (b'{"a":"x', "the JSON ends too early"),
        (b'{"a":1,}', "not JSON, at byte 7"),
        (b"{'a':1}", "not JSON, at byte 1"),
        (b'{"a" 1}', "not JSON, at byte 5"),
        (b'{"a":1}{"b":2}', "something follows the JSON object, at byte 7"),
        (b'{"a":01}', "a number that JSON does not allow"),
        (b'{"a":1.}', "a number that JSON does not allow"),
        (b'{"a":+1}', "not JSON"),
        (b'{"a":NaN}', "NaN and Infinity are not JSON"),
        (b'{"a":Infinity}', "NaN and Infinity are not JSON"),
        (b'{"a":-Infinity}', "NaN and Infinity are not JSON"),
        (b'{"a":[NaN]}', "NaN and Infinity are not JSON"),
        (b'{"a":1,"a":2}', "a key that the object has twice, at byte 7"),
        (b'{"a":1,"\\u0061":2}', "a key that the object has twice"),
        (b'{"a":"\n"}', "a string with a character or escape that JSON does not allow"),
        (b'{"a":"\\x"}', "a string with a character or escape that JSON does not allow"),
        (b'{"\\ud800":1}', "a string with a character or escape that JSON does not allow"),
        (b'{"a":"\xff"}', "its value is not UTF-8"),
        (b'{"a":' + b"[" * 513 + b"]" * 513 + b"}", "nested more than 512 deep"),
    ],
)
def test_what_is_not_a_json_object_is_a_fault_with_its_reason(value: bytes | None, reason: str) -> None:
    known = Names()
    tokens = tokenise(pa.array([b'{"a":1}', value], pa.binary()), known)
    assert tokens.faults[0] == 0
    assert tokens.faults[1] != 0
    assert reason in tokens.reason(1)
    assert see(tokens, known.columns)["a"].type == "int"  # a faulty record decides no type


def test_the_message_shows_what_stands_there() -> None:
    tokens = tokenise(pa.array([b'{"price": 12,50}'], pa.binary()), Names())
    assert tokens.reason(0) == """not JSON, at byte 13, near '{"price": 12,50}'"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"2013-10-01T06:00:00Z"', "2013-10-01T06:00:00+00:00"),
        ('"2013-10-01T06:00:00"', "2013-10-01T06:00:00+00:00"),
        ('"2013-10-01 06:00"', "2013-10-01T06:00:00+00:00"),
        ('"2013-10-01"', "2013-10-01T00:00:00+00:00"),
        ('"2013-10-01T06:00:00.123456789+02:00"', "2013-10-01T04:00:00.123000+00:00"),
        ('"1969-12-31T23:59:59.9999Z"', "1969-12-31T23:59:59.999000+00:00"),
        ('"\\u0032013-10-01"', "2013-10-01T00:00:00+00:00"),
        ("1380607200000", "2013-10-01T06:00:00+00:00"),
        ("-1", "1969-12-31T23:59:59.999000+00:00"),
        ("null", None),
        ('"yesterday"', "fault"),
        ('"2013-13-01"', "fault"),
        ('""', "fault"),
        ("1.5", "fault"),
        ("true", "fault"),
        ("9223372036854775808", "fault"),
    ],
)
def test_times_are_iso_8601_or_milliseconds(text: str, expected: str | None) -> None:
    for others in ([], ['"2013-01-01T00:00:00Z"'], ['"2013-01-01"', "5"]):
        values = [b'{"t":%s}' % each.encode() for each in [*others, text]]
        rows, _ = decode(values, (("t", "time"),))
        row = rows[-1]
        if expected == "fault":
            assert row is None
        else:
            assert row is not None
            assert (row[0] and row[0].isoformat()) == expected
        assert None not in rows[:-1]


def test_a_value_that_does_not_fit_says_which_column_and_what_it_is() -> None:
    values = [b'{"n":1,"s":"x"}', b'{"n":"one","s":"x"}', b'{"n":2,"s":5}', b'{"n":"' + b"y" * 99 + b'"}', b"x"]
    rows, found = decode(values, (("n", "int"), ("s", "string")))
    assert rows[0] == [1, "x"]
    assert [(fault.row, fault.reason) for fault in found.faults][:3] == [
        (1, """column 'n' is int, and the value is "one\""""),
        (2, "column 's' is string, and the value is 5"),
        (3, f"""column 'n' is int, and the value is "{"y" * 39}…"""),
    ]
    assert [array.null_count for array in found.arrays] == [4, 4]  # null in every column, not in one


def test_declared_columns_keep_their_order_and_others_are_passed_over() -> None:
    values = [b'{"z":1,"b":[1,{"a":2}],"\\u0061":3,"other":"\\u00e9"}', b'{"\\u0062\\u0062":1}', b"{}"]
    rows, _ = decode(values, (("z", "int"), ("a", "int"), ("nowhere", "float")))
    assert rows == [[1, 3, None], [None, None, None], [None, None, None]]


def test_unicode_and_every_escape_come_out_as_text() -> None:
    text = "".join(map(chr, [*range(0x20, 0x7F), 0xE9, 0x20AC, 0xFFFF, 0x1F600, 0x10FFFF, 0, 7, 8, 9, 10, 12, 13]))
    values = [json.dumps({"s": text}).encode(), json.dumps({"s": text}, ensure_ascii=False).encode(), b'{"s":"\\/"}']
    assert decode(values, (("s", "string"),))[0] == [[text], [text], ["/"]]


def test_floats_read_back_to_the_same_bits() -> None:
    random.seed(5)
    wanted = [random.uniform(-1, 1) * 10.0 ** random.randint(-300, 300) for _ in range(2000)] + [5e-324, -0.0, 1e-400]
    values = [b'{"x":%s}' % repr(x).encode() for x in wanted]
    assert same([row and row[0] for row in decode(values, (("x", "float"),))[0]], wanted)


def test_more_different_keys_than_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_tokens, "MAX_COLUMNS", 50)

    def made(count: int) -> pa.Array:
        return pa.array([b'{"k%d":1}' % n for n in range(count)], pa.binary())

    known = Names()
    tokenise(made(50), known)
    assert known.columns == [f"k{n}" for n in range(50)]
    with pytest.raises(TooManyColumns):
        tokenise(made(51), Names())


def test_slices_of_a_larger_column_are_read_as_they_are() -> None:
    values = [b'{"%s":%d}' % (letter.encode(), n) for n, letter in enumerate(string.ascii_lowercase)]
    column = pa.array([*values, None], pa.binary())
    known = Names()
    tokens = tokenise(column.slice(3, 2), known)
    assert known.columns == ["d", "e"]
    found = to_columns(tokens, {"d": 0, "e": 1}, (("d", "int"), ("e", "int")))
    assert [array.to_pylist() for array in found.arrays] == [[3, None], [None, 4]]


@pytest.mark.parametrize("others", [1, 32, 33, 500])
def test_columns_are_found_among_however_many_keys_that_are_none(others: int) -> None:
    dice = random.Random(others)
    values = []
    for row in range(50):
        keys = [f"k{dice.randrange(10 * others)}-{number}" for number in range(others)] + ["n", "name"]
        dice.shuffle(keys)
        values.append(json.dumps({key: {"n": row, "name": f"row {row}"}.get(key, [key]) for key in keys}).encode())
    rows, found = decode(values, (("name", "string"), ("n", "int")))
    assert rows == [[f"row {row}", row] for row in range(50)]
    assert not found.faults
    twice = values[7][:-1] + b', "n": 1}'
    _, found = decode([*values, twice], (("name", "string"), ("n", "int")))
    assert [fault.row for fault in found.faults] == [50]
