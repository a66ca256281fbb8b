"""ROC AUC and average precision: exact by sorting, and as functions of score histograms that merge. No I/O.

The exact figures need all scores in order. What the bootstrap resamples are histograms: a grid of scores is fixed once
for a version and shared by all blocks, and each block counts its negatives and positives in every bin. Half of the bins
hold equally many positives each, half equally many negatives, so that the ends where the two classes are rare are as
fine as the middle; equal scores are never parted. Only the spread of an interval comes from the histograms, its middle
is the exact figure; how far the figure of the histograms is from it is reported with every comparison.

Of more than EXACT_ROWS records the scores are not sorted but counted (`counted.py`), which takes no more memory for
more of them; the figure is then known up to a bound, which goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.counted import Counted, count_scores
from mlstream.comparison.metrics import Metric, divide, one_class, without_scores
from mlstream.comparison.sums import Floats, Integers, places

BINS = 256
# Sorting the scores of so many records takes more than two gigabytes.
EXACT_ROWS = 50_000_000


def score_grid(score: Floats, positive: NDArray[np.bool_]) -> Floats:
    """The inner edges of at most BINS bins; a score equal to an edge is in the bin above it."""
    edges = []
    for part in (np.compress(positive, score), np.compress(~positive, score)):
        at = (np.arange(1, BINS // 2) * part.size) // (BINS // 2)
        # Sorting takes less time than to find that many of its places.
        edges.append(np.sort(part)[at] if part.size else part)
    return np.unique(np.concatenate(edges))


def _histograms(score: Floats, positive: NDArray[np.bool_], block: Integers, blocks: int) -> Integers:
    edges = score_grid(score, positive)
    bins = edges.size + 1
    cell = places(score, edges)
    cell += block * (2 * bins)
    np.add(cell, bins, out=cell, where=positive)
    return np.bincount(cell, minlength=blocks * 2 * bins).reshape(blocks, 2 * bins)


@dataclass(frozen=True, slots=True)
class _Ranking:
    """What both metrics share. Sums: negatives in each bin from the lowest scores up, then positives likewise."""

    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        reason = one_class(truth) or without_scores(truth, answer)
        if reason is None and answer.score is not None and np.ptp(answer.score) == 0:
            return f"{answer.version} gives every record the same score, which ranks nothing"
        return reason

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        if answer.score is None:
            raise ValueError(f"{answer.version} gives no scores")
        known = answer.kept.get("histograms")
        if known is None or known[0] is not block or len(known[1]) != blocks:
            counted = find_counted(truth, answer)
            if counted is not None:
                known = (block, counted.histograms(answer.score, truth.values, block, blocks, BINS))
            else:
                known = (block, _histograms(answer.score, truth.values, block, blocks))
            answer.kept["histograms"] = known  # the other ranking metric has the same
        table: Floats = known[1].astype(np.float64)
        return table

    def support(self, sums: Floats) -> tuple[int, str]:
        negatives, positives = np.split(sums, 2, axis=-1)
        held = {
            "negative labels": np.count_nonzero(negatives.any(axis=1)),
            "positive labels": np.count_nonzero(positives.any(axis=1)),
        }
        scarce = min(held, key=lambda name: held[name])
        return int(held[scarce]), scarce


@dataclass(frozen=True, slots=True)
class RocAuc(_Ranking):
    """The probability that a positive record scores above a negative one, ties counting half (Mann & Whitney 1947)."""

    name: str = "roc_auc"

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        negatives, positives = count_levels(truth, answer)
        # Whole numbers up to records**2, exact in int64 for three billion records.
        below = np.cumsum(negatives) - negatives
        twice = int(np.sum(positives * (2 * below + negatives)))
        return twice / (2 * int(negatives.sum()) * int(positives.sum()))

    def value(self, sums: Floats) -> Floats:
        negatives, positives = np.split(sums, 2, axis=-1)
        beaten = np.cumsum(negatives, axis=-1) - negatives / 2
        return divide((positives * beaten).sum(axis=-1), negatives.sum(axis=-1) * positives.sum(axis=-1))

    def gradient(self, sums: Floats) -> Floats:
        negatives, positives = np.split(sums, 2, axis=-1)
        count_neg, count_pos = negatives.sum(axis=-1, keepdims=True), positives.sum(axis=-1, keepdims=True)
        below = np.cumsum(negatives, axis=-1) - negatives / 2
        # As `value` has it, which would count again.
        value = divide((positives * below).sum(axis=-1), count_neg[..., 0] * count_pos[..., 0])[..., None]
        beaten = divide(below, count_neg)
        beating = divide(count_pos - np.cumsum(positives, axis=-1) + positives / 2, count_pos)
        return np.concatenate([divide(beating - value, count_neg), divide(beaten - value, count_pos)], axis=-1)


@dataclass(frozen=True, slots=True)
class AveragePrecision(_Ranking):
    """The precision at each threshold, weighted by the recall that it adds, not interpolated (as scikit-learn's)."""

    name: str = "average_precision"

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        counted = find_counted(truth, answer)
        if counted is not None:
            low, high = counted.average_precision()
            return (low + high) / 2
        negatives, positives = count_levels(truth, answer)
        positives, negatives = positives[::-1], negatives[::-1]
        hits = np.cumsum(positives)
        precision = hits / (hits + np.cumsum(negatives))
        return float(np.sum(positives * precision) / hits[-1])

    def value(self, sums: Floats) -> Floats:
        positives, precision, _ = _from_the_top(sums)
        return divide((positives * precision).sum(axis=-1), positives.sum(axis=-1))

    def gradient(self, sums: Floats) -> Floats:
        positives, precision, shown = _from_the_top(sums)
        count_pos = positives.sum(axis=-1, keepdims=True)
        weight = positives * _inverse(shown)
        # A record in a bin changes the precision there and at every threshold below.
        gained = _tail_sum(weight * (1 - precision))
        lost = _tail_sum(weight * precision)
        value = divide((positives * precision).sum(axis=-1), count_pos[..., 0])  # as `value` has it
        by_positive = divide(precision + gained - value[..., None], count_pos)
        by_negative = divide(-lost, count_pos)
        return np.concatenate([by_negative[..., ::-1], by_positive[..., ::-1]], axis=-1)


RANKING_METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (RocAuc(), AveragePrecision())}


