"""`mlstream snapshot`: freeze ranges of topics, list what was frozen, show it, check it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlstream.ranges import TopicSelection
    from mlstream.snapshots.capture import Frozen
    from mlstream.snapshots.copying import Progress
    from mlstream.snapshots.cuts import Cut, CutPartition
    from mlstream.snapshots.estimate import Estimate
    from mlstream.snapshots.snapshot import Snapshot

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_SHORT = 12  # digits of a digest in tables
_OUTPUT = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.[0-9a-f]{12}")  # naming.output_topic of a run


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
                session.emit_json(_estimate_json(name, found))
            else:
                _print_estimate(session, name, found)
            return
        began = time.monotonic()
        with _shown_progress(session) as progress:
            frozen = freeze(client, store, name, selections, allow_partial=allow_partial, progress=progress)
        seconds = time.monotonic() - began
    if as_json:
        session.emit_json(
            {
                **_snapshot_json(frozen.snapshot, cut=frozen.cut),
                "existed": frozen.existed,
                "fetched": frozen.fetched,
                "reused": frozen.reused,
                "written_bytes": frozen.written_bytes,
                "seconds": round(seconds, 3),
            }
        )
        return
    _print_frozen(session, frozen, seconds)


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
        session.emit_json({"snapshots": [_entry_json(each) for each in found], "damaged": damaged})
        return
    if not found and not damaged:
        session.say("no snapshots yet: make one with `mlstream snapshot create NAME --topic TOPIC`")
        return
    shown = found if show_all else [each for each in found if not _is_output(each)]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("name", "id", "rows", "size", "cut"):
        table.add_column(header, justify="right" if header in ("rows", "size") else "left", no_wrap=True)
    if not show_all:  # with outputs the names are long, and say it
        table.add_column("topics", overflow="ellipsis", no_wrap=True)
    for each in shown:
        names = (", ".join(each.names) or "-") + ("" if each.complete else " (partial)")
        stored = _stored_bytes(each)
        size = "damaged" if stored is None else _bytes(stored)
        topics = () if show_all else (", ".join(each.topics),)
        table.add_row(names, each.id[:_SHORT], f"{each.rows:,}", size, _when(each), *topics)
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
        session.emit_json(_snapshot_json(found, cut=cuts[-1] if cuts else None))
        return
    facts = [
        ("snapshot", ", ".join(found.names) or "(no name)"),
        ("id", found.id),
        ("rows", f"{found.rows:,}"),
        ("stored", f"{_bytes(found.size_bytes)} in {len(found.storage.objects):,} objects"),
    ]
    for cut in cuts[-3:]:
        source = f"by {cut.user}@{cut.host} from {','.join(cut.source)}"
        facts.append(("cut", f"{_time(cut.created_at_ms)} {source}"))
    if len(cuts) > 3:
        facts.append(("", f"and {len(cuts) - 3} times before"))
    _print_facts(session, facts)
    _print_partitions(session, found, cuts[-1] if cuts else None)


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
    session.out.print(f"ok: {found.objects:,} objects, {_bytes(found.size_bytes)}; {rows}", soft_wrap=True)


def _selections(topics: tuple[str, ...], partitions: str | None, start: str, stop: str) -> list[TopicSelection]:
    from dataclasses import replace

    from mlstream.ranges import parse_partitions, parse_position, parse_topic

    first, last = parse_position(start), parse_position(stop)
    chosen = None if partitions is None else parse_partitions(partitions)
    found = [parse_topic(text, start=first, stop=last) for text in topics]
    return [replace(each, partitions=chosen) if each.partitions is None else each for each in found]


@contextmanager
def _shown_progress(session: Session) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; one line at the end elsewhere."""
    if not sys.stderr.isatty():
        last: list[Progress] = []
        began = time.monotonic()

        def keep(progress: Progress) -> None:
            last[:] = [progress]

        yield keep
        for progress in last:
            seconds = max(time.monotonic() - began, 1e-9)
            rate = f"{progress.rows / seconds:,.0f} rows/s, {progress.size_bytes / seconds / 1e6:,.0f} MB/s"
            session.say(f"froze {progress.rows:,} rows in {seconds:.1f} s ({rate})")
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[rate]:,.0f} MB/s"),
        TextColumn("{task.fields[left]:,} left"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task("", total=None, rows=0, rate=0.0, left=0)
        first: float | None = None  # the rate is that of copying, without the time to connect

        def advance(progress: Progress) -> None:
            nonlocal first
            first = time.monotonic() - 0.1 if first is None else first
            bar.update(
                task,
                total=progress.offsets_total,
                completed=progress.offsets_done,
                rows=progress.rows,
                rate=progress.size_bytes / 1e6 / (time.monotonic() - first),
                left=progress.offsets_total - progress.offsets_done,
            )

        yield advance


def _print_frozen(session: Session, frozen: Frozen, seconds: float) -> None:
    found = frozen.snapshot
    how = f"{frozen.fetched:,} fetched, {frozen.reused:,} from earlier snapshots" if frozen.reused else "all fetched"
    _print_facts(
        session,
        [
            ("snapshot", f"{found.name}{' (it held this already)' if frozen.existed else ''}"),
            ("id", found.id),
            ("rows", f"{found.rows:,} ({how})"),
            ("stored", f"{_bytes(found.size_bytes)} in {len(found.storage.objects):,} objects"),
            ("written", f"{_bytes(frozen.written_bytes)} in {seconds:.1f} s"),
        ],
    )
    _print_partitions(session, found, frozen.cut)


def _print_facts(session: Session, facts: list[tuple[str, str]]) -> None:
    for label, text in facts:
        session.out.print(f"[bold]{label:<10}[/bold]{text}", soft_wrap=True)


def _print_partitions(session: Session, found: Snapshot, cut: Cut | None) -> None:
    then = _partitions_of(cut)
    for stream in found.streams:
        table = _table(("part", "from", "to", "rows", "gaps", "unstable", "records", "payloads"))
        for part in stream.partitions:
            known = then.get((stream.topic, part.partition))
            table.add_row(
                str(part.partition),
                str(part.start),
                str(part.stop),
                f"{part.rows:,}",
                f"{part.stop - part.start - part.rows:,}",
                "" if known is None else f"{known.high_watermark - known.last_stable:,}",
                part.root[:8],
                part.payload_digest[:8],
            )
        session.out.print(f"\n[bold]{stream.topic}[/bold]  {stream.rows:,} rows{_span(stream.partitions)}")
        session.out.print(table)
        missing = [(part.partition, gap) for part in stream.partitions for gap in part.missing]
        for partition, (start, stop) in missing:
            session.out.print(f"missing: {stream.topic}[{partition}] {start} to {stop}, expired or lost")
    beyond = sum(known.high_watermark - known.last_stable for known in then.values())
    if beyond:
        session.out.print(f"{beyond:,} records stood above the last stable offset at the cut: open transactions.")
    if not found.complete:
        session.out.print("[bold]This snapshot is partial.[/bold]")


def _print_estimate(session: Session, name: str, found: Estimate) -> None:
    to_fetch = sum(part.to_fetch for part in found.partitions)
    offsets = sum(len(part.wanted) for part in found.partitions)
    _print_facts(
        session,
        [
            ("snapshot", f"{name} (not made: this is a dry run)"),
            ("rows", f"about {found.rows:,}; {to_fetch:,} of {offsets:,} offsets to fetch"),
            ("bytes", f"about {_bytes(found.size_bytes)} to write"),
            ("disk", f"{_bytes(found.free_bytes)} free{'' if found.fits else ': too little'}"),
        ],
    )
    table = _table(("topic", "part", "from", "to", "to fetch", "bytes", "unstable"))
    for part in found.partitions:
        table.add_row(
            part.wanted.topic,
            str(part.wanted.partition),
            str(part.wanted.start),
            str(part.wanted.stop),
            f"{part.to_fetch:,}",
            _bytes(part.size_bytes),
            f"{part.kept.high_watermark - part.kept.last_stable:,}",
        )
    session.out.print(table)


def _is_output(found: Snapshot) -> bool:
    """Whether it is what a version of a run wrote: named like its only topic, which is named like an output."""
    return any(_OUTPUT.fullmatch(name) and found.topics == (name,) for name in found.names)


def _table(headers: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    left = {"topic", "records", "payloads"}
    for header in headers:
        table.add_column(header, justify="left" if header in left else "right", overflow="fold")
    return table


def _partitions_of(cut: Cut | None) -> dict[tuple[str, int], CutPartition]:
    streams = () if cut is None else cut.streams
    return {(stream.topic, part.partition): part for stream in streams for part in stream.partitions}


def _snapshot_json(found: Snapshot, *, cut: Cut | None) -> dict[str, Any]:
    then = _partitions_of(cut)
    streams = []
    for stream in found.streams:
        parts = []
        for part in stream.partitions:
            known = then.get((stream.topic, part.partition))
            parts.append({**asdict(part), "cut": None if known is None else asdict(known)})
        streams.append({**asdict(stream), "partitions": parts})
    return {**_entry_json(found), "objects": len(found.storage.objects), "streams": streams}


def _entry_json(found: Snapshot) -> dict[str, Any]:
    cuts = found.cuts()
    return {
        "id": found.id,
        "name": found.name,
        "names": list(found.names),
        "complete": found.complete,
        "rows": found.rows,
        "size_bytes": _stored_bytes(found),
        "topics": list(found.topics),
        "cut_at_ms": cuts[-1].created_at_ms if cuts else None,
    }


def _estimate_json(name: str, found: Estimate) -> dict[str, Any]:
    return {
        "name": name,
        "dry_run": True,
        "rows": found.rows,
        "size_bytes": found.size_bytes,
        "free_bytes": found.free_bytes,
        "fits": found.fits,
        "partitions": [asdict(part) for part in found.partitions],
    }


def _span(partitions: Any) -> str:
    from mlstream.ranges import format_time_ms

    low = min((part.min_timestamp_ms for part in partitions if part.min_timestamp_ms is not None), default=None)
    high = max((part.max_timestamp_ms for part in partitions if part.max_timestamp_ms is not None), default=None)
    return "" if low is None or high is None else f"  {format_time_ms(low)} to {format_time_ms(high)}"


def _stored_bytes(found: Snapshot) -> int | None:
    """What the objects take; None when the storage map is damaged (`verify` says how)."""
    from mlstream.errors import IntegrityError

    try:
        return found.size_bytes
    except IntegrityError:
        return None


def _when(found: Snapshot) -> str:
    cuts = found.cuts()
    return _time(cuts[-1].created_at_ms) if cuts else ""


def _time(moment_ms: int) -> str:
    from mlstream.ranges import format_time_ms

    return format_time_ms(moment_ms)[:16].replace("T", " ")


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
