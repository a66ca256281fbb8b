"""The shape of a comparison: found by version and metric, and documented field by field."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mlstream.comparison.compare import compare_predictions
from mlstream.comparison.result import (
    Blocks,
    Calibration,
    CalibrationBin,
    Change,
    ColumnDrift,
    Comparison,
    Cost,
    Coverage,
    Curve,
    DeltaResult,
    Disagreement,
    Drift,
    Floor,
    Interval,
    LabelCoverage,
    MetricResult,
    ScoreShift,
    Series,
    SliceResult,
    SliceSearch,
)
from mlstream.errors import UsageError
from tests.comparison.streams import Stream, binary, experiment

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare_predictions(
        experiment("binary", bootstrap={"resamples": 200}), binary(Stream(400, 2), np.random.default_rng(1))
    )


def test_figures_are_found_by_version_and_metric(found: Comparison) -> None:
    assert found.metric("v2", "roc_auc").version == "v2"
    delta = found.delta("v2", "roc_auc")
    assert delta is not None
    assert delta.baseline == "v1"
    own, base = found.metric("v2", "roc_auc").value, found.metric("v1", "roc_auc").value
    assert own is not None
    assert base is not None
    assert delta.delta == pytest.approx(own - base)
    assert found.delta("v1", "roc_auc") is None
    with pytest.raises(UsageError, match="'mae' was not computed; there are: accuracy"):
        found.metric("v1", "mae")
    with pytest.raises(UsageError, match="'rocauc' was not computed; did you mean 'roc_auc'"):
        found.delta("v2", "rocauc")
    with pytest.raises(UsageError, match="'v9' is not in this comparison; there are: v1, v2"):
        found.delta("v9", "roc_auc")


def test_an_unknown_field_is_no_comparison(found: Comparison) -> None:
    with pytest.raises(TypeError):
        Comparison.from_dict(found.to_dict() | {"colour": "red"})


KINDS = [
    *(Comparison, Coverage, LabelCoverage, Blocks, MetricResult, DeltaResult, Interval),
    *(SliceResult, SliceSearch, Disagreement, Change, Calibration, CalibrationBin, Curve, ScoreShift, Series),
    *(Drift, ColumnDrift, Cost, Floor),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_of_the_json_is_documented(kind: type) -> None:
    schema = PAGE.read_text(encoding="utf-8").split("## The JSON")[1]
    named = set(re.findall(r"`([a-z0-9_]+)(?:\[\])?`", schema)) | {"interval"}
    assert {field.name for field in fields(kind)} <= named


def test_every_setting_is_documented(found: Comparison) -> None:
    schema = PAGE.read_text(encoding="utf-8").split("## The JSON")[1]
    assert set(found.settings) <= set(re.findall(r"`([a-z0-9_]+)`", schema))
