"""Paired block bootstrap of figures that are functions of block sums. Reads no records.

A resample draws as many blocks as there are, with repetition; one row of weights says how often each was drawn, and
`weights @ sums` are the sums of the resample. All versions and metrics get the same weights: that is what pairs them.
The cost depends on the number of blocks, not on that of records.

Intervals are studentised (bootstrap-t; Efron 1981, Hall 1988): resampled is not the figure but its distance from the
observed one in units of its own standard error. Inside a resample blocks are independent by construction and the
standard error takes them so. On the data it also counts how neighbouring blocks move together when that makes it
larger, which is Bartlett's window widened to a flat top (Politis & Romano 1995); that the two differ is how the
bootstrap-t stays accurate for dependent data (Götze & Künsch 1996). The critical values are never below those of
Student's t with one degree of freedom less than there are blocks in which the figure had something to tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from mlstream.comparison.blocks import Grid
from mlstream.comparison.metrics import Metric
from mlstream.comparison.sums import Floats

# Resamples computed at once: bounds the memory, and is a constant so that results do not depend on it.
_CHUNK = 256
# Standard errors below this share of the figures' own are rounding.
_NOTHING = 1e-10


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is to be estimated: the figure of one table of sums, or that less the figure of another.

    Attributes:
        own: index of the table.
        other: index of the table to subtract, or None.
    """

    own: int
    other: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with what the bootstrap knows of its error.

    Attributes:
        value: the exact figure.
        error: its standard error.
        roots: (resamples,), studentised distances from the observed figure, sorted.
        freedom: degrees of freedom of the Student's t that bounds them from below.
        off: how far `value` may be from the exact figure at most; it widens intervals.
    """

    value: float
    error: float
    roots: Floats
    freedom: int
    off: float = 0.0

    def interval(self, confidence: float) -> tuple[float, float] | None:
        """The interval with equal tails, or None when fewer than two blocks tell anything."""
        if self.error == 0.0:
            return self.value - self.off, self.value + self.off
        if self.freedom < 1:
            return None
        tail = (1 - confidence) / 2
        bound = float(stdtrit(self.freedom, 1 - tail))
        # The order statistics that leave `tail` of resamples + 1 on either side (Davison & Hinkley 1997, section 5.2).
        rank = max(int((self.roots.size + 1) * tail + 1e-9), 1)
        low, high = float(self.roots[rank - 1]), float(self.roots[-rank])
        above, below = max(high, bound) * self.error, min(low, -bound) * self.error
        return self.value - above - self.off, self.value - below + self.off

    def p_value(self) -> float | None:
        """Two-sided, of the figure being zero; the same decision as the interval's. Not below 2 / (resamples + 1)."""
        size = self.roots.size
        if self.error == 0.0:
            return 1.0 if abs(self.value) <= self.off else 2 / (size + 1)
        if self.freedom < 1:
            return None
        root = math.copysign(max(abs(self.value) - self.off, 0.0), self.value) / self.error
        below, not_above = np.searchsorted(self.roots, root, "left"), np.searchsorted(self.roots, root, "right")
        beyond = min(size - int(below), int(not_above))
        return min(1.0, max(2 * (beyond + 1) / (size + 1), 2 * float(stdtr(self.freedom, -abs(root)))))


