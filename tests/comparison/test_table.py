"""Columns that are read when they are asked for give the comparison that columns in memory give."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from polars.exceptions import ColumnNotFoundError

from mlstream.comparison.compare import Evidence, Other, compare_predictions
from mlstream.comparison.table import LateTable
from mlstream.errors import ComparisonError
from tests.comparison.streams import Stream, binary, experiment

CONFIG = experiment("binary", bootstrap={"resamples": 200}, slices=["city", "size > 0.5"])


def evidence() -> Evidence:
    rng = np.random.default_rng(11)
    made = binary(Stream(800, 2), rng, edge=0.5)
    rows = made.records.height
    columns = {"city": rng.choice(["ams", "ber", None], rows), "size": rng.random(rows), "text": ["long " * 60] * rows}
    return replace(made, records=made.records.with_columns(**{n: pl.Series(v) for n, v in columns.items()}))


def late(whole: pl.DataFrame) -> LateTable:
    return LateTable(whole.lazy(), whole.columns, whole.height)


def apart(found: Evidence) -> Evidence:
    """The same with the columns apart from what is needed of every record."""
    return replace(
        found,
        records=found.records.select("_partition", "_offset", "_timestamp", "label"),
        columns=late(found.records),
    )


def test_columns_apart_from_the_records_give_the_same_comparison() -> None:
    made = evidence()
    found = compare_predictions(CONFIG, made)
    assert found.slices
    assert found.disagreements[0].columns.keys() == {"label", "city", "size", "text"}
    assert compare_predictions(CONFIG, apart(made)) == found


def test_of_columns_apart_only_the_rows_that_are_compared_count() -> None:
    made = evidence()
    some = {**made.predictions, "v2": made.predictions["v2"].filter(pl.col("source_offset") % 7 != 3)}
    made = replace(made, predictions=some)
    found = compare_predictions(CONFIG, made, allow_missing=True)
    assert found.paired < made.records.height
    assert compare_predictions(CONFIG, apart(made), allow_missing=True) == found


def test_drift_is_that_of_the_columns_in_memory() -> None:
    made, other = evidence(), evidence().records.with_columns(pl.col("size") * 2).drop("city")
    found = compare_predictions(CONFIG, replace(made, against=Other("a" * 64, "before", other)))
    assert found.drift is not None
    assert found.drift.other_records == other.height
    again = compare_predictions(CONFIG, replace(apart(made), against=Other("a" * 64, "before", late(other))))
    assert again == found


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(ComparisonError, match="no column 'citty'") as caught:
        compare_predictions(CONFIG.model_copy(update={"slices": ["citty"]}), apart(evidence()))
    assert caught.value.hint == "did you mean 'city'?"


def test_a_mask_of_a_mask_leaves_the_rows_of_both() -> None:
    whole = pl.DataFrame({"x": range(10)})
    even = late(whole).filter(pl.Series([n % 2 == 0 for n in range(10)]))
    some = even.filter(pl.Series([True, False, True, True, False]))
    assert (even.height, some.height, late(whole).height) == (5, 3, 10)
    assert some["x"].to_list() == [0, 4, 6]
    assert some.select(pl.col("x") - pl.col("x").min())["x"].to_list() == [0, 4, 6]
    with pytest.raises(ColumnNotFoundError):
        some["y"]
