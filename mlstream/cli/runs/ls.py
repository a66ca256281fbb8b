"""`mlstream run ls`: the runs of the home, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT, coloured, plain_table

if TYPE_CHECKING:
    from mlstream.runs.run import Run


@click.command("ls")
@click.option("--all", "show_all", is_flag=True, help="Also the runs that computed another's baseline again.")
@click.option("-q", "--quiet", is_flag=True, help="Only the ids, one a line.")
@JSON
@click.pass_obj
def list_(session: Session, show_all: bool, quiet: bool, as_json: bool) -> None:
    """List all runs, the newest first.

    A run that is `incomplete` was cut off: run it again, and it goes on. One that is `running` is being computed by
    another process of this machine.
    """
    from mlstream.runs.run import readable_runs

    runs, damaged = readable_runs(session.at, repeats=True)
    shown = [found for found in runs if show_all or found.repeats is None]
    if as_json:
        session.emit_json({"runs": [_json(found) for found in shown]})
    elif quiet:
        for found in shown:
            click.echo(found.id)
    elif runs:
        _print(session, shown, left_out=len(runs) - len(shown))
    elif damaged is None:
        session.say(f"no runs in {session.at.runs}; make one: mlstream run CONFIG --snapshot NAME")
    if damaged is not None:
        raise damaged  # after those that can be read


def _print(session: Session, shown: Sequence[Run], *, left_out: int) -> None:
    table = plain_table("run", "~experiment", "~snapshot", "status", ">records", "started")
    for found in shown:
        status = _status(found)
        complete = sum(outcome.status == "complete" for outcome in found.versions.values())
        table.add_row(
            found.id[:SHORT],
            found.experiment + ("" if found.repeats is None else f" (repeats {found.repeats[:SHORT]})"),
            found.snapshot_name if found.snapshot_name is not None else found.snapshot_id[:SHORT],
            coloured(status) + (f" {complete}/{len(found.versions)}" if status == "partial" else ""),
            f"{found.input.rows:,}",
            found.started_at[:16].replace("T", " "),
        )
    session.out.print(table)
    if left_out:
        session.say(f"repeated baselines that are not shown: {left_out:,}; --all shows them")


def _status(found: Run) -> str:
    from mlstream.runs.record import is_computed

    computed = found.status == "incomplete" and is_computed(found.home, found.key)
    return "running" if computed else found.status


def _json(found: Run) -> dict[str, Any]:
    return {
        "id": found.id,
        "experiment": found.experiment,
        "status": _status(found),
        "snapshot_id": found.snapshot_id,
        "snapshot_name": found.snapshot_name,
        "topic": found.input.topic,
        "rows": found.input.rows,
        "versions": {name: outcome.status for name, outcome in found.versions.items()},
        "attempt": found.attempt,
        "started_at": found.started_at,
        "finished_at": found.finished_at,
        "repeats": found.repeats,
    }
