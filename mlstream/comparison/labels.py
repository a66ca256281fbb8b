"""Find the truth of each record: a field of the record, or a label that came later from elsewhere. Reads nothing.

A label belongs to a record when the declared columns are equal and, if the experiment says `within`, when it came at
the record's event time or up to `within` after it. A record is *due* when its whole window had passed at the label
cut; records that are not yet due are left out by their event time, whether their label has come or not: to keep those
whose label came early would prefer fast answers.

The label cut is the event time that the label stream had reached when it was frozen: the latest timestamp in its
frozen range, over all partitions. The snapshot's own wall-clock time would be wrong for replayed history, and the
earliest of the partitions' last timestamps would let one quiet partition hold back the rest: the partitions of one
topic are frozen within the same second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError

from mlstream.comparison.conditions import first_line
from mlstream.comparison.result import LabelCoverage
from mlstream.comparison.sums import Integers
from mlstream.config import LabelConfig
from mlstream.errors import LabelError
from mlstream.ranges import format_time_ms, parse_duration_s

VALUE = "_label"
# Keys that are whole numbers are numbered by themselves up to this many for each label.
_WIDE = 2


@dataclass(frozen=True, slots=True)
class Labelled:
    """Which records have a truth, and what it is.

    Attributes:
        chosen: (records,): those that are due and have a label.
        values: the labels of the chosen ones, without nulls.
        coverage: the counts; `positives` is filled in by who knows the task.
    """

    chosen: NDArray[np.bool_]
    values: pl.Series
    coverage: LabelCoverage


def value_expression(rule: LabelConfig) -> pl.Expr:
    """`labels.value` as an expression.

    Raises:
        LabelError: when it is not SQL.
    """
    try:
        return pl.sql_expr(rule.value)
    except PolarsError as exc:
        raise LabelError(
            f"labels.value: {rule.value!r} is not a SQL expression: {exc}",
            hint="write for example 'arr_delay > 15'",
        ) from exc


def needed_columns(rule: LabelConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The decoded columns that the join reads of a record, and of a label (none when it is in the record)."""
    of_value = tuple(value_expression(rule).meta.root_names())
    if rule.source is None:
        return of_value, ()
    return tuple(rule.on), tuple(dict.fromkeys((*rule.on, *of_value)))


def find_labels(rule: LabelConfig, records: pl.DataFrame, labels: pl.DataFrame | None) -> Labelled:
    """The truth of each record.

    Args:
        rule: what the experiment says of labels.
        records: `_partition`, `_offset`, `_timestamp` and the record's columns that the rule names.
        labels: of the label stream `_partition`, `_offset`, `_timestamp` and columns; of a table or file likewise, with
            the number of the row as `_offset`, and null as `_timestamp` without `time:`. None when records hold them.

    Raises:
        LabelError: a column or an expression is wrong, a record has two labels, or one that is due has none and the
            rule says `missing: refuse`.
    """
    if rule.source is None:
        found = _evaluate(rule, records, "the record")
        count = np.ones(records.height, dtype=np.int64)
        absent = np.zeros(records.height, dtype=np.bool_)
        due = np.ones(records.height, dtype=np.bool_)
        cut_ms: int | None = None
    else:
        if labels is None:
            raise LabelError(f"labels: the snapshot's {rule.source} was not given")
        found, count = _join(rule, records, labels)
        cut_ms = None if labels["_timestamp"].count() == 0 else int(_epoch_ms(labels.drop_nulls("_timestamp")).max())
        due = _due(rule, records, cut_ms)
        absent = due & (count == 0) & (rule.absent is not None)
        if absent.any():
            # A record without a key had no chance of a label.
            absent &= ~records.select(pl.any_horizontal(pl.col(rule.on).is_null())).to_series().to_numpy()
            found = _with_absent(rule, found, absent)
    if found.dtype.is_float():
        # A number that is not a number is no truth.
        found = found.fill_nan(None)
    present = found.is_not_null().to_numpy()
    chosen = due & present
    missing = due & ~present
    coverage = LabelCoverage(
        records=records.height,
        labelled=int(chosen.sum()),
        not_yet_due=int((~due).sum()),
        missing=int(missing.sum()),
        positives=None,
        rule=describe(rule) + ("" if rule.absent is None else f" ({_records(int(absent.sum()))})"),
        null=int((missing & (count > 0)).sum()),
        cut_ms=cut_ms,
        reason=rule.reason,
        absent=int(absent.sum()),
    )
    if missing.any() and rule.missing == "refuse":
        raise _refused(records, missing, coverage)
    if not chosen.any():
        raise LabelError(
            f"none of {records.height:,} records has a label ({coverage.missing:,} without one, "
            f"{coverage.not_yet_due:,} not yet due)",
            hint="look at labels.on, labels.within and the range of the label stream in the snapshot",
        )
    return Labelled(chosen, found.filter(pl.Series(chosen)), coverage)


def _records(count: int) -> str:
    return f"{count:,} record" + ("" if count == 1 else "s")


