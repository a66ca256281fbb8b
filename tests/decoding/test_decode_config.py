"""What a configuration may say of decoding, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlstream.config import DecodeConfig, load_config
from mlstream.errors import ConfigError

EXPERIMENT = """\
experiment: demo
input:
  topic: trades
  decode:
    format: csv
    delimiter: "\\t"
    columns:
      at: {type: time_of_day, format: "%H%M%S%3f"}
      price: decimal(12, 4)
versions:
  v1: {model: "a.py:f"}
"""


def test_an_experiment_file_declares_columns_by_type_or_with_more(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(EXPERIMENT)
    decode = load_config(file).input.decode
    assert decode.delimiter == "\t"
    assert [(name, column.type, column.format) for name, column in decode.details().items()] == [
        ("at", "time_of_day", "%H%M%S%3f"),
        ("price", "decimal(12,4)", None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("type: time_of_day", "type: clock", "the type 'clock' is not known; use int, float"),
        ("decimal(12, 4)", "decimal(40, 4)", "at most 38 digits"),
        ("{type: time_of_day,", "{typ: time_of_day,", "no such key; did you mean 'type'?"),
        ("decimal(12, 4)", "{type: int, decimals: 2}", "`decimals` is for float and decimal, and the type is int"),
    ],
)
def test_a_wrong_column_is_named_with_its_line_and_the_fix(tmp_path: Path, old: str, new: str, reason: str) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert reason in str(caught.value)
    line = 8 if "time_of_day" in old else 9
    assert f"demo.yaml:{line}" in str(caught.value) or "demo.yaml:7" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"format": "csv"}, "format csv needs `columns`"),
        ({"format": "fixed-width", "columns": {"a": "int"}}, "column 'a': format fixed-width needs its `width`"),
        ({"format": "raw", "columns": {"a": "int"}}, "format raw has one column"),
        ({"format": "avro", "columns": {"a": {"type": "int"}}}, "column 'a': format avro takes a type alone"),
        ({"format": "json", "columns": {"a": "binary"}}, "column 'a': format json has no binary"),
        ({"format": "json", "reader_schema": '"int"'}, "format json has no schemas"),
        ({"format": "json", "delimiter": ";"}, "`delimiter` and `quote` are for csv"),
        ({"format": "avro", "nulls": ["NA"]}, "`nulls` and `trim` are for csv and fixed-width"),
        ({"format": "csv", "columns": {"a": {"width": 2}}}, "column 'a': `start` and `width` are for fixed-width"),
        ({"format": "csv", "columns": {"a": "int"}, "delimiter": '"'}, "neither the quote nor an end of line"),
        ({"format": "csv", "columns": {"a": {"format": "%d"}}}, "`format` is for dates and times"),
        ({"on_error": "ignore"}, "Input should be 'fail', 'null' or 'dead-letter'"),
    ],
)
def test_what_does_not_fit_its_format_is_refused(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(", r"\(")):
        DecodeConfig(**said)


def test_a_schema_may_be_text_or_a_mapping() -> None:
    mapping = {"type": "record", "name": "R", "fields": []}
    decode = DecodeConfig(format="avro", reader_schema=mapping, schemas={1: mapping, 2: '"int"'})
    assert decode.reader_schema == decode.schemas[1] == '{"type": "record", "name": "R", "fields": []}'


def test_a_configuration_tells_what_was_said_and_comes_back_from_it() -> None:
    said = {
        "format": "csv",
        "columns": {"a": {"type": "date", "format": "%d.%m.%Y"}, "b": "int"},
        "on_error": "null",
        "delimiter": " ",
    }
    decode = DecodeConfig(**said)
    assert decode.model_dump(mode="json") == said
    assert DecodeConfig.model_validate(decode.model_dump(mode="json")) == decode


def test_null_is_a_word_though_yaml_reads_nothing_in_it(tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    file.write_text(EXPERIMENT.replace("    format: csv\n", "    format: csv\n    on_error: null\n"))
    assert load_config(file).input.decode.on_error == "null"
