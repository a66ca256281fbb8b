"""Ranking metrics of very many records: counted instead of sorted, in memory that does not grow, with a true bound."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mlstream.comparison import ranking
from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.calibration import draw_curves
from mlstream.comparison.compare import compare_predictions
from mlstream.comparison.counted import Counted, count_scores
from mlstream.comparison.ranking import RANKING_METRICS, AveragePrecision, RocAuc, error_bound
from mlstream.comparison.result import Comparison
from mlstream.reporting import wording
from tests.comparison.streams import Stream, binary, experiment

ROWS = 40_000
Draw = Callable[[np.random.Generator, np.ndarray], np.ndarray]
TINY = 1e-9
EXACT: dict[str, Draw] = {
    "two values": lambda rng, y: np.where(rng.random(y.size) < 0.4 + 0.2 * y, 0.25, 0.75),
    "heavy ties": lambda rng, y: np.round(0.5 * rng.random(y.size) + 0.3 * y, 2),
    "0 and 1": lambda rng, y: (rng.random(y.size) < 0.3 + 0.4 * y).astype(float),
    "0 and a little": lambda rng, y: np.where(rng.random(y.size) < 0.5, 0.0, 0.1),
}
WITHIN: dict[str, Draw] = {
    "even": lambda rng, y: rng.random(y.size),
    "told apart": lambda rng, y: 1 / (1 + np.exp(-rng.normal(size=y.size) - y)),
    "float32": lambda rng, y: rng.random(y.size).astype(np.float32).astype(float),
    "near 1": lambda rng, y: 1 - 10.0 ** -(17 * rng.random(y.size) + y),
    "near 0": lambda rng, y: 10.0 ** -(37 * rng.random(y.size) + y),
}
HOSTILE: dict[str, Draw] = {
    "one cell": lambda rng, y: 0.3 + TINY * rng.random(y.size),
    "one cell, positives above": lambda rng, y: 0.3 + TINY * y + TINY / 10 * rng.random(y.size),
    "one cell, positives below": lambda rng, y: 0.3 + TINY * ~y + TINY / 10 * rng.random(y.size),
    "one cell, two values": lambda rng, y: 0.3 + TINY * y,
    "below a float32": lambda rng, y: 10.0 ** -(300 * rng.random(y.size)),
    "one cell of many": lambda rng, y: np.where(rng.random(y.size) < 0.7, 0.3 + TINY * y, rng.random(y.size)),
}


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "EXACT_ROWS", 1000)


def off(draw: Draw, share: float = 0.3) -> dict[str, tuple[float, float]]:
    """Metric → how far it is from scikit-learn's, and the bound."""
    rng = np.random.default_rng(4)
    label = rng.random(ROWS) < share
    score = draw(rng, label)
    truth, answer = Truth("binary", label), Answer("v1", label, score)
    exact = {"roc_auc": roc_auc_score(label, score), "average_precision": average_precision_score(label, score)}
    return {
        name: (
            abs(metric.point(truth, answer, np.zeros(0)) - exact[name]),
            error_bound(metric, truth, answer),
        )
        for name, metric in RANKING_METRICS.items()
    }


@pytest.mark.parametrize("draw", EXACT.values(), ids=EXACT)
def test_cells_in_which_all_scores_are_equal_lose_nothing(draw: Draw) -> None:
    for distance, bound in off(draw).values():
        assert bound == 0.0
        assert distance <= 1e-12


@pytest.mark.parametrize("draw", WITHIN.values(), ids=WITHIN)
@pytest.mark.parametrize("share", [0.3, 0.001])
def test_of_usual_scores_the_error_is_below_the_bound_and_both_are_small(draw: Draw, share: float) -> None:
    for distance, bound in off(draw, share).values():
        assert distance <= bound + 1e-12
        assert bound < 5e-4


@pytest.mark.parametrize("draw", HOSTILE.values(), ids=HOSTILE)
def test_of_scores_that_are_hostile_the_bound_holds_all_the_same(draw: Draw) -> None:
    for distance, bound in off(draw).values():
        assert distance <= bound + 1e-12
        assert bound > 0.1


def test_the_bounds_are_reached_by_the_best_and_the_worst_order() -> None:
    found = off(HOSTILE["one cell, two values"])
    for distance, bound in found.values():
        assert distance == pytest.approx(bound, abs=1e-6)
    assert found["roc_auc"][1] == 0.5
    worst = off(HOSTILE["one cell, positives below"])
    assert worst["average_precision"][0] == pytest.approx(worst["average_precision"][1], abs=1e-6)


def test_no_order_of_few_records_is_outside_the_bounds() -> None:
    rng = np.random.default_rng(8)
    for _ in range(150):
        label = np.append(rng.random(6) < rng.random(), [True, False])
        # Three cells, each with up to four scores.
        cell, place = rng.integers(0, 3, 8), rng.integers(0, 4, 8)
        score = (4 * cell + place) / 12
        held = np.unique(cell)
        inside = [cell == at for at in held]
        known = Counted(
            held,
            np.array([np.sum(mask & ~label) for mask in inside]),
            np.array([np.sum(mask & label) for mask in inside]),
            np.array([np.unique(score[mask]).size > 1 for mask in inside]),
        )
        low, high = known.average_precision()
        assert low - 1e-9 <= average_precision_score(label, score) <= high + 1e-9
        assert abs(roc_auc_score(label, score) - roc_auc_score(label, cell)) <= known.auc_error() + 1e-12


