"""`mlstream snapshot tag`: another name for a snapshot."""

from __future__ import annotations

from dataclasses import asdict

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT


@click.command()
@click.argument("name")
@click.argument("new")
@click.option("--force", is_flag=True, help="Move NEW when it is the name of another snapshot.")
@JSON
@click.pass_obj
def tag(session: Session, name: str, new: str, force: bool, as_json: bool) -> None:
    """Give the snapshot NAME (or an id) another name, NEW; it keeps those that it has."""
    from mlstream.snapshots import names
    from mlstream.snapshots.store import Store

    done = names.tag(Store(session.at), name, new, force=force)
    if as_json:
        session.emit_json(asdict(done))
        return
    text = f"{new} is a name of {done.snapshot_id[:SHORT]}"
    if done.before == done.snapshot_id:
        text += " already"
    elif done.before is not None:
        text += f"; it was one of {done.before[:SHORT]}"
    session.line(text)
