"""`mlstream snapshot push`: copy snapshots to another store."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.moving_screen import JOBS, moved_json, print_moved, shown_transfer
from mlstream.cli.snapshots.options import JSON


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.argument("url")
@click.option("--all", "everything", is_flag=True, help="Every snapshot of the home, with all its names.")
@click.option("--force", is_flag=True, help="Move a name that stands for something else there.")
@JOBS
@JSON
@click.pass_obj
def push(
    session: Session, names: tuple[str, ...], url: str, everything: bool, force: bool, jobs: int, as_json: bool
) -> None:
    """Copy the snapshots NAME (or ids) to the store at URL: a folder, s3://bucket/folder, sftp://host/folder, …

    Only objects that are missing there travel; a push that was cut off goes on where it ended. What is pushed to is a
    store: `mlstream --home URL snapshot ls` lists it.
    """
    from mlstream.errors import UsageError
    from mlstream.snapshots.push import push as send
    from mlstream.snapshots.remote_open import open_remote
    from mlstream.snapshots.snapshot import open_snapshot
    from mlstream.snapshots.store import Store

    if everything == bool(names):
        raise UsageError("name the snapshots to push, or --all", hint="mlstream snapshot push NAME URL")
    remote = open_remote(url)
    if everything:
        store = Store(session.at)
        refs = store.refs()
        names = (*refs, *(each for each in store.ids() if each not in refs.values()))
    moved = []
    for each in names:
        found = open_snapshot(each, home=session.at)
        name = each if each in found.names else None
        with shown_transfer(session) as progress:
            done = send(found, remote, name=name, force=force, jobs=jobs, progress=progress)
        moved.append(done)
        if not as_json:
            print_moved(session, done, verb="pushed")
    if as_json:
        session.emit_json(moved_json(remote.url, moved))
