"""`mlstream snapshot`: freeze ranges of topics, list what was frozen, show it, check it."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshot_screen import (
    entry_json,
    estimate_json,
    is_output,
    print_estimate,
    print_facts,
    print_frozen,
    print_partitions,
    shown_progress,
    size_text,
    snapshot_json,
    stored_bytes,
    time_text,
    when,
)

if TYPE_CHECKING:
    from mlstream.ranges import TopicSelection

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_SHORT = 12  # digits of a digest in tables


@click.group()
def snapshot() -> None:
    """Freeze ranges of topics: create, ls, show, verify.

    A snapshot is an immutable dataset under one digest. The same records frozen twice have the same digest, and
    snapshots share what they have in common.
    """


@snapshot.command()
@click.argument("name")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    required=True,
    metavar="TOPIC",
    help="What to freeze: T, T[0,2-4] or 'T[0]@FROM..TO'; may be repeated.",
)
@click.option("--partition", "partitions", metavar="0,2-4", help="Only these partitions (default: all).")
@click.option("--from", "start", default="earliest", show_default=True, metavar="X", help="Where to start.")
@click.option("--to", "stop", default="latest", show_default=True, metavar="Y", help="Where to stop, exclusive.")
@click.option("--dry-run", is_flag=True, help="Say what it would come to; freeze nothing.")
@click.option("--allow-partial", is_flag=True, help="Keep what can be had where records have expired.")
@_JSON
@click.pass_obj
def create(
    session: Session,
    name: str,
    topics: tuple[str, ...],
    partitions: str | None,
    start: str,
    stop: str,
    dry_run: bool,
    allow_partial: bool,
    as_json: bool,
) -> None:
    """Freeze ranges of topics under NAME.

    X and Y are an offset (1200), a time (2013-10-01T06:00, UTC unless it says otherwise), a time ago (-2h),
    earliest, latest (the last stable offset), or group:NAME (what a consumer group has committed).
    """
    from mlstream.broker.client import Client
    from mlstream.naming import check_snapshot_name
    from mlstream.snapshots.capture import freeze
    from mlstream.snapshots.estimate import estimate
    from mlstream.snapshots.store import Store

    check_snapshot_name(name)
    selections = _selections(topics, partitions, start, stop)
    store = Store(session.at)
    with Client(session.connection()) as client:
        if dry_run:
            found = estimate(client, store, selections, allow_partial=allow_partial)
            if as_json:
                session.emit_json(estimate_json(name, found))
            else:
                print_estimate(session, name, found)
            return
        began = time.monotonic()
        with shown_progress(session) as progress:
            frozen = freeze(client, store, name, selections, allow_partial=allow_partial, progress=progress)
        seconds = time.monotonic() - began
    if as_json:
        session.emit_json(
            {
                **snapshot_json(frozen.snapshot, cut=frozen.cut),
                "existed": frozen.existed,
                "fetched": frozen.fetched,
                "reused": frozen.reused,
                "written_bytes": frozen.written_bytes,
                "seconds": round(seconds, 3),
            }
        )
        return
    print_frozen(session, frozen, seconds)


@snapshot.command("ls")
@click.option("--all", "show_all", is_flag=True, help="The frozen outputs of runs, too.")
@_JSON
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
        table.add_row(names, each.id[:_SHORT], f"{each.rows:,}", size, when(each), *topics)
    for snapshot_id in damaged:
        table.add_row("damaged: run verify", snapshot_id[:_SHORT], "", "", "")
    if shown or damaged:
        session.out.print(table)
    if len(shown) < len(found):
        session.say(f"{len(found) - len(shown):,} frozen outputs of runs are not shown; --all shows them")


@snapshot.command()
@click.argument("name")
@_JSON
@click.pass_obj
def show(session: Session, name: str, as_json: bool) -> None:
    """Say what the snapshot NAME (or an id, or 8 digits of one) holds."""
    from mlstream.snapshots.snapshot import open_snapshot

    found = open_snapshot(name, home=session.at)
    cuts = found.cuts()
    if as_json:
        session.emit_json(snapshot_json(found, cut=cuts[-1] if cuts else None))
        return
    facts = [
        ("snapshot", ", ".join(found.names) or "(no name)"),
        ("id", found.id),
        ("rows", f"{found.rows:,}"),
        ("stored", f"{size_text(found.size_bytes)} in {len(found.storage.objects):,} objects"),
    ]
    for cut in cuts[-3:]:
        source = f"by {cut.user}@{cut.host} from {','.join(cut.source)}"
        facts.append(("cut", f"{time_text(cut.created_at_ms)} {source}"))
    if len(cuts) > 3:
        facts.append(("", f"and {len(cuts) - 3} times before"))
    print_facts(session, facts)
    print_partitions(session, found, cuts[-1] if cuts else None)


@snapshot.command()
@click.argument("name")
@click.option("--deep", is_flag=True, help="Recompute the digests of every row, too.")
@_JSON
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


def _selections(topics: tuple[str, ...], partitions: str | None, start: str, stop: str) -> list[TopicSelection]:
    from dataclasses import replace

    from mlstream.ranges import parse_partitions, parse_position, parse_topic

    first, last = parse_position(start), parse_position(stop)
    chosen = None if partitions is None else parse_partitions(partitions)
    found = [parse_topic(text, start=first, stop=last) for text in topics]
    return [replace(each, partitions=chosen) if each.partitions is None else each for each in found]
