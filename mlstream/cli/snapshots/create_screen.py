"""How `mlstream snapshot create` shows what it does and made: progress, a summary, an estimate. Freezes nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.snapshots.screen import (
    cells,
    content_facts,
    narrow_table,
    print_content,
    print_facts,
    size_text,
    snapshot_json,
)

if TYPE_CHECKING:
    from mlstream.snapshots.capture import Frozen
    from mlstream.snapshots.copying import Progress
    from mlstream.snapshots.estimate import Estimate


@contextmanager
def shown_progress(session: Session) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line for each step, and one at the end."""
    if not sys.stderr.isatty():
        last: list[Progress] = []
        began = copying = time.monotonic()

        def keep(progress: Progress) -> None:
            nonlocal copying
            if progress.doing:
                session.say(progress.doing)
                copying = time.monotonic()  # what comes next begins now, or later
            else:
                last[:] = [progress]

        yield keep
        now = time.monotonic()
        for progress in last:
            fetched, seconds = progress.rows - progress.reused, max(now - copying, 1e-9)
            rate = f" (copied at {fetched / seconds:,.0f} rows/s, {progress.size_bytes / seconds / 1e6:,.0f} MB/s)"
            session.say(f"froze {progress.rows:,} rows in {now - began:.1f} s{rate if fetched else ''}")
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
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
            if progress.doing:
                bar.update(task, description=plain(progress.doing), total=None)
                return
            first = time.monotonic() - 0.1 if first is None else first
            bar.update(
                task,
                description="",
                total=progress.offsets_total,
                completed=progress.offsets_done,
                rows=progress.rows,
                rate=progress.size_bytes / 1e6 / (time.monotonic() - first),
                left=progress.offsets_total - progress.offsets_done,
            )

        yield advance


def print_frozen(session: Session, frozen: Frozen, seconds: float) -> None:
    found = frozen.snapshot
    facts = [
        ("snapshot", f"{found.name}{' (it held this already)' if frozen.existed else ''}"),
        ("id", found.id),
    ]
    if found.streams:
        reused = f"{frozen.fetched:,} fetched, {frozen.reused:,} from earlier snapshots"
        facts.append(("rows", f"{found.rows:,} ({reused if frozen.reused else 'all fetched'})"))
    facts += content_facts(found)
    facts += [
        ("cut", f"fixed in {frozen.cut.cut_ms:,} ms"),
        ("stored", f"{size_text(found.size_bytes)} in {len(found.storage.objects):,} objects"),
        ("written", f"{size_text(frozen.written_bytes)} in {seconds:.1f} s"),
    ]
    print_facts(session, facts)
    print_content(session, found, frozen.cut)
    for stream in frozen.cut.streams:
        if "compact" in (stream.cleanup_policy or ""):
            session.say(
                f"{stream.topic} is compacted: a key that was written again meanwhile may be missing, unless "
                "min.compaction.lag.ms of the topic is longer than this freeze took"
            )
    if frozen.collected is not None:
        for unknown in frozen.collected.unknown:
            session.say(f"{unknown}; such records do not decode")
        for topic in frozen.collected.passed_over:
            session.say(f"{topic}: too many different ids for the wire format; its schemas were not looked up")


def frozen_json(frozen: Frozen, seconds: float) -> dict[str, Any]:
    return {
        **snapshot_json(frozen.snapshot, cut=frozen.cut),
        "existed": frozen.existed,
        "fetched": frozen.fetched,
        "reused": frozen.reused,
        "written_bytes": frozen.written_bytes,
        "seconds": round(seconds, 3),
        "unknown_schemas": [asdict(each) for each in frozen.collected.unknown] if frozen.collected is not None else [],
    }


def print_estimate(session: Session, name: str, found: Estimate) -> None:
    facts = [("snapshot", f"{name} (not made: this is a dry run)")]
    if found.partitions:
        to_fetch = sum(part.to_fetch for part in found.partitions)
        offsets = sum(len(part.wanted) for part in found.partitions)
        facts.append(("rows", f"about {found.rows:,}; {to_fetch:,} of {offsets:,} offsets to fetch"))
    if found.tables:
        facts.append(("tables", f"{', '.join(found.tables)}; their rows are not estimated"))
    if found.files:
        facts.append(("files", f"{found.files:,}, of which {size_text(found.files_bytes)} are new"))
    facts += [
        ("bytes", f"about {size_text(found.size_bytes)} to write"),
        ("disk", f"{size_text(found.free_bytes)} free{'' if found.fits else ': too little'}"),
    ]
    print_facts(session, facts)
    if not found.partitions:
        return
    session.out.print()
    table = narrow_table(("topic", "part", "from", "to", "to fetch", "bytes", "unstable"))
    for part in found.partitions:
        table.add_row(
            *cells(part.wanted.topic),
            str(part.wanted.partition),
            str(part.wanted.start),
            str(part.wanted.stop),
            f"{part.to_fetch:,}",
            size_text(part.size_bytes),
            f"{part.kept.high_watermark - part.kept.last_stable:,}",
        )
    session.out.print(table)


def estimate_json(name: str, found: Estimate) -> dict[str, Any]:
    return {
        "name": name,
        "dry_run": True,
        "rows": found.rows,
        "files": found.files,
        "files_bytes": found.files_bytes,
        "tables": list(found.tables),
        "size_bytes": found.size_bytes,
        "free_bytes": found.free_bytes,
        "fits": found.fits,
        "partitions": [asdict(part) for part in found.partitions],
    }