def test_histograms_are_those_of_sorted_scores_where_cells_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    label = rng.random(ROWS) < 0.3
    score = np.round(rng.random(ROWS), 2)
    block = np.arange(ROWS) // 1000
    table = RocAuc().tally(Truth("binary", label), Answer("v1", label, score), block, 40)
    monkeypatch.setattr(ranking, "EXACT_ROWS", ROWS)
    assert np.array_equal(table, RocAuc().tally(Truth("binary", label), Answer("v1", label, score), block, 40))


@pytest.fixture(scope="module")
def figures() -> tuple[Comparison, Comparison]:
    """Of the same stream, sorted and counted."""
    evidence = binary(Stream(800, 4, 0.5, 0.2), np.random.default_rng(2), edge=0.5)
    config = experiment("binary", metrics=["roc_auc", "average_precision", "log_loss"], bootstrap={"resamples": 400})
    exact = compare_predictions(config, evidence)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "EXACT_ROWS", 1000)
        return exact, compare_predictions(config, evidence)


def test_a_comparison_of_counted_scores_carries_the_bound(figures: tuple[Comparison, Comparison]) -> None:
    exact, counted = figures
    assert all(result.error_bound == 0.0 for result in (*exact.metrics, *exact.deltas))
    assert counted.metric("v1", "log_loss").error_bound == 0.0
    for name in ("roc_auc", "average_precision"):
        for version in ("v1", "v2"):
            one, other = counted.metric(version, name), exact.metric(version, name)
            assert one.value is not None
            assert 0.0 < one.error_bound < 1e-3
            assert one.value == pytest.approx(other.value, abs=one.error_bound)
        delta, known = counted.delta("v2", name), exact.delta("v2", name)
        assert delta is not None
        assert known is not None
        assert delta.interval is not None
        assert known.interval is not None
        assert delta.error_bound == pytest.approx(sum(counted.metric(v, name).error_bound for v in ("v1", "v2")))
        assert delta.interval.low < known.interval.low < known.interval.high < delta.interval.high
    assert Comparison.from_dict(counted.to_dict()) == counted
    told = " ".join(wording.about(counted))
    assert "ROC AUC is off by at most" in told
    assert "(v1)" in told
    assert wording.about(exact) == []


def test_where_the_order_is_lost_there_is_no_verdict() -> None:
    evidence = binary(Stream(800, 4, 0.5, 0.2), np.random.default_rng(2), edge=2.0)
    squeezed = {
        name: frame.with_columns(score=0.3 + TINY * frame["score"]) for name, frame in evidence.predictions.items()
    }
    config = experiment("binary", metrics=["roc_auc"], bootstrap={"resamples": 400})
    (sure,) = compare_predictions(config, evidence).deltas
    assert sure.verdict == "better"
    object.__setattr__(evidence, "predictions", squeezed)
    (delta,) = compare_predictions(config, evidence).deltas
    assert delta.verdict == "inconclusive"
    assert delta.error_bound == 1.0
    assert delta.p_value == 1.0


MEASURE = """
import tracemalloc
import numpy as np
from mlstream.comparison import ranking
from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.calibration import draw_curves

tracemalloc.start()
for rows, ranking.EXACT_ROWS in ((1_500_000, 1000), (6_000_000, 1000), (6_000_000, 50_000_000)):
    score = np.random.default_rng(1).random(rows)
    label, block = np.arange(rows) % 3 == 0, np.arange(rows) // 100_000
    truth, answer = Truth("binary", label), Answer("v1", label, score)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    for metric in ranking.RANKING_METRICS.values():
        assert metric.undefined(truth, answer) is None
        table = metric.tally(truth, answer, block, 60)
        metric.point(truth, answer, table.sum(axis=0))
        ranking.error_bound(metric, truth, answer)
    list(draw_curves(truth, answer))
    print((tracemalloc.get_traced_memory()[1] - before) // 1_000_000)
"""


def test_memory_does_not_grow_with_the_records() -> None:
    # MB at most beside scores, labels and blocks: few counted, four times as many counted, as many sorted.
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    few, many, sorting = map(int, done.stdout.split())
    assert many < few + 30, (few, many)
    assert many < 300, (few, many)
    assert sorting > many, (sorting, many)


def test_curves_of_counted_scores_end_where_they_must() -> None:
    rng = np.random.default_rng(6)
    label = rng.random(ROWS) < 0.3
    truth, answer = Truth("binary", label), Answer("v1", label, rng.random(ROWS))
    roc, _ = draw_curves(truth, answer)
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0.0, 0.0, 1.0, 1.0)
    low, high = count_scores(answer.score, label).average_precision()  # type: ignore[arg-type]
    assert low <= AveragePrecision().point(truth, answer, np.zeros(0)) <= high
