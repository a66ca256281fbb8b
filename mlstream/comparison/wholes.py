"""Figures that are one function of all records: their value, and how much each block of event time moves it.

Such a function is no sum over records, so that its sums cannot be resampled. What each block moves comes from the
delete-a-group jackknife (Quenouille 1956, Tukey 1958; its variance is not too small in the mean, Efron & Stein 1981)
over blocks of event time (Künsch 1989): the function is called once without each block's records. The pseudo-values
are those for groups of unequal size (Busing, Meijer & van der Leeden 1999), each times the records of its block and
moved so that their mean is the figure itself. From there on the figure is a mean like any other: the same bootstrap,
the same studentised intervals. Right for functions that a block moves by little and smoothly: ratios, roots,
correlations, quantiles of many records; not for a maximum, which rests on a single record. Blocks that do not move the
figure at all do not count as blocks that tell of it, so that such a function gets no verdict. Loads no code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlstream.comparison.answers import LARGEST, Answer, Truth
from mlstream.comparison.blocks import MIN_INTERVAL_BLOCKS, Grid
from mlstream.comparison.metrics import INF, Mean
from mlstream.comparison.sums import Floats, Integers, count
from mlstream.errors import ComparisonError

# The function is called once without each of them.
MOST_GROUPS = 100
# A figure that moves by less than this share of itself is rounded differently, not moved.
_UNMOVED = 1e-12


@dataclass(frozen=True)
class WholeFigure:
    """The figure of one version.

    Attributes:
        name: the metric's.
        version: whose.
        call: given records, it returns the figure.
        frame: the records with their columns, `label`, `prediction` and scores, (n,).
        order: (n,), the rows by event time, partition and offset: in this order `call` gets them.
        part: these are not all labelled records, but a slice of them.
    """

    name: str
    version: str
    call: Callable[[pl.DataFrame], Any]
    frame: pl.DataFrame
    order: Integers
    part: bool = False

    @cached_property
    def value(self) -> float:
        """The figure.

        Raises:
            ComparisonError: the function raised, or gave no finite number.
        """
        return self._ask(self.frame[self.order])

    def without_each(self, group: Integers, groups: int) -> Floats:
        """The figure without the records of each group, (groups,): itself where a group is empty or holds all.

        Args:
            group: (n,), in [0, groups), rising with event time.
            groups: how many there are.

        Raises:
            ComparisonError: as `value`; names the event time of what was left out.
        """
        frame = self.frame[self.order]
        ends = np.searchsorted(group[self.order], np.arange(groups + 1))
        found = np.full(groups, self.value)
        for at, (start, stop) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
            if 0 < stop - start < frame.height:
                rest = pl.concat([frame[:start], frame[stop:]], rechunk=False)
                found[at] = self._ask(rest, left_out=frame["_timestamp"][start:stop])
        return found

    def select(self, mask: NDArray[np.bool_]) -> WholeFigure:
        """The figure of the records of the mask, (n,)."""
        place = np.cumsum(mask) - 1
        return replace(
            self, frame=self.frame.filter(pl.Series(mask)), order=place[self.order[mask[self.order]]], part=True
        )

    def _ask(self, frame: pl.DataFrame, left_out: pl.Series | None = None) -> float:
        try:
            result = self.call(frame)
        except ComparisonError:
            raise  # a SQL expression has named what is wrong
        except Exception as exc:  # whatever the experiment's own code raises
            raised = f"its function raised {type(exc).__name__} for {self.version}{_without(left_out)}: {exc}"
            raise ComparisonError(f"custom_metrics.{self.name}: {raised}", version=self.version) from exc
        return self._number(result, left_out)

    def _number(self, result: Any, left_out: pl.Series | None) -> float:
        said = f"custom_metrics.{self.name}: {self.version}"
        if isinstance(result, pl.DataFrame | pl.Series | np.ndarray | list | tuple):
            size = result.width * result.height if isinstance(result, pl.DataFrame) else np.size(np.asarray(result))
            if size != 1:
                raise ComparisonError(
                    f"{said}{_without(left_out)}: {size:,} values for the whole, where `of: whole` needs one",
                    hint="return one number, or leave `of: whole` out to give one for each record",
                    version=self.version,
                )
            result = result.item() if not isinstance(result, list | tuple) else np.asarray(result).item()
        if isinstance(result, bool | np.bool_) or not isinstance(result, Real | Decimal):
            raise ComparisonError(
                f"{said}{_without(left_out)}: {_short(result)} is no number",
                hint="return one number",
                version=self.version,
            )
        try:
            value = float(result)
        except OverflowError:
            value = INF
        if not abs(value) <= LARGEST:
            raise ComparisonError(
                f"{said}{_without(left_out)}: {_short(result)} is no finite number",
                hint="give a number for every part of the records that is nearly the whole",
                version=self.version,
            )
        return value


def _nothing(truth: Truth, answer: Answer) -> Floats:
    raise ValueError("a function of the whole has no value for each record")


@dataclass(frozen=True, slots=True)
class Whole:
    """A function of all records. Sums: records, pseudo-values times records, blocks that move the figure."""

    name: str
    higher_is_better: bool
    bounds: tuple[float, float] = (-INF, INF)

    def undefined(self, truth: Truth, answer: Answer) -> str | None:
        return None

    def point(self, truth: Truth, answer: Answer, total: Floats) -> float:
        return answer.whole[self.name].value

    def tally(self, truth: Truth, answer: Answer, block: Integers, blocks: int) -> Floats:
        figure, records = answer.whole[self.name], count(block, blocks)
        total = records.sum()
        if np.count_nonzero(records) < MIN_INTERVAL_BLOCKS:  # too few for an interval: nothing is asked
            return np.column_stack([records, records * figure.value, records > 0])
        without = figure.without_each(block, blocks)
        pseudo = total * figure.value - (total - records) * without
        pseudo -= records * (pseudo.sum() / total - figure.value)
        size = np.maximum(np.abs(without), abs(figure.value))
        return np.column_stack([records, pseudo, np.abs(without - figure.value) > _UNMOVED * size])

    def value(self, sums: Floats) -> Floats:
        return _AS_MEAN.value(sums)

    def gradient(self, sums: Floats) -> Floats:
        return np.concatenate([_AS_MEAN.gradient(sums), np.zeros((*sums.shape[:-1], 1))], axis=-1)

    def support(self, sums: Floats) -> tuple[int, str]:
        return int(np.count_nonzero(sums[:, 2])), "records that move it"


_AS_MEAN = Mean("pseudo-value", True, (-INF, INF), _nothing)


def group_factor(grid: Grid, length: int) -> int:
    """How many cells of the grid make a group, so that there are at most MOST_GROUPS: a divisor of `length` when one
    does, so that blocks of that length are whole groups; else more.
    """
    for factor in range(1, length + 1):
        if length % factor == 0 and len(grid.coarser(factor)[0]) <= MOST_GROUPS:
            return factor
    factor = length
    while len(grid.coarser(factor)[0]) > MOST_GROUPS:
        factor += max(1, factor // 8)
    return factor


def _without(times: pl.Series | None) -> str:
    """What was left out, by its event times; nothing where nothing was."""
    if times is None:
        return ""
    first, last = times.sort().gather([0, -1]).dt.to_string("%Y-%m-%d %H:%M:%S")
    return f" without the records from {first} to {last}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
