"""`mlstream snapshot ls`: what was frozen, the newest first."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.snapshots.options import JSON, SHORT
from mlstream.cli.snapshots.screen import size_text, time_text

if TYPE_CHECKING:
    from mlstream.snapshots.listing import Entry

_OUTPUT = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.[0-9a-f]{12}")  # naming.output_topic of a run
_WIDTH = 80
_LEAST_NAME = 24
_LEAST_HOLDS = 8


@click.command("ls")
@click.option("--all", "show_all", is_flag=True, help="The frozen outputs of runs, too.")
@click.option("-q", "--quiet", is_flag=True, help="Only the names, one a line; an id where there is none.")
@JSON
@click.pass_obj
def list_(session: Session, show_all: bool, quiet: bool, as_json: bool) -> None:
    """List the snapshots, the newest first."""
    from mlstream.snapshots.listing import list_entries
    from mlstream.snapshots.store import Store

    found = list_entries(Store(session.at))
    if as_json:
        session.emit_json({"snapshots": [_json(each) for each in found.entries], "damaged": found.damaged})
        return
    if not found.entries and not found.damaged:
        session.say("no snapshots yet: make one with `mlstream snapshot create NAME --topic TOPIC`")
        return
    shown = [each for each in found.entries if show_all or not _is_output(each)]
    if quiet:
        for each in shown:
            click.echo(plain(each.names[0]) if each.names else each.id)
        return
    rows = [_row(each, show_all) for each in shown]
    rows += [("damaged: run verify", each[:SHORT], "", "", "", "")[: 5 if show_all else 6] for each in found.damaged]
    # With outputs the names are long, and say what is in them.
    headers = ("name", "id", "rows", "size", "cut", "holds")[: 5 if show_all else 6]
    if rows:
        for line in _lines(headers, rows):
            click.echo(line)
    if len(shown) < len(found.entries):
        session.say(f"{len(found.entries) - len(shown):,} frozen outputs of runs are not shown; --all shows them")


def _is_output(entry: Entry) -> bool:
    """Whether it is what a version of a run wrote: named like its only topic, which is named like an output."""
    return any(_OUTPUT.fullmatch(name) and entry.topics == (name,) for name in entry.names)


def _row(entry: Entry, show_all: bool) -> tuple[str, ...]:
    name = ", ".join(entry.names) or "-"
    if not entry.complete:
        name += " (partial)"
    if entry.kept_until_ms is not None:
        name += " (kept)"
    holds = [*entry.topics]
    for count, what in ((entry.files, "file"), (entry.tables, "table")):
        if count:
            holds.append(f"{count:,} {what}{'' if count == 1 else 's'}")
    size = "damaged" if entry.size_bytes is None else size_text(entry.size_bytes)
    cut = "" if entry.cut_at_ms is None else time_text(entry.cut_at_ms)
    row = plain(name), entry.id[:SHORT], f"{entry.rows:,}", size, cut
    return row if show_all else (*row, plain(", ".join(holds)))


def _lines(headers: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """A table as wide as the terminal at most. By hand: a thousand rows take rich half a second."""
    widths = [max(len(row[number]) for row in [headers, *rows]) for number in range(len(headers))]
    over = sum(widths) + len(widths) - 1 - shutil.get_terminal_size((_WIDTH, 24)).columns
    # What does not fit is cut off what a table holds first, then off its name.
    for number, least in ((5, _LEAST_HOLDS), (0, _LEAST_NAME)):
        if number < len(widths) and over > 0:
            cut = min(over, max(widths[number] - least, 0))
            widths[number] -= cut
            over -= cut
    for row in [headers, ["─" * width for width in widths], *rows]:
        cells = [
            _fit(text, width).rjust(width) if header in ("rows", "size") else _fit(text, width).ljust(width)
            for text, width, header in zip(row, widths, headers, strict=True)
        ]
        yield " ".join(cells).rstrip()


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _json(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "name": entry.names[0] if entry.names else None,
        "names": list(entry.names),
        "complete": entry.complete,
        "rows": entry.rows,
        "size_bytes": entry.size_bytes,
        "topics": list(entry.topics),
        "files": entry.files,
        "tables": entry.tables,
        "cut_at_ms": entry.cut_at_ms,
        "kept_until_ms": entry.kept_until_ms,
    }
