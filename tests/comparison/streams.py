"""Made-up streams whose versions differ by a known amount, for the tests of the statistics.

A record's error is drawn from a process that remembers: in every partition a first-order autoregression of its own
(`memory` is the correlation of neighbours), and over all partitions a common shock (`shock` is its share of the
variance) with the same memory. Rows of such a stream are not independent, and neither are its partitions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.signal import lfilter

from mlstream.comparison.compare import Evidence
from mlstream.config import ExperimentConfig

START_MS = 1_380_585_600_000
TICK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Stream:
    """`ticks` minutes with one record a minute in each partition."""

    ticks: int = 1500
    partitions: int = 4
    memory: float = 0.7
    shock: float = 0.5

    @property
    def records(self) -> int:
        return self.ticks * self.partitions

    def noise(self, rng: np.random.Generator) -> np.ndarray:
        """(ticks, partitions), standard normal at every place."""
        own = self._remembering(rng, self.partitions)
        common = self._remembering(rng, 1)
        return np.sqrt(1 - self.shock) * own + np.sqrt(self.shock) * common

    def frame(self, **columns: np.ndarray) -> pl.DataFrame:
        """Columns of shape (ticks, partitions) as records, in the order of partition and offset."""
        tick, partition = np.meshgrid(np.arange(self.ticks), np.arange(self.partitions), indexing="ij")
        made = pl.DataFrame(
            {
                "_partition": partition.T.ravel().astype(np.int32),
                "_offset": tick.T.ravel().astype(np.int64),
                "_timestamp": START_MS + TICK_MS * tick.T.ravel().astype(np.int64),
                **{name: values.T.ravel() for name, values in columns.items()},
            }
        )
        return made.with_columns(pl.col("_timestamp").cast(pl.Datetime("ms", "UTC")))

    def _remembering(self, rng: np.random.Generator, series: int) -> np.ndarray:
        fresh = rng.standard_normal((self.ticks, series))
        fresh[1:] *= np.sqrt(1 - self.memory**2)
        return lfilter([1.0], [1.0, -self.memory], fresh, axis=0)


# The mean of exp(z / 2) over a standard normal z.
MEAN_ERROR = float(np.exp(1 / 8))


def regression(stream: Stream, rng: np.random.Generator, *, factor: float = 1.0) -> Evidence:
    """v1 and v2 with absolute errors exp(z / 2) and factor * exp(z' / 2), so that the true difference of their mean
    absolute errors is (factor - 1) * MEAN_ERROR.
    """
    label = rng.standard_normal((stream.ticks, stream.partitions))
    sign = rng.choice((-1.0, 1.0), label.shape)
    shared = stream.noise(rng)
    errors = {
        name: scale * sign * np.exp((0.6 * shared + 0.8 * stream.noise(rng)) / 2)
        for name, scale in (("v1", 1.0), ("v2", factor))
    }
    return _evidence(stream.frame(label=label, **{name: label + error for name, error in errors.items()}), errors, {})


def binary(stream: Stream, rng: np.random.Generator, *, edge: float = 0.0) -> Evidence:
    """v1 and v2 with scores that are exchangeable when `edge` is 0: then no metric differs in truth."""
    label = rng.random((stream.ticks, stream.partitions)) < 0.3
    shared = stream.noise(rng)
    scores = {}
    for name, signal in (("v1", 1.0), ("v2", 1.0 + edge)):
        logit = signal * np.where(label, 0.8, -0.8) + 0.6 * shared + 0.8 * stream.noise(rng)
        scores[name] = 1 / (1 + np.exp(-logit))
    return _evidence(stream.frame(label=label, **scores), {}, scores)


def experiment(task: str, **changes: object) -> ExperimentConfig:
    """An experiment with v1 and v2 whose label is the field `label`."""
    return ExperimentConfig.model_validate(
        {
            "experiment": "made-up",
            "task": task,
            "input": {"topic": "input"},
            "labels": {"value": "label"},
            "versions": {"v1": {"model": "a.py:f"}, "v2": {"model": "b.py:f"}},
            **changes,
        }
    )


def _evidence(records: pl.DataFrame, predicted: dict[str, np.ndarray], scored: dict[str, np.ndarray]) -> Evidence:
    outputs = {}
    for name in predicted or scored:
        answer = pl.col(name).alias("prediction" if name in predicted else "score")
        outputs[name] = records.select(
            pl.col("_partition").alias("source_partition"), pl.col("_offset").alias("source_offset"), answer
        )
    return Evidence(records.select("_partition", "_offset", "_timestamp", "label"), outputs)
