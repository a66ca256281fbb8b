"""What is on the page beside the metrics: slices, disagreements, shifts, drift, cost. Pure; writes no HTML.

Every part is empty where the comparison has none of it, and then its section is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from mlstream.comparison.result import (
    Change,
    ColumnDrift,
    Comparison,
    Cost,
    Disagreement,
    SliceResult,
)
from mlstream.reporting import svg, wording
from mlstream.reporting.report_parts import colour_classes

MAX_CLASSES = 8  # of a cross table that is shown as one
MAX_CELLS = 20  # of one that is not
MAX_SLICE_ROWS = 700  # so that the page stays below 2 MB
MAX_NOTES = 50
_LONGEST_CELL = 60
_FEW = 6  # columns that are named in a sentence


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table. `kind`: "text", "number", "version" (with its colour) or "verdict" (with its tone)."""

    text: str
    kind: str = "text"
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, its heads, its rows. The first cell of a row is its head."""

    name: str
    heads: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One version on one metric within a slice."""

    version: str
    colour: str
    metric: str
    values: str
    delta: str
    interval: str
    picture: Markup
    verdict: str
    sign: str
    reason: str


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """A slice with a row for each version and metric."""

    name: str
    size: str
    rows: tuple[SliceRow, ...]


def slice_groups(comparison: Comparison, kind: str) -> tuple[SliceGroup, ...]:
    """The slices that the experiment named, or those that the search found, in their order; those that are shown."""
    shown = _shown_slices(comparison)
    chosen = [found for found in comparison.slices if found.kind == kind and found.slice in shown]
    colours = colour_classes(comparison)
    reach = {metric: _reach(chosen, metric) for metric in {found.metric for found in chosen}}
    groups = []
    for name, found in groupby(chosen, key=lambda one: one.slice):
        results = list(found)
        size = f"{results[0].records:,} records, {wording.percent(results[0].share)}"
        rows = tuple(_slice_row(one, colours[one.version], reach[one.metric]) for one in results)
        groups.append(SliceGroup(name, size, rows))
    return tuple(groups)


def left_out_sentence(comparison: Comparison) -> str:
    """Which slices are not on the page and where they are; nothing when all are on it."""
    every, shown = len({found.slice for found in comparison.slices}), len(_shown_slices(comparison))
    if shown == every:
        return ""
    return (
        f"Of {every:,} slices the {shown:,} are shown on which a version differs most surely from the baseline. "
        'All are in `mlstream compare --json` and in `comparison.to_frame("slices")`.'
    )


def _shown_slices(comparison: Comparison) -> set[str]:
    """The names of the slices that the page has room for: those with the smallest p-values, in whole groups."""
    rows: dict[str, int] = {}
    least: dict[str, float] = {}
    for found in comparison.slices:
        p = 2.0 if found.p_adjusted is None else found.p_adjusted
        rows[found.slice] = rows.get(found.slice, 0) + 1
        least[found.slice] = min(least.get(found.slice, p), p)
    shown: set[str] = set()
    room = MAX_SLICE_ROWS
    for name in sorted(rows, key=lambda name: least[name]):
        room -= rows[name]
        if room < 0 and shown:
            break
        shown.add(name)
    return shown


def search_sentence(comparison: Comparison) -> str:
    """What was looked for and what was found; nothing when nothing was looked for."""
    search = comparison.slice_search
    if search is None:
        return ""
    found = "none stands" if search.found == 0 else "1 stands" if search.found == 1 else f"{search.found:,} stand"
    columns = wording.listed(search.columns) if len(search.columns) <= _FEW else f"{len(search.columns)} columns"
    return (
        f"Looked through {search.tested:,} slices of {columns} with at least "
        f"{search.least_records:,} records: {found} out as worse in {wording.metric_name(search.metric)} than the "
        f"baseline, of which {wording.percent(search.rate)} at most are expected to be chance. Verdicts are by the "
        "intervals, which are wider here."
    )


