"""Columns from within nested objects, by JSON Pointer: equal to a walk through what the standard library reads."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstream.config import DecodeConfig
from mlstream.decoding.decoder import open_decoder

NOTHING = object()
leaves = st.none() | st.integers(-9, 9) | st.text(max_size=2)
members = st.sampled_from(["a", "b", "a/b", "m~n"])
objects = st.recursive(
    st.dictionaries(members, leaves, max_size=3),
    lambda inner: st.dictionaries(members, inner | leaves, max_size=3),
    max_leaves=8,
)
POINTERS = {"flat": "/b", "deep": "/a/b", "deeper": "/a/a/b", "odd": "/a~1b/m~0n", "other": "/a/a/a"}


def walk(value: Any, steps: list[str]) -> Any:
    """What is there; None where something on the way is null or missing, NOTHING where it is no object."""
    for step in steps:
        if value is None:
            return None
        if not isinstance(value, dict):
            return NOTHING
        value = value.get(step)
    return value


def decode(columns: dict[str, Any], *values: object) -> tuple[dict[str, list[Any]], dict[int, str]]:
    found = open_decoder(DecodeConfig(columns=columns)).decode(
        pa.array([value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values])
    )
    arrays = {name: array.to_pylist() for name, array in zip(columns, found.arrays, strict=True)}
    return arrays, {fault.row: fault.reason for fault in found.faults}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(objects, min_size=1, max_size=6))
def test_values_are_those_at_the_pointer_as_text(values: list[dict[str, Any]]) -> None:
    columns = {name: {"type": "json", "pointer": pointer} for name, pointer in POINTERS.items()}
    found, faults = decode(columns, *values)
    for row, value in enumerate(values):
        expected = {
            name: walk(value, [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]])
            for name, pointer in POINTERS.items()
        }
        assert (row in faults) == (NOTHING in expected.values())
        for name in columns:
            text = found[name][row]
            assert (None if text is None else json.loads(text)) == (None if row in faults else expected[name])


def test_columns_of_objects_stand_beside_others_with_their_types_in_the_declared_order() -> None:
    found, faults = decode(
        {
            "since": {"type": "int", "pointer": "/customer/since"},
            "id": "int",
            "country": {"type": "string", "pointer": "/customer/address/country"},
            "customer": "json",
        },
        {"id": 1, "customer": {"since": 2019, "address": {"country": "DE"}}},
        {"id": 2, "customer": None},
        {"id": 3},
        {"id": 4, "customer": {"address": {"country": None}}},
    )
    assert not faults
    assert list(found) == ["since", "id", "country", "customer"]
    assert found["since"] == [2019, None, None, None]
    assert found["id"] == [1, 2, 3, 4]
    assert found["country"] == ["DE", None, None, None]
    assert found["customer"][0] == '{"since": 2019, "address": {"country": "DE"}}'


def test_a_value_that_does_not_fit_is_a_fault_of_its_record_which_is_null_in_every_column() -> None:
    found, faults = decode(
        {"id": "int", "country": {"type": "string", "pointer": "/customer/country"}},
        {"id": 1, "customer": {"country": "DE"}},
        {"id": 2, "customer": {"country": 7}},
        {"id": 3, "customer": "DE"},
        b"[]",
        None,
    )
    assert faults[1] == "in 'customer': column 'country' is string, and the value is 7"
    assert faults[2].startswith("in 'customer': it is not a JSON object")
    assert faults[3].startswith("it is not a JSON object")
    assert set(faults) == {1, 2, 3, 4}
    assert found == {"id": [1, None, None, None, None], "country": ["DE", None, None, None, None]}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            {"columns": {"a": {"type": "int", "pointer": "a.b"}}},
            "'a.b' is no JSON Pointer; write for example /customer",
        ),
        ({"columns": {"a": {"type": "int", "pointer": "/a~2"}}}, "is no JSON Pointer"),
        (
            {"columns": {"a": {"type": "int", "width": 3}}},
            "column 'a': format json takes `type` and `pointer`, not 'width'",
        ),
        ({"format": "csv", "columns": {"a": {"pointer": "/a"}}}, "column 'a': `pointer` is for json and json-schema"),
        ({"format": "csv", "columns": {"a": "json"}}, "column 'a': format csv has no json"),
    ],
)
def test_what_a_column_cannot_say_is_refused(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DecodeConfig(**said)
