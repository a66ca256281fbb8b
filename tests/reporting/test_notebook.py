"""What notebooks show: a comparison, its parts as frames, its chart; without a broker."""

from __future__ import annotations

import polars as pl
import pytest

from mlstream.errors import UsageError
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import example_comparison
from tests.reporting.test_report import read


def test_a_comparison_shows_its_verdicts() -> None:
    page = read(example_comparison()._repr_html_())
    assert "v3 is better than v1 on all 6 metrics" in page.words
    assert page.words.count("▲ better") == 9
    markdown = example_comparison()._repr_markdown_()
    assert "- v3 is better than v1 on all 6 metrics." in markdown
    assert "| Log loss ↓ | 0.5188 |" in markdown


def test_its_figures_are_a_frame_with_a_row_for_each_version_and_metric() -> None:
    comparison = example_comparison()
    frame = comparison.to_frame()
    assert frame.height == len(comparison.metrics)
    row = frame.row(by_predicate=(pl.col("version") == "v3") & (pl.col("metric") == "log_loss"), named=True)
    delta = comparison.delta("v3", "log_loss")
    assert delta is not None
    assert delta.interval is not None
    assert (row["delta"], row["delta_low"], row["verdict"]) == (delta.delta, delta.interval.low, "better")
    assert frame.filter(version="v1")["delta"].null_count() == 6


@pytest.mark.parametrize(
    ("part", "rows", "column", "kind"),
    [
        ("slices", 4, "low", pl.Float64),
        ("disagreements", 3, "origin", pl.String),
        ("changes", 8, "records", pl.Int64),
        ("calibration", 30, "mean_score", pl.Float64),
        ("curves", 126, "x", pl.Float64),
        ("shifts", 2, "psi", pl.Float64),
        ("drift", 3, "ks", pl.Float64),
        ("costs", 3, "memory_mb", pl.Float64),
    ],
)
def test_its_parts_are_frames_of_fixed_columns(part: str, rows: int, column: str, kind: type[pl.DataType]) -> None:
    frame = detailed_comparison().to_frame(part)
    assert frame.height == rows
    assert frame.schema[column] == kind
    bare = example_comparison().to_frame(part)
    assert bare.height == 0
    assert column in bare.columns or part == "disagreements"


def test_a_part_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no part 'slicez'; choose one of metrics, slices"):
        example_comparison().to_frame("slicez")


def test_a_disagreement_s_columns_keep_ours_apart() -> None:
    frame = detailed_comparison().to_frame("disagreements")
    assert frame.columns[:4] == ["version", "partition", "offset", "timestamp"]
    assert frame["timestamp"].dtype == pl.Datetime("ms", "UTC")
    assert "label_" in frame.columns


def test_its_plot_is_a_picture_that_a_notebook_shows() -> None:
    assert example_comparison().plot()._repr_png_().startswith(b"\x89PNG")
    assert example_comparison(metrics=(), deltas=()).plot() is None
