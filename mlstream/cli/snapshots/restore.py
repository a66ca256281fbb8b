"""`mlstream snapshot restore`: the records of a snapshot in a new topic."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON
from mlstream.cli.snapshots.screen import print_facts

if TYPE_CHECKING:
    from mlstream.snapshots.restore import Outcome, Progress


@click.command()
@click.argument("name")
@click.option("--topic", required=True, metavar="NEW", help="The topic to make; one that exists must be empty.")
@click.option("--from-topic", "source", metavar="T", help="Which topic of the snapshot, where there are several.")
@click.option("--partitions", type=click.IntRange(1), metavar="N", help="How many the new topic has (default: enough).")
@click.option("--codec", default="zstd", show_default=True, help="none, gzip, snappy, lz4 or zstd.")
@JSON
@click.pass_obj
def restore(
    session: Session,
    name: str,
    topic: str,
    source: str | None,
    partitions: int | None,
    codec: str,
    as_json: bool,
) -> None:
    """Put a topic of the snapshot NAME back into Kafka, and check it.

    Key, value, headers and event time come back as they were, in the same partition and order; offsets count from 0.
    The new topic is read back, and its payload digests are compared with the snapshot's. A restore that was cut off
    goes on when it is called again.
    """
    from mlstream.broker.client import Client
    from mlstream.snapshots.restore import restore as put_back
    from mlstream.snapshots.snapshot import open_snapshot

    opened = open_snapshot(name, home=session.at)
    with Client(session.connection()) as client, _shown(session) as progress:
        done = put_back(client, opened, topic, source=source, partitions=partitions, codec=codec, progress=progress)
    if as_json:
        session.emit_json(_as_json(done))
        return
    found = done.restored
    count = f"{len(found.partitions)} partition{'' if len(found.partitions) == 1 else 's'}"
    there = found.rows - done.written
    print_facts(
        session,
        [
            ("snapshot", f"{opened.name or found.snapshot_id}, topic {found.source_topic}"),
            ("restored", f"to {found.topic}{f' ({there:,} records were there already)' if there else ''}"),
            ("rows", f"{found.rows:,} in {count}, in {found.seconds:.1f} s"),
            ("checked", f"read back: the payload digests of {count} are the snapshot's"),
            ("offsets", f"old to new: {found.table}"),
        ],
    )


def _as_json(done: Outcome) -> dict[str, Any]:
    found = done.restored
    return {
        **asdict(found),
        "table": str(found.table),
        "rows": found.rows,
        "written": done.written,
        "runs": found.translation().height,
    }


@contextmanager
def _shown(session: Session) -> Iterator[Callable[[Progress], None]]:
    """A bar for each step on a terminal; a line at the end elsewhere."""
    if not sys.stderr.isatty():
        last: dict[str, tuple[int, float]] = {}
        began = time.monotonic()

        def keep(progress: Progress) -> None:
            last[progress.step] = progress.rows, time.monotonic() - began

        yield keep
        for step, (rows, seconds) in last.items():
            session.say(f"{step}: {rows:,} records, done after {seconds:.1f} s")
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:<8}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.completed:,} records"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=session.err, transient=True) as bar:
        tasks = {}

        def advance(progress: Progress) -> None:
            if progress.step not in tasks:
                tasks[progress.step] = bar.add_task(progress.step, total=progress.total)
            bar.update(tasks[progress.step], completed=progress.rows)

        yield advance
