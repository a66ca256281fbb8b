"""How `mlstream snapshot` shows what it made and found: progress, tables at 80 columns, JSON. Freezes nothing."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlstream.snapshots.capture import Frozen
    from mlstream.snapshots.copying import Progress
    from mlstream.snapshots.cuts import Cut, CutPartition
    from mlstream.snapshots.estimate import Estimate
    from mlstream.snapshots.snapshot import Snapshot

_OUTPUT = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+\.[0-9a-f]{12}")  # naming.output_topic of a run


@contextmanager
def shown_progress(session: Session) -> Iterator[Callable[[Progress], None]]:
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


def print_frozen(session: Session, frozen: Frozen, seconds: float) -> None:
    found = frozen.snapshot
    how = f"{frozen.fetched:,} fetched, {frozen.reused:,} from earlier snapshots" if frozen.reused else "all fetched"
    print_facts(
        session,
        [
            ("snapshot", f"{found.name}{' (it held this already)' if frozen.existed else ''}"),
            ("id", found.id),
            ("rows", f"{found.rows:,} ({how})"),
            ("stored", f"{size_text(found.size_bytes)} in {len(found.storage.objects):,} objects"),
            ("written", f"{size_text(frozen.written_bytes)} in {seconds:.1f} s"),
        ],
    )
    print_partitions(session, found, frozen.cut)


def print_facts(session: Session, facts: list[tuple[str, str]]) -> None:
    for label, text in facts:
        session.out.print(f"[bold]{label:<10}[/bold]{text}", soft_wrap=True)


def print_partitions(session: Session, found: Snapshot, cut: Cut | None) -> None:
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


def print_estimate(session: Session, name: str, found: Estimate) -> None:
    to_fetch = sum(part.to_fetch for part in found.partitions)
    offsets = sum(len(part.wanted) for part in found.partitions)
    print_facts(
        session,
        [
            ("snapshot", f"{name} (not made: this is a dry run)"),
            ("rows", f"about {found.rows:,}; {to_fetch:,} of {offsets:,} offsets to fetch"),
            ("bytes", f"about {size_text(found.size_bytes)} to write"),
            ("disk", f"{size_text(found.free_bytes)} free{'' if found.fits else ': too little'}"),
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
            size_text(part.size_bytes),
            f"{part.kept.high_watermark - part.kept.last_stable:,}",
        )
    session.out.print(table)


def is_output(found: Snapshot) -> bool:
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


def snapshot_json(found: Snapshot, *, cut: Cut | None) -> dict[str, Any]:
    then = _partitions_of(cut)
    streams = []
    for stream in found.streams:
        parts = []
        for part in stream.partitions:
            known = then.get((stream.topic, part.partition))
            parts.append({**asdict(part), "cut": None if known is None else asdict(known)})
        streams.append({**asdict(stream), "partitions": parts})
    return {**entry_json(found), "objects": len(found.storage.objects), "streams": streams}


def entry_json(found: Snapshot) -> dict[str, Any]:
    cuts = found.cuts()
    return {
        "id": found.id,
        "name": found.name,
        "names": list(found.names),
        "complete": found.complete,
        "rows": found.rows,
        "size_bytes": stored_bytes(found),
        "topics": list(found.topics),
        "cut_at_ms": cuts[-1].created_at_ms if cuts else None,
    }


def estimate_json(name: str, found: Estimate) -> dict[str, Any]:
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


def stored_bytes(found: Snapshot) -> int | None:
    """What the objects take; None when the storage map is damaged (`verify` says how)."""
    from mlstream.errors import IntegrityError

    try:
        return found.size_bytes
    except IntegrityError:
        return None


def when(found: Snapshot) -> str:
    cuts = found.cuts()
    return time_text(cuts[-1].created_at_ms) if cuts else ""


def time_text(moment_ms: int) -> str:
    from mlstream.ranges import format_time_ms

    return format_time_ms(moment_ms)[:16].replace("T", " ")


def size_text(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
