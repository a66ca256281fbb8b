"""`mlstream compare [RUN]`: compare the versions of a run, keep and record the result, print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlstream.cli.comparisons.output import FORM, Form, checked, print_comparison, print_place, spinner
from mlstream.cli.context import Session
from mlstream.cli.lazy import DefaultCommand
from mlstream.cli.runs.screen import SHORT
from mlstream.errors import TrackingError, UsageError

if TYPE_CHECKING:
    from mlstream.reporting.tracking import Tracked


@click.command(cls=DefaultCommand)
@click.argument("run_ids", metavar="[RUN]", nargs=-1)
@click.option("--baseline", metavar="VERSION", help="Compare with this version (default: the experiment's baseline).")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Compare what is there: the versions that finished, the records that all of them answered.",
)
@click.option(
    "--against", metavar="SNAPSHOT", help="Also say how the input drifted from that snapshot's, column by column."
)
@click.option(
    "--slice",
    "slices_of",
    multiple=True,
    metavar="EXPRESSION",
    help="Also compare on that part of the records: hour > 18, or a column. May be repeated.",
)
@click.option(
    "--as-run",
    is_flag=True,
    help="Go by the labels, metrics, slices and gates that the run recorded, not by the experiment's file now.",
)
@click.option("--no-track", is_flag=True, help="Do not record the comparison in MLflow.")
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Exit with 3 if a metric is worse or not-better, with 4 if one is inconclusive; log_loss:worse, "
    "log_loss:worse>0.005 for one metric. May be repeated.",
)
@FORM
@click.pass_obj
def compare(
    session: Session,
    run_ids: tuple[str, ...],
    baseline: str | None,
    allow_missing: bool,
    against: str | None,
    slices_of: tuple[str, ...],
    as_run: bool,
    no_track: bool,
    conditions: tuple[str, ...],
    form: Form,
) -> None:
    """Compare the versions of RUN (an id or its beginning; default: the newest complete run) with the baseline.

    Every metric comes with its difference to the baseline, an interval from a paired block bootstrap, and a verdict.
    The comparison is kept in the home and recorded in MLflow. Labels, metrics, margins, slices and gates are those that
    the experiment's file has now: to change one, nothing need be run again.
    """
    from mlstream.reporting.compare import choose_run, compare_run, newer_unusable, record
    from mlstream.reporting.facts import run_facts
    from mlstream.reporting.gates import read_condition
    from mlstream.reporting.rules import Ruled, by_current_rules

    if len(run_ids) > 1:
        raise UsageError(
            f"a comparison is of one run, and {len(run_ids)} are named: versions are compared on the same records",
            hint="put the versions into one experiment and run it: mlstream run CONFIG --snapshot NAME; what was "
            "computed before is taken from there",
        )
    run_id = run_ids[0] if run_ids else None
    run = choose_run(run_id, allow_missing=allow_missing, home=session.at)
    skipped = newer_unusable(run) if run_id is None else None
    if skipped is not None:
        session.say(f"run {skipped.id[:SHORT]} is newer, and {skipped.status}: this is run {run.id[:SHORT]}")
    ruled = Ruled(run) if as_run else by_current_rules(run)
    run = ruled.run
    if ruled.note is not None:
        session.say(ruled.note)
    for condition in conditions:  # what is written wrong is said before anything is computed
        read_condition(condition, () if run.config.labels is None else run.config.metric_names)
    with spinner(session) as say:
        found = compare_run(
            run, baseline=baseline, allow_missing=allow_missing, against=against, slices=slices_of, progress=say
        )
    facts = run_facts(run)
    gates = checked(found, facts, conditions)
    if not form.as_json:
        print_comparison(session, found, facts, form, gates=gates)
    tracked: Tracked | None = None
    failure: TrackingError | None = None
    if not no_track:
        try:
            with spinner(session) as say:
                tracked = record(found, run, progress=say)
        except TrackingError as exc:
            failure = exc  # what was found is printed first
    if form.as_json:
        print_comparison(session, found, facts, form, gates=gates, tracked=tracked)
    elif tracked is not None and not form.markdown:
        print_place(session, tracked)
    if gates.error is not None:
        if failure is not None:
            session.say(f"not recorded: {failure}")
        raise gates.error
    if failure is not None:
        raise failure
