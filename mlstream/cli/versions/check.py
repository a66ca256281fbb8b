"""`mlstream version check`: whether a version's answers depend on the size of the batches that it is asked in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.versions.choosing import BUILDING, CONFIG, JSON, VERSION, experiment_of

if TYPE_CHECKING:
    from mlstream.runs.batch_figures import Asked, BatchCheck, Mismatch

_COLUMNS = 80


@click.command()
@VERSION
@click.option("--snapshot", required=True, metavar="NAME", help="The records: a snapshot's name or id.")
@click.option(
    "--rows", type=click.IntRange(1), default=20_000, show_default=True, metavar="N", help="How many at most."
)
@CONFIG
@JSON
@click.pass_obj
def check(session: Session, name: str, snapshot: str, rows: int, config: str | None, as_json: bool) -> None:
    """Ask VERSION for the same records one by one, in sevens, in batches as a run has them, and all at once.

    The answers must be equal, bit by bit: how a run cuts its input into batches is no property of the data. Small
    batches are asked for fewer records. The exit code is 1 when anything differs.
    """
    from mlstream.runs.batch_check import check_batches

    def say(size: int, again: bool) -> None:
        session.say(f"batches of {size:,}{' again' if again else ''}")

    found = check_batches(
        experiment_of(name, config),
        name,
        snapshot=snapshot,
        rows=rows,
        home=session.at,
        progress=say,
        on_building=lambda file: session.say(f"{BUILDING} {file}"),
    )
    if as_json:
        session.emit_json({**asdict(found), "equal": found.equal})
    else:
        _print(session, found)
    found.check()


def _print(session: Session, found: BatchCheck) -> None:
    from rich.table import Table

    place = f"{found.topic} of {found.snapshot_name or found.snapshot_id[:12]}"
    state = "; it keeps state, and was begun anew each time" if found.stateful else ""
    session.line(f"{found.version} {found.digest[:8]}: {found.records:,} records of {place}{state}")
    session.out.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("batches of", "records", "batches", "seconds", "differ"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("by at most", justify="right", no_wrap=True)
    for asked in (found.again, *found.sizes):
        again = " again" if asked is found.again else ""
        table.add_row(
            f"{asked.batch_rows:,}{again}",
            f"{asked.records:,}",
            f"{asked.batches:,}",
            f"{asked.seconds:.2f}",
            f"{asked.differing:,}",
            f"{asked.largest:.3g}" if asked.differing else "",
        )
    session.out.print(table)
    session.out.print()
    if found.equal:
        session.line("equal, bit by bit")
    for asked in (found.again, *found.sizes):
        if asked.first is not None:
            for line in _words(asked, asked.first):
                session.line(line)


def _words(asked: Asked, first: Mismatch) -> Iterator[str]:
    """The first answer that differs, in one line or two."""
    usual = f"partition {first.partition} offset {first.offset}: {first.column} {first.usual!r},"
    now = f"in batches of {asked.batch_rows:,} {first.now!r}"
    if len(usual) + 1 + len(now) <= _COLUMNS:
        yield f"{usual} {now}"
    else:
        yield from (usual, f"  {now}")
