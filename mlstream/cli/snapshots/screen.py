"""How `mlstream snapshot` shows what a snapshot holds: tables at 80 columns, JSON. Opens none, freezes nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlstream.cli.context import Session
from mlstream.cli.plain import plain

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from mlstream.snapshots.cuts import Cut, CutPartition
    from mlstream.snapshots.snapshot import Snapshot

_MOST_FILES = 20  # on the screen


def print_facts(session: Session, facts: list[tuple[str, str]]) -> None:
    """Labels and texts, which may hold names from anywhere."""
    from rich.text import Text

    for label, text in facts:
        session.out.print(Text.assemble((f"{label:<10}", "bold"), plain(text)), soft_wrap=True)


def cells(*texts: str) -> tuple[Text, ...]:
    """Cells of a table that show texts as they are, without markup."""
    from rich.text import Text

    return tuple(Text(plain(text)) for text in texts)


def content_facts(found: Snapshot) -> list[tuple[str, str]]:
    """How much of what it holds."""
    facts = []
    if found.tables:
        facts.append(("tables", f"{len(found.tables):,} with {sum(table.rows for table in found.tables):,} rows"))
    if found.files:
        facts.append(("files", f"{len(found.files):,} of {size_text(sum(f.size_bytes for f in found.files))}"))
    return facts


def print_content(session: Session, found: Snapshot, cut: Cut | None) -> None:
    """Its topics by partition, its tables and its files."""
    print_partitions(session, found, cut)
    if found.tables:
        table = narrow_table(("table", "rows", "columns", "key", "records"))
        for each in found.tables:
            key = ", ".join(each.primary_key) or "(none)"
            sizes = f"{each.rows:,}", f"{len(each.columns):,}"
            table.add_row(*cells(each.name, *sizes, key, each.records_digest[:8]))
        session.out.print()
        session.out.print(table)
    if found.files:
        table = narrow_table(("file", "bytes", "sha256"))
        for file in found.files[:_MOST_FILES]:
            table.add_row(*cells(file.path, f"{file.size_bytes:,}", file.sha256[:8]))
        session.out.print()
        session.out.print(table)
        if len(found.files) > _MOST_FILES:
            session.out.print(f"and {len(found.files) - _MOST_FILES:,} files more; --json lists all")


def print_partitions(session: Session, found: Snapshot, cut: Cut | None) -> None:
    then = _partitions_of(cut)
    for stream in found.streams:
        table = narrow_table(("part", "from", "to", "rows", "gaps", "unstable", "records", "payloads"))
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
        session.out.print()
        print_heading(session, stream.topic, f"  {stream.rows:,} rows{_span(stream.partitions)}")
        session.out.print(table)
        missing = [(part.partition, gap) for part in stream.partitions for gap in part.missing]
        for partition, (start, stop) in missing:
            session.line(f"missing: {stream.topic}[{partition}] {start} to {stop}, expired or lost")
    beyond = sum(known.high_watermark - known.last_stable for known in then.values())
    if beyond:
        session.out.print(f"{beyond:,} records stood above the last stable offset at the cut: open transactions.")
    if not found.complete:
        session.out.print("[bold]This snapshot is partial.[/bold]")


def print_heading(session: Session, name: str, text: str = "") -> None:
    """A name in bold, and what is said of it."""
    from rich.text import Text

    session.out.print(Text.assemble((plain(name), "bold"), plain(text)))


def narrow_table(headers: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    left = {"topic", "records", "payloads", "table", "key", "file", "sha256"}
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
    return {
        **entry_json(found),
        "cut_ms": None if cut is None else cut.cut_ms,
        "objects": len(found.storage.objects),
        "streams": streams,
        "tables": [asdict(table) for table in found.tables],
        "files": [asdict(file) for file in found.files],
        "databases": [] if cut is None else [asdict(database) for database in cut.databases],
    }


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
