"""Cut columns into conditions that a person can read and write: values, ranges, nulls. Compares nothing.

A condition is SQL over the record's columns, so that what the search found can be written under `slices:` as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from mlstream.comparison.table import Table
from mlstream.errors import ComparisonError

# A column of more values than this is cut into ranges (numbers), or into its most frequent values (all others).
MOST_VALUES = 24
RANGES = 5
_GLANCE = 10_000
Codes = NDArray[np.int8]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions that exclude each other.

    Attributes:
        column: what was cut.
        names: the conditions, as SQL.
        codes: (n,), which of them holds for each record; -1 for none.
    """

    column: str
    names: tuple[str, ...]
    codes: Codes

    def masks(self) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Each condition and the records that it holds for."""
        for code, name in enumerate(self.names):
            yield name, self.codes == code


def evaluate(expression: str, records: Table) -> Conditions:
    """What the experiment wrote: a condition, or an expression with a slice for each of its values.

    Raises:
        ComparisonError: it is not SQL, names a column that records do not have, or cannot be computed.
    """
    try:
        parsed = pl.sql_expr(expression)
        found = records.select(parsed.alias("_slice"))["_slice"]
    except PolarsError as exc:
        raise _wrong(expression, records, exc) from exc
    if found.len() != records.height:
        raise ComparisonError(
            f"slices: {expression!r} gives {found.len():,} values for {records.height:,} records",
            hint="write an expression of one row, without aggregates",
        )
    if found.dtype == pl.Boolean:
        holds = found.fill_null(value=False).to_numpy()
        return Conditions(expression, (expression,), np.where(holds, 0, -1).astype(np.int8))
    sql = expression if _NAME.fullmatch(expression) else f"({expression})"
    return cut_column(sql, found)


def cut_columns(records: Table, columns: Sequence[str]) -> Iterator[Conditions]:
    """The conditions of each column that can be cut."""
    for name in columns:
        found = cut_column(quoted(name), records[name])
        if found.names:
            yield found


def cut_column(sql: str, column: pl.Series) -> Conditions:
    """One condition for each value of few, for each frequent value of many, or for ranges of numbers; nulls apart.

    Columns of other types than booleans, numbers and strings have none.
    """
    null = column.is_null().to_numpy()
    codes = np.full(column.len(), -1, dtype=np.int8)
    names: list[str] = []
    if column.dtype == pl.Boolean:
        names = [f"NOT {sql}", sql]
        codes[~null] = column.drop_nulls().cast(pl.Int8).to_numpy()
    elif column.dtype.is_numeric():
        names = _cut_numbers(sql, column, codes)
    elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
        names = _take_values(sql, column.cast(pl.String), codes)
    if not names:
        return Conditions(sql, (), codes)
    if null.any():
        codes[null] = len(names)
        names.append(f"{sql} IS NULL")
    return Conditions(sql, tuple(names), codes)


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return name if _NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _take_values(sql: str, column: pl.Series, codes: Codes) -> list[str]:
    """Conditions for the most frequent values; equal counts go by value."""
    counted = column.drop_nulls().value_counts(name="_count")
    values = counted.sort(["_count", column.name], descending=[True, False]).head(MOST_VALUES)[column.name].sort()
    if values.is_empty():
        return []
    if column.dtype == pl.String:
        found = column.cast(pl.Enum(values), strict=False).to_physical().cast(pl.Int8)
    else:
        found = column.replace_strict(values, pl.Series(range(values.len()), dtype=pl.Int8), default=-1)
    codes[:] = found.fill_null(-1).to_numpy()
    return [f"{sql} = {_literal(value)}" for value in values.to_list()]


def _cut_numbers(sql: str, column: pl.Series, codes: Codes) -> list[str]:
    finite = column.is_not_null()
    if not column.dtype.is_integer():
        finite &= column.cast(pl.Float64).is_finite().fill_null(value=False)
    whole = bool(finite.all())
    known = column if whole else column.filter(finite)
    inside = slice(None) if whole else finite.to_numpy()
    # A column of many values shows that soon.
    if known.head(_GLANCE).n_unique() <= MOST_VALUES and (values := known.unique()).len() <= MOST_VALUES:
        numbers = known.to_numpy()
        if numbers.dtype.kind not in "iuf":  # decimals and such
            return _take_values(sql, column.set(~finite, None), codes)
        found = values.sort().to_list()
        codes[inside] = _reached(numbers, found) - 1
        return [f"{sql} = {_literal(value)}" for value in found]
    numbers = known.cast(pl.Float64).to_numpy()
    # numpy finds the places of quantiles faster where they are in order already.
    edges = _rounded([float(edge) for edge in np.quantile(np.sort(numbers), np.arange(1, RANGES) / RANGES)])
    codes[inside] = _reached(numbers, edges)
    texts = [_literal(edge) for edge in edges]
    middle = [f"{sql} >= {low} AND {sql} < {high}" for low, high in pairwise(texts)]
    return [f"{sql} < {texts[0]}", *middle, f"{sql} >= {texts[-1]}"]


def _reached(numbers: NDArray[Any], edges: Sequence[float]) -> Codes:
    """How many of a few rising edges each number is not below."""
    found = np.zeros(numbers.size, dtype=np.int8)
    for edge in edges:
        found += numbers >= edge
    return found


def _rounded(edges: Sequence[float]) -> list[float]:
    """Rising, to three digits of what they span, so that a condition reads well and means what it says."""
    span = edges[-1] - edges[0]
    if span == 0 or not math.isfinite(span):
        return sorted(set(edges))
    return sorted({round(edge, 2 - math.floor(math.log10(span))) for edge in edges})


def _literal(value: object) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def first_line(exc: PolarsError) -> str:
    """What went wrong, without the plan that polars adds to it."""
    return str(exc).strip().split("\n", 1)[0]


def _wrong(expression: str, records: Table, exc: PolarsError) -> ComparisonError:
    try:
        absent = [name for name in pl.sql_expr(expression).meta.root_names() if name not in records.columns]
    except PolarsError:
        return ComparisonError(
            f"slices: {expression!r} is not a SQL expression: {exc}", hint="write for example \"origin = 'JFK'\""
        )
    if not absent:
        return ComparisonError(
            f"slices: {expression!r} cannot be computed: {first_line(exc)}",
            hint="declare the column's type under input.decode.columns, or cast it in the expression",
        )
    columns = [name for name in records.columns if not name.startswith("_")]
    near = get_close_matches(absent[0], columns, n=1)
    return ComparisonError(
        f"slices: the record has no column {', '.join(map(repr, absent))}",
        hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(columns)}",
    )
