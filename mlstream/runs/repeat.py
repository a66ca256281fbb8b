"""Compute a run's baseline again and say whether it answers the same, bit by bit. Judges no version.

Two computations of one version over one input should not differ. If they do (a model that draws numbers, sums that
threads split otherwise), then so much of any difference between two versions is noise: the floor of a comparison.

1. the version must be what it was
2. compute it again, in attempts of its own, which are runs that say whose baseline they repeat
3. compare the frozen predictions and note it in the run's record
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.transactions import check_transactions
from mlstream.errors import RunError, UsageError, VersionLoadError
from mlstream.runs.attempt import Attempt, Listener, Progress
from mlstream.runs.outcome import Difference, Repeat
from mlstream.runs.outputs import free_attempt
from mlstream.runs.prepare import Prepared, prepare, what_is_known
from mlstream.runs.record import alone, read_record, write_record
from mlstream.runs.replay import check_portable, resumable
from mlstream.runs.run import Run

_PLACE = ("source_partition", "source_offset")


@dataclass(frozen=True, slots=True)
class _Found:
    """What differs between two frames of predictions: which rows, the largest difference, the first place."""

    rows: np.ndarray[tuple[int], np.dtype[np.bool_]]
    largest: float
    first: tuple[int, str, Any, Any] | None


def repeat_baseline(
    run: Run,
    *,
    times: int = 2,
    connection: Connection | None = None,
    workers: int = 1,
    progress: Listener | None = None,
) -> Run:
    """Compute a run's baseline until there are `times` computations of it, and compare them.

    What was computed again before counts. A computation that was cut off is gone on with.

    Args:
        run: a run whose baseline is complete.
        times: how many computations, the run's own among them; from 2.
        connection: the cluster that predictions go to; found as `find_connection` says when None.
        workers: processes, which share the partitions.
        progress: called in this thread; the version is called `NAME again`.

    Returns:
        The run with its `repeat`, which its record holds, too.

    Raises:
        UsageError: fewer than two.
        RunError: the baseline is not complete, or failed when it was computed again.
        VersionLoadError: the baseline is not what it was.
        BrokerError: the cluster cannot be used.
    """
    if times < 2:
        raise UsageError(f"{times} computations cannot be compared", hint="ask for 2 or more")
    name = baseline_of(run)
    if run.outcome(name).status != "complete":
        raise RunError(
            f"run {run.id[:12]}: its baseline {name} is not complete, so there is nothing to repeat",
            hint=f"see `mlstream run show {run.id[:12]}`",
            run_id=run.id,
        )
    tell = progress if progress is not None else _tell_nobody
    found = prepare(
        run.config,
        snapshot=run.snapshot_id,
        versions=[name],
        home=run.home,
        on_decoding=lambda rows: tell(Progress("decoding", total=rows)),
        on_building=lambda version, _: tell(Progress("building", version)),
    )
    # 1. the version is what it was
    if found.plan.version_keys[name] != run.outcome(name).key:
        raise VersionLoadError(
            f"version {name} or how its input is read changed after run {run.id[:12]}",
            hint="run the experiment again, then repeat that run",
            version=name,
        )
    with alone(found.home, found.plan.key), found.source.store.in_use(found.source.id, f"a run of {run.experiment}"):
        # 2. compute it again
        again = [
            known for known in what_is_known(found).repeats if known.repeats == run.id and known.status == "complete"
        ]
        if len(again) < times - 1:
            given = connection if connection is not None else find_connection(run.home, settings=run.config.connection)
            check_portable(given)
            with Client(given) as client:
                check_transactions(client)
                while len(again) < times - 1:
                    once = _compute(client, found, run, tell, workers)
                    once.check()
                    again.append(once)
        # 3. compare
        done = replace(run, repeat=_compare(run, name, again[: times - 1]))
    _note(done)
    return done


def baseline_of(run: Run) -> str:
    """The version of a run that is its baseline: the configuration's, or the first when that was not run."""
    name = run.config.baseline_version
    return name if name in run.versions else next(iter(run.versions))


def _compute(client: Client, found: Prepared, run: Run, tell: Listener, workers: int) -> Run:
    known = what_is_known(found)
    own = [each for each in known.repeats if each.repeats == run.id]
    cut_off = resumable(client, own)
    everything = (*known.earlier, *known.repeats)
    attempt = free_attempt(client, found.plan, everything) if cut_off is None else cut_off.attempt

    def told(progress: Progress) -> None:
        version = progress.version
        tell(progress if version is None else replace(progress, version=f"{version} again"))

    now = Attempt(client, found.home, found.plan, attempt, found.source, found.view, told, workers)
    begun = now.begin({}, repeats=run.id) if cut_off is None else cut_off
    return now.run(begun, found.decode_seconds)


