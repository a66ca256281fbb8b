"""Figures of the experiment's own: a value for each labelled record, from SQL or from a function. Loads no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from mlstream.comparison.answers import LARGEST
from mlstream.comparison.sums import Floats
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """A function that was loaded.

    Attributes:
        call: given a frame, it returns a number for each row.
        digest: of the file that it is from, 64 hex digits.
    """

    call: Callable[[pl.DataFrame], Any]
    digest: str


def measure_own(
    config: ExperimentConfig,
    functions: Mapping[str, OwnFunction],
    records: pl.DataFrame,
    labels: pl.Series,
    predictions: Mapping[str, pl.DataFrame],
) -> dict[str, dict[str, Floats]]:
    """Version → metric of the experiment's own → its value for each labelled record.

    Args:
        config: `custom_metrics`.
        functions: of those that have one, by the metric's name.
        records: the labelled ones, with their columns.
        labels: of these.
        predictions: version → `prediction` and, when it gives them, `score` or `scores`, of these.

    Raises:
        ComparisonError: names the metric, the version and what is wrong.
    """
    if not config.custom_metrics:
        return {version: {} for version in predictions}
    found: dict[str, dict[str, Floats]] = {}
    for version, frame in predictions.items():
        said = [frame[name] for name in ("prediction", "score", "scores") if name in frame.columns]
        whole = records.with_columns(labels.alias("label"), *said)
        found[version] = {
            name: _values(name, version, own.value, functions.get(name), whole)
            for name, own in config.custom_metrics.items()
        }
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
        for name, own in config.custom_metrics.items()
    }


def _values(name: str, version: str, sql: str | None, function: OwnFunction | None, frame: pl.DataFrame) -> Floats:
    if sql is not None:
        result: Any = _evaluate(name, version, sql, frame)
    elif function is not None:
        try:
            result = function.call(frame)
        except Exception as exc:  # whatever the experiment's own code raises
            raise ComparisonError(
                f"custom_metrics.{name}: its function raised {type(exc).__name__} for {version}: {exc}", version=version
            ) from exc
    else:
        raise ComparisonError(f"custom_metrics.{name}: its function was not given")
    try:
        column = pl.Series(result).cast(pl.Float64)
    except (PolarsError, TypeError, ValueError) as exc:
        raise ComparisonError(f"custom_metrics.{name}: {version}: not a column of numbers: {exc}") from exc
    if column.len() != frame.height:
        raise ComparisonError(
            f"custom_metrics.{name}: {version}: {column.len():,} values for {frame.height:,} records",
            hint="give one number for each record",
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
