"""Point values are scikit-learn's; sums of blocks merge; gradients are derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.metrics import METRICS, Metric
from mlstream.comparison.ranking import RANKING_METRICS
from mlstream.comparison.result import Comparison
from mlstream.comparison.sums import add
from tests.comparison.streams import START_MS, TICK_MS, experiment

ALL = {**METRICS, **RANKING_METRICS}


def compare_columns(task: str, label: np.ndarray, classes: tuple[str, ...] = (), **outputs: pl.DataFrame) -> Comparison:
    """Compare outputs for records that come one a minute in one partition."""
    place = np.arange(len(label))
    records = pl.DataFrame(
        {"_partition": np.zeros(len(label), np.int32), "_offset": place, "_timestamp": START_MS + TICK_MS * place}
    ).with_columns(pl.col("_timestamp").cast(pl.Datetime("ms", "UTC")), pl.Series("label", label))
    source = pl.DataFrame({"source_partition": np.zeros(len(label), np.int32), "source_offset": place})
    predictions = {name: pl.concat([source, frame], how="horizontal") for name, frame in outputs.items()}
    config = experiment(task, versions={name: {"model": "a.py:f"} for name in outputs}, bootstrap={"resamples": 200})
    return compare_predictions(config, Evidence(records, predictions, classes=dict.fromkeys(outputs, classes)))


probabilities = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 1e-300, 1 - 1e-16]), st.floats(0, 1), st.integers(0, 4).map(lambda n: n / 4)
)
binary_rows = st.lists(st.tuples(st.booleans(), st.booleans(), probabilities), min_size=2, max_size=60)


@settings(deadline=None, max_examples=150)
@given(binary_rows)
def test_binary_metrics_are_scikit_learns(rows: list[tuple[bool, bool, float]]) -> None:
    label, predicted, score = (np.array(column) for column in zip(*rows, strict=True))
    found = compare_columns("binary", label, v1=pl.DataFrame({"prediction": predicted, "score": score}))
    expected = {
        "accuracy": sk.accuracy_score(label, predicted),
        "log_loss": sk.log_loss(label, score, labels=[False, True]),
        "brier_score": sk.brier_score_loss(label, score, labels=[False, True]),
    }
    if 0 < label.sum() < label.size:
        expected["balanced_accuracy"] = sk.balanced_accuracy_score(label, predicted)
        if np.ptp(score) > 0:
            expected["roc_auc"] = sk.roc_auc_score(label, score)
            expected["average_precision"] = sk.average_precision_score(label, score)
    for result in found.metrics:
        if result.metric in expected:
            assert result.value == pytest.approx(expected[result.metric], abs=1e-9), result.metric
        else:
            assert result.value is None
            assert result.undefined


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_multiclass_metrics_are_scikit_learns(data: st.DataObject) -> None:
    names = ("early", "late", "lost")
    size = data.draw(st.integers(4, 40))
    label = np.array([*names, *data.draw(st.lists(st.sampled_from(names), min_size=size - 3, max_size=size - 3))])
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = rng.dirichlet(np.ones(3), size)
    predicted = np.array(names)[scores.argmax(axis=1)]
    frame = pl.DataFrame({"prediction": predicted, "scores": scores.tolist()})
    found = compare_columns("multiclass", label, names, v1=frame)
    assert found.metric("v1", "accuracy").value == pytest.approx(sk.accuracy_score(label, predicted), abs=1e-9)
    assert found.metric("v1", "balanced_accuracy").value == pytest.approx(
        sk.balanced_accuracy_score(label, predicted), abs=1e-9
    )
    assert found.metric("v1", "log_loss").value == pytest.approx(sk.log_loss(label, scores), abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=2, max_size=60),
    st.sampled_from([0.0, 1e6, -1e9]),
)
def test_regression_metrics_are_scikit_learns(rows: list[tuple[float, float]], offset: float) -> None:
    label, predicted = (np.array(column) + offset for column in zip(*rows, strict=True))
    found = compare_columns("regression", label, v1=pl.DataFrame({"prediction": predicted}))
    assert found.metric("v1", "mae").value == pytest.approx(sk.mean_absolute_error(label, predicted), rel=1e-9)
    assert found.metric("v1", "rmse").value == pytest.approx(sk.root_mean_squared_error(label, predicted), rel=1e-9)
    if np.ptp(label) < 1e-150:
        assert found.metric("v1", "r2").value is None
        assert found.metric("v1", "r2").undefined == "all labels are equal"
    elif np.ptp(label) > 1e-3:
        assert found.metric("v1", "r2").value == pytest.approx(sk.r2_score(label, predicted), rel=1e-9, abs=1e-9)


def test_r2_of_labels_that_are_tiny_or_vanish_beside_the_errors_is_a_figure_or_a_reason() -> None:
    label = np.linspace(0.0, 1e-100, 40)
    near = compare_columns("regression", label, v1=pl.DataFrame({"prediction": label[::-1].copy()}))
    assert near.metric("v1", "r2").value == pytest.approx(sk.r2_score(label * 1e100, label[::-1] * 1e100), rel=1e-9)
    far = compare_columns("regression", label, v1=pl.DataFrame({"prediction": label + 1.0}))
    assert (far.metric("v1", "r2").value, far.metric("v1", "r2").undefined) == (None, "all labels are equal")


def test_the_metrics_of_a_long_stream_are_scikit_learns_to_nine_digits() -> None:
    rng = np.random.default_rng(4)
    label = rng.random(200_000) < 0.2
    score = np.round(1 / (1 + np.exp(-rng.normal(np.where(label, 0.5, -1.5), 1.0))), 4)
    found = compare_columns("binary", label, v1=pl.DataFrame({"prediction": score >= 0.5, "score": score}))
    expected = {
        "accuracy": sk.accuracy_score(label, score >= 0.5),
        "balanced_accuracy": sk.balanced_accuracy_score(label, score >= 0.5),
        "log_loss": sk.log_loss(label, score),
        "brier_score": sk.brier_score_loss(label, score),
        "roc_auc": sk.roc_auc_score(label, score),
        "average_precision": sk.average_precision_score(label, score),
    }
    assert {result.metric: result.value for result in found.metrics} == pytest.approx(expected, abs=1e-9)
    assert found.settings["score_grid"]["roc_auc"]["v1"] < 1e-4
    assert found.settings["score_grid"]["average_precision"]["v1"] < 1e-2


def examples(metric: Metric, seed: int, records: int = 400) -> tuple[Truth, Answer]:
    rng = np.random.default_rng(seed)
    if metric.name in ("mae", "rmse", "r2"):
        values = rng.normal(3.0, 2.0, records)
        return Truth("regression", values), Answer("v1", values + rng.normal(0.2, 1.0, records))
    positive = rng.random(records) < 0.4
    score = rng.beta(np.where(positive, 3, 2), 2)
    return Truth("binary", positive), Answer("v1", score >= 0.5, score)


@pytest.mark.parametrize("metric", ALL.values(), ids=lambda metric: metric.name)
@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), blocks=st.integers(1, 12))
def test_blocks_that_are_split_merged_or_shuffled_give_the_same_figure(metric: Metric, seed: int, blocks: int) -> None:
    truth, answer = examples(metric, seed)
    rng = np.random.default_rng(seed)
    block = rng.integers(0, blocks, len(truth))
    table = metric.tally(truth, answer, block, blocks)
    whole = metric.value(metric.tally(truth, answer, np.zeros_like(block), 1).sum(axis=0))
    shuffled = rng.permutation(table)
    halves = np.stack([shuffled[: blocks // 2].sum(axis=0), shuffled[blocks // 2 :].sum(axis=0)])
    for parts in (table, shuffled, halves):
        assert float(metric.value(parts.sum(axis=0))) == pytest.approx(float(whole), rel=1e-12)


@pytest.mark.parametrize("metric", ALL.values(), ids=lambda metric: metric.name)
def test_a_gradient_is_the_derivative_and_influences_add_up_to_nothing(metric: Metric) -> None:
    truth, answer = examples(metric, seed=1)
    table = metric.tally(truth, answer, np.arange(len(truth)) % 7, 7)
    total = table.sum(axis=0)
    gradient = metric.gradient(total)
    for direction in table:
        step = 1e-6
        slope = (metric.value(total + step * direction) - metric.value(total - step * direction)) / (2 * step)
        assert float(gradient @ direction) == pytest.approx(float(slope), rel=1e-4, abs=1e-8)
    assert float(gradient @ total) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("metric", ALL.values(), ids=lambda metric: metric.name)
def test_many_totals_at_once_give_what_each_gives_alone(metric: Metric) -> None:
    truth, answer = examples(metric, seed=2)
    table = metric.tally(truth, answer, np.arange(len(truth)) % 5, 5)
    totals = np.random.default_rng(0).integers(1, 4, (6, 5)).astype(float) @ table
    assert metric.value(totals) == pytest.approx([float(metric.value(row)) for row in totals], rel=1e-12)
    assert metric.gradient(totals) == pytest.approx(np.stack([metric.gradient(row) for row in totals]), rel=1e-9)


@settings(max_examples=200)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=80), st.randoms())
def test_a_sum_is_the_same_bit_for_bit_in_any_order(values: list[float], random: object) -> None:
    shuffle: Callable[[list[float]], None] = random.shuffle  # type: ignore[attr-defined]
    first = add(np.array(values), np.zeros(len(values), dtype=np.int64), 1)
    shuffle(values)
    second = add(np.array(values), np.zeros(len(values), dtype=np.int64), 1)
    assert first.tobytes() == second.tobytes()
    assert first[0] == pytest.approx(math.fsum(values), rel=1e-12, abs=max(1e-15 * max(map(abs, values)), 1e-250))


def test_a_constant_score_ranks_nothing_and_still_has_a_log_loss() -> None:
    label = np.array([True, False] * 50)
    constant = pl.DataFrame({"prediction": [True] * 100, "score": [0.6] * 100})
    found = compare_columns("binary", label, v1=constant, v2=constant)
    assert found.metric("v1", "roc_auc").value is None
    assert found.metric("v1", "roc_auc").undefined == "v1 gives every record the same score, which ranks nothing"
    assert found.metric("v1", "log_loss").value == pytest.approx(sk.log_loss(label, [0.6] * 100))
    delta = found.delta("v2", "roc_auc")
    assert delta is not None
    assert (delta.delta, delta.interval, delta.p_value, delta.verdict) == (None, None, None, "inconclusive")
    assert delta.reason == "v2 gives every record the same score, which ranks nothing"


@pytest.mark.parametrize(("label", "reason"), [(True, "every label is positive"), (False, "no label is positive")])
def test_labels_of_one_class_leave_what_needs_two_undefined(label: bool, reason: str) -> None:
    rng = np.random.default_rng(0)
    score = rng.random(100)
    frame = pl.DataFrame({"prediction": score > 0.5, "score": score})
    found = compare_columns("binary", np.full(100, label), v1=frame, v2=frame)
    for name in ("balanced_accuracy", "roc_auc", "average_precision"):
        assert (found.metric("v1", name).value, found.metric("v1", name).undefined) == (None, reason)
    assert found.metric("v1", "accuracy").value is not None


def test_a_version_without_scores_is_compared_on_what_needs_none() -> None:
    label = np.array([True, False] * 50)
    hard = pl.DataFrame({"prediction": label})
    soft = pl.DataFrame({"prediction": label, "score": np.where(label, 0.9, 0.1)})
    found = compare_columns("binary", label, v1=hard, v2=soft)
    assert found.metric("v1", "log_loss").undefined == "v1 gives no scores"
    assert found.metric("v2", "log_loss").value == pytest.approx(-math.log(0.9))
    delta = found.delta("v2", "log_loss")
    assert delta is not None
    assert (delta.delta, delta.reason) == (None, "v1 gives no scores")


def test_scores_alone_are_cut_at_the_threshold() -> None:
    label = np.array([True, False] * 50)
    found = compare_columns("binary", label, v1=pl.DataFrame({"score": np.where(label, 0.5, 0.49)}))
    assert found.metric("v1", "accuracy").value == 1.0


def test_a_version_that_is_never_wrong_gets_no_interval_of_width_nothing() -> None:
    label = np.array([True, False] * 50)
    found = compare_columns("binary", label, v1=pl.DataFrame({"prediction": label}))
    assert found.metric("v1", "accuracy").value == 1.0
    assert found.metric("v1", "accuracy").interval is None
