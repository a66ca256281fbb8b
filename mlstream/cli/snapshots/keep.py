"""`mlstream snapshot keep`: protect a snapshot for a time."""

from __future__ import annotations

from dataclasses import asdict

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT


@click.command()
@click.argument("name")
@click.option("--for", "duration", required=True, metavar="TIME", help="From now on: 90d, 36h, 52w.")
@JSON
@click.pass_obj
def keep(session: Session, name: str, duration: str, as_json: bool) -> None:
    """Protect the snapshot NAME for a time: neither its data nor its last name can be removed.

    It can be kept for longer later, never for shorter: no option takes a protection back.
    """
    from mlstream.ranges import format_time_ms, parse_duration_s
    from mlstream.snapshots.protection import keep as protect
    from mlstream.snapshots.store import Store

    done = protect(Store(session.at), name, for_s=parse_duration_s(duration))
    if as_json:
        session.emit_json(asdict(done))
        return
    until = format_time_ms(done.until_ms)
    text = f"{done.name or done.snapshot_id[:SHORT]} is kept until {until}"
    session.line(text if done.extended else f"{text} already")
