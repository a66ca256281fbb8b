"""The groups in which the records of a ranking task are ranked. Computes no metric."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np
import polars as pl

from mlstream.comparison.answers import Truth
from mlstream.comparison.sums import Integers
from mlstream.config.measures import RankingConfig
from mlstream.errors import ComparisonError


def find_groups(settings: RankingConfig, records: pl.DataFrame) -> Integers:
    """The number of each record's group, (n,); groups are numbered in the order of their values.

    Raises:
        ComparisonError: the records have no such column, or it is null.
    """
    if settings.group not in records.columns:
        columns = [name for name in records.columns if not name.startswith("_")]
        near = get_close_matches(settings.group, columns, n=1)
        raise ComparisonError(
            f"ranking.group: the record has no column {settings.group!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(columns)}",
        )
    column = records[settings.group]
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise ComparisonError(
            f"ranking.group: {settings.group} is null in {column.null_count():,} labelled records; the first is "
            f"partition {records['_partition'][row]}, offset {records['_offset'][row]}",
            hint="make `labels.value` null where a record is in no group",
        )
    return column.rank("dense").cast(pl.Int64).to_numpy() - 1


def first_times(truth: Truth, times_ms: Integers) -> Integers:
    """For each record the earliest event time of its group: (n,)."""
    if truth.groups is None:
        return times_ms
    first = np.full(int(truth.groups.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, truth.groups, times_ms)
    return first[truth.groups]