def describe(rule: LabelConfig) -> str:
    """The rule in a line."""
    if rule.source is None:
        return f"{rule.value}, from the record"
    window = "" if rule.within is None else f", within {rule.within}"
    none = "" if rule.absent is None else f"; {json.dumps(rule.absent)} where none came"
    return f"{rule.value}, from {rule.source} on {', '.join(rule.on)}{window}{none}"


def _evaluate(rule: LabelConfig, frame: pl.DataFrame, what: str) -> pl.Series:
    try:
        found = frame.select(value_expression(rule).alias(VALUE))[VALUE]
    except PolarsError as exc:
        absent = [name for name in value_expression(rule).meta.root_names() if name not in frame.columns]
        if absent:
            raise absent_columns("labels.value", absent, what, frame.columns) from exc
        raise LabelError(f"labels.value: {rule.value!r} cannot be computed: {first_line(exc)}") from exc
    if found.len() != frame.height:
        raise LabelError(
            f"labels.value: {rule.value!r} gives {found.len():,} values for {frame.height:,} rows",
            hint="write an expression of one row, without aggregates",
        )
    return found


def _join(rule: LabelConfig, records: pl.DataFrame, labels: pl.DataFrame) -> tuple[pl.Series, Integers]:
    """The label of each record (null when there is none, or a null one) and how many it has: 0 or 1."""
    for what, frame in (("the record", records), (f"a label of {rule.source}", labels)):
        absent = [name for name in rule.on if name not in frame.columns]
        if absent:
            raise absent_columns("labels.on", absent, what, frame.columns)
    for name in rule.on:
        own, other = records.schema[name], labels.schema[name]
        if own != other and not (own.is_integer() and other.is_integer()):
            raise LabelError(
                f"labels.on: {name} is {own} in the record and {other} in {rule.source}: they are never equal",
                hint="declare the column's type under input.decode.columns or labels.decode.columns",
            )
    values = _evaluate(rule, labels, f"a label of {rule.source}")
    wanted, keys = _keys(rule, records, labels)
    times = _times(rule, labels)
    single = _single(keys)
    if single is not None:
        at = single[wanted]
        if rule.within is not None and times.size:
            late_ms = times[at] - _epoch_ms(records)
            at[(late_ms < 0) | (late_ms > _window_ms(rule.within))] = -1
        return _taken(values, at), (at >= 0).astype(np.int64)
    usable = np.flatnonzero(keys >= 0)
    order = usable[np.lexsort((times[usable], keys[usable]))]
    if rule.within is None:
        first, stop = _span(keys[order], wanted)
    else:
        opens = _epoch_ms(records)
        first, stop = _span_in_time(keys[order], times[order], wanted, opens, opens + _window_ms(rule.within))
    count = stop - first
    if (count > 1).any():
        raise _doubled(rule, records, labels, int(np.argmax(count > 1)), order, (first, stop))
    at = np.full(records.height, -1, dtype=np.int64)
    at[count == 1] = order[first[count == 1]]
    return _taken(values, at), count


def _single(keys: Integers) -> Integers | None:
    """Key → the row of its label, -1 for one without and, last, for no key; None when a key has several labels."""
    usable = np.flatnonzero(keys >= 0)
    rows = np.full(int(keys.max(initial=-1)) + 2, -1, dtype=np.int64)
    rows[keys[usable]] = usable
    return rows if np.count_nonzero(rows >= 0) == usable.size else None


def _taken(values: pl.Series, at: Integers) -> pl.Series:
    """The values of these rows; null for -1."""
    rows = pl.Series(at)
    return values.gather(rows if (at >= 0).all() else rows.set(pl.Series(at < 0), None))


def _window_ms(within: str) -> int:
    return round(parse_duration_s(within) * 1000)


def _with_absent(rule: LabelConfig, found: pl.Series, absent: NDArray[np.bool_]) -> pl.Series:
    """The labels, with what the rule says of records for which none came."""
    kinds = {bool: found.dtype == pl.Boolean, str: found.dtype == pl.String}
    if not kinds.get(type(rule.absent), found.dtype.is_numeric()):
        raise LabelError(
            f"labels.absent: {json.dumps(rule.absent)} is none of the labels, which are {found.dtype}",
            hint="write a value of the kind that labels.value gives",
        )
    return pl.select(pl.when(pl.Series(absent)).then(pl.lit(rule.absent)).otherwise(found).alias(VALUE))[VALUE]


def _keys(rule: LabelConfig, records: pl.DataFrame, labels: pl.DataFrame) -> tuple[Integers, Integers]:
    """The declared columns as numbers, the same on both sides; -1 where no label has them or one of them is null."""
    sides = [
        frame.select(pl.col(name).cast(pl.Int64) if frame.schema[name].is_integer() else name for name in rule.on)
        for frame in (records, labels)
    ]
    if len(rule.on) == 1 and (plain := _plain_keys(*(side.to_series() for side in sides))) is not None:
        return plain
    known = sides[1].drop_nulls().unique(maintain_order=True).with_row_index("_key")
    own, other = (
        side.join(known, on=list(rule.on), how="left", maintain_order="left")["_key"].cast(pl.Int64).fill_null(-1)
        for side in sides
    )
    return own.to_numpy(), other.to_numpy()


