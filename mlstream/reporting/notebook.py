"""What a notebook shows of a comparison, a run and a snapshot: as HTML, and as Markdown for what shows no HTML.

Reads what the object holds already; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlstream.comparison.result import Comparison
from mlstream.reporting import note, report, report_parts, wording
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.run import Run
from mlstream.snapshots.manifest import StreamContent
from mlstream.snapshots.snapshot import Snapshot

_MINUTES = "%Y-%m-%d %H:%M"
_HEADS = ("version", "records", "records/s", "p50 ms", "p99 ms", "CPU s", "memory")


@dataclass(frozen=True, slots=True)
class _VersionRow:
    name: str
    colour: str
    status: str
    cells: tuple[str, ...]
    topic: str


@dataclass(frozen=True, slots=True)
class _PartRow:
    kind: str
    name: str
    partitions: str
    rows: str
    times: str


def comparison_html(comparison: Comparison) -> str:
    """The verdicts, metric by metric."""
    return report.write_fragment(comparison)


def comparison_markdown(comparison: Comparison) -> str:
    """The headline and the table of verdicts."""
    return "\n\n".join(filter(None, (note.headline(comparison), note.verdict_table(comparison))))


def run_html(run: Run) -> str:
    """How its versions fared."""
    return report.render("run.html", run=run, heads=_HEADS, rows=list(_version_rows(run)))


def run_markdown(run: Run) -> str:
    """The same as a table."""
    rows = [[row.name, *row.cells, f"`{row.topic}`"] for row in _version_rows(run)]
    table = note.table([*_HEADS, "topic"], rows)
    return f"Run of {run.experiment}: **{run.status}**, `{run.id[:12]}`\n\n{table}"


def snapshot_html(snapshot: Snapshot) -> str:
    """What it holds."""
    return report.render("snapshot.html", snapshot=snapshot, name=_name(snapshot), rows=list(_part_rows(snapshot)))


def snapshot_markdown(snapshot: Snapshot) -> str:
    """The same as a table."""
    rows = [[row.kind, f"`{row.name}`", row.partitions, row.rows, row.times] for row in _part_rows(snapshot)]
    table = note.table(["holds", "name", "partitions", "rows", "event time, UTC"], rows)
    return f"Snapshot **{_name(snapshot)}**, {snapshot.rows:,} records, `{snapshot.id[:12]}`\n\n{table}"


def _name(snapshot: Snapshot) -> str:
    return snapshot.name if snapshot.name is not None else snapshot.id[:12]


def _version_rows(run: Run) -> Iterator[_VersionRow]:
    baseline = run.config.baseline_version
    names = list(run.versions)
    colours = report_parts.version_colours(names, baseline if baseline in names else names[0])
    for name, outcome in run.versions.items():
        yield _VersionRow(name, colours[name], outcome.status, _cells(outcome), outcome.topic or "–")


def _cells(outcome: VersionOutcome) -> tuple[str, ...]:
    measured, rate = outcome.measured, outcome.rows_per_second
    if measured is None:
        return (f"{outcome.rows:,}", *["–"] * (len(_HEADS) - 2))
    return (
        f"{outcome.rows:,}",
        "–" if rate is None else f"{rate:,.0f}",
        f"{measured.latency.p50_ms:.1f}",
        f"{measured.latency.p99_ms:.1f}",
        f"{measured.cpu_seconds:.1f}",
        wording.size(measured.memory_bytes),
    )


def _part_rows(snapshot: Snapshot) -> Iterator[_PartRow]:
    for stream in snapshot.streams:
        yield _PartRow("topic", stream.topic, f"{len(stream.partitions)}", f"{stream.rows:,}", _times(stream))
    for table in snapshot.tables:
        yield _PartRow("table", table.name, "", f"{table.rows:,}", "")
    for file in snapshot.files:
        yield _PartRow("file", file.path, "", wording.size(file.size_bytes), "")


def _times(stream: StreamContent) -> str:
    starts = [part.min_timestamp_ms for part in stream.partitions if part.min_timestamp_ms is not None]
    stops = [part.max_timestamp_ms for part in stream.partitions if part.max_timestamp_ms is not None]
    return (
        f"{wording.moment(min(starts), _MINUTES)} to {wording.moment(max(stops), _MINUTES)}"
        if starts and stops
        else "none"
    )
