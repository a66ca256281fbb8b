"""Everything of a comparison beside its metrics, put together: slices, calibration, curves, shifts, disagreements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.calibration import calibrate, draw_curves
from mlstream.comparison.conditions import Conditions, cut_column, cut_columns, evaluate
from mlstream.comparison.disagreements import Answered, cross_tables, find_disagreements
from mlstream.comparison.figures import Blocked, find_metric
from mlstream.comparison.labels import value_expression
from mlstream.comparison.metrics import Metric
from mlstream.comparison.result import SliceResult
from mlstream.comparison.shift import shift_scores
from mlstream.comparison.slice_search import choose_loss, search_slices
from mlstream.comparison.slices import Slice, measure_slices
from mlstream.comparison.table import Table
from mlstream.comparison.verdict import holm
from mlstream.comparison.wholes import Whole
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError

# The hour of the day is cut into slices when event time spans this much.
_HOURS_FROM_MS = 2 * 86_400_000
_HOUR = "EXTRACT(HOUR FROM _timestamp)"


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labelled records and what is known of them, row by row.

    Attributes:
        records: the columns of all paired ones.
        chosen: (records,), those that are labelled.
        truth: the labels of the chosen ones.
        answers: of each version to the chosen ones, the baseline first.
        blocked: the blocks of the comparison, and which of them each record is in.
        whole_blocked: those of figures that are a function of all records; None when there are none.
    """

    records: Table
    chosen: NDArray[np.bool_]
    truth: Truth
    answers: Sequence[Answer]
    blocked: Blocked
    whole_blocked: Blocked | None = None


def compare_answers(found: Answered, baseline: str) -> dict[str, Any]:
    """What the answers alone tell: fields of a comparison."""
    return {
        "disagreements": find_disagreements(found, baseline),
        "changes": cross_tables(found, baseline),
        "shifts": tuple(shift_scores(found.predictions, baseline, found.task)),
    }


def explain_labelled(config: ExperimentConfig, found: Labelled) -> dict[str, Any]:
    """What labels tell beside the metrics: fields of a comparison.

    Raises:
        ComparisonError: a slice or a column of the search is not among the records' columns, or not SQL.
    """
    curves = [curve for answer in found.answers for curve in draw_curves(found.truth, answer)]
    calibrated = [known for answer in found.answers if (known := calibrate(found.truth, answer)) is not None]
    for answer in found.answers:
        answer.kept.clear()  # slices have answers of their own
    told: dict[str, Any] = {"calibration": tuple(calibrated), "curves": tuple(curves)}
    if len(found.answers) < 2:
        return told
    metrics = [find_metric(config, name) for name in config.metric_names]
    named = _measure_named(config, found, metrics)
    return told | {"slices": named} | _search(config, found, metrics, named)


def _measure_named(config: ExperimentConfig, found: Labelled, metrics: Sequence[Metric]) -> tuple[SliceResult, ...]:
    """Every metric on every named slice, in the blocks that it has over all records."""
    sums = [metric for metric in metrics if not isinstance(metric, Whole)]
    measured = measure_slices(config, _named(config, found), sums, *_of(found))
    if found.whole_blocked is None:
        return measured
    wholes = [metric for metric in metrics if isinstance(metric, Whole)]
    both = (
        *measured,
        *measure_slices(config, _named(config, found), wholes, found.truth, found.answers, found.whole_blocked),
    )
    place = {item.slice: at for at, item in reversed(list(enumerate(both)))}
    by_slice = sorted(both, key=lambda item: place[item.slice])
    adjusted = holm([item.p_value for item in by_slice])
    return tuple(replace(item, p_adjusted=p) for item, p in zip(by_slice, adjusted, strict=True))


def _named(config: ExperimentConfig, found: Labelled) -> Iterator[Slice]:
    for expression in config.slices:
        for name, mask in evaluate(expression, found.records).masks():
            yield Slice(name, mask[found.chosen])


def _search(
    config: ExperimentConfig, found: Labelled, metrics: Sequence[Metric], named: tuple[SliceResult, ...]
) -> dict[str, Any]:
    loss = choose_loss(config, metrics, found.truth, found.answers)
    if loss is None or config.slice_search.columns == []:
        return {}
    searched, how = search_slices(config, loss, _cut(config, found), *_of(found))
    return {"slices": (*named, *searched), "slice_search": how} if how.tested else {}


def _of(found: Labelled) -> tuple[Truth, Sequence[Answer], Blocked]:
    return found.truth, found.answers, found.blocked


def _cut(config: ExperimentConfig, found: Labelled) -> Iterator[Conditions]:
    """The conditions that the search tests, on the labelled records."""
    for conditions in _cut_all(config, found):
        yield conditions if found.chosen.all() else replace(conditions, codes=conditions.codes[found.chosen])


def _cut_all(config: ExperimentConfig, found: Labelled) -> Iterator[Conditions]:
    asked = config.slice_search.columns
    columns = [name for name in found.records.columns if not name.startswith("_")]
    if asked is not None:
        absent = [name for name in asked if name not in columns]
        if absent:
            raise ComparisonError(
                f"slice_search.columns: the record has no column {', '.join(map(repr, absent))}",
                hint=f"it has: {', '.join(columns)}",
            )
        yield from cut_columns(found.records, asked)
        return
    # A slice by what the label is computed from would only say what the label is.
    rule = config.labels
    told = set() if rule is None or rule.source is not None else set(value_expression(rule).meta.root_names())
    yield from cut_columns(found.records, [name for name in columns if name not in told])
    times = found.records["_timestamp"]
    if _span_ms(times) >= _HOURS_FROM_MS:
        yield cut_column(_HOUR, times.dt.hour().cast(pl.Int64))


def _span_ms(times: pl.Series) -> int:
    known = times.drop_nulls().dt.epoch("ms")
    return 0 if known.is_empty() else int(known.max()) - int(known.min())  # type: ignore[arg-type]
