"""Metrics of a ranking by group: NDCG, reciprocal rank, precision, average precision. No I/O, no chance.

Each is the mean over groups of a figure of the group's records in the order of what the version says, the highest
first. A group is in one block as a whole: its records have the group's first event time. Records that a version says
the same of have no order: NDCG and precision take the mean over all their orders, reciprocal rank and average precision
put each where the last of them is. NDCG is scikit-learn's `ndcg_score` (linear gain, Järvelin & Kekäläinen 2002), the
mean average precision that of its `average_precision_score`. A group without a relevant record counts 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.metrics import Metric, divide
from mlstream.comparison.sums import Floats, Integers, add, count
from mlstream.config.measures import RankingConfig


@dataclass(frozen=True, slots=True)
class Ranked:
    """The records of all groups, group by group, the highest first.

    Attributes:
        group: (n,), rising.
        gain: (n,), the labels.
        place: (n,), from 0 up inside the group.
        last: (n,), the place of the last record that the version says the same of.
        tie: (n,), which stretch of equal answers of one group a record is in.
        groups: how many there are.
    """

    group: Integers
    gain: Floats
    place: Integers
    last: Integers
    tie: Integers
    groups: int


def rank(truth: Truth, said: Floats) -> Ranked:
    """The records in the order of what was said; the same in whatever order they come."""
    codes = _groups(truth)
    order = np.lexsort((-truth.values, -said, codes))
    group, gain, score = codes[order], truth.values[order], said[order]
    at = np.arange(order.size)
    first = np.diff(group, prepend=-1) != 0
    place = at - np.maximum.accumulate(np.where(first, at, 0))
    fresh = first | np.concatenate([[True], score[1:] != score[:-1]])
    tie = np.cumsum(fresh) - 1
    ends = np.append(np.flatnonzero(fresh)[1:], order.size) - 1
    return Ranked(group, gain, place, place[ends[tie]], tie, int(np.count_nonzero(first)))


@dataclass(frozen=True, slots=True)
class GroupMean:
    """The mean over groups of a figure of each. Sums: groups, figures."""

    name: str
    figure: Callable[[Truth, Floats], Floats]
    higher_is_better: bool = True
    bounds: tuple[float, float] = (0.0, 1.0)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return None

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return float(self.value(total))

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        _, first = np.unique(_groups(truth), return_index=True)
        of_group = block[first]
        found = self.figure(truth, answer.predicted)
        return np.column_stack([count(of_group, blocks), add(found, of_group, blocks)])

    def value(self, sums: Floats) -> Floats:
        return divide(sums[..., 1], sums[..., 0])

    def gradient(self, sums: Floats) -> Floats:
        groups = sums[..., 0]
        return np.stack([-divide(self.value(sums), groups), divide(np.ones_like(groups), groups)], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        return int(np.count_nonzero(sums[:, 0])), "groups"


def find_ranked(settings: RankingConfig, name: str) -> Metric | None:
    """The metric of that name, or None when it is none of a ranking."""
    k = settings.k
    figures: dict[str, Callable[[Truth, Floats], Floats]] = {
        "ndcg_at_k": lambda truth, said: ndcg(truth, said, k),
        "precision_at_k": lambda truth, said: precision(truth, said, k),
        "mrr": reciprocal_rank,
        "map": mean_precision,
    }
    return GroupMean(name, figures[name]) if name in figures else None


def ndcg(truth: Truth, said: Floats, k: int) -> Floats:
    """(groups,): the discounted gain of the first k, as a share of the largest that is possible."""
    found, best = rank(truth, said), rank(truth, truth.values)
    return _or_zero(
        _sum(found, found.gain * _share(found, _discount(found, k))), _sum(best, best.gain * _discount(best, k))
    )


def precision(truth: Truth, said: Floats, k: int) -> Floats:
    """(groups,): the relevant records among the first k, divided by k."""
    found = rank(truth, said)
    return _sum(found, (found.gain > 0) * _share(found, (found.place < k).astype(np.float64))) / k


def reciprocal_rank(truth: Truth, said: Floats) -> Floats:
    """(groups,): 1 / the rank of the first relevant record."""
    found = rank(truth, said)
    best = np.zeros(found.groups)
    np.maximum.at(best, _dense(found), (found.gain > 0) / (found.last + 1))
    return best


def mean_precision(truth: Truth, said: Floats) -> Floats:
    """(groups,): the mean over relevant records of the precision down to each."""
    found = rank(truth, said)
    relevant = (found.gain > 0).astype(np.float64)
    running = np.cumsum(relevant)
    first = np.flatnonzero(found.place == 0)
    running -= (running[first] - relevant[first])[_dense(found)]
    starts = np.arange(found.place.size) - found.place
    hits = running[starts + found.last]
    return _or_zero(_sum(found, relevant * hits / (found.last + 1)), _sum(found, relevant))


def _groups(truth: Truth) -> Integers:
    if truth.groups is None:
        raise ValueError("a ranking needs the group of each record")
    return truth.groups


def _dense(found: Ranked) -> Integers:
    """The number of each record's group among those that occur, from 0 up."""
    return np.cumsum(found.place == 0) - 1


def _sum(found: Ranked, values: Floats) -> Floats:
    total: Floats = np.bincount(_dense(found), values, found.groups).astype(np.float64)
    return total


def _discount(found: Ranked, k: int) -> Floats:
    discount: Floats = np.where(found.place < k, 1 / np.log2(found.place + 2), 0.0)
    return discount


def _share(found: Ranked, weight: Floats) -> Floats:
    """The mean weight of the places that equal answers have."""
    mean: Floats = (np.bincount(found.tie, weight) / np.bincount(found.tie))[found.tie]
    return mean


def _or_zero(numerator: Floats, denominator: Floats) -> Floats:
    out = np.zeros(numerator.shape)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
