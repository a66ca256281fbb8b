"""Metrics that an experiment names or brings: quantiles, calibration, SQL and functions of columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from sklearn.metrics import mean_pinball_loss

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.bootstrap import influence
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.figures import find_metric
from mlstream.errors import ComparisonError
from mlstream.reporting.own_functions import load_functions
from tests.comparison.streams import Stream, binary, experiment, regression

FAST = {"resamples": 200}
PROFIT = "CASE WHEN prediction THEN CASE WHEN label THEN 40 ELSE -5 END ELSE 0 END * weight"
CODE = """\
import polars as pl


def profit(frame):
    gain = pl.when("label").then(40).otherwise(-5)
    return frame.select(pl.when("prediction").then(gain).otherwise(0) * pl.col("weight")).to_series()


def short(frame):
    return [1.0]


def broken(frame):
    raise KeyError("weight in kg")
"""


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    made = binary(Stream(400, 2), np.random.default_rng(1), edge=0.5)
    weight = pl.Series("weight", np.random.default_rng(2).integers(1, 5, made.records.height))
    return replace(made, records=made.records.with_columns(weight))


def test_a_profit_in_sql_is_a_mean_over_records_with_an_interval_and_a_verdict(evidence: Evidence) -> None:
    config = experiment(
        "binary", custom_metrics={"profit": {"value": PROFIT}}, metrics=["accuracy"], slices=["weight > 2"],
        bootstrap=FAST, slice_search={"metric": "profit"},
    )  # fmt: skip
    found = compare_predictions(config, evidence)
    label, weight = (evidence.records[name].to_numpy() for name in ("label", "weight"))
    twin = {}
    for version in ("v1", "v2"):
        said = evidence.predictions[version]["score"].to_numpy() >= 0.5
        each = np.where(said, np.where(label, 40, -5), 0) * weight
        twin[version] = each
        assert found.metric(version, "profit").value == pytest.approx(each.mean(), abs=1e-9)
    delta = found.delta("v2", "profit")
    assert delta is not None
    assert delta.delta == pytest.approx((twin["v2"] - twin["v1"]).mean(), abs=1e-9)
    assert delta.interval is not None
    (part,) = (item for item in found.slices if (item.slice, item.metric) == ("weight > 2", "profit"))
    assert part.value == pytest.approx(twin["v2"][weight > 2].mean(), abs=1e-9)
    assert found.slice_search is not None
    assert found.slice_search.metric == "profit"
    assert found.settings["custom_metrics"]["profit"]["value"] == PROFIT


def test_less_may_be_better(evidence: Evidence) -> None:
    worse = {"cost": {"value": f"-({PROFIT})", "better": "lower"}, "profit": {"value": PROFIT}}
    found = compare_predictions(experiment("binary", custom_metrics=worse, bootstrap=FAST), evidence)
    verdicts = {delta.metric: delta.verdict for delta in found.deltas}
    assert verdicts["cost"] == verdicts["profit"]
    assert not found.metric("v1", "cost").higher_is_better


def test_a_function_of_columns_gives_what_sql_gives(evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "money.py").write_text(CODE)
    own = {"profit": {"function": "money.py:profit"}, "sql": {"value": PROFIT}}
    config = experiment("binary", custom_metrics=own, bootstrap=FAST).located(tmp_path / "x.yaml", tmp_path)
    found = compare_predictions(config, replace(evidence, functions=load_functions(config)))
    assert found.metric("v2", "profit").value == found.metric("v2", "sql").value
    assert len(found.settings["custom_metrics"]["profit"]["digest"]) == 64


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"value": "predction * 2"}, "v1 and its records have no column 'predction'; did you mean 'prediction'?"),
        ({"value": "SELECT ("}, "is not a SQL expression"),
        ({"value": "SUM(weight)"}, "v1: 1 values for 800 records"),
        ({"value": "weight / (weight - weight)"}, "v1: 800 values are null or no finite numbers; the first is for"),
        ({"function": "money.py:short"}, "v1: 1 values for 800 records"),
        ({"function": "money.py:broken"}, "its function raised KeyError for v1: 'weight in kg'"),
        ({"function": "money.py:missing"}, "money.py has no function 'missing'; it has: broken, profit, short"),
        ({"function": "nothing.py:profit"}, "nothing.py cannot be read: No such file"),
        ({"function": "bad.py:profit"}, "bad.py raised ZeroDivisionError when it was loaded"),
    ],
)
def test_a_metric_that_goes_wrong_is_named(
    evidence: Evidence, tmp_path: Path, own: dict[str, str], message: str
) -> None:
    (tmp_path / "money.py").write_text(CODE)
    (tmp_path / "bad.py").write_text("1 / 0")
    config = experiment("binary", custom_metrics={"mine": own}, bootstrap=FAST).located(tmp_path / "x.yaml", tmp_path)
    with pytest.raises(ComparisonError) as caught:
        compare_predictions(config, replace(evidence, functions=load_functions(config)))
    assert str(caught.value).startswith("custom_metrics.mine: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"custom_metrics": {"log_loss": {"value": "1"}}}, "'log_loss' cannot be used as a name"),
        ({"custom_metrics": {"My Profit": {"value": "1"}}}, "'My Profit' cannot be used as a name"),
        ({"custom_metrics": {"profit": {}}}, "needs `value` or `function`, one of them"),
        ({"custom_metrics": {"profit": {"function": "money.profit"}}}, "'money.profit' is not path.py:function"),
        ({"margins": {"profit": 1}}, "'profit' is not a metric of a binary task"),
        ({"quantile": 0.9}, "`quantile:` is the level of a quantile task"),
        ({"task": "quantile"}, "`quantile:` is the level of a quantile task"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_configuration(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("`", ".")):
        experiment(**{"task": "binary", **changes})  # type: ignore[arg-type]


def test_quantiles_are_judged_by_their_pinball_loss_and_how_often_they_hold() -> None:
    evidence = regression(Stream(400, 2), np.random.default_rng(1), factor=1.5)
    found = compare_predictions(experiment("quantile", quantile=0.8, bootstrap=FAST), evidence)
    label = evidence.records["label"].to_numpy()
    for version in ("v1", "v2"):
        said = evidence.predictions[version]["prediction"].to_numpy()
        loss = found.metric(version, "pinball_loss").value
        assert loss == pytest.approx(mean_pinball_loss(label, said, alpha=0.8), abs=1e-9)
        gap = found.metric(version, "coverage_gap").value
        assert gap == pytest.approx(abs((label <= said).mean() - 0.8), abs=1e-12)
    assert found.delta("v2", "pinball_loss").verdict == "worse"  # type: ignore[union-attr]


def test_influences_of_the_coverage_gap_are_its_derivative() -> None:
    rng = np.random.default_rng(3)
    truth, answer = Truth("quantile", rng.normal(size=500)), Answer("v1", rng.normal(size=500))
    metric = find_metric(experiment("quantile", quantile=0.9), "coverage_gap")
    sums = metric.tally(truth, answer, np.arange(500) % 20, 20)
    parts, total = influence(metric, sums), sums.sum(axis=0)
    assert parts.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-7
    slope = (float(metric.value(total + step * sums[4])) - float(metric.value(total))) / step
    assert slope == pytest.approx(parts[4], abs=1e-6)


def test_the_calibration_error_is_a_metric_when_it_is_named(evidence: Evidence) -> None:
    config = experiment("binary", metrics=["log_loss", "expected_calibration_error"], bootstrap=FAST)
    found = compare_predictions(config, evidence)
    for curve in found.calibration:
        assert found.metric(curve.version, "expected_calibration_error").value == pytest.approx(curve.expected_error)
    delta = found.delta("v2", "expected_calibration_error")
    assert delta is not None
    assert delta.interval is not None


def test_an_inconclusive_difference_says_how_many_more_records_would_settle_it() -> None:
    evidence = binary(Stream(600, 2), np.random.default_rng(4))
    found = compare_predictions(experiment("binary", margins={"log_loss": 1e-3}, bootstrap=FAST), evidence)
    delta = found.delta("v2", "log_loss")
    assert delta is not None
    assert delta.interval is not None
    half = (delta.interval.high - delta.interval.low) / 2
    assert delta.verdict == "inconclusive"
    assert delta.more_records == pytest.approx(((half / 1e-3) ** 2 - 1) * 1200, abs=1)
