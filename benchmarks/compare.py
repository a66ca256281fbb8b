"""What a comparison costs beside scipy's bootstrap, and how their intervals differ: `python benchmarks/compare.py`.

Two versions over labelled records of a stream whose records are not independent. scipy resamples single records, one
metric; mlstream resamples blocks of event time, all six metrics with their intervals, p-values and verdicts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from scipy.stats import bootstrap

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Line, Report, show
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.result import Comparison
from mlstream.config import ExperimentConfig

T = TypeVar("T")

DAY_MS = 86_400_000
START_MS = 1_380_585_600_000
DAYS = 92
# What happens to the whole stream lasts for some hours: the correlation of one hour with the next.
MEMORY = 0.8


def stream(records: int, *, seed: int = 7) -> Evidence:
    """`records` labelled records in 4 partitions over 92 days, scored by two versions of nearly the same quality."""
    rng = np.random.default_rng(seed)
    time_ms = np.sort(rng.integers(0, DAYS * DAY_MS, records)) + START_MS
    hour = (time_ms - START_MS) // 3_600_000
    late = rng.random(records) < 0.22
    scores = {}
    for name, signal in (("v1", 1.0), ("v2", 1.05)):
        logit = signal * np.where(late, 0.6, -0.9) + 0.7 * _remembering(rng, DAYS * 24)[hour]
        scores[name] = 1 / (1 + np.exp(-logit - 0.7 * rng.standard_normal(records)))
    place = np.arange(records)
    frame = pl.DataFrame(
        {
            "_partition": (place % 4).astype(np.int32),
            "_offset": place // 4,
            "_timestamp": time_ms,
            "late": late,
            **scores,
        }
    ).with_columns(pl.col("_timestamp").cast(pl.Datetime("ms", "UTC")))
    outputs = {
        name: frame.select(
            pl.col("_partition").alias("source_partition"),
            pl.col("_offset").alias("source_offset"),
            prediction=pl.col(name) >= 0.5,
            score=pl.col(name),
        )
        for name in scores
    }
    return Evidence(frame.select("_partition", "_offset", "_timestamp", "late"), outputs)


def described(evidence: Evidence, *, seed: int = 8) -> Evidence:
    """The same with eight columns, which are searched for slices."""
    rng = np.random.default_rng(seed)
    rows = evidence.records.height
    columns = {f"kind_{size}": pl.Series(rng.integers(0, size, rows)).cast(pl.String) for size in (3, 16, 100)}
    columns |= {f"count_{size}": pl.Series(rng.integers(0, size, rows)) for size in (7, 24, 8000)}
    columns |= {f"measure_{number}": pl.Series(rng.normal(size=rows)) for number in range(2)}
    return replace(evidence, records=evidence.records.with_columns(**columns))


def experiment(resamples: int, metrics: list[str] | None = None) -> ExperimentConfig:
    """The two versions of `stream`."""
    return ExperimentConfig.model_validate(
        {
            "experiment": "benchmark",
            "input": {"topic": "input"},
            "labels": {"value": "late"},
            "versions": {"v1": {"model": "a.py:f"}, "v2": {"model": "b.py:f"}},
            "bootstrap": {"resamples": resamples},
            "metrics": metrics,
        }
    )


def by_scipy(evidence: Evidence, resamples: int) -> tuple[float, float]:
    """The paired percentile interval of the difference in accuracy, records taken as independent."""
    late = evidence.records["late"]
    right = [(evidence.predictions[name]["prediction"] == late).cast(pl.Float64).to_numpy() for name in ("v2", "v1")]
    found = bootstrap(
        right,
        lambda own, base, axis: np.mean(own, axis=axis) - np.mean(base, axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 20_000_000 // late.len()),
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def measure(*, records: int, resamples: int, rounds: int) -> Report:
    """The same records by both, and ten times as many by mlstream."""
    small, large = stream(records), stream(10 * records)
    scipy_s, rows = _timed(lambda: by_scipy(small, resamples), 1)
    one_s, one = _timed(lambda: compare_predictions(experiment(resamples, ["accuracy"]), small), rounds)
    all_s, every = _timed(lambda: compare_predictions(experiment(resamples), small), rounds)
    columns = described(small)
    searched_s, _ = _timed(lambda: compare_predictions(experiment(resamples), columns), rounds)
    large_s, _ = _timed(lambda: compare_predictions(experiment(resamples), large), rounds)
    metrics = len(every.metrics) // 2
    return Report(
        f"comparing two versions, {resamples:,} resamples, best of {rounds}",
        (
            Line(f"scipy.stats.bootstrap, accuracy, {records:,} records", scipy_s, "s", 1.0, _interval(*rows)),
            Line(f"mlstream, accuracy, {records:,} records", one_s, "s", one_s / scipy_s, _of(one)),
            Line(f"mlstream, {metrics} metrics, {records:,} records", all_s, "s", all_s / scipy_s, _of(every)),
            Line("the same, eight columns searched for slices", searched_s, "s", searched_s / scipy_s),
            Line(f"mlstream, {metrics} metrics, {10 * records:,} records", large_s, "s", large_s / scipy_s),
        ),
        ((f"{metrics} metrics in less time than scipy needs for one", all_s < scipy_s),),
    )


def _of(found: Comparison) -> str:
    delta = found.delta("v2", "accuracy")
    if delta is None or delta.interval is None or found.blocks is None:
        return "no interval"
    return f"{_interval(delta.interval.low, delta.interval.high)}, {found.blocks.count} blocks"


def _interval(low: float, high: float) -> str:
    return f"95 %: {low:+.5f} to {high:+.5f}"


def _timed(work: Callable[[], T], rounds: int) -> tuple[float, T]:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - start)
    return min(times), found


def _remembering(rng: np.random.Generator, length: int) -> np.ndarray:
    fresh = rng.standard_normal(length)
    fresh[1:] *= np.sqrt(1 - MEMORY**2)
    for at in range(1, length):
        fresh[at] += MEMORY * fresh[at - 1]
    return fresh


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(measure(records=options.records, resamples=options.resamples, rounds=options.rounds), as_json=options.json)
