"""Whether scores are probabilities, and what every threshold would give: calibration, ROC, precision and recall.

The expected calibration error (Naeini, Cooper & Hauskrecht 2015; with fifteen bins of equal width as in Guo et al.
2017) is also a metric whose sums merge. Curves are exact, and shown at no more than 101 of their points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.metrics import divide, one_class, without_scores
from mlstream.comparison.ranking import count_levels
from mlstream.comparison.result import Calibration, CalibrationBin, Curve
from mlstream.comparison.sums import Floats, Integers, add, count

BINS = 15
POINTS = 101


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """The mean distance of score and share of positives over the bins, each weighted by its records.

    Sums: for each bin its records, then the scores, then the positives. Of several classes the score is that of the
    class with the highest one, and a positive is a right answer.
    """

    name: str = "expected_calibration_error"
    higher_is_better: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return without_scores(truth, answer)

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        score, positive = _confidence(truth, answer)
        cell = _bin(score)
        cell += block * BINS
        columns = (count(cell, blocks * BINS), add(score, cell, blocks * BINS), count(cell, blocks * BINS, of=positive))
        return np.hstack([column.reshape(blocks, BINS) for column in columns])

    def value(self, sums: Floats) -> Floats:
        records, scores, positives = np.split(sums, 3, axis=-1)
        return divide(np.abs(scores - positives).sum(axis=-1), records.sum(axis=-1))

    def gradient(self, sums: Floats) -> Floats:
        records, scores, positives = np.split(sums, 3, axis=-1)
        total = records.sum(axis=-1, keepdims=True)
        side = divide(np.sign(scores - positives), total)
        of_records = np.broadcast_to(-divide(self.value(sums)[..., None], total), records.shape)
        return np.concatenate([of_records, side, -side], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        records, _, _ = np.split(sums, 3, axis=-1)
        return int(np.count_nonzero(records.any(axis=1))), "records"


def calibrate(truth: Truth, answer: Answer) -> Calibration | None:
    """The bins that hold records; None when the version gives no scores."""
    metric = CalibrationError()
    if metric.undefined(truth, answer) is not None:
        return None
    total = metric.tally(truth, answer, np.zeros(len(truth), dtype=np.int64), 1)[0]
    records, scores, positives = np.split(total, 3)
    bins = tuple(
        CalibrationBin(
            at / BINS,
            (at + 1) / BINS,
            int(records[at]),
            float(scores[at] / records[at]),
            float(positives[at] / records[at]),
        )
        for at in np.flatnonzero(records).tolist()
    )
    return Calibration(answer.version, float(metric.value(total)), bins)


def draw_curves(truth: Truth, answer: Answer) -> Iterator[Curve]:
    """ROC and precision–recall of a binary version; none when it has no scores or labels are of one class only."""
    if truth.task != "binary" or answer.score is None or one_class(truth) is not None:
        return
    # From the highest score down; at place 0 no record is shown yet.
    negatives, positives = (part[::-1].cumsum() for part in count_levels(truth, answer))

    def false(at: Integers) -> Floats:
        return _share(negatives, at)

    def recall(at: Integers) -> Floats:
        return _share(positives, at)

    kept = _thin(lambda at: false(at) + recall(at), positives.size + 1)
    yield Curve(answer.version, "roc", _floats(false(kept)), _floats(recall(kept)))
    kept = _thin(recall, positives.size + 1)
    # With no record shown yet the precision is that of the first threshold.
    shown = np.maximum(kept - 1, 0)
    precision = positives[shown] / (positives[shown] + negatives[shown])
    yield Curve(answer.version, "precision_recall", _floats(recall(kept)), _floats(precision))


def _share(counts: Integers, at: Integers) -> Floats:
    """The share that is shown at these places: `counts` rises up to the place before, none are shown at place 0."""
    share: Floats = np.where(at > 0, counts[at - 1], 0) / counts[-1]
    return share


def _confidence(truth: Truth, answer: Answer) -> tuple[Floats, NDArray[np.bool_]]:
    """The score that is meant as a probability, and where what it is the probability of came true."""
    if answer.score is None:
        raise ValueError(f"{answer.version} gives no scores")
    if truth.task == "binary":
        return answer.score, truth.values
    best = answer.score.argmax(axis=1)
    codes = np.array([truth.classes.index(item) if item in truth.classes else -1 for item in answer.classes])
    return answer.score.max(axis=1), codes[best] == truth.values


def _bin(score: Floats) -> Integers:
    bins: Integers = (score * BINS).astype(np.int64)
    return np.minimum(bins, BINS - 1, out=bins)


def _thin(along: Callable[[Integers], Floats], size: int) -> Integers:
    """At most POINTS of `size` places, the first and the last among them, evenly spread along what rises over them."""
    if size <= POINTS:
        return np.arange(size)
    first, last = along(np.array([0, size - 1]))
    wanted = np.linspace(first, last, POINTS)
    found = np.unique(_first_at_least(along, size, wanted))
    found[0], found[-1] = 0, size - 1
    return found


def _first_at_least(along: Callable[[Integers], Floats], size: int, wanted: Floats) -> Integers:
    """The first place of each wanted value, or of one above; by bisection, so that few places are computed."""
    low, high = np.zeros(wanted.size, dtype=np.int64), np.full(wanted.size, size, dtype=np.int64)
    while (low < high).any():
        middle = np.minimum((low + high) // 2, size - 1)
        short = (along(middle) < wanted) & (low < high)
        low, high = np.where(short, middle + 1, low), np.where(short | (low >= high), high, middle)
    return low


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
