"""The tables that models of other libraries take, from a frame of columns. Loads no model."""

from __future__ import annotations

from typing import Any

import polars as pl


def as_pandas(frame: pl.DataFrame) -> Any:
    """The frame as one of pandas, with the same column names; needs pandas and pyarrow."""
    return frame.with_columns(_numbers_with_gaps(frame)).to_pandas()


def _numbers_with_gaps(frame: pl.DataFrame) -> list[pl.Expr]:
    """pandas has no missing boolean in a plain column: those become 0.0, 1.0 and NaN."""
    return [
        pl.col(series.name).cast(pl.Float64)
        for series in frame.get_columns()
        if series.dtype == pl.Boolean and series.null_count()
    ]