def slice_notes(comparison: Comparison) -> tuple[str, ...]:
    """Why verdicts on the slices are inconclusive, each reason with those that it is about; the first reasons."""
    shown = _shown_slices(comparison)
    reasons: dict[str, list[str]] = {}
    for found in comparison.slices:
        if found.reason is None or found.slice not in shown:
            continue
        if found.reason not in reasons and len(reasons) == MAX_NOTES:
            continue
        if found.slice not in reasons.setdefault(found.reason, []):
            reasons[found.reason].append(found.slice)
    return tuple(f"Inconclusive on {wording.listed(slices)}: {reason}." for reason, slices in reasons.items())


def _reach(found: Iterable[SliceResult], metric: str) -> float:
    ends = [0.0]
    for one in found:
        if one.metric == metric and one.interval is not None:
            ends += [abs(one.interval.low), abs(one.interval.high)]
        elif one.metric == metric and one.delta is not None:
            ends.append(abs(one.delta))
    return 1.08 * max(ends)


def _slice_row(found: SliceResult, colour: str, reach: float) -> SliceRow:
    def shown(value: float | None) -> str:
        return "–" if value is None else wording.number(value)

    picture = Markup("")
    if found.delta is not None:
        interval = found.interval
        low, high = (found.delta, found.delta) if interval is None else (interval.low, interval.high)
        bounds = "" if interval is None else f", {wording.interval(interval)}"
        text = f"{found.version} less {found.baseline}: {wording.signed(found.delta)}{bounds}: {found.verdict}"
        decided = found.verdict in ("better", "worse")
        picture = svg.interval(svg.Whisker(found.delta, low, high, decided, colour, text), reach=reach)
    return SliceRow(
        found.version,
        colour,
        wording.metric_name(found.metric),
        f"{shown(found.baseline_value)} → {shown(found.value)}",
        "" if found.delta is None else wording.signed(found.delta),
        "" if found.interval is None else wording.interval(found.interval),
        picture,
        found.verdict,
        wording.SIGNS[found.verdict],
        found.reason or "",
    )


def disagreements(comparison: Comparison) -> tuple[Table, ...]:
    """For each version the records where it and the baseline are farthest apart."""
    return tuple(
        _disagreements(version, list(found))
        for version, found in groupby(comparison.disagreements, key=lambda one: one.version)
    )


def _disagreements(version: str, found: Sequence[Disagreement]) -> Table:
    columns = list(dict.fromkeys(name for one in found for name in one.columns))
    base = found[0].baseline
    heads = [
        Cell("partition:offset"),
        Cell("event time, UTC"),
        Cell(version, "number"),
        Cell(base, "number"),
        Cell("label"),
    ]
    heads += [Cell("right"), *map(Cell, columns)]
    rows = []
    for one in found:
        right = {"version": version, "baseline": base, None: "–"}.get(one.right, str(one.right))
        rows.append(
            (
                Cell(f"{one.partition}:{one.offset}"),
                Cell("–" if one.timestamp_ms is None else wording.moment(one.timestamp_ms)),
                Cell(_said(one.prediction, one.score), "number"),
                Cell(_said(one.baseline_prediction, one.baseline_score), "number"),
                Cell(_value(one.label)),
                Cell(right),
                *(Cell(_value(one.columns.get(name))) for name in columns),
            )
        )
    return Table(f"{version} and {base}", tuple(heads), tuple(rows))


def _said(prediction: object, score: float | None) -> str:
    return _value(prediction) if score is None else f"{_value(prediction)} ({wording.number(score)})"


def _value(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.6g}".replace("-", wording.MINUS) if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def changes(comparison: Comparison) -> tuple[Table, ...]:
    """For each version and label: the baseline's answers against the version's."""
    groups: dict[tuple[str, str | None], list[Change]] = {}
    for one in comparison.changes:
        groups.setdefault((one.version, one.label), []).append(one)
    tables = []
    for (version, label), cells in groups.items():
        name = version if label is None else f"{version}, where the label is {label}"
        classes = sorted({answer for one in cells for answer in (one.baseline_answer, one.answer)})
        make = _cross if len(classes) <= MAX_CLASSES else _largest
        tables.append(make(name, cells, classes))
    return tuple(tables)