def _plain_keys(own: pl.Series, other: pl.Series) -> tuple[Integers, Integers] | None:
    """Whole numbers without nulls, of a range that is not much wider than they are many, as they are; else None."""
    if other.dtype != pl.Int64 or own.null_count() or other.null_count() or other.is_empty():
        return None
    wanted, keys = own.to_numpy(), other.to_numpy()
    least, most = int(keys.min()), int(keys.max())
    if most - least > _WIDE * keys.size:
        return None
    return np.where((wanted >= least) & (wanted <= most), wanted - least, -1), keys - least


def _times(rule: LabelConfig, labels: pl.DataFrame) -> Integers:
    if labels["_timestamp"].null_count():
        if rule.within is not None:
            raise LabelError(
                f"{labels['_timestamp'].null_count():,} labels of {rule.source} have no event time",
                hint="without it, `within` cannot be checked: write labels with a timestamp, or leave `within` out",
            )
        return np.zeros(labels.height, dtype=np.int64)
    return _epoch_ms(labels)


def _epoch_ms(frame: pl.DataFrame) -> Integers:
    return frame["_timestamp"].dt.epoch("ms").to_numpy().astype(np.int64, copy=False)


def _span(keys: Integers, wanted: Integers) -> tuple[Integers, Integers]:
    """The rows `[first, stop)` of labels, sorted by key, that are for each wanted key."""
    return np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")


def _span_in_time(
    keys: Integers, times: Integers, wanted: Integers, opens: Integers, closes: Integers
) -> tuple[Integers, Integers]:
    """Likewise, of labels sorted by key and time, those with `opens <= time <= closes`.

    Key and time become one number: the rank of the time among all that occur, within the key's own stretch.
    """
    ranked = np.sort(times)
    every = ranked[np.concatenate([[True], ranked[1:] != ranked[:-1]])]  # faster than numpy's own hashing
    width = every.size + 1
    ranked = keys * width + np.searchsorted(every, times)
    return (
        np.searchsorted(ranked, wanted * width + np.searchsorted(every, opens, "left"), "left"),
        np.searchsorted(ranked, wanted * width + np.searchsorted(every, closes, "right"), "left"),
    )


def _due(rule: LabelConfig, records: pl.DataFrame, cut_ms: int | None) -> NDArray[np.bool_]:
    if rule.within is None:
        return np.ones(records.height, dtype=np.bool_)
    if cut_ms is None:
        return np.zeros(records.height, dtype=np.bool_)
    return _epoch_ms(records) + _window_ms(rule.within) <= cut_ms


def absent_columns(key: str, absent: Sequence[str], what: str, columns: Sequence[str]) -> LabelError:
    """The error of columns that `what` has not; suggests the near one."""
    columns = [name for name in columns if not name.startswith("_")]
    near = get_close_matches(absent[0], columns, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(columns)}"
    return LabelError(f"{key}: {what} has no column {', '.join(map(repr, absent))}", hint=hint)


def _doubled(
    rule: LabelConfig,
    records: pl.DataFrame,
    labels: pl.DataFrame,
    row: int,
    order: Integers,
    spans: tuple[Integers, Integers],
) -> LabelError:
    first, stop = spans
    several = int((stop - first > 1).sum())
    have = "1 record has" if several == 1 else f"{several:,} records have"
    closer = "or shorten labels.within" if rule.within is not None else "or leave all but one of them out"
    which = ", ".join(
        f"partition {labels['_partition'][at]} offset {labels['_offset'][at]}"
        if rule.topic is not None
        else f"row {labels['_offset'][at]}"
        for at in order[first[row] : min(stop[row], first[row] + 2)].tolist()
    )
    key = ", ".join(f"{name}={records[name][row]}" for name in rule.on)
    return LabelError(
        f"{have} more than one label; the first is partition {records['_partition'][row]}, "
        f"offset {records['_offset'][row]} ({key}), with {rule.source} {which}",
        hint=f"add a column to labels.on that tells the records apart, {closer}",
    )


def _refused(records: pl.DataFrame, missing: NDArray[np.bool_], coverage: LabelCoverage) -> LabelError:
    row = int(np.argmax(missing))
    cut = "" if coverage.cut_ms is None else f" (labels were frozen up to {format_time_ms(coverage.cut_ms)})"
    null = f", {coverage.null:,} of them with a label that is null" if coverage.null else ""
    return LabelError(
        f"{coverage.missing:,} of {coverage.records:,} records are due and have no label{null}{cut}; the first is "
        f"partition {records['_partition'][row]}, offset {records['_offset'][row]}",
        hint="if that is as it should be, write `missing: exclude` and a `reason:` under labels",
    )
