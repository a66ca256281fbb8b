"""How `mlstream run` shows runs and versions: tables at 80 columns, JSON. Opens none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlstream.runs.outcome import VersionOutcome
    from mlstream.runs.run import Run

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
SHORT = 12
_COLOURS = {"complete": "green", "partial": "yellow", "failed": "red", "incomplete": "yellow", "running": "cyan"}


def print_outcomes(session: Session, found: Run) -> None:
    """A row a version, and the topics."""
    table = plain_table(
        "~version", "status", ">records", ">records/s", ">p50 ms", ">p99 ms", ">CPU s", ">memory", "digest"
    )
    for outcome in found.versions.values():
        table.add_row(outcome.name, coloured(outcome.status), *_figures(outcome), outcome.digest[:8])
    print_narrow(session, table)
    topics = [outcome for outcome in found.versions.values() if outcome.status == "complete"]
    if topics:
        session.out.print("\ntopics, frozen as snapshots of the same names:")
    for outcome in topics:
        session.out.print(f"  {outcome.topic}", markup=False, soft_wrap=True)
        if outcome.errors_topic is not None:
            session.out.print(f"  {outcome.errors_topic}", markup=False, soft_wrap=True)
            session.out.print(f"    {_without_prediction(outcome)}", markup=False, soft_wrap=True)


def _without_prediction(outcome: VersionOutcome) -> str:
    """`12 records without a prediction: 10 did not decode, 2 were refused`."""
    parts = {"did not decode": outcome.undecodable, "were refused": outcome.refused}
    words = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    return f"{outcome.errors:,} records without a prediction: {words}"


def _figures(outcome: VersionOutcome) -> list[str]:
    measured, rate = outcome.measured, outcome.rows_per_second
    if measured is None:
        return ["–"] * 6
    return [
        f"{outcome.rows:,}",
        "–" if rate is None else f"{rate:,.0f}",
        f"{measured.latency.p50_ms:.1f}",
        f"{measured.latency.p99_ms:.1f}",
        f"{measured.cpu_seconds:.1f}",
        f"{measured.memory_bytes / 1e6:,.0f} MB",
    ]


def plain_table(*columns: str) -> Table:
    """A plain table; a column whose name begins with `>` is for numbers, one with `~` may take several lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        title, folds = name.lstrip(">~"), name.startswith("~")
        least = len(title) if folds else None
        table.add_column(title, justify=justify, no_wrap=not folds, overflow="fold", min_width=least)
    return table


def print_narrow(session: Session, table: Table) -> None:
    """A table whose columns move together where it is too wide; what is left over is broken off its texts."""
    console = session.out
    if console.measure(table, options=console.options.update(max_width=1000)).maximum > console.width:
        table.padding = (0, 1, 0, 0)
    console.print(table)


def coloured(status: str) -> str:
    return f"[{_COLOURS[status]}]{status}[/]"


def repeat_text(found: Run) -> str | None:
    """What came of computing the baseline again, in a sentence."""
    repeat = found.repeat
    if repeat is None:
        return None
    what = f"{repeat.version} computed {len(repeat.run_ids) + 1} times over {repeat.rows:,} records: "
    if repeat.difference is None:
        return f"{what}equal, bit by bit"
    at = repeat.difference
    return (
        f"{what}{repeat.differing:,} differ, by {repeat.largest:.3g} at most; first partition {at.partition} "
        f"offset {at.offset}: {at.column} {at.first!r}, then {at.second!r}"
    )


def run_json(found: Run) -> dict[str, Any]:
    """The record, with the figures that follow from it and the places of the logs."""
    from mlstream.runs.logs import log_of

    record = found.to_dict()
    for name, outcome in found.versions.items():
        record["versions"][name] |= {"figures": outcome.figures, "log": str(log_of(found, name))}
    return record
