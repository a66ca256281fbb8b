"""Metrics of an experiment's own that are one function of all records: intervals by leaving blocks out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.bootstrap import influence
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.own_metrics import OwnFunction
from mlstream.comparison.result import Comparison
from mlstream.comparison.wholes import Whole, WholeFigure
from mlstream.errors import ComparisonError
from tests.comparison.simulate import coverage_of_wholes, median_error, relative_error, root_error
from tests.comparison.streams import Stream, experiment, regression

FAST = {"resamples": 400}
REMEMBERS = Stream(ticks=1500, partitions=4, memory=0.7, shock=0.5)
Function = Callable[[pl.DataFrame], Any]


def compared(evidence: Evidence, functions: dict[str, Function], **changes: object) -> Comparison:
    own = {name: {"function": f"own.py:{name}", "better": "lower", "of": "whole"} for name in functions}
    settings: dict[str, object] = {"metrics": ["rmse"], "bootstrap": FAST, "custom_metrics": own, **changes}
    loaded = {name: OwnFunction(call, "0" * 64) for name, call in functions.items()}
    return compare_predictions(experiment("regression", **settings), replace(evidence, functions=loaded))


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    made = regression(REMEMBERS, np.random.default_rng(1), factor=1.1)
    part = pl.Series("part", np.arange(made.records.height) % 3)
    return replace(made, records=made.records.with_columns(part))


@pytest.fixture(scope="module")
def found(evidence: Evidence) -> Comparison:
    functions = {"own_rmse": root_error, "relative": relative_error}
    return compared(evidence, functions, slices=["part = 1"])


def test_intervals_are_those_of_the_built_in_metric_when_the_function_is_one(found: Comparison) -> None:
    assert found.blocks is not None
    assert found.settings["whole_blocks"]["count"] == found.blocks.count
    own, built_in = found.delta("v2", "own_rmse"), found.delta("v2", "rmse")
    assert own is not None
    assert built_in is not None
    assert own.interval is not None
    assert built_in.interval is not None
    assert own.delta == pytest.approx(built_in.delta, abs=1e-12)
    width = built_in.interval.high - built_in.interval.low
    assert own.interval.low == pytest.approx(built_in.interval.low, abs=0.03 * width)
    assert own.interval.high == pytest.approx(built_in.interval.high, abs=0.03 * width)
    assert own.verdict == built_in.verdict
    for version in ("v1", "v2"):
        one, other = found.metric(version, "own_rmse"), found.metric(version, "rmse")
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.interval is not None
        assert other.interval is not None
        assert one.interval.high - one.interval.low == pytest.approx(other.interval.high - other.interval.low, rel=0.06)


def test_intervals_of_smooth_functions_cover_the_truth_on_a_stream_that_remembers() -> None:
    covered = coverage_of_wholes(Stream(500, 4, 0.5, 0.5), ("relative", "median"), replications=120, seed=3)
    # At 95 % the share of 120 replications is inside [0.90, 0.99] with probability 0.98.
    assert set(covered) == {"mae", "relative", "median"}
    for name, share in covered.items():
        assert 0.895 <= share <= 0.993, (name, share)


def test_a_function_of_the_whole_in_sql_gives_what_the_function_gives(evidence: Evidence, found: Comparison) -> None:
    sql = {"value": "SUM(ABS(prediction - label)) / SUM(ABS(label))", "better": "lower", "of": "whole"}
    config = experiment("regression", metrics=["rmse"], bootstrap=FAST, custom_metrics={"relative": sql})
    again = compare_predictions(config, evidence)
    for version in ("v1", "v2"):
        assert again.metric(version, "relative").value == pytest.approx(found.metric(version, "relative").value)
    assert again.settings["custom_metrics"]["relative"]["of"] == "whole"
    assert found.settings["custom_metrics"]["relative"]["digest"] == "0" * 64


def test_slices_have_the_figure_of_their_own_records(evidence: Evidence, found: Comparison) -> None:
    (part,) = (item for item in found.slices if item.metric == "relative")
    (built_in,) = (item for item in found.slices if item.metric == "rmse")
    (own,) = (item for item in found.slices if item.metric == "own_rmse")
    inside = evidence.records["part"] == 1
    frame = evidence.records.filter(inside).with_columns(evidence.predictions["v2"]["prediction"].filter(inside))
    assert part.value == pytest.approx(relative_error(frame), abs=1e-12)
    assert own.delta == pytest.approx(built_in.delta, abs=1e-12)
    assert own.interval is not None
    assert built_in.interval is not None
    width = built_in.interval.high - built_in.interval.low
    assert own.interval.low == pytest.approx(built_in.interval.low, abs=0.05 * width)
    assert own.p_adjusted is not None
    assert own.p_value is not None
    assert own.p_adjusted >= own.p_value


def test_a_slice_that_the_function_cannot_do_with_is_inconclusive_and_says_why(evidence: Evidence) -> None:
    def share(frame: pl.DataFrame) -> float:
        return float((frame["prediction"] > frame["label"]).sum() / int((frame["part"] != 2).sum()))

    slices = compared(evidence, {"share": share}, slices=["part"]).slices
    reasons = {item.slice: item.reason for item in slices if item.metric == "share"}
    assert reasons["part = 2"] == "custom_metrics.share: its function raised ZeroDivisionError for v2: division by zero"
    assert "ZeroDivisionError" not in str(reasons["part = 1"])
    (value,) = (item.value for item in slices if (item.slice, item.metric) == ("part = 2", "share"))
    assert value is None


def test_the_function_is_called_about_a_hundred_times_a_version_in_the_order_of_event_time(evidence: Evidence) -> None:
    calls = []

    def noting(frame: pl.DataFrame) -> float:
        assert frame["_timestamp"].is_sorted()
        calls.append(frame.height)
        return root_error(frame)

    done = compared(evidence, {"noting": noting}, metrics=[])
    assert max(calls) == evidence.records.height
    assert 60 <= len(calls) <= 202
    assert done.blocks is not None
    assert done.blocks.count <= 100
    assert done.delta("v2", "noting").interval is not None  # type: ignore[union-attr]


def test_a_maximum_has_its_value_and_no_verdict(evidence: Evidence) -> None:
    def largest(frame: pl.DataFrame) -> Any:
        return (frame["prediction"] - frame["label"]).abs().max()

    done = compared(evidence, {"largest": largest})
    delta = done.delta("v2", "largest")
    assert delta is not None
    assert delta.delta is not None
    assert (delta.verdict, delta.interval) == ("inconclusive", None)
    assert delta.reason is not None
    assert delta.reason.startswith("records that move it are in 1 block only; 30 are needed")


def test_versions_that_say_the_same_are_equivalent(evidence: Evidence) -> None:
    same = replace(evidence, predictions={"v1": evidence.predictions["v1"], "v2": evidence.predictions["v1"]})
    delta = compared(same, {"relative": relative_error}).delta("v2", "relative")
    assert delta is not None
    assert (delta.delta, delta.verdict) == (0.0, "equivalent")


def test_the_order_of_records_changes_no_bit(evidence: Evidence, found: Comparison) -> None:
    order = np.random.default_rng(0).permutation(evidence.records.height)
    shuffled = replace(evidence, records=evidence.records[order])
    again = compared(shuffled, {"own_rmse": root_error, "relative": relative_error}, slices=["part = 1"])
    assert again.id == found.id


def test_blocks_that_are_given_are_put_together_to_a_hundred_at_most(evidence: Evidence) -> None:
    done = compared(evidence, {"relative": relative_error}, bootstrap={**FAST, "block": "5m"})
    assert done.blocks is not None
    assert done.blocks.count == 300
    assert done.settings["whole_blocks"] == {"count": 100, "length_s": 900.0, "chosen": "given"}


def test_a_figure_that_remembers_for_longer_than_the_others_gets_longer_blocks(evidence: Evidence) -> None:
    slow = np.repeat(np.random.default_rng(4).normal(size=25), 60)  # an hour
    level = pl.Series(np.tile(slow, 4))
    label, said = evidence.records["label"], evidence.predictions["v1"]
    twice = said.with_columns(prediction=label + 2 * (said["prediction"] - label))
    drifting = replace(
        evidence,
        records=evidence.records.with_columns(level.alias("level")),
        predictions={"v1": said, "v2": twice},
    )

    def weighted(frame: pl.DataFrame) -> float:
        return float(((frame["prediction"] - frame["label"]).abs() * frame["level"]).mean())  # type: ignore[arg-type]

    done = compared(drifting, {"weighted": weighted})
    assert done.blocks is not None
    assert done.settings["whole_blocks"]["length_s"] > 1.5 * done.blocks.length_s


def _late(frame: pl.DataFrame) -> float:
    return float("nan") if frame.height < 6000 else 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda frame: float("nan"), "v1: nan is no finite number"),
        (lambda frame: 10**400, "is no finite number"),
        (lambda frame: None, "v1: None is no number"),
        (lambda frame: "0.5", "v1: '0.5' is no number"),
        (lambda frame: frame.height > 1, "v1: True is no number"),
        (lambda frame: pl.len(), "is no number"),
        (lambda frame: frame["label"], "v1: 6,000 values for the whole, where `of: whole` needs one"),
        (lambda frame: [], "v1: 0 values for the whole"),
        (lambda frame: frame["lable"], "its function raised ColumnNotFoundError for v1: "),
        (_late, "v1 without the records from 2013-10-01 00:00:00 to 2013-10-01 00:"),
    ],
)
def test_what_is_no_number_is_named_with_metric_and_version(evidence: Evidence, call: Function, message: str) -> None:
    with pytest.raises(ComparisonError) as caught:
        compared(evidence, {"mine": call})
    assert str(caught.value).startswith("custom_metrics.mine: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("one", [np.float32(0.5), np.array([0.5]), pl.Series([0.5]), pl.DataFrame({"x": [0.5]}), [0.5]])
def test_one_number_may_come_in_any_shape(evidence: Evidence, one: Any) -> None:
    assert compared(evidence, {"mine": lambda frame: one}).metric("v1", "mine").value == 0.5


def test_many_values_for_each_record_have_a_hint_and_the_configuration_knows_two_words(evidence: Evidence) -> None:
    own = {"mine": {"value": "SUM(part)"}}
    with pytest.raises(ComparisonError, match="or write `of: whole` for a function of all of them"):
        compare_predictions(experiment("regression", custom_metrics=own), evidence)
    with pytest.raises(ValidationError, match="records"):
        experiment("regression", custom_metrics={"mine": {"value": "part", "of": "group"}})


def test_sums_of_pseudo_values_give_the_figure_itself_and_influences_that_add_up_to_zero() -> None:
    rng = np.random.default_rng(6)
    error = pl.Series(rng.exponential(size=640))
    frame = pl.DataFrame({"prediction": error, "label": np.zeros(640), "_timestamp": np.arange(640)})
    block = np.sort(rng.integers(0, 40, 640))  # blocks of different sizes
    figure = WholeFigure("mine", "v1", root_error, frame, np.arange(640))
    answer = Answer("v1", error.to_numpy(), whole={"mine": figure})
    sums = Whole("mine", True).tally(Truth("regression", np.zeros(640)), answer, block, 40)
    assert float(Whole("mine", True).value(sums.sum(axis=0))) == pytest.approx(figure.value, abs=1e-13)
    parts = influence(Whole("mine", True), sums)
    assert parts.sum() == pytest.approx(0, abs=1e-12)
    twin = np.array([figure.value - root_error(frame.filter(pl.Series(block != at))) for at in range(40)])
    # To first order a block moves the figure by as much as leaving it out moves it back.
    assert np.corrcoef(parts, twin)[0, 1] > 0.999


def test_a_quantile_of_many_records_is_smooth_enough(evidence: Evidence) -> None:
    delta = compared(evidence, {"typical": median_error}).delta("v2", "typical")
    assert delta is not None
    assert delta.verdict == "worse"
