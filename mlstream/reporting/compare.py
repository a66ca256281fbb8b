"""Compare the versions of a run: read it and its labels, call `comparison`, keep the result, record it in MLflow.

A comparison is kept before MLflow hears of it: a server that does not answer loses nothing, and what it has not heard
of is sent by `mlstream compare --sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from mlstream.comparison.compare import Evidence, Origin, compare_predictions
from mlstream.comparison.labels import needed_columns
from mlstream.comparison.result import Comparison
from mlstream.config import DecodeConfig, LabelConfig
from mlstream.errors import CoverageError, LabelError, RunIncomplete, TrackingError
from mlstream.home import Home
from mlstream.reporting import tracking
from mlstream.reporting.facts import run_facts
from mlstream.reporting.kept import keep, mark_pending, unmark_pending
from mlstream.reporting.tracking import Tracked
from mlstream.runs.run import Run, list_runs, open_run
from mlstream.snapshots.snapshot import Snapshot

Progress = Callable[[str], None]
_PLACE = ("_partition", "_offset", "_timestamp")


def compare(
    run: Run | str | None = None,
    *,
    baseline: str | None = None,
    allow_missing: bool = False,
    home: Home | str | Path | None = None,
    track: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the versions of a run with its baseline, keep the result and record it in MLflow.

    Args:
        run: a run, its id or the beginning of its id; the newest complete run when None.
        baseline: the version that the others are compared with; the experiment's when None.
        allow_missing: compare what is there: the versions that finished, the records that all of them answered.
        home: where runs are kept; found as `find_home` says when None.
        track: record it in MLflow too.
        progress: called with a sentence at each step.

    Raises:
        UnknownRun: there is no such run.
        RunIncomplete: the run was cut off, or versions of it failed and `allow_missing` is not set.
        CoverageError, LabelError, ComparisonError: as `mlstream.comparison.compare.compare_predictions`.
        TrackingError: MLflow cannot be reached or refuses; the comparison is kept all the same.
    """
    chosen = choose_run(run, allow_missing=allow_missing, home=home)
    found = compare_run(chosen, baseline=baseline, allow_missing=allow_missing, progress=progress)
    if track:
        record(found, chosen, progress=progress)
    return found


def choose_run(run: Run | str | None, *, allow_missing: bool, home: Home | str | Path | None) -> Run:
    """The run that is meant.

    Raises:
        UnknownRun: there is no such run.
        RunIncomplete: it was cut off, or versions of it failed and `allow_missing` is not set.
    """
    if run is None:
        usable = ("complete", "partial") if allow_missing else ("complete",)
        # Without a usable one, the newest is what the error is about.
        run = next((found for found in list_runs(home) if found.status in usable), None)
    if not isinstance(run, Run):
        run = open_run(run, home=home)
    _check(run, allow_missing=allow_missing)
    return run


def compare_run(
    run: Run, *, baseline: str | None = None, allow_missing: bool = False, progress: Progress | None = None
) -> Comparison:
    """Compare the versions of a run that `choose_run` gave, and keep the result; tell MLflow nothing.

    Raises:
        CoverageError, LabelError, ComparisonError: as `mlstream.comparison.compare.compare_predictions`.
        StoreError: the home cannot be written.
    """
    say = progress if progress is not None else _say_nothing
    snapshot = run.snapshot
    names = [name for name, outcome in run.versions.items() if outcome.status == "complete"]
    say(f"reading {run.input.rows:,} records and the predictions of {', '.join(names)}")
    records, labels = _read_input(run, snapshot)
    evidence = Evidence(
        records=records,
        predictions={name: _read_predictions(run, name) for name in names},
        errors={name: run.versions[name].errors for name in names},
        labels=labels,
        classes={name: known for name in names if (known := run.versions[name].classes) is not None},
    )
    origin = Origin(
        run_id=run.id,
        snapshot_id=run.snapshot_id,
        snapshot_name=run.snapshot_name,
        outputs={name: output for name in names if (output := run.versions[name].output_id) is not None},
    )
    say("comparing")
    found = compare_predictions(run.config, evidence, origin=origin, baseline=baseline, allow_missing=allow_missing)
    keep(found, run.home)
    return found


