"""`mlstream snapshot gc`: delete what nothing refers to, or say what that would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON, SHORT, counted
from mlstream.cli.snapshots.screen import print_facts, size_text

if TYPE_CHECKING:
    from mlstream.snapshots.gc import Garbage

_WHY_SHOWN = 3  # runs and comparisons of a snapshot that are named before the rest is counted


@click.command()
@click.option("--yes", is_flag=True, help="Delete it. Without this nothing is deleted.")
@JSON
@click.pass_obj
def gc(session: Session, yes: bool, as_json: bool) -> None:
    """Delete what no name, protection, run or comparison refers to; without --yes only show it.

    What other processes are making or reading at the moment stays, and they need not wait.
    """
    from mlstream.snapshots.gc import collect_garbage, find_garbage
    from mlstream.snapshots.store import Store

    store = Store(session.at)
    garbage = collect_garbage(store) if yes else find_garbage(store)
    if as_json:
        session.emit_json(_json(garbage, deleted=yes))
        return
    _print(session, garbage, deleted=yes)
    if not yes and not garbage.empty:
        session.say("nothing was deleted: add --yes to delete this")


def _json(garbage: Garbage, *, deleted: bool) -> dict[str, Any]:
    return {
        "deleted": deleted,
        "snapshots": [
            {"id": gone.snapshot_id, "names": list(gone.names), "topics": list(gone.topics), "rows": gone.rows}
            for gone in garbage.snapshots
        ],
        "objects": len(garbage.objects),
        "size_bytes": garbage.size_bytes,
        "documents": len(garbage.documents),
        "index": len(garbage.index),
        "views": len(garbage.views),
        "leftovers": len(garbage.leftovers),
        "stays": [{"id": each.snapshot_id, "why": list(each.why)} for each in garbage.stays],
    }


def _print(session: Session, garbage: Garbage, *, deleted: bool) -> None:
    if garbage.empty:
        session.line("there is nothing to delete")
    for gone in garbage.snapshots:
        rows = "" if gone.rows is None else f", {gone.rows:,} rows"
        what = ", ".join(gone.names) or "no name"
        text = f"{'deleted' if deleted else 'delete '}  {gone.snapshot_id[:SHORT]}  was {what}{rows}"
        session.line(text)
    if not garbage.empty:
        rest = [
            (len(garbage.documents), "other documents"),
            (len(garbage.index), "index entries"),
            (len(garbage.views), "views"),
            (len(garbage.leftovers), "folders of dead processes"),
        ]
        facts = [("objects", f"{len(garbage.objects):,}, {size_text(garbage.size_bytes)}")]
        counts = ", ".join(f"{count:,} {what}" for count, what in rest if count)
        print_facts(session, facts + ([("and", counts)] if counts else []))
    if garbage.stays:
        session.out.print(
            f"\n[bold]{counted(len(garbage.stays), 'snapshot')} stay{'s' if len(garbage.stays) == 1 else ''}[/bold]"
        )
    for each in garbage.stays:
        shown = each.why if len(each.why) <= _WHY_SHOWN + 1 else each.why[:_WHY_SHOWN]
        more = len(each.why) - len(shown)
        text = ", ".join(shown) + (f" and {more:,} more" if more else "")
        session.line(f"{each.snapshot_id[:SHORT]}  {text}")
