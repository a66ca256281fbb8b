"""`mlstream snapshot verify`: whether a snapshot is whole."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON
from mlstream.cli.snapshots.screen import size_text


@click.command()
@click.argument("name")
@click.option("--deep", is_flag=True, help="Recompute the digests of every row, too.")
@JSON
@click.pass_obj
def verify(session: Session, name: str, deep: bool, as_json: bool) -> None:
    """Check that the snapshot NAME is whole: every file is there and is what its digest says."""
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from mlstream.snapshots.snapshot import open_snapshot
    from mlstream.snapshots.verify import verify as check

    opened = open_snapshot(name, home=session.at)
    hidden = not sys.stderr.isatty()
    columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=session.err, transient=True, disable=hidden) as bar:
        task = bar.add_task("")
        found = check(opened, deep=deep, progress=lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        session.emit_json({"ok": True, **asdict(found)})
        return
    rows = f"{found.rows:,} rows in {found.cells:,} cells recomputed" if deep else "add --deep to recompute every row"
    session.out.print(f"ok: {found.objects:,} objects, {size_text(found.size_bytes)}; {rows}", soft_wrap=True)
