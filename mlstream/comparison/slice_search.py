"""Find the slices on which a version is worse than the baseline, at a controlled rate of false discoveries.

Every column of the input is cut into conditions. For each of them and each version a test over blocks asks whether the
mean loss there is that of the baseline; of the p-values those are kept that the procedure of Benjamini & Yekutieli
(2001) lets pass, which holds however slices overlap. Tests are two-sided and studentised over the comparison's blocks,
with the covariance of neighbouring blocks, against Student's t. The intervals of what was found are at the level that
keeps their false coverage rate (Benjamini & Yekutieli 2005): looking for the worst makes it look worse than it is.

What it does not: combine conditions. Name a combination under `slices:` to look at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.blocks import MIN_BLOCKS, Grid
from mlstream.comparison.conditions import Conditions
from mlstream.comparison.metrics import Mean, Metric, RootMean
from mlstream.comparison.result import SliceResult, SliceSearch
from mlstream.comparison.slices import Slice, measure_slices
from mlstream.comparison.sums import Floats, Integers, add, count
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError

# Losses from the finest to the coarsest: the first that all versions have is looked at.
_FINEST = ("log_loss", "brier_score", "pinball_loss", "mae", "rmse", "accuracy")
# Of two slices with nearly the same records the worse is kept.
_SAME = 0.9


@dataclass(frozen=True, slots=True)
class _Tested:
    """One condition for one version: where it is, and the two-sided p-value that its loss is the baseline's."""

    conditions: Conditions
    code: int
    version: str
    worse: bool
    p: float


def choose_loss(
    config: ExperimentConfig, metrics: Sequence[Metric], truth: Truth, answers: Sequence[Answer]
) -> Mean | None:
    """The mean whose differences are looked at; None when there is none that all versions have.

    Raises:
        ComparisonError: the metric that the experiment names is no mean over records.
    """
    means = {metric.name: loss for metric in metrics if (loss := _loss(metric)) is not None}
    asked = config.slice_search.metric
    if asked is not None and asked not in means:
        raise ComparisonError(
            f"slice_search.metric: {asked!r} is no mean over records that this comparison computes",
            hint=f"use one of {', '.join(means)}" if means else None,
        )
    order = [name for name in _FINEST if name in means] + [name for name in means if name not in _FINEST]
    for name in [asked] if asked is not None else order:
        if not any(means[name].undefined(truth, answer) for answer in answers):
            return means[name]
    return None


def search_slices(
    config: ExperimentConfig,
    loss: Mean,
    cut: Iterable[Conditions],
    truth: Truth,
    answers: Sequence[Answer],
    blocks: tuple[Grid, Integers],
) -> tuple[tuple[SliceResult, ...], SliceSearch]:
    """The slices on which a version is worse, the worst first, and how many were tested.

    Args:
        config: `slice_search`, bootstrap, margins.
        loss: what is compared.
        cut: conditions on the labelled records.
        truth: the labels, (n,).
        answers: of each version, the baseline first.
        blocks: those of the comparison, and which of them each record is in.
    """
    settings = config.slice_search
    base = loss.loss(truth, answers[0])
    differences = {answer.version: loss.loss(truth, answer) - base for answer in answers[1:]}
    sign = -1.0 if loss.higher_is_better else 1.0
    tested: list[_Tested] = []
    columns = []
    for conditions in cut:
        columns.append(conditions.column)
        tested += _test(conditions, differences, sign, blocks, settings.least_records)
    adjusted = benjamini_yekutieli([item.p for item in tested])
    passing = [(item, p) for item, p in zip(tested, adjusted, strict=True) if p <= settings.rate]
    worst = sorted(
        ((item, p) for item, p in passing if item.worse),
        key=lambda found: -sign * _mean(differences[found[0].version], found[0]),
    )
    kept = _distinct(worst, settings.show)
    level = 1 - settings.rate * len(passing) / max(len(tested) * _harmonic(len(tested)), 1.0)
    strict = config.model_copy(update={"bootstrap": config.bootstrap.model_copy(update={"confidence": level})})
    found = []
    for item, p in kept:
        part = Slice(item.conditions.names[item.code], item.conditions.codes == item.code)
        pair = [answers[0], next(answer for answer in answers if answer.version == item.version)]
        (one,) = measure_slices(strict, [part], [loss], truth, pair, blocks, kind="searched")
        found.append(replace(one, p_value=item.p, p_adjusted=p))
    return tuple(found), SliceSearch(
        metric=loss.name,
        columns=tuple(columns),
        tested=len(tested),
        found=len(worst),
        least_records=settings.least_records,
        rate=settings.rate,
    )


