"""A prediction as a record: every float comes back with its bits, whoever parses the JSON."""

from __future__ import annotations

import json
import struct

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstream.runs.layout import Encoder, as_predictions, decode_lists, decoder, kinds_of

FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def records(rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "_partition": pl.Series([3] * rows, dtype=pl.Int32),
            "_offset": pl.Series(range(2**62, 2**62 + rows), dtype=pl.Int64),
            "_timestamp": pl.Series([None, *range(1, rows)][:rows]).cast(pl.Int64).cast(pl.Datetime("ms", "UTC")),
            "_key": pl.Series([None, *[b"\xff%d" % row for row in range(1, rows)]][:rows], dtype=pl.Binary),
        }
    )


def encoder(batch_rows: int = 64) -> Encoder:
    return Encoder("orders", run_id="ab" * 32, version="v1", batch_rows=batch_rows)


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(values=st.lists(FLOATS, min_size=1, max_size=64))
def test_floats_keep_their_bits_for_python_and_for_polars(values: list[float]) -> None:
    predictions = pl.DataFrame({"prediction": values}, schema={"prediction": pl.Float64})
    table = encoder().encode(records(len(values)), predictions)
    parsed = [json.loads(value)["prediction"] for value in table["value"].to_pylist()]
    assert [bits(value) for value in parsed] == [bits(value) for value in values]
    raw = pl.LazyFrame({"value": table["value"].to_pylist(), "timestamp": table["timestamp"].to_pylist()})
    again = as_predictions(decode_lists(raw, kinds_of(predictions)), kinds_of(predictions)).collect()
    assert [bits(value) for value in again["prediction"]] == [bits(value) for value in values]
    assert again["source_offset"].to_list() == records(len(values))["_offset"].to_list()


@given(scores=st.lists(st.lists(FLOATS, min_size=2, max_size=2), min_size=1, max_size=20), text=st.text(max_size=20))
def test_lists_and_texts_come_back(scores: list[list[float]], text: str) -> None:
    predictions = pl.DataFrame(
        {"prediction": [text] * len(scores), "scores": scores},
        schema={"prediction": pl.String, "scores": pl.List(pl.Float64)},
    )
    columns = kinds_of(predictions)
    assert columns == {"prediction": "string", "scores": "floats"}
    table = encoder().encode(records(len(scores)), predictions)
    raw = pl.LazyFrame({"value": table["value"].to_pylist(), "timestamp": table["timestamp"].to_pylist()})
    again = as_predictions(decode_lists(raw, columns), columns).collect()
    assert again.select("prediction", "scores").equals(predictions)


def test_key_time_and_headers_are_those_of_the_record_and_the_run() -> None:
    table = encoder(8).encode(records(3), pl.DataFrame({"prediction": [True, False, True]}))
    assert table.column_names == ["timestamp", "key", "value", "headers"]
    assert table["key"].to_pylist() == [None, b"\xff1", b"\xff2"]
    assert table["timestamp"].cast("int64").to_pylist() == [None, 1, 2]
    headers = [{"key": b"mlstream-run", "value": b"ab" * 32}, {"key": b"mlstream-version", "value": b"v1"}]
    assert table["headers"].to_pylist() == [headers] * 3
    assert json.loads(table["value"][0].as_py()) == {
        "source_topic": "orders",
        "source_partition": 3,
        "source_offset": 2**62,
        "prediction": True,
    }


def test_an_output_is_read_by_pinned_columns() -> None:
    found = decoder({"prediction": "bool", "score": "float"})
    assert found.columns == {
        "source_topic": "string",
        "source_partition": "int",
        "source_offset": "int",
        "prediction": "bool",
        "score": "float",
    }
    assert found.on_error == "fail"
    assert decoder({"prediction": "string", "scores": "floats"}).columns == {
        **{name: kind for name, kind in (found.columns or {}).items() if name.startswith("source")},
        "prediction": "string",
    }


def test_a_type_that_no_prediction_has_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        kinds_of(pl.DataFrame({"prediction": [b"x"]}))
