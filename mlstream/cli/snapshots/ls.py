"""`mlstream snapshot ls`: what was frozen, the newest first."""

from __future__ import annotations

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT
from mlstream.cli.snapshots.screen import entry_json, is_output, size_text, stored_bytes, when


@click.command("ls")
@click.option("--all", "show_all", is_flag=True, help="The frozen outputs of runs, too.")
@JSON
@click.pass_obj
def list_(session: Session, show_all: bool, as_json: bool) -> None:
    """List the snapshots, the newest first."""
    from rich import box
    from rich.table import Table

    from mlstream.errors import IntegrityError
    from mlstream.snapshots.snapshot import list_snapshots, open_snapshot
    from mlstream.snapshots.store import Store

    found = list_snapshots(session.at)
    known = {each.id for each in found}
    damaged: dict[str, str] = {}
    for snapshot_id in Store(session.at).ids():
        if snapshot_id not in known:
            try:
                open_snapshot(snapshot_id, home=session.at)
            except IntegrityError as exc:
                damaged[snapshot_id] = exc.message
    if as_json:
        session.emit_json({"snapshots": [entry_json(each) for each in found], "damaged": damaged})
        return
    if not found and not damaged:
        session.say("no snapshots yet: make one with `mlstream snapshot create NAME --topic TOPIC`")
        return
    shown = found if show_all else [each for each in found if not is_output(each)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("name", "id", "rows", "size", "cut"):
        table.add_column(header, justify="right" if header in ("rows", "size") else "left", no_wrap=True)
    if not show_all:  # with outputs the names are long, and say it
        table.add_column("topics", overflow="ellipsis", no_wrap=True)
    for each in shown:
        names = (", ".join(each.names) or "-") + ("" if each.complete else " (partial)")
        stored = stored_bytes(each)
        size = "damaged" if stored is None else size_text(stored)
        topics = () if show_all else (", ".join(each.topics),)
        table.add_row(names, each.id[:SHORT], f"{each.rows:,}", size, when(each), *topics)
    for snapshot_id in damaged:
        table.add_row("damaged: run verify", snapshot_id[:SHORT], "", "", "")
    if shown or damaged:
        session.out.print(table)
    if len(shown) < len(found):
        session.say(f"{len(found) - len(shown):,} frozen outputs of runs are not shown; --all shows them")
