"""Calibration and curves equal scikit-learn's and plain counting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.bootstrap import influence
from mlstream.comparison.calibration import BINS, POINTS, CalibrationError, calibrate, draw_curves
from tests.comparison.test_metrics import compare_columns


def plain_error(score: np.ndarray, hit: np.ndarray) -> float:
    """The expected calibration error, bin by bin."""
    total = 0.0
    edges = np.linspace(0, 1, BINS + 1)
    for at, (low, high) in enumerate(pairwise(edges)):
        inside = (score >= low) & ((score < high) | (at == BINS - 1))
        if inside.any():
            total += inside.mean() * abs(score[inside].mean() - hit[inside].mean())
    return total


@pytest.fixture(scope="module")
def binary() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    label = rng.random(4000) < 0.3
    score = np.clip(rng.normal(np.where(label, 0.6, 0.3), 0.2), 0, 1)
    return label, score.round(3)


def test_the_error_is_the_one_counted_bin_by_bin(binary: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = binary
    found = calibrate(Truth("binary", label), Answer("v1", score >= 0.5, score))
    assert found is not None
    assert found.expected_error == pytest.approx(plain_error(score, label), abs=1e-12)
    assert sum(item.records for item in found.bins) == label.size
    for item in found.bins:
        inside = (score >= item.low) & ((score < item.high) | (item.high == 1))
        assert item.records == inside.sum()
        assert item.mean_score == pytest.approx(score[inside].mean())
        assert item.positives == pytest.approx(label[inside].mean())


def test_of_several_classes_the_confidence_in_the_answer_counts() -> None:
    rng = np.random.default_rng(5)
    label = rng.choice(["a", "b", "c"], 900)
    scores = rng.dirichlet([2, 1, 1], 900)
    frame = pl.DataFrame({"prediction": np.array(["a", "b", "c"])[scores.argmax(axis=1)], "scores": scores.tolist()})
    found = compare_columns("multiclass", label, ("a", "b", "c"), v1=frame)
    hit = np.array(["a", "b", "c"])[scores.argmax(axis=1)] == label
    assert found.calibration[0].expected_error == pytest.approx(plain_error(scores.max(axis=1), hit), abs=1e-12)


def test_blocks_add_up_and_their_influences_are_the_derivative(binary: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = binary
    metric, truth, answer = CalibrationError(), Truth("binary", label), Answer("v1", score >= 0.5, score)
    sums = metric.tally(truth, answer, np.arange(label.size) % 40, 40)
    assert float(metric.value(sums.sum(axis=0))) == pytest.approx(plain_error(score, label), abs=1e-12)
    parts = influence(metric, sums)
    assert parts.sum() == pytest.approx(0, abs=1e-12)
    step = 1e-6
    for block in (0, 17):
        heavier = float(metric.value(sums.sum(axis=0) + step * sums[block]))
        assert (heavier - metric.value(sums.sum(axis=0))) / step == pytest.approx(parts[block], abs=1e-5)


def test_curves_go_through_scikit_learns_points(binary: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = binary
    roc, precision_recall = draw_curves(Truth("binary", label), Answer("v1", score >= 0.5, score))
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    assert len(roc.x) <= POINTS
    assert set(zip(roc.x, roc.y, strict=True)) <= set(zip(false.tolist(), true.tolist(), strict=True))
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0.0, 0.0, 1.0, 1.0)
    precision, recall, _ = precision_recall_curve(label, score)
    points = {(round(x, 12), round(y, 12)) for x, y in zip(recall, precision, strict=True)}
    assert {(round(x, 12), round(y, 12)) for x, y in zip(precision_recall.x, precision_recall.y, strict=True)} - {
        (0.0, round(precision_recall.y[0], 12))
    } <= points
    assert list(precision_recall.x) == sorted(precision_recall.x)
    assert precision_recall.x[-1] == 1.0
    # What is shown loses next to nothing of the area.
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(np.trapezoid(true, false), abs=2e-3)


def test_without_scores_or_with_one_class_there_is_nothing_to_draw() -> None:
    label = np.array([True, False] * 20)
    found = compare_columns("binary", label, v1=pl.DataFrame({"prediction": label}))
    assert (found.calibration, found.curves) == ((), ())
    one = compare_columns("binary", np.ones(40, bool), v1=pl.DataFrame({"score": [0.5, 1.0] * 20}))
    assert one.curves == ()
    assert one.calibration[0].expected_error == pytest.approx(0.25)
