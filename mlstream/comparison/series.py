"""A version's figures over event time, for looking at. Nothing is tested on them, and no verdict reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlstream.comparison.details import Series

if TYPE_CHECKING:
    from mlstream.comparison.blocks import Grid
    from mlstream.comparison.figures import Row

MAX_POINTS = 120


def over_time(rows: Sequence[Row], grid: Grid) -> tuple[Series, ...]:
    """Every figure of every version in each interval of event time that holds records.

    The intervals are the blocks of `grid`, or as many of them together as leave MAX_POINTS. Figures of ranking metrics
    come from their histograms; one that an interval does not have (ROC AUC with one class only, say) is None.
    """
    factor = max(1, math.ceil(grid.span / MAX_POINTS))
    coarse, inside = grid.coarser(factor)
    starts_ms = tuple(int(number) * coarse.length_ms for number in coarse.numbers)
    found = []
    for row in (row.coarser(inside) for row in rows):
        for version, table in row.tables.items():
            values = (float(value) for value in row.metric.value(table))
            known = tuple(value if math.isfinite(value) else None for value in values)
            found.append(Series(version, row.metric.name, coarse.length_ms / 1000, starts_ms, known))
    return tuple(found)
