"""The words for column types: what is written is read back, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstream.databases.types import SIMPLE, ColumnType, list_of, parse_type

leaves = st.one_of(
    st.sampled_from(SIMPLE).map(ColumnType),
    st.integers(1, 1000).flatmap(lambda p: st.builds(ColumnType, st.just("decimal"), st.just(p), st.integers(0, p))),
    st.lists(st.text(), unique=True).map(lambda labels: ColumnType("enum", labels=tuple(labels))),
)


@given(st.builds(list_of, leaves, st.integers(0, 6)))
def test_a_type_is_read_back_from_its_word(column: ColumnType) -> None:
    assert parse_type(str(column)) == column


@pytest.mark.parametrize(
    "text",
    [
        "",
        "varchar",
        "int",
        "int32 ",
        "list",
        "list(int32",
        "list(int32))",
        "list()",
        "decimal(2,3)",
        "decimal(0,0)",
        "decimal(02,1)",
        "decimal(2, 1)",
        "enum(a)",
        "enum('a''b)",
        "enum('a' 'b')",
        "enum('a',)",
        "list(" * 7 + "int32" + ")" * 7,
        "list(" * 100_000,
    ],
)
def test_what_is_no_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="column type"):
        parse_type(text)