def _cross(name: str, cells: Sequence[Change], classes: Sequence[str]) -> Table:
    counts = {(one.baseline_answer, one.answer): one.records for one in cells}
    version, base = cells[0].version, cells[0].baseline
    heads = (Cell(f"{base} ↓  {version} →"), *(Cell(answer, "number") for answer in classes))
    rows = tuple(
        (Cell(before), *(Cell(f"{counts.get((before, after), 0):,}", "number") for after in classes))
        for before in classes
    )
    return Table(name, heads, rows)


def _largest(name: str, cells: Sequence[Change], _classes: Sequence[str]) -> Table:
    """The changes that are most frequent: a cross table of many classes has no room."""
    moved = sorted((one for one in cells if one.answer != one.baseline_answer), key=lambda one: -one.records)
    heads = (Cell(cells[0].baseline), Cell(cells[0].version), Cell("records", "number"))
    rows = tuple(
        (Cell(one.baseline_answer), Cell(one.answer), Cell(f"{one.records:,}", "number")) for one in moved[:MAX_CELLS]
    )
    return Table(f"{name}: the most frequent changes", heads, rows)


def shifts(comparison: Comparison) -> Table | None:
    """How far the versions' answers are from the baseline's, as distributions."""
    if not comparison.shifts:
        return None
    colours = colour_classes(comparison)
    heads = (Cell("version"), Cell("of"), *_numbers("KS", "PSI", "mean", f"mean of {comparison.baseline}"))
    rows = tuple(
        (
            Cell(it.version, "version", colours[it.version]),
            Cell(it.column),
            *_numbers(*map(_figure, (it.ks, it.psi, it.mean, it.baseline_mean))),
        )
        for it in comparison.shifts
    )
    return Table("Shift of scores", heads, rows)


def drift(comparison: Comparison) -> Table | None:
    """How far the input is from that of another snapshot, column by column."""
    found = comparison.drift
    if found is None:
        return None
    heads = (Cell("column"), *_numbers("KS", "PSI", "mean", "mean there", "nulls", "nulls there"), Cell("note"))
    rows = tuple((Cell(it.column), *_numbers(*_drifted(it)), Cell(it.note or "")) for it in found.columns)
    return Table(f"Against {found.snapshot_name or found.snapshot_id[:12]}", heads, rows)


def _drifted(found: ColumnDrift) -> tuple[str, ...]:
    shares = ("–" if share is None else wording.percent(share) for share in (found.nulls, found.other_nulls))
    return (*map(_figure, (found.ks, found.psi, found.mean, found.other_mean)), *shares)


def costs(comparison: Comparison) -> Table | None:
    """What each version cost where it ran."""
    if not comparison.costs:
        return None
    colours = colour_classes(comparison)
    names = ("records/s", "p50 ms a batch", "p95", "p99", "µs a record", "CPU s a million", "memory")
    rows = tuple((Cell(it.version, "version", colours[it.version]), *_numbers(*_cost(it))) for it in comparison.costs)
    return Table("Cost", (Cell("version"), *_numbers(*names)), rows)


def _cost(found: Cost) -> tuple[str, ...]:
    def shown(value: float | None, form: Callable[[float], str] = lambda it: f"{it:,.1f}") -> str:
        return "–" if value is None else form(value)

    return (
        shown(found.records_per_second, lambda it: f"{it:,.0f}"),
        *map(shown, (found.latency_p50_ms, found.latency_p95_ms, found.latency_p99_ms)),
        shown(found.record_latency_p50_us),
        shown(found.cpu_seconds_per_million),
        shown(found.memory_mb, lambda it: f"{it:,.0f} MB"),
    )


def floor_sentence(comparison: Comparison) -> str:
    """What computing the baseline again gave; nothing when that was not asked for."""
    found = comparison.floor
    if found is None:
        return ""
    times = f"{found.version} was computed {found.computations} times over the same {found.records:,} records"
    if found.differing == 0:
        return f"{times}: every prediction was the same, bit for bit."
    return f"{times}: {found.differing:,} predictions differ, by {_figure(found.largest)} at most."


def _figure(value: float | None) -> str:
    return "–" if value is None else wording.number(value)


def _numbers(*texts: str) -> tuple[Cell, ...]:
    return tuple(Cell(text, "number") for text in texts)