def _compare(run: Run, name: str, again: Sequence[Run]) -> Repeat:
    differing, largest = 0, 0.0
    difference: Difference | None = None
    for other in again:
        first, second = run.predictions(name), other.predictions(name)
        once: pl.DataFrame | None = None
        if run.outcome(name).refused or other.outcome(name).refused:
            once, first, second = _answered_once(first, second)
        found = differences(first, second)
        count = int(found.rows.sum()) + (0 if once is None else once.height)
        differing, largest = max(differing, count), max(largest, found.largest)
        if difference is not None:
            continue
        if found.first is not None:
            row, column, before, after = found.first
            partition, offset = first.select(_PLACE).slice(row, 1).collect().row(0)
            difference = Difference(other.id, partition, offset, column, before, after)
        elif once is not None and once.height:
            partition, offset, by_second = once.row(0)
            difference = Difference(other.id, partition, offset, "refused", by_second, not by_second)
    return Repeat(name, tuple(other.id for other in again), run.outcome(name).rows, differing, largest, difference)


def _answered_once(first: pl.LazyFrame, second: pl.LazyFrame) -> tuple[pl.DataFrame, pl.LazyFrame, pl.LazyFrame]:
    """The records that only one of two computations answered, which the other refused; and the predictions for both.

    Returns:
        Of those records the place, and whether it was the second that answered; then the predictions of both.
    """
    of_first, of_second = first.select(_PLACE).collect(), second.select(_PLACE).collect()
    by_first = of_first.join(of_second, on=_PLACE, how="anti").with_columns(pl.lit(value=False).alias("second"))
    by_second = of_second.join(of_first, on=_PLACE, how="anti").with_columns(pl.lit(value=True).alias("second"))
    once = pl.concat([by_first, by_second]).sort(_PLACE)
    if once.height:
        first = first.join(of_second.lazy(), on=_PLACE, how="semi", maintain_order="left")
        second = second.join(of_first.lazy(), on=_PLACE, how="semi", maintain_order="left")
    return once, first, second


def differences(first: pl.LazyFrame, second: pl.LazyFrame) -> _Found:
    """Where the predictions for the same records differ, bit by bit: -0.0 is not 0.0. A column at a time.

    Raises:
        RunError: they do not have the same columns, or are not for the same records.
    """
    schema = first.collect_schema()
    columns = [name for name in schema.names() if name not in ("source_topic", "timestamp", *_PLACE)]
    same = schema == second.collect_schema() and all(_same(first, second, name) for name in _PLACE)
    if not same:
        raise RunError(
            "the version answered other records or other columns when it was computed again",
            hint="something else wrote to its topic; run again with --force",
        )
    rows: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None
    largest, at = 0.0, None
    for name in columns:
        before, after = _column(first, name), _column(second, name)
        unequal = _unequal(before, after)
        rows = unequal if rows is None else rows | unequal
        if not unequal.any():
            continue
        largest = max(largest, _largest(before.filter(unequal), after.filter(unequal)))
        row = int(unequal.argmax())
        if at is None or row < at[0]:
            at = row, name, before[row], after[row]
    at = None if at is None else (at[0], at[1], _plain(at[2]), _plain(at[3]))
    return _Found(np.zeros(0, np.bool_) if rows is None else rows, largest, at)


def _column(frame: pl.LazyFrame, name: str) -> pl.Series:
    return frame.select(name).collect().to_series()


def _same(first: pl.LazyFrame, second: pl.LazyFrame, name: str) -> bool:
    return _column(first, name).equals(_column(second, name))


def _unequal(before: pl.Series, after: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    if before.dtype == pl.Float64:
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = _bits(before) != _bits(after)
        return found
    if before.dtype == pl.List(pl.Float64):
        lengths = np.asarray(before.list.len().to_numpy(), np.int64)
        unequal = lengths != np.asarray(after.list.len().to_numpy(), np.int64)
        if unequal.any() or not len(lengths):
            return np.asarray(unequal, np.bool_)
        row_of = np.repeat(np.arange(len(lengths)), lengths)
        flat = _bits(before.explode()) != _bits(after.explode())
        unequal[row_of[flat]] = True
        return np.asarray(unequal, np.bool_)
    return np.asarray(before.ne_missing(after).to_numpy(), np.bool_)


def _bits(column: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.ascontiguousarray(column.to_numpy(), np.float64).view(np.int64)


def _largest(before: pl.Series, after: pl.Series) -> float:
    """The largest difference of two columns of numbers; 0 of others, and of lists that differ in length."""
    if isinstance(before.dtype, pl.List):
        if not before.list.len().equals(after.list.len()):
            return 0.0
        before, after = before.explode(), after.explode()
    if not before.dtype.is_numeric():
        return 0.0
    with np.errstate(over="ignore"):
        gap = float(np.abs(before.to_numpy().astype(np.float64) - after.to_numpy().astype(np.float64)).max())
    return min(gap, float(np.finfo(np.float64).max))  # a record is JSON, which has no infinity


def _plain(value: Any) -> Any:
    return value.to_list() if isinstance(value, pl.Series) else value


def _note(run: Run) -> None:
    """Into the run's record, which may have been made by an earlier call."""
    record = read_record(run.home, run.id)
    write_record(run.home, {**record, "repeat": run.to_dict()["repeat"]})


def _tell_nobody(_progress: Progress) -> None:
    """The listener when none was given."""
