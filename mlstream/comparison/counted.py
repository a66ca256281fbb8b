"""Scores of very many records, counted in one pass in a grid that is the same for all: memory does not grow with them.

A cell of the grid holds the scores that share their leading bits: below a half those of the score, from a half on those
of its distance from 1, so that both ends are fine. It has 2**14 cells for each power of two, down to 2**-128 (what a
float32 has) and up to the last double below 1. What is lost is the order inside a cell. Cells in which all scores are
equal lose nothing; for the others it is known how much the figures may be off at most: every order of what they hold is
between two that can be computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlstream.comparison.sums import Floats, Integers

# Rows that are dealt with at once.
_CHUNK = 1 << 20
_FINENESS = 14
_BITS = 52 - _FINENESS  # of a double's fraction, that do not count
_LOWEST = (1023 - 128) << _FINENESS
_MIDDLE = 1022 << _FINENESS  # a half
_HIGHEST = (1023 - 54) << _FINENESS  # nearer to 1 is no double but 1
_BELOW = _MIDDLE - _LOWEST
_CELLS = _BELOW + _MIDDLE - _HIGHEST + 1


@dataclass(frozen=True, slots=True)
class Counted:
    """The scores of one version, counted.

    Attributes:
        cell: (cells,), those that hold records, from the lowest scores up.
        negatives, positives: (cells,), how many each holds.
        mixed: (cells,), whether its scores differ.
    """

    cell: Integers
    negatives: Integers
    positives: Integers
    mixed: NDArray[np.bool_]

    def auc_error(self) -> float:
        """How far ROC AUC may be off at most, where pairs of one cell count half: half their share of all pairs."""
        unknown = np.sum((self.negatives * self.positives)[self.mixed], dtype=np.float64)
        return float(unknown / (2 * float(self.negatives.sum()) * float(self.positives.sum())))

    def average_precision(self) -> tuple[float, float]:
        """The least and the largest average precision of all orders that the cells leave open."""
        mixed = self.mixed[::-1]
        positives, negatives = (part[::-1].astype(np.float64) for part in (self.positives, self.negatives))
        hits, misses = np.cumsum(positives), np.cumsum(negatives)
        exact = positives * hits / (hits + misses)
        # Best: all positives of the cell are equal, above its negatives.
        best = positives * hits / np.maximum(hits + misses - negatives, 1)
        # Worst: one by one below them, a sum of (hits + j) / (hits + j + misses) = 1 - misses / (hits + j + misses)
        # over j, and that of 1 / (a + j) is below its integral from a half before to a half after (it is convex).
        before = hits - positives + misses
        worst = positives - misses * np.log1p(positives / (before + 0.5))
        low, high = (np.where(mixed, part, exact).sum() / hits[-1] for part in (worst, best))
        return max(float(low), 0.0), min(float(high), 1.0)

    def histograms(self, score: Floats, positive: NDArray[np.bool_], block: Integers, blocks: int, most: int) -> Floats:
        """The records of each block in at most `most` bins of whole cells: negatives, then positives.

        Half of the bins hold equally many positives each, half equally many negatives.

        Returns:
            (blocks, 2 * bins), float64.
        """
        edges = np.unique(np.concatenate([self._edges(part, most // 2) for part in (self.positives, self.negatives)]))
        bins = edges.size + 1
        bin_of = np.searchsorted(edges, np.arange(_CELLS), side="right")
        found = np.zeros(blocks * 2 * bins, dtype=np.int64)
        for rows in _chunks(score.size):
            column = bin_of[_cells(score[rows])]
            column += block[rows] * (2 * bins)
            np.add(column, bins, out=column, where=positive[rows])
            np.add.at(found, column, 1)
        return found.reshape(blocks, 2 * bins).astype(np.float64)

    def _edges(self, counts: Integers, bins: int) -> Integers:
        """The cells that hold the first record of each bin but the lowest."""
        total = int(counts.sum())
        at = np.unique((np.arange(1, bins) * total) // bins)
        return self.cell[np.searchsorted(np.cumsum(counts), at, side="right")]


def count_scores(score: Floats, positive: NDArray[np.bool_]) -> Counted:
    """Count the scores of all records in the grid.

    Args:
        score: (n,), in [0, 1].
        positive: (n,), both kinds are there.
    """
    counts = np.zeros(2 * _CELLS, dtype=np.int64)
    seen = np.full(_CELLS, np.nan)  # a score of each cell
    mixed = np.zeros(_CELLS, dtype=np.bool_)
    for rows in _chunks(score.size):
        part = score[rows]
        cell = _cells(part)
        fresh = np.isnan(seen[cell])
        seen[cell[fresh]] = part[fresh]
        mixed[cell[seen[cell] != part]] = True
        np.add(cell, _CELLS, out=cell, where=positive[rows])
        np.add.at(counts, cell, 1)
    negatives, positives = counts[:_CELLS], counts[_CELLS:]
    held = np.flatnonzero(negatives + positives)
    return Counted(held, negatives[held], positives[held], mixed[held])


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _CHUNK):
        yield slice(start, min(start + _CHUNK, rows))


def _cells(score: Floats) -> Integers:
    """The cell of each score, (n,): a higher score is never in a lower cell."""
    high = score >= 0.5
    # 1 - score is exact from a half on.
    near = np.ascontiguousarray(np.where(high, 1.0 - score, score))
    bits = near.view(np.int64) >> _BITS
    cells: Integers = np.where(high, _BELOW + _MIDDLE - np.maximum(bits, _HIGHEST), np.maximum(bits, _LOWEST) - _LOWEST)
    return cells
