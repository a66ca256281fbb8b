"""Distances of distributions equal those of scipy and of plain counting; columns that cannot be compared say why."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from scipy.stats import ks_2samp

from mlstream.comparison.compare import Evidence, Other, compare_predictions
from mlstream.comparison.shift import LEVELS, find_drift, kolmogorov_smirnov, stability_index
from tests.comparison.streams import Stream, binary, experiment


@pytest.mark.parametrize("seed", range(5))
def test_the_distance_of_two_samples_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own, other = rng.normal(size=400).round(1), rng.normal(0.3, 1.2, size=700).round(1)
    assert kolmogorov_smirnov(own, other) == pytest.approx(ks_2samp(own, other).statistic, abs=1e-12)


def test_the_stability_index_is_the_one_counted_bin_by_bin() -> None:
    rng = np.random.default_rng(9)
    own, reference = rng.normal(0.5, 1, 2000), rng.normal(size=3000)
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    bounds = [-np.inf, *edges, np.inf]
    total = 0.0
    for low, high in pairwise(bounds):
        p, q = (max(np.mean((part >= low) & (part < high)), 1e-4) for part in (own, reference))
        total += (p - q) * np.log(p / q)
    assert stability_index(own, reference) == pytest.approx(total, abs=1e-12)
    assert stability_index(reference, reference) == 0.0
    assert stability_index(np.full(10, 3.0), np.zeros(10)) > 1


def test_scores_of_versions_are_held_against_the_baselines() -> None:
    evidence = binary(Stream(300, 2), np.random.default_rng(1), edge=1.0)
    (shift,) = compare_predictions(experiment("binary", bootstrap={"resamples": 200}), evidence).shifts
    own, base = (evidence.predictions[name]["score"].to_numpy() for name in ("v2", "v1"))
    assert (shift.version, shift.baseline, shift.column) == ("v2", "v1", "score")
    assert shift.ks == pytest.approx(ks_2samp(own, base).statistic, abs=1e-12)
    assert shift.mean == pytest.approx(own.mean())
    assert shift.quantiles == pytest.approx(np.quantile(own, LEVELS))
    assert shift.baseline_quantiles == pytest.approx(np.quantile(base, LEVELS))


def frames() -> tuple[pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(6)
    here = pl.DataFrame(
        {
            "_partition": np.zeros(900),
            "_offset": np.arange(900),
            "same": rng.normal(size=900),
            "moved": rng.normal(2, 1, 900),
            "city": rng.choice(["ams", "ber"], 900, p=[0.8, 0.2]),
            "fresh": np.ones(900),
            "kind": ["1"] * 900,
            "empty": pl.Series([None] * 900, dtype=pl.Float64),
            "some": pl.Series([float(row) if row % 3 else None for row in range(900)]),
        }
    )
    there = pl.DataFrame(
        {
            "same": rng.normal(size=500),
            "moved": rng.normal(size=500),
            "city": rng.choice(["ams", "ber", "par"], 500, p=[0.2, 0.3, 0.5]),
            "kind": [1] * 500,
            "empty": np.ones(500),
            "gone": ["x"] * 500,
            "some": pl.Series([float(row) if row % 2 else float("nan") for row in range(500)]),
        }
    )
    return here, there


def test_columns_of_two_snapshots_are_compared_and_the_worst_come_first() -> None:
    here, there = frames()
    drift = find_drift(here, there, snapshot_id="a" * 64, snapshot_name="before")
    assert (drift.records, drift.other_records, drift.snapshot_name) == (900, 500, "before")
    found = {item.column: item for item in drift.columns}
    assert [item.column for item in drift.columns] == [
        "empty",
        "fresh",
        "gone",
        "kind",
        "moved",
        "city",
        "some",
        "same",
    ]
    moved = found["moved"]
    assert moved.ks == pytest.approx(ks_2samp(here["moved"], there["moved"]).statistic)
    assert (moved.kind, moved.mean) == ("number", pytest.approx(here["moved"].mean()))
    city = found["city"]
    shares = [frame["city"].value_counts(normalize=True) for frame in (here, there)]
    own, other = (dict(table.iter_rows()) for table in shares)
    assert city.ks == pytest.approx(sum(abs(own.get(k, 0) - other.get(k, 0)) for k in other) / 2)
    assert city.psi is not None
    assert city.psi > 1
    assert found["some"].nulls == pytest.approx(1 / 3)
    assert {name: found[name].note for name in ("fresh", "gone", "empty", "kind")} == {
        "fresh": "in this snapshot only",
        "gone": "in the other snapshot only",
        "empty": "without a number on one side",
        "kind": "String here and Int64 in the other snapshot",
    }


def test_a_comparison_holds_its_input_against_another_snapshots() -> None:
    evidence = binary(Stream(300, 2), np.random.default_rng(1))
    records = evidence.records.with_columns(x=pl.Series(np.arange(600.0)))
    other = Other("b" * 64, None, records.with_columns(x=pl.col("x") + 1000))
    config = experiment("binary", bootstrap={"resamples": 200})
    drift = compare_predictions(config, Evidence(records, evidence.predictions, against=other)).drift
    assert drift is not None
    assert (drift.columns[0].column, drift.columns[0].ks) == ("x", 1.0)
    assert drift.columns[1].ks == 0.0
