"""The parts of a comparison as data frames, a row for each figure. Computes nothing.

An `interval` becomes the columns `low` and `high`; what is nested further becomes rows or a column of JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import polars as pl

from mlstream.comparison.details import (
    CalibrationBin,
    Change,
    ColumnDrift,
    Cost,
    Disagreement,
    ScoreShift,
    SliceResult,
)
from mlstream.errors import UsageError

if TYPE_CHECKING:
    from mlstream.comparison.result import Comparison

_TYPES = {
    "str": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
}
# Of a disagreement: which record, then who said what.
_FIRST = (
    *("version", "partition", "offset", "timestamp"),
    *("score", "baseline_score", "label", "right", "prediction", "baseline_prediction"),
)
_Row = Mapping[str, Any]


def to_frame(comparison: Comparison, part: str) -> pl.DataFrame:
    """One part of a comparison.

    Raises:
        UsageError: there is no such part.
    """
    maker = _PARTS.get(part)
    if maker is None:
        raise UsageError(f"a comparison has no part {part!r}", hint=f"choose one of {', '.join(_PARTS)}")
    return maker(comparison)


def _metrics(comparison: Comparison) -> pl.DataFrame:
    rows = []
    for found in comparison.metrics:
        delta = comparison.delta(found.version, found.metric)
        own, other = found.interval, None if delta is None else delta.interval
        rows.append(
            {
                "metric": found.metric,
                "version": found.version,
                "value": found.value,
                "low": None if own is None else own.low,
                "high": None if own is None else own.high,
                "higher_is_better": found.higher_is_better,
                "delta": None if delta is None else delta.delta,
                "delta_low": None if other is None else other.low,
                "delta_high": None if other is None else other.high,
                "p_value": None if delta is None else delta.p_value,
                "p_adjusted": None if delta is None else delta.p_adjusted,
                "margin": None if delta is None else delta.margin,
                "verdict": None if delta is None else delta.verdict,
                "reason": found.undefined if delta is None else delta.reason,
            }
        )
    numbers = ("value", "low", "high", "delta", "delta_low", "delta_high", "p_value", "p_adjusted", "margin")
    texts = ("metric", "version", "verdict", "reason")
    schema = dict.fromkeys(numbers, pl.Float64) | dict.fromkeys(texts, pl.String) | {"higher_is_better": pl.Boolean}
    return pl.DataFrame(rows, schema_overrides=schema) if rows else pl.DataFrame(schema=schema)


def _disagreements(comparison: Comparison) -> pl.DataFrame:
    """The record's own columns come last, under their names; those that are named like one of ours get a `_`."""
    rows = []
    taken = {field.name for field in fields(Disagreement)}
    for found in comparison.disagreements:
        own = {name: value for name, value in asdict(found).items() if name != "columns"}
        rows.append(own | {f"{name}_" if name in taken else name: value for name, value in found.columns.items()})
    if not rows:
        return _flat(Disagreement)(())
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    time = pl.col("timestamp_ms").cast(pl.Int64).cast(pl.Datetime("ms", "UTC")).alias("timestamp")
    return frame.with_columns(time).select(*_FIRST, pl.exclude(*_FIRST, "timestamp_ms"))


def _calibration(comparison: Comparison) -> pl.DataFrame:
    rows = [{"version": found.version, **asdict(each)} for found in comparison.calibration for each in found.bins]
    schema = {"version": pl.String, **_schema(CalibrationBin)}
    return pl.DataFrame(rows, schema=schema)


def _curves(comparison: Comparison) -> pl.DataFrame:
    rows = [
        (found.version, found.kind, x, y) for found in comparison.curves for x, y in zip(found.x, found.y, strict=True)
    ]
    schema = {"version": pl.String, "kind": pl.String, "x": pl.Float64, "y": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _flat(kind: type) -> Callable[[Iterable[object]], pl.DataFrame]:
    """Dataclasses of that kind as rows."""
    schema = _schema(kind)

    def make(found: Iterable[object]) -> pl.DataFrame:
        return pl.DataFrame([_row(asdict(item)) for item in found], schema=schema)  # type: ignore[call-overload]

    return make


def _row(values: _Row) -> dict[str, Any]:
    row = dict(values)
    if "interval" in row:
        interval = row.pop("interval")
        row |= {"low": None, "high": None} if interval is None else {name: interval[name] for name in ("low", "high")}
    return {name: json.dumps(value) if isinstance(value, (dict, list, tuple)) else value for name, value in row.items()}


def _schema(kind: type) -> dict[str, Any]:
    """Column → type, from the annotations of the fields."""
    schema: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "interval":
            schema |= {"low": pl.Float64, "high": pl.Float64}
        else:
            schema[field.name] = _TYPES.get(str(field.type).partition(" |")[0], pl.String)
    return schema


_PARTS: dict[str, Callable[[Comparison], pl.DataFrame]] = {
    "metrics": _metrics,
    "slices": lambda found: _flat(SliceResult)(found.slices),
    "disagreements": _disagreements,
    "changes": lambda found: _flat(Change)(found.changes),
    "calibration": _calibration,
    "curves": _curves,
    "shifts": lambda found: _flat(ScoreShift)(found.shifts),
    "drift": lambda found: _flat(ColumnDrift)(() if found.drift is None else found.drift.columns),
    "costs": lambda found: _flat(Cost)(found.costs),
}
