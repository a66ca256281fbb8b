"""How `snapshot push` and `snapshot pull` show what travels, and what it came to. Moves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import SHORT
from mlstream.cli.snapshots.screen import size_text

if TYPE_CHECKING:
    from mlstream.snapshots.remote_fetch import Progress
    from mlstream.snapshots.transfer import Moved

JOBS = click.option(
    "--jobs", type=click.IntRange(1, 64), default=8, show_default=True, help="Objects that travel at the same time."
)


@contextmanager
def shown_transfer(session: Session) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn(), TextColumn("{task.fields[objects]}"))
    with Bar(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task("", total=None, objects="")

        def advance(progress: Progress) -> None:
            objects = f"{progress.objects_done:,} of {progress.objects_total:,} objects"
            bar.update(task, total=progress.bytes_total, completed=progress.bytes_done, objects=objects)

        yield advance


def print_moved(session: Session, moved: Moved, *, verb: str) -> None:
    """One line: what it is, what travelled, what was there."""
    what = moved.snapshot_id[:SHORT] if moved.name is None else f"{moved.name} ({moved.snapshot_id[:SHORT]})"
    there = f", {moved.there:,} were there" if moved.there else ""
    session.line(f"{verb} {what}: {moved.objects:,} objects, {size_text(moved.size_bytes)}{there}")


def moved_json(url: str, moved: list[Moved]) -> dict[str, Any]:
    """What `--json` prints."""
    return {"url": url, "snapshots": [asdict(each) for each in moved]}