def weights(blocks: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each block is drawn: chunks of (some, blocks), `resamples` rows in all, the same for the same seed."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(0, blocks, (rows, blocks)) + blocks * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * blocks).reshape(rows, blocks).astype(np.float64)


def influence(metric: Metric, sums: Floats) -> Floats:
    """How much each block moves the figure: (blocks, columns) → (blocks,), adding up to zero."""
    return sums @ metric.gradient(sums.sum(axis=0))


def _magnitude(metric: Metric, sums: Floats) -> float:
    """What the influences would be if nothing in them cancelled: an error far below it is rounding, not spread."""
    sizes = np.abs(sums) @ np.abs(metric.gradient(sums.sum(axis=0)))
    return float(np.sqrt(np.sum(sizes**2)))


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric of all versions, and what of it is to be estimated.

    Attributes:
        metric: the figure.
        tables: one (blocks, columns) for each version.
        quantities: what to estimate.
        exact: the exact value of each quantity.
    """

    metric: Metric
    tables: Sequence[Floats]
    quantities: Sequence[Quantity]
    exact: Sequence[float]


def estimate(figures: Sequence[Figure], grid: Grid, resamples: int, seed: int) -> list[list[Estimate]]:
    """Estimate the quantities of all figures from the same resamples: a list for each figure, in its order."""
    observed = [[_observe(figure, quantity, grid) for quantity in figure.quantities] for figure in figures]
    roots: list[list[list[Floats]]] = [[[] for _ in figure.quantities] for figure in figures]
    distinct, which = _distinct([figure.tables for figure in figures])
    for chunk in weights(len(grid), resamples, seed):
        sums = [chunk @ table for table in distinct]
        for figure, seen, found, at_table in zip(figures, observed, roots, which, strict=True):
            for at, column in enumerate(_roots(figure, seen, chunk, [sums[number] for number in at_table])):
                found[at].append(column)
    return [
        [
            Estimate(value, known.error, np.sort(np.concatenate(column)), known.freedom)
            for value, known, column in zip(figure.exact, seen, found, strict=True)
        ]
        for figure, seen, found in zip(figures, observed, roots, strict=True)
    ]


def _distinct(tables: Sequence[Sequence[Floats]]) -> tuple[list[Floats], list[list[int]]]:
    """The tables without repetitions, such as those that several metrics share; and which of them each is."""
    distinct: list[Floats] = []
    which = []
    for own in tables:
        numbers = []
        for table in own:
            same = (at for at, known in enumerate(distinct) if np.array_equal(known, table))
            number = next(same, len(distinct))
            if number == len(distinct):
                distinct.append(table)
            numbers.append(number)
        which.append(numbers)
    return distinct, which


@dataclass(frozen=True, slots=True)
class _Observed:
    value: float
    error: float
    scale: float
    freedom: int


def _observe(figure: Figure, quantity: Quantity, grid: Grid) -> _Observed:
    metric, own = figure.metric, figure.tables[quantity.own]
    value, parts = float(metric.value(own.sum(axis=0))), influence(metric, own)
    scale = _magnitude(metric, own)
    telling: NDArray[np.bool_] = np.ones(len(grid), dtype=np.bool_)
    if quantity.other is not None:
        other = figure.tables[quantity.other]
        against = influence(metric, other)
        scale += _magnitude(metric, other)
        value, parts = value - float(metric.value(other.sum(axis=0))), parts - against
        if own.shape == other.shape:
            telling = (own != other).any(axis=1)
    error = float(np.sqrt(np.sum(parts**2) + max(0.0, 2 * grid.neighbours(parts))))
    return _Observed(value, error if error > _NOTHING * scale else 0.0, scale, int(telling.sum()) - 1)


def _roots(
    figure: Figure, observed: Sequence[_Observed], chunk: Floats, resampled_sums: Sequence[Floats]
) -> Iterator[Floats]:
    """The studentised distance of each resample in the chunk from what was observed, quantity by quantity."""
    resampled = []
    for table, sums in zip(figure.tables, resampled_sums, strict=True):
        resampled.append((figure.metric.value(sums), figure.metric.gradient(sums) @ table.T))
    for quantity, seen in zip(figure.quantities, observed, strict=True):
        value, parts = resampled[quantity.own]
        if quantity.other is not None:
            value, parts = value - resampled[quantity.other][0], parts - resampled[quantity.other][1]
        error = np.sqrt(np.einsum("rb,rb->r", chunk, parts**2))
        # A resample without any block that differs has no error of its own and tells nothing; Student's t guards there.
        root = np.zeros(error.size)
        np.divide(value - seen.value, error, out=root, where=error > _NOTHING * seen.scale)
        yield root
