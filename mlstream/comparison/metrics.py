"""Metrics as functions of sums that merge: add the sums of two blocks and you have those of both. No I/O, no chance.

Each metric tells, of one version's answers, the sums of every block (blocks × columns), and is a function of their
total. All of them are unchanged when every sum is multiplied by the same number, so that the influence of a block on
the figure is `gradient(total) @ sums[block]`, and these influences add up to zero (Euler). Ranking metrics are in
`ranking.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.sums import Floats, Integers, add, count

INF = float("inf")


class Metric(Protocol):
    """One figure of a version.

    Attributes:
        name: as in the experiment file.
        higher_is_better: the direction.
        bounds: the least and the largest value that it can have.
    """

    @property
    def name(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def bounds(self) -> tuple[float, float]: ...

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        """Why the figure does not exist for these records, or None when it does."""

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        """The exact figure; `total` is the sum over all blocks, (columns,)."""

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        """The sums of each block: (blocks, columns), float64."""

    def value(self, sums: Floats) -> Floats:
        """(…, columns) → (…). NaN where the sums have no figure."""

    def gradient(self, sums: Floats) -> Floats:
        """The derivative of `value` by each sum: (…, columns) → (…, columns)."""

    def support(self, sums: Floats) -> tuple[int, str]:
        """How many blocks hold what the figure needs most sorely, and what that is."""


def divide(numerator: Floats, denominator: Floats) -> Floats:
    """`numerator / denominator`, NaN where the denominator is zero, without a warning."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a loss (or a gain) over records. Sums: records, loss."""

    name: str
    higher_is_better: bool
    bounds: tuple[float, float]
    loss: Callable[[Truth, Answer], Floats]
    needs_scores: bool = False

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return without_scores(truth, answer) if self.needs_scores else None

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        return np.column_stack([count(block, blocks), add(self.loss(truth, answer), block, blocks)])

    def value(self, sums: Floats) -> Floats:
        return divide(sums[..., 1], sums[..., 0])

    def gradient(self, sums: Floats) -> Floats:
        records = sums[..., 0]
        return np.stack([-divide(self.value(sums), records), divide(np.ones_like(records), records)], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        return int(np.count_nonzero(sums[:, 0])), "records"


@dataclass(frozen=True, slots=True)
class RootMean:
    """The square root of a mean."""

    mean: Mean
    name: str

    @property
    def higher_is_better(self) -> bool:
        return self.mean.higher_is_better

    @property
    def bounds(self) -> tuple[float, float]:
        return (0.0, INF)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return self.mean.undefined(truth, answer)

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        return self.mean.tally(truth, answer, block, blocks)

    def value(self, sums: Floats) -> Floats:
        return np.sqrt(self.mean.value(sums))

    def gradient(self, sums: Floats) -> Floats:
        root = self.value(sums)[..., None]
        slope = np.zeros(sums.shape)
        # At zero the root has no slope; there every block's loss is zero, and so is its influence.
        np.divide(self.mean.gradient(sums), 2 * root, out=slope, where=root > 0)
        return slope

    def support(self, sums: Floats) -> tuple[int, str]:
        return self.mean.support(sums)


@dataclass(frozen=True, slots=True)
class BalancedAccuracy:
    """The mean over the classes of the share of their records that is answered rightly (Brodersen et al. 2010).

    Sums: for each class its records, then for each class those answered rightly.
    """

    name: str = "balanced_accuracy"
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return one_class(truth)

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        classes = max(len(truth.classes), 2)
        right = truth.values == answer.predicted
        cell = block * classes + truth.values.astype(np.int64)
        both = [count(cell, blocks * classes), count(cell, blocks * classes, of=right)]
        return np.hstack([part.reshape(blocks, classes) for part in both])

    def value(self, sums: Floats) -> Floats:
        records, right = np.split(sums, 2, axis=-1)
        mean: Floats = divide(right, records).mean(axis=-1)
        return mean

    def gradient(self, sums: Floats) -> Floats:
        records, right = np.split(sums, 2, axis=-1)
        slope = divide(np.ones_like(records), records) / records.shape[-1]
        return np.concatenate([-slope * divide(right, records), slope], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        records, _ = np.split(sums, 2, axis=-1)
        return int(np.count_nonzero(records, axis=0).min()), "records of the rarest class"


@dataclass(frozen=True, slots=True)
class R2:
    """One less the ratio of the squared errors to the squared distances of the labels from their mean.

    Sums: records, labels, squared labels, squared errors; the labels less the mean of all of them, so that no digits
    are lost when they are large, and all in units of the labels' range, so that no square leaves a double's range.
    """

    name: str = "r2"
    higher_is_better: bool = True
    bounds: tuple[float, float] = (-INF, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        if len(truth) < 2:
            return "it needs two labelled records"
        # Below 1e-150 not even squares differ from nothing; beside errors 1e70 times their range labels do not count.
        spread, error = np.ptp(truth.values), np.abs(truth.values - answer.predicted).max()
        return "all labels are equal" if spread < 1e-150 or spread < 1e-70 * error else None

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        mean = add(truth.values, np.zeros(len(truth), dtype=np.int64), 1)[0] / len(truth)
        unit = np.ptp(truth.values)
        centred = (truth.values - mean) / unit
        columns = (centred, centred**2, ((truth.values - answer.predicted) / unit) ** 2)
        return np.column_stack([count(block, blocks), *(add(column, block, blocks) for column in columns)])

    def value(self, sums: Floats) -> Floats:
        return 1 - divide(sums[..., 3], self._spread(sums))

    def gradient(self, sums: Floats) -> Floats:
        spread = self._spread(sums)
        mean = divide(sums[..., 1], sums[..., 0])
        slope = divide(divide(sums[..., 3], spread), spread)
        return np.stack(
            [slope * mean**2, -2 * slope * mean, slope, -divide(np.ones_like(spread), spread)],
            axis=-1,
        )

    def support(self, sums: Floats) -> tuple[int, str]:
        return int(np.count_nonzero(sums[:, 0])), "records"

    @staticmethod
    def _spread(sums: Floats) -> Floats:
        spread: Floats = sums[..., 2] - divide(sums[..., 1] ** 2, sums[..., 0])
        return spread


@dataclass(frozen=True, slots=True)
class CoverageGap:
    """How far the share of labels at or below the prediction is from the quantile's level. Sums: records, below."""

    level: float
    name: str = "coverage_gap"
    higher_is_better: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return None

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        below = truth.values <= answer.predicted
        return np.column_stack([count(block, blocks), count(block, blocks, of=below)])

    def value(self, sums: Floats) -> Floats:
        return np.abs(divide(sums[..., 1], sums[..., 0]) - self.level)

    def gradient(self, sums: Floats) -> Floats:
        share = divide(sums[..., 1], sums[..., 0])
        side = divide(np.sign(share - self.level), sums[..., 0])
        return np.stack([-side * share, side], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        return int(np.count_nonzero(sums[:, 0])), "records"


def pinball(level: float) -> Mean:
    """The loss whose least mean is at the quantile of that level (Koenker & Bassett 1978)."""

    def loss(truth: Truth, answer: Answer) -> Floats:
        above = truth.values - answer.predicted
        found: Floats = np.maximum(level * above, (level - 1) * above)
        return found

    return Mean("pinball_loss", False, (0.0, INF), loss)


def own_mean(name: str, *, higher_is_better: bool) -> Mean:
    """The mean of a value of the experiment's own, which answers bring."""

    def loss(truth: Truth, answer: Answer) -> Floats:
        return answer.own[name]

    return Mean(name, higher_is_better, (-INF, INF), loss)


def one_class(truth: Truth) -> str | None:
    """Why a figure that needs two classes does not exist, or None."""
    if truth.task == "multiclass":
        return None if len(truth.classes) > 1 else f"all labels are {truth.classes[0]!r}"
    positives = int(truth.values.sum())
    if positives == 0:
        return "no label is positive"
    return "every label is positive" if positives == len(truth) else None


def without_scores(truth: Truth, answer: Answer) -> str | None:
    """Why a figure that needs probabilities does not exist, or None."""
    if answer.score is None:
        return f"{answer.version} gives no scores"
    unknown = [str(item) for item in truth.classes if item not in answer.classes]
    return f"{answer.version} has no score for the class {unknown[0]}" if unknown else None


def correct(truth: Truth, answer: Answer) -> Floats:
    """1 where the answer is right."""
    hits: NDArray[np.bool_] = truth.values == answer.predicted
    return hits.astype(np.float64)


def log_loss(truth: Truth, answer: Answer) -> Floats:
    """Minus the logarithm of the true class's probability, which is clipped to [eps, 1 - eps] as scikit-learn does."""
    if answer.score is None:
        raise ValueError(f"{answer.version} gives no scores")
    if truth.task == "binary":
        given = np.where(truth.values, answer.score, 1 - answer.score)
    else:
        column = np.array([answer.classes.index(item) for item in truth.classes])[truth.values]
        given = answer.score[np.arange(len(truth)), column]
    eps = float(np.finfo(np.float64).eps)
    loss: Floats = -np.log(np.clip(given, eps, 1 - eps))
    return loss


def brier(truth: Truth, answer: Answer) -> Floats:
    """The squared distance of the probability from 1 (positive) or 0 (Brier 1950)."""
    if answer.score is None:
        raise ValueError(f"{answer.version} gives no scores")
    loss: Floats = (answer.score - truth.values) ** 2
    return loss


def absolute_error(truth: Truth, answer: Answer) -> Floats:
    """The distance of the prediction from the label."""
    loss: Floats = np.abs(truth.values - answer.predicted)
    return loss


def squared_error(truth: Truth, answer: Answer) -> Floats:
    """Its square."""
    loss: Floats = (truth.values - answer.predicted) ** 2
    return loss


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Mean("accuracy", True, (0.0, 1.0), correct),
        BalancedAccuracy(),
        Mean("log_loss", False, (0.0, INF), log_loss, needs_scores=True),
        Mean("brier_score", False, (0.0, 1.0), brier, needs_scores=True),
        Mean("mae", False, (0.0, INF), absolute_error),
        RootMean(Mean("mse", False, (0.0, INF), squared_error), "rmse"),
        R2(),
    )
}
