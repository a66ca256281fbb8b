"""How a run is followed: a live table on a terminal, else a line when something changes. Both on stderr."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlstream.runs.attempt import Progress
    from mlstream.runs.spec import Figures

_WINDOW_S = 10.0  # over which the rate is taken
_PER_SECOND = 4  # times that the table is drawn
_HEADERS = ("version", "state", "records", "/s", "batch ms", "record µs", "CPU s", "mem", "err", "left")
_LEAST_NAME = 5
_COLOURS = {
    "done": "green",
    "failed": "red",
    "loading": "dim",
    "building": "cyan",
    "decoding": "cyan",
    "freezing": "cyan",
}


@dataclass(slots=True)
class Row:
    """What is known of a version, or of the input while it is decoded.

    Attributes:
        name: what it is called.
        total: records.
        progress: the last that was told.
        seen: (time, records computed by then) of the last seconds, for the rate.
    """

    name: str
    total: int
    progress: Progress
    seen: deque[tuple[float, int]] = field(default_factory=deque)

    def take(self, progress: Progress, now: float) -> None:
        """Note what was told at a time."""
        if progress.state == "failed":
            progress = replace(progress, rows=max(progress.rows, self.progress.rows))
        if progress.figures is None:  # a version that failed says no more; what it said last is still true
            progress = replace(progress, figures=self.progress.figures)
        if progress.stage == "scoring" and progress.state == "running" and progress.rows:
            self.seen.append((now, progress.rows - progress.resumed))
            while len(self.seen) > 2 and now - self.seen[0][0] > _WINDOW_S:
                self.seen.popleft()
        self.progress = progress

    @property
    def state(self) -> str:
        """In one word."""
        if self.progress.state in ("failed", "done", "loading"):
            return self.progress.state
        return "running" if self.progress.stage == "scoring" else self.progress.stage

    @property
    def rate(self) -> float | None:
        """Records a second over the last seconds; None until there is something to measure."""
        if len(self.seen) < 2:
            return None
        (began, first), (ended, last) = self.seen[0], self.seen[-1]
        return (last - first) / (ended - began) if ended > began and last > first else None

    @property
    def left_s(self) -> float | None:
        """Seconds that are left at this rate; None when nobody knows."""
        rate = self.rate
        return None if rate is None or self.state != "running" else (self.total - self.progress.rows) / rate


@contextmanager
def shown_progress(session: Session) -> Iterator[Callable[[Progress], None]]:
    """A listener: a row a version that is kept up to date on a terminal, else lines."""
    if session.err.is_terminal:
        with _live(session) as listen:
            yield listen
        return
    said: set[tuple[str | None, str]] = set()

    def say(progress: Progress) -> None:
        line = line_of(progress)
        if line is not None and (progress.version, line) not in said:
            said.add((progress.version, line))
            click.echo(line, err=True)

    yield say


@contextmanager
def _live(session: Session) -> Iterator[Callable[[Progress], None]]:
    from rich.live import Live

    rows: dict[str, Row] = {}
    with Live(
        get_renderable=lambda: table_of(rows, session.err.width),
        console=session.err,
        refresh_per_second=_PER_SECOND,
        transient=True,
    ) as live:

        def listen(progress: Progress) -> None:
            if progress.stage == "reused":
                live.console.print(line_of(progress), markup=False, soft_wrap=True)
                return
            name = "input" if progress.version is None else progress.version
            rows.pop("input", None)
            if name not in rows:
                rows[name] = Row(name, progress.total, progress)
            rows[name].take(progress, time.monotonic())

        yield listen


def table_of(rows: Mapping[str, Row], width: int) -> Table:
    """The table that is shown while a run goes on. What does not fit is cut off the versions' names."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(_HEADERS[0], no_wrap=True)
    table.add_column(_HEADERS[1], no_wrap=True)
    for name in _HEADERS[2:]:
        table.add_column(name, justify="right", no_wrap=True)
    lines = [_cells(row) for row in list(rows.values())]
    others = sum(max(len(line[column]) for line in [_HEADERS, *lines]) for column in range(1, len(_HEADERS)))
    longest = max(width - others - (len(_HEADERS) - 1), _LEAST_NAME)
    for name, state, *figures in lines:
        cut = name if len(name) <= longest else f"{name[: longest - 1]}…"
        table.add_row(Text(cut), Text(state, style=_COLOURS.get(state, "")), *figures)
    return table


def _cells(row: Row) -> tuple[str, ...]:
    state, progress, rate, left = row.state, row.progress, row.rate, row.left_s
    return (
        row.name,
        state,
        short(row.total if state == "decoding" else progress.rows),
        "" if rate is None else short(rate),
        *_used(progress.figures),
        "" if progress.version is None else short(progress.errors),
        "" if left is None else clock(left),
    )


def _used(figures: Figures | None) -> tuple[str, str, str, str]:
    if figures is None:
        return "", "", "", ""
    batch, record = figures.latency, figures.record_latency
    return (
        "/".join(brief(value) for value in (batch.p50_ms, batch.p95_ms, batch.p99_ms)),
        "/".join(brief(value) for value in (record.p50_us, record.p95_us, record.p99_us)),
        brief(figures.cpu_seconds),
        short(figures.memory_bytes),
    )


def line_of(progress: Progress) -> str | None:
    """What a line says of a step (of the last step of a version, two lines); None when it says nothing new."""
    run_id = "" if progress.run_id is None else progress.run_id[:12]
    if progress.stage == "reused":
        return f"the same run was computed before ({run_id}); --force computes it again"
    if progress.stage == "building":
        return f"{progress.version}: building its environment"
    if progress.stage == "decoding":
        return f"decoding {progress.total:,} records"
    if progress.state == "failed":
        return f"{progress.version}: failed"
    if progress.stage == "freezing" and progress.state == "running":
        return f"{progress.version}: {progress.rows:,} records, freezing"
    if progress.stage == "freezing":
        return f"{progress.version}: done, {progress.errors:,} errors{_in_words(progress.figures)}"
    return f"{progress.version}: loading" if progress.state == "loading" else None


def _in_words(figures: Figures | None) -> str:
    if figures is None:
        return ""
    batch, record, cpu, memory = _used(figures)
    return f", CPU {cpu} s, {memory}B\n  p50/p95/p99 {batch} ms a batch and {record} µs a record"


def short(number: float) -> str:
    """A number in five characters: 950, 12.3k, 1.25M."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            digits = 0 if unit == "" or number >= 99.95 else 1 if number >= 9.995 else 2
            return f"{number:.{digits}f}{unit}"
        number /= 1000
    return f"{number:.0f}T"


def brief(value: float) -> str:
    """Two digits of a small number, none after the point of a large one: 0.04, 1.2, 35."""
    if value < 0.095:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def clock(seconds: float) -> str:
    """Time left as 0:42, 12:05, 3h05."""
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    return f"{whole // 3600}h{whole % 3600 // 60:02}"