def find_counted(truth: Truth, answer: Answer) -> Counted | None:
    """The scores of more than EXACT_ROWS records, counted once and kept; None of fewer."""
    if answer.score is None:
        raise ValueError(f"{answer.version} gives no scores")
    if answer.score.size <= EXACT_ROWS:
        return None
    if "counted" not in answer.kept:
        answer.kept["counted"] = count_scores(answer.score, truth.values)
    counted: Counted = answer.kept["counted"]
    return counted


def error_bound(metric: Metric, truth: Truth, answer: Answer) -> float:
    """How far the figure may be from the exact one at most: 0 but for those of more than EXACT_ROWS records."""
    counted = find_counted(truth, answer) if metric.name in RANKING_METRICS else None
    if counted is None:
        return 0.0
    if metric.name == "roc_auc":
        return counted.auc_error()
    low, high = counted.average_precision()
    return (high - low) / 2


def count_levels(truth: Truth, answer: Answer) -> tuple[Integers, Integers]:
    """Negatives and positives at each different score, from the lowest up: int32. Sorts once and keeps it.

    Of more than EXACT_ROWS records at each cell of the grid that they are counted in: int64.
    """
    if answer.score is None:
        raise ValueError(f"{answer.version} gives no scores")
    counted = find_counted(truth, answer)
    if counted is not None:
        return counted.negatives, counted.positives
    if "levels" not in answer.kept:
        score = np.sort(answer.score)
        starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
        records = np.diff(starts, append=score.size).astype(np.int32)
        score = score[starts]
        del starts
        ranks = np.searchsorted(np.sort(np.compress(truth.values, answer.score)), score, side="left")
        positives = np.diff(ranks, append=int(np.count_nonzero(truth.values))).astype(np.int32)
        answer.kept["levels"] = (records - positives, positives)
    levels: tuple[Integers, Integers] = answer.kept["levels"]
    return levels


def _from_the_top(sums: Floats) -> tuple[Floats, Floats, Floats]:
    """Positives, the precision down to each bin, and the running count of all, from the highest bin down."""
    negatives, positives = np.split(sums[..., ::-1], 2, axis=-1)[::-1]
    hits = np.cumsum(positives, axis=-1)
    shown = hits + np.cumsum(negatives, axis=-1)
    return positives, hits * _inverse(shown), shown


def _inverse(values: Floats) -> Floats:
    """1 / values, 0 where they are 0: above the highest score nothing is shown, and nothing counts."""
    out = np.zeros(values.shape)
    np.divide(1.0, values, out=out, where=values > 0)
    return out


def _tail_sum(values: Floats) -> Floats:
    """The sum from each bin to the last."""
    return np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]
