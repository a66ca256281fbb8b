"""What comparisons cost, beside scipy's bootstrap, and how their intervals differ: `python benchmarks/compare.py`.

First two versions over labelled records, in memory. scipy resamples single records, one metric; mlstream resamples
blocks of event time. Where records are independent both intervals must agree; where they are not, as those of streams,
scipy's is too narrow. Then the comparison as users call it, `mlstream.compare` of a run on the disk, each in a process
of its own: every metric, named slices, the search for slices, disagreements, curves, shifts. Its memory is the most
that was resident in this process (VmHWM), with libraries and mapped files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from scipy.stats import bootstrap

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.compare_run import Whole, compare_apart, decoded, write_run
from benchmarks.report import Line, Report, show
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.result import Comparison
from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.report import write_report

T = TypeVar("T")

DAY_MS = 86_400_000
START_MS = 1_380_585_600_000
DAYS = 92
# What happens to the whole stream lasts for some hours: the correlation of one hour with the next.
MEMORY = 0.8
GOAL_RATIO, GOAL_RECORDS = 50, 1_000_000
# Where records are independent: of the width of scipy's interval, that a bound may be off. Both are estimates: blocks
# are fewer than records, and studentised intervals are those of Student's t.
AGREES = 0.1
GOALS_S = {2_000_000: 4.0, 10_000_000: 20.0}
GOAL_BYTES, GOAL_HTML_BYTES = 2e9, 2e6
SLICES = ["count_7", "measure_0 > 1"]


def stream(records: int, *, seed: int = 7, independent: bool = False) -> Evidence:
    """`records` labelled records in 4 partitions over 92 days, scored by two versions of nearly the same quality.

    Hour by hour something happens to all records of a version, unless they are to be independent.
    """
    rng = np.random.default_rng(seed)
    time_ms = np.sort(rng.integers(0, DAYS * DAY_MS, records)) + START_MS
    hour = (time_ms - START_MS) // 3_600_000
    late = rng.random(records) < 0.22
    scores = {}
    for name, signal in (("v1", 1.0), ("v2", 1.05)):
        happened = rng.standard_normal(records) if independent else _remembering(rng, DAYS * 24)[hour]
        logit = signal * np.where(late, 0.6, -0.9) + 0.7 * happened
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


def experiment(
    resamples: int, metrics: list[str] | None = None, slices: Sequence[str] = (), search: list[str] | None = None
) -> ExperimentConfig:
    """The two versions of `stream`; the search for slices looks at the columns of `search`, or at all."""
    return ExperimentConfig.model_validate(
        {
            "experiment": "benchmark",
            "input": {"topic": "input"},
            "labels": {"value": "late"},
            "versions": {"v1": {"model": "a.py:f"}, "v2": {"model": "b.py:f"}},
            "bootstrap": {"resamples": resamples},
            "metrics": metrics,
            "slices": list(slices),
            "slice_search": {"columns": search},
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


def beside_scipy(*, records: int, resamples: int, rounds: int) -> Report:
    """The same records by both; one metric, as scipy, and all."""
    alike, evidence = stream(records, independent=True), stream(records)
    accuracy, every = experiment(resamples, ["accuracy"], search=[]), experiment(resamples, search=[])
    scipy_s, rows = _timed(lambda: by_scipy(alike, resamples), 1)
    _, narrow = _timed(lambda: by_scipy(evidence, min(resamples, 200)), 1)
    own_s, own = _timed(lambda: compare_predictions(accuracy, alike), rounds)
    _, wide = _timed(lambda: compare_predictions(accuracy, evidence), 1)
    all_s, found = _timed(lambda: compare_predictions(every, evidence), rounds)
    metrics, ratio, apart = len(found.metrics) // 2, scipy_s / own_s, _apart(own, rows)
    faster = (f"at least {GOAL_RATIO} x as fast as scipy for one metric: {ratio:,.0f} x", ratio >= GOAL_RATIO)
    return Report(
        f"two versions over {records:,} records in memory, {resamples:,} resamples, best of {rounds}",
        (
            Line("scipy.stats.bootstrap, accuracy, independent records", scipy_s, "s", 1.0, _interval(*rows)),
            Line("mlstream, accuracy, independent records", own_s, "s", own_s / scipy_s, _of(own)),
            Line(f"mlstream, {metrics} metrics, a stream", all_s, "s", all_s / scipy_s),
            Line("width of the interval, a stream: mlstream to scipy", _width(wide) / (narrow[1] - narrow[0]), "x"),
        ),
        (
            *([faster] if records >= GOAL_RECORDS else []),
            (
                f"independent records: both bounds within {AGREES:.0%} of scipy's width: {apart:.0%}",
                apart <= AGREES,
            ),
            (f"{metrics} metrics in less time than scipy needs for one", all_s < scipy_s),
        ),
    )


def whole(*, sizes: Sequence[int], resamples: int, rounds: int) -> Report:
    """Everything that a comparison says, from the disk in a process of its own and from frames in memory."""
    lines: list[Line] = []
    goals: list[tuple[str, bool]] = []
    for records in sizes:
        tries = rounds if records <= min(sizes) else 1
        own_s, took, html = _compare(records, resamples, tries)
        lines += _lines(records, own_s, took, html, of=tries)
        goals += _goals(records, took, html)
    return Report(
        f"a whole comparison: 6 metrics, {len(SLICES)} expressions of slices, 8 columns searched, "
        f"{resamples:,} resamples",
        lines,
        goals,
    )


def _compare(records: int, resamples: int, tries: int) -> tuple[float, Whole, int]:
    """Seconds in memory, what it took from the disk, and the bytes of its report."""
    evidence = described(stream(records))
    config = decoded(experiment(resamples, slices=SLICES), evidence)
    own_s, found = _timed(lambda: compare_predictions(config, evidence), tries)
    html = len(write_report(found, RunFacts("", config.experiment, "")).encode())
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        run_id = write_run(home, config, evidence)
        took = min((compare_apart(home, run_id) for _ in range(tries)), key=lambda each: each.seconds)
    return own_s, took, html


def _lines(records: int, own_s: float, took: Whole, html: int, *, of: int) -> list[Line]:
    best = f", best of {of}" if of > 1 else ""
    return [
        Line(f"{records:,} records, frames in memory", own_s, "s", None, f"compare_predictions{best}"),
        Line(f"{records:,} records, a run on the disk", took.seconds, "s", None, f"after imports{best}"),
        Line("  CPU of all its threads", took.cpu_seconds, "s"),
        Line("  peak resident memory of its process", took.memory_bytes / 1e6, "MB"),
        Line("  its HTML report", html / 1e3, "kB"),
    ]


def _goals(records: int, took: Whole, html: int) -> list[tuple[str, bool]]:
    goals = [(f"the report of {records:,} records under 2 MB: {html / 1e6:.2f} MB", html < GOAL_HTML_BYTES)]
    if records in GOALS_S:
        most = GOALS_S[records]
        goals.append((f"{records:,} records in under {most:g} s: {took.seconds:.1f} s", took.seconds < most))
    memory = took.memory_bytes
    goals.append((f"{records:,} records in under 2 GB: {memory / 1e9:.2f} GB", memory < GOAL_BYTES))
    return goals


def _apart(found: Comparison, rows: tuple[float, float]) -> float:
    """How far the farther bound is from scipy's, as a share of the width of scipy's interval."""
    delta = found.delta("v2", "accuracy")
    if delta is None or delta.interval is None:
        return float("inf")
    low, high = rows
    return max(abs(delta.interval.low - low), abs(delta.interval.high - high)) / (high - low)


def _width(found: Comparison) -> float:
    delta = found.delta("v2", "accuracy")
    return float("nan") if delta is None or delta.interval is None else delta.interval.high - delta.interval.low


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000, help="of the comparison beside scipy")
    parser.add_argument("--whole", type=int, nargs="*", default=list(GOALS_S), help="of whole comparisons")
    parser.add_argument("--resamples", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3, help="the best counts; of the largest only one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(
        beside_scipy(records=options.records, resamples=options.resamples, rounds=options.rounds), as_json=options.json
    )
    if options.whole:
        show(whole(sizes=options.whole, resamples=options.resamples, rounds=options.rounds), as_json=options.json)