def benjamini_yekutieli(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (2001): those up to a rate have at most that rate of false discoveries, whatever depends."""
    asked = np.asarray(p_values, dtype=np.float64)
    if asked.size == 0:
        return []
    order = np.argsort(asked, kind="stable")
    ranks = np.arange(1, asked.size + 1)
    scaled = asked[order] * asked.size * _harmonic(asked.size) / ranks
    adjusted = np.empty(asked.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(p) for p in adjusted]


def _harmonic(terms: int) -> float:
    return float(np.sum(1 / np.arange(1, terms + 1)))


def _loss(metric: Metric) -> Mean | None:
    """The mean behind a metric; None when it is none."""
    if isinstance(metric, RootMean):
        return metric.mean
    return metric if isinstance(metric, Mean) else None


def _test(
    conditions: Conditions,
    differences: dict[str, Floats],
    sign: float,
    blocks: tuple[Grid, Integers],
    least: int,
) -> list[_Tested]:
    grid, block = blocks
    inside = conditions.codes >= 0
    # Where the conditions hold for every record, nothing is to be taken out.
    take = (lambda values: values) if inside.all() else partial(np.compress, inside)
    cell = take(conditions.codes).astype(np.int64)
    cell *= len(grid)
    cell += take(block)
    shape = (len(conditions.names), len(grid))
    records = count(cell, shape[0] * shape[1]).reshape(shape)
    beside = np.diff(grid.numbers) == 1
    found = []
    for version, difference in differences.items():
        sums = add(take(difference), cell, shape[0] * shape[1]).reshape(shape)
        total, held = records.sum(axis=1), np.count_nonzero(records, axis=1)
        usable = (total >= least) & (held >= MIN_BLOCKS)
        for code in np.flatnonzero(usable).tolist():
            mean, p = _student(records[code], sums[code], beside, int(held[code]))
            found.append(_Tested(conditions, code, version, sign * mean > 0, p))
    return found


def _student(records: Floats, sums: Floats, beside: NDArray[np.bool_], held: int) -> tuple[float, float]:
    """The mean difference and its two-sided p-value, from the sums of each block."""
    total = float(records.sum())
    mean = float(sums.sum()) / total
    parts = (sums - mean * records) / total
    variance = float(np.sum(parts**2)) + max(0.0, 2 * float(np.sum(parts[1:][beside] * parts[:-1][beside])))
    error = np.sqrt(variance * held / (held - 1))
    if error <= 1e-10 * abs(mean) or error == 0.0:
        return mean, 1.0  # without any spread nothing is known of the error
    telling = int(np.count_nonzero(sums)) - 1
    return mean, 1.0 if telling < 1 else 2 * float(stdtr(telling, -abs(mean / error)))


def _mean(difference: Floats, item: _Tested) -> float:
    return float(np.compress(item.conditions.codes == item.code, difference).mean())


def _distinct(worst: Sequence[tuple[_Tested, float]], most: int) -> list[tuple[_Tested, float]]:
    """The first ones, without those whose records are nearly those of one before."""
    kept: list[tuple[_Tested, float]] = []
    for item, p in worst:
        if len(kept) == most:
            break
        own = item.conditions.codes == item.code
        if not any(_overlap(own, other) > _SAME for other, _ in kept if other.version == item.version):
            kept.append((item, p))
    return kept


def _overlap(own: NDArray[np.bool_], other: _Tested) -> float:
    """The share of the records of either that are in both (Jaccard)."""
    mask = other.conditions.codes == other.code
    either = int(np.count_nonzero(own | mask))
    return int(np.count_nonzero(own & mask)) / either if either else 1.0
