"""How often intervals hold the truth, on made-up streams that remember: `python -m tests.comparison.simulate`.

Prints the table of docs/statistics.md. The suite runs a short form of it (test_bootstrap.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.own_metrics import OwnFunction
from tests.comparison.streams import MEAN_ERROR, Stream, binary, experiment, regression

RESAMPLES = 600
FACTOR = 1.1


@dataclass(frozen=True, slots=True)
class Covered:
    """Shares of replications whose 95 % interval of the difference of mean absolute errors held the truth.

    Attributes:
        blocks: of those that `compare_predictions` gave a verdict on.
        few: of those that it gave without one, because the blocks are too few; NaN when there were none.
        rows: of a percentile bootstrap that resamples single records.
        told: of replications in which there were blocks enough for a verdict.
        length: the median number of blocks.
    """

    blocks: float
    few: float
    rows: float
    told: float
    length: float


@dataclass(frozen=True, slots=True)
class Falsely:
    """How often two versions that differ in nothing got a verdict.

    Attributes:
        single: the share of all metrics that were called better or worse.
        family: the share of comparisons with a corrected p-value under 5 %.
    """

    single: float
    family: float


def coverage(stream: Stream, *, replications: int, seed: int) -> Covered:
    """Simulate streams with a known difference between the versions."""
    rng = np.random.default_rng(seed)
    config = experiment("regression", metrics=["mae"], bootstrap={"resamples": RESAMPLES})
    truth = (FACTOR - 1) * MEAN_ERROR
    held: dict[bool, list[bool]] = {True: [], False: []}
    held_by_rows, counts = [], []
    for _ in range(replications):
        evidence = regression(stream, rng, factor=FACTOR)
        found = compare_predictions(config, evidence)
        (delta,) = found.deltas
        if delta.interval is not None:
            held[delta.p_value is not None].append(delta.interval.low <= truth <= delta.interval.high)
        low, high = row_bootstrap(evidence, rng)
        held_by_rows.append(low <= truth <= high)
        counts.append(0 if found.blocks is None else found.blocks.count)
    return Covered(
        blocks=_share(held[True]),
        few=_share(held[False]),
        rows=_share(held_by_rows),
        told=len(held[True]) / replications,
        length=float(np.median(counts)),
    )


def false_verdicts(stream: Stream, *, replications: int, seed: int) -> Falsely:
    """Simulate streams on which two versions are equally good."""
    rng = np.random.default_rng(seed)
    config = experiment("binary", bootstrap={"resamples": RESAMPLES})
    called, families = [], []
    for _ in range(replications):
        deltas = compare_predictions(config, binary(stream, rng)).deltas
        called += [delta.verdict in ("better", "worse") for delta in deltas if delta.interval is not None]
        families.append(any(delta.p_adjusted is not None and delta.p_adjusted < 0.05 for delta in deltas))
    return Falsely(float(np.mean(called)), float(np.mean(families)))


def root_error(frame: pl.DataFrame) -> float:
    """The root mean squared error, as a function of the whole."""
    return float(np.sqrt(np.mean((frame["prediction"] - frame["label"]).to_numpy() ** 2)))


def relative_error(frame: pl.DataFrame) -> float:
    """The errors as a share of the labels: a ratio of sums."""
    return float((frame["prediction"] - frame["label"]).abs().sum() / frame["label"].abs().sum())


def median_error(frame: pl.DataFrame) -> float:
    """The median absolute error: a quantile."""
    return float(np.median((frame["prediction"] - frame["label"]).abs().to_numpy()))


# Function of the whole, and its value for v1 on an endless stream.
WHOLES = {
    "root": (root_error, float(np.exp(1 / 4))),
    "relative": (relative_error, MEAN_ERROR / float(np.sqrt(2 / np.pi))),
    "median": (median_error, 1.0),
}


def coverage_of_wholes(
    stream: Stream, names: Sequence[str] = tuple(WHOLES), *, replications: int, seed: int
) -> dict[str, float]:
    """How often the 95 % interval of the difference held the truth, of those with a verdict: by function of the whole.

    "mae" beside them is the metric that is a mean.
    """
    rng = np.random.default_rng(seed)
    own = {name: {"function": f"own.py:{name}", "better": "lower", "of": "whole"} for name in names}
    functions = {name: OwnFunction(WHOLES[name][0], "") for name in names}
    config = experiment("regression", metrics=["mae"], custom_metrics=own, bootstrap={"resamples": RESAMPLES})
    truth = {"mae": MEAN_ERROR} | {name: WHOLES[name][1] for name in names}
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(replications):
        evidence = replace(regression(stream, rng, factor=FACTOR), functions=functions)
        for delta in compare_predictions(config, evidence).deltas:
            if delta.interval is not None and delta.p_value is not None:
                known = (FACTOR - 1) * truth[delta.metric]
                held[delta.metric].append(delta.interval.low <= known <= delta.interval.high)
    return {name: _share(found) for name, found in held.items()}


def _share(found: list[bool]) -> float:
    return float(np.mean(found)) if found else float("nan")


def row_bootstrap(evidence: Evidence, rng: np.random.Generator, *, resamples: int = 100) -> tuple[float, float]:
    """The percentile interval that takes records for independent."""
    label = evidence.records["label"]
    losses = {name: (frame["prediction"] - label).abs() for name, frame in evidence.predictions.items()}
    difference = (losses["v2"] - losses["v1"]).to_numpy()
    # How often a record is drawn is Poisson(1) but for a factor that the mean takes out.
    drawn = rng.poisson(1.0, (resamples, difference.size))
    low, high = np.quantile(drawn @ difference / drawn.sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Run all scenarios and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wholes", action="store_true", help="functions of all records")
    parser.add_argument("--hard", action="store_true", help="streams that hardly give thirty blocks")
    options = parser.parse_args()
    if options.wholes:
        for stream in (Stream(500, 4, 0.5, 0.5), Stream(1500, 4), Stream(1500, 4, 0.5, 0.5), Stream(5000, 4)):
            print(stream, coverage_of_wholes(stream, replications=options.replications, seed=options.seed), flush=True)
        return
    usual = [(ticks, *how) for ticks in (500, 1500, 5000) for how in ((0.0, 0.0), (0.7, 0.0), (0.5, 0.5), (0.7, 0.5))]
    hard = [(200, 0.7, 0.5), (500, 0.85, 0.5), (1000, 0.9, 0.5)]
    print("ticks memory shock | blocks | verdict possible | held | held with few blocks | held by rows")
    for ticks, memory, shock in hard if options.hard else usual:
        found = coverage(Stream(ticks, 4, memory, shock), replications=options.replications, seed=options.seed)
        figures = (found.told, found.blocks, found.few, found.rows)
        shown = "  ".join(f"{value:.4f}" for value in figures)
        print(f"{ticks:5} {memory:4} {shock:4} | {found.length:6.1f} | {shown}", flush=True)
    if options.hard:
        return
    for ticks, memory, shock in ((1500, 0.0, 0.0), (1500, 0.7, 0.5)):
        stream = Stream(ticks, 4, memory, shock)
        print(stream, false_verdicts(stream, replications=options.replications // 4, seed=options.seed), flush=True)


if __name__ == "__main__":
    main()
