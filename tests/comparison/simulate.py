"""How often intervals hold the truth, on made-up streams that remember: `python -m tests.comparison.simulate`.

Prints the table of docs/statistics.md. The suite runs a short form of it (test_bootstrap.py).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import polars as pl

from mlstream.comparison.compare import Evidence, compare_predictions
from tests.comparison.streams import MEAN_ERROR, Stream, binary, experiment, regression

RESAMPLES = 600
FACTOR = 1.1


@dataclass(frozen=True, slots=True)
class Covered:
    """Shares of replications whose 95 % interval of the difference of mean absolute errors held the truth.

    Attributes:
        blocks: of those that `compare_predictions` gave.
        rows: of a percentile bootstrap that resamples single records.
        told: of replications in which there were blocks enough for a verdict.
        length: the median number of blocks.
    """

    blocks: float
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
    held, held_by_rows, counts = [], [], []
    for _ in range(replications):
        evidence = regression(stream, rng, factor=FACTOR)
        found = compare_predictions(config, evidence)
        (delta,) = found.deltas
        if delta.interval is not None and delta.p_value is not None:
            held.append(delta.interval.low <= truth <= delta.interval.high)
        low, high = row_bootstrap(evidence, rng)
        held_by_rows.append(low <= truth <= high)
        counts.append(0 if found.blocks is None else found.blocks.count)
    return Covered(
        float(np.mean(held)), float(np.mean(held_by_rows)), len(held) / replications, float(np.median(counts))
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
    options = parser.parse_args()
    rows = []
    for ticks in (500, 1500, 5000):
        for memory, shock in ((0.0, 0.0), (0.7, 0.0), (0.5, 0.5), (0.7, 0.5)):
            stream = Stream(ticks, 4, memory, shock)
            found = coverage(stream, replications=options.replications, seed=options.seed)
            rows.append((ticks, memory, shock, found.length, found.told, found.blocks, found.rows))
            print(
                "  ".join(f"{value:>6}" if isinstance(value, int) else f"{value:6.3f}" for value in rows[-1]),
                flush=True,
            )
    print(pl.DataFrame(rows, schema=["ticks", "memory", "shock", "blocks", "told", "covered", "rows"], orient="row"))
    for ticks, memory, shock in ((1500, 0.0, 0.0), (1500, 0.7, 0.5)):
        stream = Stream(ticks, 4, memory, shock)
        print(stream, false_verdicts(stream, replications=options.replications // 4, seed=options.seed), flush=True)


if __name__ == "__main__":
    main()
