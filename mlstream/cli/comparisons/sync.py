"""`mlstream compare --sync`: record in MLflow what it has not heard of yet."""

from __future__ import annotations

import click

from mlstream.cli.comparisons.output import spinner
from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT


@click.command()
@JSON
@click.pass_obj
def sync(session: Session, as_json: bool) -> None:
    """Record in MLflow the comparisons that it has not heard of yet.

    A comparison is kept in the home before MLflow is told of it. When the server did not answer, or this machine went
    down on the way, this sends it. `mlstream compare --sync` is the same.
    """
    from mlstream.reporting.kept import list_unsent, send_unsent

    with spinner(session) as say:
        sent = send_unsent(session.at, progress=say)
    if as_json:
        session.emit_json(
            {
                "sent": {found: {"run_id": to.run_id, "url": to.url} for found, to in sent.items()},
                "unsent": list_unsent(session.at),
            }
        )
        return
    for found, to in sent.items():
        session.line(f"{found[:SHORT]}  {to.url or to.run_id}")
    if not sent:
        session.say("nothing to send: MLflow has every comparison that was to be recorded")
