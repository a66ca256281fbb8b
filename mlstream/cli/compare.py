"""`mlstream compare [RUN]`: compare the versions of a run, keep and record the result, print it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.errors import TrackingError

if TYPE_CHECKING:
    from mlstream.reporting.tracking import Tracked


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--baseline", metavar="VERSION", help="Compare with this version (default: the experiment's baseline).")
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Compare what is there: the versions that finished, the records that all of them answered.",
)
@click.option("--no-track", is_flag=True, help="Do not record the comparison in MLflow.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/statistics.md says what is in it).")
@click.pass_obj
def compare(
    session: Session, run_id: str | None, baseline: str | None, allow_missing: bool, no_track: bool, as_json: bool
) -> None:
    """Compare the versions of RUN (an id or its beginning; default: the newest complete run) with the baseline.

    Every metric comes with its difference to the baseline, an interval from a paired block bootstrap, and a verdict.
    The comparison is kept in the home and recorded in MLflow.
    """
    from mlstream.reporting.compare import choose_run, compare_run, record

    with _progress(session) as say:
        run = choose_run(run_id, allow_missing=allow_missing, home=session.at)
        found = compare_run(run, baseline=baseline, allow_missing=allow_missing, progress=say)
    if not as_json:
        from mlstream.cli.compare_screen import mlflow_line, screen

        for line in screen(found, width=min(session.out.width, 120)):
            session.out.print(line, soft_wrap=True)
    tracked: Tracked | None = None
    failure: TrackingError | None = None
    if not no_track:
        try:
            with _progress(session) as say:
                tracked = record(found, run, progress=say)
        except TrackingError as exc:
            failure = exc  # what was found is printed first
    if as_json:
        session.emit_json({**found.to_dict(), "tracking": None if tracked is None else _tracking(tracked)})
    elif tracked is not None:
        session.out.print(mlflow_line(_place(tracked)), soft_wrap=True)
    if failure is not None:
        raise failure


def _tracking(tracked: Tracked) -> dict[str, Any]:
    return {"experiment_id": tracked.experiment_id, "run_id": tracked.run_id, "url": tracked.url}


def _place(tracked: Tracked) -> str:
    if tracked.url is not None:
        return tracked.url
    return f"recorded as run {tracked.run_id[:12]}; `mlstream ui` opens it"


@contextmanager
def _progress(session: Session) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal, nothing otherwise; on stderr."""
    if not session.err.is_terminal:
        yield lambda _sentence: None
        return
    with session.err.status("", spinner="dots") as status:
        yield status.update
