"""Cut event time into blocks, and find out how long they must be. Knows nothing of metrics.

A block is an interval of event time over all partitions at once, on the grid of multiples of its length since 1970
(UTC): what happens to a whole stream at one time, such as a storm, an outage or a campaign, is then inside one block.
Blocks of records within each partition would take it for several independent events.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlstream.comparison.result import Blocks
from mlstream.comparison.sums import Floats, Integers
from mlstream.errors import ComparisonError

# Fewer blocks than this give no verdict: they do not tell well enough how blocks vary.
MIN_BLOCKS = 30
# Fewer than this do not even give an interval. From here to MIN_BLOCKS it is shown, and decides nothing; in simulations
# it held what it promises (docs/statistics.md).
MIN_INTERVAL_BLOCKS = 15
MAX_BLOCKS = 10_000
# The automatic rule looks at event time in cells. More of them would see no more: where a series remembers for longer
# than a cell, the length that the rule finds does not depend on the cell's; and a thousand blocks are plenty.
MAX_CELLS = 1_000
RECORDS_A_CELL = 2
# So many intervals, empty ones too, are counted one by one; with more of them times are sorted.
_COUNTED = 1 << 20

RULE = "Politis & White 2004 with the constants of Patton, Politis & White 2009 and Lahiri 1999"

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
# Lengths that people use, in milliseconds.
_LENGTHS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * _MINUTE for n in (1, 2, 3, 5, 10, 15, 20, 30)),
    *(n * _HOUR for n in (1, 2, 3, 4, 6, 8, 12)),
    *(n * _DAY for n in (1, 2, 3, 4, 5, 7, 14, 28, 91, 364)),
)


@dataclass(frozen=True, slots=True)
class Grid:
    """The intervals of event time that hold records.

    Attributes:
        length_ms: the length of each.
        numbers: which multiples of the length since 1970 they start at, rising; empty intervals are not among them.
    """

    length_ms: int
    numbers: Integers

    def __len__(self) -> int:
        return int(self.numbers.size)

    @property
    def span(self) -> int:
        """The number of intervals from the first to the last, empty ones too."""
        return int(self.numbers[-1] - self.numbers[0]) + 1 if self.numbers.size else 0

    def coarser(self, factor: int) -> tuple[Grid, Integers]:
        """The grid of intervals `factor` times as long, and which of them each of ours is in."""
        numbers, inside = np.unique(self.numbers // factor, return_inverse=True)
        return Grid(self.length_ms * factor, numbers), inside.astype(np.int64)

    def neighbours(self, influence: Floats) -> float:
        """The sum over neighbouring intervals of the product of their influences, (intervals,) → number."""
        beside = np.diff(self.numbers) == 1
        return float(np.sum(influence[1:][beside] * influence[:-1][beside]))


def cut(times_ms: Integers, length_ms: int) -> tuple[Grid, Integers]:
    """The grid of that length, and which of its intervals each time is in.

    Raises:
        ComparisonError: when that makes more than MAX_BLOCKS intervals.
    """
    block = times_ms // length_ms
    first, last = int(block.min()), int(block.max())
    if last - first < _COUNTED:
        block -= first
        held = np.bincount(block) > 0
        numbers, block = np.flatnonzero(held) + first, (np.cumsum(held) - 1)[block]
    else:
        numbers, block = np.unique(block, return_inverse=True)
    if numbers.size > MAX_BLOCKS:
        raise ComparisonError(
            f"blocks of {describe_length(length_ms)} cut the labelled records into {numbers.size:,} blocks; "
            f"at most {MAX_BLOCKS:,} are of use",
            hint="give a longer bootstrap.block, or leave it at auto",
        )
    return Grid(length_ms, numbers), block.astype(np.int64, copy=False)


def cut_finely(times_ms: Integers) -> tuple[Grid, Integers]:
    """Cells for the automatic rule: the shortest usual length that makes at most MAX_CELLS of them, with
    RECORDS_A_CELL records each on average.
    """
    span = int(times_ms.max() - times_ms.min())
    most = max(1, min(MAX_CELLS, times_ms.size // RECORDS_A_CELL))
    fitting = (length for length in _LENGTHS if span // length + 2 <= most)
    return cut(times_ms, next(fitting, max(_LENGTHS[-1], span + 1)))


def choose_factor(grid: Grid, series: Floats) -> int:
    """How many cells a block must span for all of the series.

    The longest of the lengths that the rule finds for each series, then up to the next length that people use, if that
    leaves MIN_BLOCKS blocks.

    Args:
        grid: the cells.
        series: (series, cells): the influence of each cell on each figure.

    Returns:
        The number of cells, at least 1.
    """
    whole = np.zeros((series.shape[0], grid.span))
    whole[:, grid.numbers - grid.numbers[0]] = series
    factor = max((math.ceil(optimal_length(row)) for row in whole), default=1)
    usual = (length // grid.length_ms for length in _LENGTHS if length % grid.length_ms == 0)
    rounded = next((longer for longer in usual if longer >= factor), factor)
    return rounded if len(grid.coarser(rounded)[0]) >= MIN_BLOCKS else factor


def optimal_length(series: Floats) -> float:
    """The block length for fixed blocks that makes the bootstrap's variance of the mean most accurate.

    Politis & White 2004, "Automatic block-length selection for the dependent bootstrap", with the correction of Patton,
    Politis & White 2009: the lag from which on the correlogram is insignificant gives the width of a flat-top
    (trapezoidal) window, and that estimates the two constants of the optimum. Fixed blocks instead of moving ones have
    half as much again variance (Lahiri 1999), hence 2 where the paper has 4/3.

    Args:
        series: (n,), one value for each interval of time, in order; its mean is taken off.

    Returns:
        A length in intervals, between 1 and min(3 * sqrt(n), n / 3).
    """
    n = series.size
    known = _correlogram(series)
    if known is None:
        return 1.0
    covariance, forgotten = known
    width = min(2 * max(forgotten, 1), covariance.size - 1)
    lags = np.arange(1, width + 1)
    window = np.clip(2 * (1 - lags / width), 0.0, 1.0)
    variance = covariance[0] + 2 * np.sum(window * covariance[lags])
    slope = 2 * np.sum(window * lags * covariance[lags])
    longest = min(3 * math.sqrt(n), n / 3)
    if variance <= 0:
        # The window's estimate may be negative where the series alternates: nothing says that blocks must be long.
        return 1.0
    return float(min(max((slope**2 / variance**2 * n) ** (1 / 3), 1.0), longest))


def forgets(series: Floats) -> bool:
    """Whether no autocorrelation of the series is significant, by the same rule, at the first lags."""
    known = _correlogram(series)
    return known is None or known[1] == 0


def _correlogram(series: Floats) -> tuple[Floats, int] | None:
    """The autocovariances, and the lag after which they are insignificant; None when there is nothing to see."""
    n = series.size
    centred = series - series.mean()
    if n < 10 or not centred.any():
        return None
    run = max(5, math.ceil(math.sqrt(math.log10(n))))
    covariance = _autocovariance(centred / np.abs(centred).max(), min(math.ceil(math.sqrt(n)) + run, n - 1))
    significant = np.abs(covariance[1:]) >= 2 * math.sqrt(math.log10(n) / n) * covariance[0]
    return covariance, _forgotten_after(significant, run)


def _forgotten_after(significant: np.typing.NDArray[np.bool_], run: int) -> int:
    """The lag after which `run` lags in a row are insignificant, else the last significant one."""
    for lag in range(significant.size - run + 1):
        if not significant[lag : lag + run].any():
            return lag
    found = np.flatnonzero(significant)
    return int(found[-1]) + 1 if found.size else 0


def _autocovariance(centred: Floats, last: int) -> Floats:
    """Lags 0 to `last`, each divided by n: (last + 1,)."""
    spectrum = np.fft.rfft(centred, 2 * centred.size)
    products: Floats = np.fft.irfft(spectrum * np.conj(spectrum), 2 * centred.size)
    return products[: last + 1] / centred.size


def describe(grid: Grid, *, automatic: bool) -> Blocks:
    """The grid as the result names it."""
    return Blocks(len(grid), grid.length_ms / 1000, f"auto: {RULE}" if automatic else "given")


def describe_length(length_ms: int) -> str:
    """`1 day`, `6 hours`, `250 ms`."""
    for size, word in ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (_SECOND, "second")):
        if length_ms % size == 0:
            number = length_ms // size
            return f"{number} {word}{'s' if number != 1 else ''}"
    return f"{length_ms} ms"
