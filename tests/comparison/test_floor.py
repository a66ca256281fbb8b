"""What differs between computations of the baseline is the floor of a comparison: by how much metrics move by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.cost import read_cost
from mlstream.comparison.result import Comparison, Floor
from mlstream.errors import CoverageError
from tests.comparison.streams import Stream, binary, experiment

FLOOR = Floor("v1", 3, 400, 200, 0.25)
FAST = {"resamples": 200}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return binary(Stream(200, 2), np.random.default_rng(1))


def noisy(evidence: Evidence, by: float) -> pl.DataFrame:
    moved = pl.when(pl.col("source_offset") % 2 == 0).then(pl.col("score") * (1 - by)).otherwise("score")
    return evidence.predictions["v1"].with_columns(moved.alias("score"))


def test_the_floor_of_a_metric_is_the_largest_difference_to_the_baseline(evidence: Evidence) -> None:
    repeats = [noisy(evidence, 0.01), noisy(evidence, 0.2).reverse()]
    found = compare_predictions(experiment("binary", bootstrap=FAST), replace(evidence, floor=FLOOR, repeats=repeats))
    label = evidence.records["label"].to_numpy()
    base = log_loss(label, evidence.predictions["v1"]["score"].to_numpy())
    twins = [abs(log_loss(label, noisy(evidence, by)["score"].to_numpy()) - base) for by in (0.01, 0.2)]
    assert found.floor is not None
    assert found.floor.metrics["log_loss"] == pytest.approx(max(twins), abs=1e-9)
    assert (found.floor.computations, found.floor.differing) == (3, 200)
    assert Comparison.from_dict(found.to_dict()) == found


def test_without_differences_every_metrics_floor_is_zero(evidence: Evidence) -> None:
    equal = replace(FLOOR, differing=0, largest=0.0)
    found = compare_predictions(experiment("binary", bootstrap=FAST), replace(evidence, floor=equal))
    assert found.floor is not None
    assert set(found.floor.metrics.values()) == {0.0}


def test_a_floor_of_a_version_that_is_not_the_baseline_has_no_metrics(evidence: Evidence) -> None:
    found = compare_predictions(
        experiment("binary", bootstrap=FAST),
        replace(evidence, floor=FLOOR, repeats=[noisy(evidence, 0.1)]),
        baseline="v2",
    )
    assert found.floor == FLOOR


def test_a_repeat_that_lacks_records_is_refused(evidence: Evidence) -> None:
    short = replace(evidence, floor=FLOOR, repeats=[noisy(evidence, 0.1).head(50)])
    with pytest.raises(CoverageError, match="v1: 350 missing of 400 records"):
        compare_predictions(experiment("binary", bootstrap=FAST), short)


def test_costs_are_for_the_records_that_were_scored() -> None:
    figures = {"cpu_seconds": 3.0, "records_per_second": 1e5, "latency_p99_ms": 7.0, "memory_mb": 200.0}
    cost = read_cost("v1", figures, scored=2_000_000, reused="a" * 64)
    assert cost.cpu_seconds_per_million == pytest.approx(1.5)
    assert (cost.records_per_second, cost.latency_p99_ms, cost.memory_mb) == (1e5, 7.0, 200.0)
    assert (cost.latency_p50_ms, cost.record_latency_p50_us, cost.reused) == (None, None, "a" * 64)
    assert read_cost("v1", {"cpu_seconds": 0.1}, scored=0).cpu_seconds_per_million is None
