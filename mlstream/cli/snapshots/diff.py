"""`mlstream snapshot diff`: what differs between two snapshots."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.diff_screen import difference_json, print_difference
from mlstream.cli.snapshots.options import JSON


@click.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option(
    "--limit",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="Records of each topic, rows of each table.",
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 when they differ.")
@JSON
@click.pass_obj
def diff(session: Session, old: str, new: str, limit: int, exit_code: bool, as_json: bool) -> None:
    """Say what differs from the snapshot A to the snapshot B: records, rows of tables, files, schemas.

    Records of the same topic are compared offset by offset; those of different topics (restored, mirrored, made anew)
    by what is in them. Rows of tables are compared by primary key. Only what may differ is read.
    """
    from mlstream.snapshots.snapshot import open_snapshot

    first, second = open_snapshot(old, home=session.at), open_snapshot(new, home=session.at)
    with first.store.in_use(first.id, "diff"), second.store.in_use(second.id, "diff"):
        found = first.diff(second, limit=limit)
    if as_json:
        session.emit_json(difference_json(found, old, new))
    else:
        print_difference(session, found, old, new)
    if exit_code and found.differs:
        click.get_current_context().exit(1)
