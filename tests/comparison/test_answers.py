"""Predictions and labels of the wrong kind are errors that name the version, never a wrong figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from mlstream.comparison.result import Comparison
from mlstream.errors import ComparisonError, LabelError
from tests.comparison.test_metrics import compare_columns

LABEL = np.array([True, False] * 50)
GOOD = pl.DataFrame({"prediction": LABEL, "score": np.where(LABEL, 0.9, 0.1)})


def with_v2(task: str = "binary", label: Any = LABEL, good: pl.DataFrame = GOOD, **columns: Any) -> Comparison:
    return compare_columns(task, label, v1=good, v2=good.with_columns(**columns))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prediction": pl.lit("late")}, "v2: predictions are strings, for example 'late'; a binary task needs true"),
        ({"prediction": pl.lit(2)}, "v2: predictions are whole numbers, for example 2; a binary task needs true"),
        ({"prediction": pl.lit(None, pl.Boolean)}, "v2: 100 predictions are null"),
        ({"score": pl.lit(1.5)}, "v2: 100 of its scores are no probabilities, the first is 1.5; return probabilities"),
        ({"score": pl.lit(-0.001)}, "v2: 100 of its scores are no probabilities"),
        ({"score": pl.lit(float("nan"))}, "v2: 100 of its scores are not finite numbers, the first is nan"),
        ({"score": pl.lit(None, pl.Float64)}, "v2: 100 scores are null"),
        ({"score": pl.lit("0.5")}, "v2: scores are strings, for example '0.5'; expected numbers"),
    ],
)
def test_a_binary_version_that_answers_wrongly_is_named(columns: dict[str, pl.Expr], message: str) -> None:
    with pytest.raises(ComparisonError, match=message) as caught:
        with_v2(**columns)
    assert caught.value.version == "v2"


@pytest.mark.parametrize("value", [pl.lit(float("inf")), pl.lit(float("nan")), pl.lit(1e200)])
def test_a_regression_needs_finite_numbers(value: pl.Expr) -> None:
    good = pl.DataFrame({"prediction": np.arange(100.0)})
    with pytest.raises(ComparisonError, match="v2: 100 of its predictions are not finite numbers"):
        with_v2("regression", np.arange(100.0), good, prediction=value)


def test_strings_and_numbers_are_never_compared_with_each_other() -> None:
    label = np.array(["a", "b"] * 50)
    good = pl.DataFrame({"prediction": label})
    with pytest.raises(ComparisonError, match="v2 predicts whole numbers and v1 predicts strings: they never agree"):
        with_v2("multiclass", label, good, prediction=pl.lit(1))
    with pytest.raises(ComparisonError, match="v1: predictions are whole numbers, for example 1, and labels are like"):
        compare_columns("multiclass", label, v1=pl.DataFrame({"prediction": [1] * 100}))


def test_a_class_that_no_label_has_is_a_wrong_answer() -> None:
    label = np.array(["a", "b"] * 50)
    found = compare_columns("multiclass", label, v1=pl.DataFrame({"prediction": ["c", "b"] * 50}))
    assert found.metric("v1", "accuracy").value == 0.5


def test_a_label_without_a_score_leaves_the_log_loss_undefined() -> None:
    label = np.array(["a", "b"] * 50)
    frame = pl.DataFrame({"prediction": ["a"] * 100, "scores": [[0.5, 0.5]] * 100})
    found = compare_columns("multiclass", label, ("a", "c"), v1=frame)
    assert found.metric("v1", "log_loss").undefined == "v1 has no score for the class b"


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.5, 0.2], "do not add up to 1"),
        ([0.5, 0.2, 0.3], "does not hold 2 numbers"),
        ([1.5, -0.5], "no probabilities"),
    ],
)
def test_scores_of_classes_must_be_a_distribution(scores: list[float], message: str) -> None:
    frame = pl.DataFrame({"prediction": ["a"] * 100, "scores": [scores] * 100})
    with pytest.raises(ComparisonError, match=f"v1: .*{message}"):
        compare_columns("multiclass", np.array(["a", "b"] * 50), ("a", "b"), v1=frame)


def test_an_output_without_an_answer_is_named() -> None:
    with pytest.raises(ComparisonError, match="v1: its output has neither `prediction` nor `score`"):
        compare_columns("binary", LABEL, v1=pl.DataFrame({"guess": LABEL}))


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("binary", np.array(["late", "in time"] * 50), "labels are strings, for example 'late'; a binary task needs"),
        ("binary", np.arange(100), "labels are whole numbers, for example 0; a binary task needs"),
        ("regression", np.array(["1", "2"] * 50), "labels are strings, for example '1'; a regression needs numbers"),
        ("multiclass", np.arange(100.0), "labels are numbers; classes are strings or whole numbers"),
    ],
)
def test_labels_of_the_wrong_type_are_an_error(task: str, label: np.ndarray, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        compare_columns(task, label, v1=GOOD)


def test_zero_and_one_are_false_and_true() -> None:
    found = compare_columns("binary", LABEL.astype(int), v1=GOOD, v2=GOOD.with_columns(pl.col("prediction").cast(int)))
    assert found.metric("v1", "accuracy").value == found.metric("v2", "accuracy").value == 1.0
    assert found.agreement == {"v2": 1.0}


def test_more_classes_than_blocks_can_hold_are_refused() -> None:
    label = np.array([f"parcel {row}" for row in range(2_000)])
    with pytest.raises(LabelError, match=r"labels have 2,000 classes, for example 'parcel 0'; at most 1,000"):
        compare_columns("multiclass", label, v1=pl.DataFrame({"prediction": label}))
