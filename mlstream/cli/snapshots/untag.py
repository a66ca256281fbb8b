"""`mlstream snapshot untag`: one name less for a snapshot that has others."""

from __future__ import annotations

from dataclasses import asdict

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT


@click.command()
@click.argument("name")
@JSON
@click.pass_obj
def untag(session: Session, name: str, as_json: bool) -> None:
    """Take the name NAME away from a snapshot that has others."""
    from mlstream.snapshots import names
    from mlstream.snapshots.store import Store

    done = names.untag(Store(session.at), name)
    if as_json:
        session.emit_json(asdict(done))
        return
    text = f"{name} is no name any more; {done.snapshot_id[:SHORT]} is still called {', '.join(done.names_left)}"
    session.line(text)