def record(comparison: Comparison, run: Run, *, progress: Progress | None = None) -> Tracked:
    """Record a comparison that is kept already in MLflow.

    Raises:
        TrackingError: MLflow cannot be reached or refuses; says that the comparison is kept.
    """
    if progress is not None:
        progress("recording in MLflow")
    facts = run_facts(run)
    mark_pending(comparison, facts, run.home)
    try:
        tracked = tracking.track(comparison, facts, home=run.home)
    except TrackingError as exc:
        again = "`mlstream compare --sync` sends it later"
        raise TrackingError(
            f"{exc.message} (the comparison is kept as {comparison.id[:12]} in {run.home.comparisons})",
            hint=again if exc.hint is None else f"{exc.hint}; {again}",
            comparison_id=comparison.id,
        ) from exc
    unmark_pending(comparison.id, run.home)
    return tracked


def _check(run: Run, *, allow_missing: bool) -> None:
    which = f"run {run.id[:12]} of {run.experiment}"
    if run.status == "incomplete":
        raise RunIncomplete(f"{which} was cut off", hint="run it again: it goes on where it stopped", run_id=run.id)
    failed = [name for name, outcome in run.versions.items() if outcome.status != "complete"]
    if len(failed) == len(run.versions):
        raise RunIncomplete(
            f"{which}: every version failed", hint=f"see `mlstream run show {run.id[:12]}`", run_id=run.id
        )
    if failed and not allow_missing:
        raise RunIncomplete(
            f"{which} is partial: {', '.join(failed)} failed",
            hint=f"correct what `mlstream run show {run.id[:12]}` says and run again, "
            "or compare the others with --allow-missing",
            run_id=run.id,
        )


def _read_input(run: Run, snapshot: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The records that were scored and, when they come from another topic, the labels: what the label rule reads."""
    config = run.config
    rule = config.labels
    if rule is None:
        return _scan(snapshot, config.input.topic, config.input.decode, ()), None
    of_record, of_label = needed_columns(rule)
    records = _scan(snapshot, config.input.topic, config.input.decode, of_record)
    if rule.topic is None:
        return records, None
    return records, _scan(snapshot, _label_topic(rule, snapshot), rule.decode, of_label)


def _label_topic(rule: LabelConfig, snapshot: Snapshot) -> str:
    topic = str(rule.topic)
    if topic not in snapshot.topics:
        raise LabelError(
            f"labels.topic: snapshot {snapshot.name or snapshot.id[:12]} holds no topic {topic!r}; "
            f"it holds: {', '.join(snapshot.topics)}",
            hint=f"freeze both together: mlstream snapshot create NAME --topic … --topic {topic}",
        )
    return topic


def _scan(snapshot: Snapshot, topic: str, decode: DecodeConfig, columns: Sequence[str]) -> pl.DataFrame:
    frame = snapshot.scan(topic, decode=decode)
    known = frame.collect_schema().names()
    if not set(columns) <= set(known):
        # The join words the error; to suggest a column it must see all of them.
        return frame.head(1).collect()
    return frame.select(*_PLACE, *(name for name in columns if name not in _PLACE)).collect()


def _read_predictions(run: Run, version: str) -> pl.DataFrame:
    frame = run.predictions(version).collect()
    strange = frame["source_topic"].unique().to_list()
    if strange not in ([], [run.input.topic]):
        raise CoverageError(
            f"{version}: its predictions are for {', '.join(sorted(strange))}, and the run scored {run.input.topic}",
            version=version,
        )
    return frame.drop("source_topic", "timestamp")


def _say_nothing(_sentence: str) -> None:
    """Progress that nobody asked for."""
