"""`mlstream version gc`: remove from this machine's cache what versions left there and nobody uses any more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.snapshots.screen import size_text
from mlstream.cli.versions.choosing import JSON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlstream.runs.unused import Kept


@click.command()
@click.option(
    "--unused-for",
    "days",
    type=click.FloatRange(0, 36_500),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="What was used within so many days stays.",
)
@click.option("--yes", is_flag=True, help="Remove it. Without this nothing is removed.")
@JSON
@click.pass_obj
def gc(session: Session, days: float, yes: bool, as_json: bool) -> None:
    """Remove environments, checkouts and fetched models that no kept run needs; without --yes only show them.

    These are in this machine's cache, for all projects. One stays while a run of this home has a version that ran in
    it, while it was used within --unused-for days, and while a process works in it. What is removed and needed again
    is made again: no result depends on it.
    """
    from mlstream.runs.unused import find_unused, remove_unused

    found = (remove_unused if yes else find_unused)(session.at, unused_days=days)
    if as_json:
        session.emit_json(_json(found, removed=yes))
        return
    going = [kept for kept in found if kept.stays is None]
    if going:
        _print(session, going)
        total = size_text(sum(kept.size_bytes for kept in going))
        session.out.print()
        session.line(f"{'removed' if yes else 'would remove'} {len(going):,}, {total}")
    else:
        session.line("there is nothing to remove")
    stays = Counter("needed by a kept run" if str(kept.stays).startswith("run ") else kept.stays for kept in found)
    del stays[None]
    if stays:
        session.line(f"{stays.total():,} stay: " + ", ".join(f"{count:,} {why}" for why, count in stays.items()))
    if going and not yes:
        session.say("nothing was removed: add --yes to remove this")


def _print(session: Session, going: Sequence[Kept]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind", no_wrap=True)
    table.add_column("last used", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("what", overflow="fold")
    for kept in going:
        table.add_row(kept.kind, _day(kept.used_at), size_text(kept.size_bytes), plain(kept.what))
    session.out.print(table, markup=False)


def _json(found: Sequence[Kept], *, removed: bool) -> dict[str, Any]:
    rows = [
        {
            "kind": kept.kind,
            "what": kept.what,
            "folder": str(kept.folder),
            "used_at": datetime.fromtimestamp(kept.used_at, UTC).isoformat(timespec="seconds"),
            "size_bytes": kept.size_bytes,
            "stays": kept.stays,
        }
        for kept in found
    ]
    return {
        "removed": removed,
        "unused": [row for row in rows if row["stays"] is None],
        "stays": [row for row in rows if row["stays"] is not None],
    }


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
