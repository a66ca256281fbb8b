"""Compare the versions of a run: read it and its labels, call `comparison`, keep the result, record it in MLflow.

A comparison is kept before MLflow hears of it: a server that does not answer loses nothing, and what it has not heard
of is sent by `mlstream compare --sync`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlstream.comparison.compare import compare_predictions
from mlstream.comparison.result import Comparison
from mlstream.errors import RunIncomplete, TrackingError
from mlstream.home import Home
from mlstream.reporting import tracking
from mlstream.reporting.evidence import complete_versions, read_evidence, read_origin
from mlstream.reporting.facts import run_facts
from mlstream.reporting.kept import keep, mark_pending, unmark_pending
from mlstream.reporting.rules import by_current_rules
from mlstream.reporting.tracking import Tracked
from mlstream.runs.run import Run, list_runs, open_run
from mlstream.snapshots.snapshot import open_snapshot

Progress = Callable[[str], None]
_PLACE = ("_partition", "_offset", "_timestamp")


def compare(
    run: Run | str | None = None,
    *,
    baseline: str | None = None,
    allow_missing: bool = False,
    against: str | None = None,
    slices: Sequence[str] = (),
    home: Home | str | Path | None = None,
    track: bool = True,
    as_run: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the versions of a run with its baseline, keep the result and record it in MLflow.

    A run that is named is compared by the labels, metrics, margins, slices and gates that its experiment's file has
    now; a `Run` by those that it holds.

    Args:
        run: a run, its id or the beginning of its id; the newest complete run when None.
        baseline: the version that the others are compared with; the experiment's when None.
        allow_missing: compare what is there: the versions that finished, the records that all of them answered.
        against: a snapshot whose records of the same topic the input is held against: its name or id.
        slices: parts of the records to compare beside those of the experiment, as under `slices:` in its file.
        home: where runs are kept; found as `find_home` says when None.
        track: record it in MLflow too.
        as_run: go by what the run recorded, whatever the experiment's file has now.
        progress: called with a sentence at each step.

    Raises:
        UnknownRun: there is no such run.
        RunIncomplete: the run was cut off, or versions of it failed and `allow_missing` is not set.
        ConfigError: the experiment's file is wrong, or does not fit the run any more.
        CoverageError, LabelError, ComparisonError: as `mlstream.comparison.compare.compare_predictions`.
        TrackingError: MLflow cannot be reached or refuses; the comparison is kept all the same.
    """
    chosen = choose_run(run, allow_missing=allow_missing, home=home)
    if not as_run and not isinstance(run, Run):
        chosen = by_current_rules(chosen).run
    found = compare_run(
        chosen, baseline=baseline, allow_missing=allow_missing, against=against, slices=slices, progress=progress
    )
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


def newer_unusable(run: Run) -> Run | None:
    """The newest run, when it is newer than this one and was passed over: it was cut off, or versions of it failed."""
    newest = next(iter(list_runs(run.home)), None)
    return None if newest is None or newest.id == run.id else newest


def compare_run(
    run: Run,
    *,
    baseline: str | None = None,
    allow_missing: bool = False,
    against: str | None = None,
    slices: Sequence[str] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Compare the versions of a run that `choose_run` gave, and keep the result; tell MLflow nothing.

    Args:
        run: what to compare.
        baseline, allow_missing: as `compare`.
        against: a snapshot whose records of the same topic the input is held against: its name or id.
        slices: parts of the records to compare beside those of the experiment, as under `slices:` in its file.
        progress: called with a sentence at each step.

    Raises:
        UnknownSnapshot: the home does not have the snapshot of the run, or the other one.
        CoverageError, LabelError, ComparisonError: as `mlstream.comparison.compare.compare_predictions`.
        StoreError: the home cannot be written.
    """
    found = compute(
        run, baseline=baseline, allow_missing=allow_missing, against=against, slices=slices, progress=progress
    )
    keep(found, run.home)
    return found


def compute(
    run: Run,
    *,
    baseline: str | None = None,
    allow_missing: bool = False,
    against: str | None = None,
    slices: Sequence[str] = (),
    progress: Progress | None = None,
) -> Comparison:
    """The comparison as `compare_run` makes it, kept nowhere."""
    say = progress if progress is not None else _say_nothing
    _check_baseline(run, baseline)
    other = None if against is None else open_snapshot(against, home=run.home)
    config = run.config
    if slices:
        config = config.model_copy(update={"slices": list(dict.fromkeys([*config.slices, *slices]))})
    say(f"reading {run.input.rows:,} records and the predictions of {', '.join(complete_versions(run))}")
    evidence = read_evidence(run, against=other)
    say("comparing")
    return compare_predictions(
        config, evidence, origin=read_origin(run), baseline=baseline, allow_missing=allow_missing
    )


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


def _check_baseline(run: Run, named: str | None) -> None:
    """Refuse a baseline that failed; one that the run has not is refused with the versions."""
    name = run.config.baseline_version if named is None else named
    if name in run.versions and name not in complete_versions(run):
        raise RunIncomplete(
            f"run {run.id[:12]} of {run.experiment}: the baseline {name} failed, and nothing can be compared with it",
            hint=f"run again, or choose another with --baseline: {', '.join(complete_versions(run))}",
            run_id=run.id,
        )


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


def _say_nothing(_sentence: str) -> None:
    """Progress that nobody asked for."""
