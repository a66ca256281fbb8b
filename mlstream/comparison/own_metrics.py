"""Figures of the experiment's own, from SQL or from a function: a value for each labelled record, or one for all.

Loads no code; what is made of one value for all is in `wholes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from mlstream.comparison.answers import LARGEST
from mlstream.comparison.sums import Floats, Integers
from mlstream.comparison.wholes import WholeFigure
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function that was loaded.

    Attributes:
        call: given a frame, it returns a number for each row, or one.
        digest: of the file that it is from, 64 hex digits.
    """

    call: Callable[[pl.DataFrame], Any]
    digest: str


@dataclass(frozen=True, slots=True)
class Owned:
    """What the experiment's own metrics make of one version's answers.

    Attributes:
        values: metric → its value for each labelled record, (n,).
        wholes: metric that is a function of all records → this function.
    """

    values: dict[str, Floats]
    wholes: dict[str, WholeFigure]


def measure_own(
    config: ExperimentConfig,
    functions: Mapping[str, OwnFunction],
    records: pl.DataFrame,
    labels: pl.Series,
    predictions: Mapping[str, pl.DataFrame],
    times_ms: Integers,
) -> dict[str, Owned]:
    """Version → what the experiment's own metrics make of it.

    Args:
        config: `custom_metrics`.
        functions: of those that have one, by the metric's name.
        records: the labelled ones, with their columns.
        labels: of these.
        predictions: version → `prediction` and, when it gives them, `score` or `scores`, of these.
        times_ms: (n,), the event times by which these are in blocks.

    Raises:
        ComparisonError: names the metric, the version and what is wrong.
    """
    order = np.lexsort((records["_offset"].to_numpy(), records["_partition"].to_numpy(), times_ms))
    found: dict[str, Owned] = {}
    for version, frame in predictions.items():
        said = [frame[name] for name in ("prediction", "score", "scores") if name in frame.columns]
        columns = records.with_columns(labels.alias("label"), *said)
        found[version] = Owned({}, {})
        for name, own in config.custom_metrics.items():
            ask = _asker(name, version, own.value, functions.get(name))
            if own.of == "whole":
                found[version].wholes[name] = WholeFigure(name, version, ask, columns, order)
            else:
                found[version].values[name] = _values(name, version, ask, columns)
    return found


def describe_own(config: ExperimentConfig, functions: Mapping[str, OwnFunction]) -> dict[str, dict[str, str | None]]:
    """What they were computed by: for the record."""
    return {
        name: {
            "value": own.value,
            "function": own.function,
            "better": own.better,
            "digest": functions[name].digest if name in functions else None,
        }
        | ({"of": own.of} if own.of != "records" else {})
        for name, own in config.custom_metrics.items()
    }


def _asker(name: str, version: str, sql: str | None, function: OwnFunction | None) -> Callable[[pl.DataFrame], Any]:
    if sql is not None:
        return partial(_evaluate, name, version, sql)
    if function is None:
        raise ComparisonError(f"custom_metrics.{name}: its function was not given")
    return function.call


def _values(name: str, version: str, ask: Callable[[pl.DataFrame], Any], frame: pl.DataFrame) -> Floats:
    try:
        result = ask(frame)
    except ComparisonError:
        raise  # a SQL expression has named what is wrong
    except Exception as exc:  # whatever the experiment's own code raises
        raise ComparisonError(
            f"custom_metrics.{name}: its function raised {type(exc).__name__} for {version}: {exc}", version=version
        ) from exc
    try:
        column = pl.Series(result).cast(pl.Float64)
    except (PolarsError, TypeError, ValueError) as exc:
        raise ComparisonError(f"custom_metrics.{name}: {version}: not a column of numbers: {exc}") from exc
    if column.len() != frame.height:
        raise ComparisonError(
            f"custom_metrics.{name}: {version}: {column.len():,} values for {frame.height:,} records",
            hint="give one number for each record, or write `of: whole` for a function of all of them",
            version=version,
        )
    values: Floats = column.fill_null(np.nan).to_numpy()
    bad = ~(np.abs(values) <= LARGEST)
    if bad.any():
        row = int(bad.argmax())
        raise ComparisonError(
            f"custom_metrics.{name}: {version}: {int(bad.sum()):,} values are null or no finite numbers; the first is "
            f"for partition {frame['_partition'][row]}, offset {frame['_offset'][row]}",
            version=version,
        )
    return values


def _evaluate(name: str, version: str, sql: str, frame: pl.DataFrame) -> pl.Series:
    try:
        return frame.select(pl.sql_expr(sql).alias("_own"))["_own"]
    except PolarsError as exc:
        try:
            absent = [column for column in pl.sql_expr(sql).meta.root_names() if column not in frame.columns]
        except PolarsError:
            raise ComparisonError(f"custom_metrics.{name}: {sql!r} is not a SQL expression: {exc}") from exc
        if not absent:
            raise ComparisonError(f"custom_metrics.{name}: {sql!r} cannot be computed: {exc}") from exc
        near = get_close_matches(absent[0], frame.columns, n=1)
        raise ComparisonError(
            f"custom_metrics.{name}: {version} and its records have no column {', '.join(map(repr, absent))}",
            hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(frame.columns)}",
            version=version,
        ) from exc
