"""`mlstream snapshot pull`: copy snapshots from another store."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.moving_screen import JOBS, moved_json, print_moved, shown_transfer
from mlstream.cli.snapshots.options import JSON


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.argument("url")
@click.option("--all", "everything", is_flag=True, help="Every snapshot of that store, with all its names.")
@click.option("--force", is_flag=True, help="Move a name that stands for something else here.")
@JOBS
@JSON
@click.pass_obj
def pull(
    session: Session, names: tuple[str, ...], url: str, everything: bool, force: bool, jobs: int, as_json: bool
) -> None:
    """Copy the snapshots NAME (or ids) from the store at URL: a folder, s3://bucket/folder, sftp://host/folder, …

    Only objects that are missing here travel. Nothing is kept that is not proven down to every row, so the store may
    be anybody's; a pull that was cut off goes on where it ended.
    """
    from mlstream.errors import UsageError
    from mlstream.snapshots.pull import pull as fetch
    from mlstream.snapshots.remote_open import open_remote
    from mlstream.snapshots.transfer import id_there, ids_there, names_there

    if everything == bool(names):
        raise UsageError("name the snapshots to pull, or --all", hint="mlstream snapshot pull NAME URL")
    remote = open_remote(url)
    if everything:
        named = {name: id_there(remote, name) for name in names_there(remote)}
        names = (*named, *(each for each in ids_there(remote) if each not in named.values()))
    moved = []
    for each in names:
        with shown_transfer(session) as progress:
            done = fetch(each, remote, home=session.at, force=force, jobs=jobs, progress=progress)
        moved.append(done)
        if not as_json:
            print_moved(session, done, verb="pulled")
    if as_json:
        session.emit_json(moved_json(remote.url, moved))
