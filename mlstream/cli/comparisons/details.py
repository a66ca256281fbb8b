"""What stands below the screen of a comparison when it is asked for: slices, disagreements, shifts, drift, cost.

Yields lines; prints nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.text import Text

from mlstream.comparison.result import (
    Change,
    ColumnDrift,
    Comparison,
    Cost,
    Disagreement,
    SliceResult,
)
from mlstream.ranges import format_time_ms
from mlstream.reporting import wording

_COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}
_MOST_SHOWN = 10
_UNBROKEN = "\N{NO-BREAK SPACE}"  # where no line ends; printed as a space


def slice_lines(found: Comparison, width: int) -> Iterator[Text]:
    """Each slice with a line for every version and metric; those that the search found last."""
    named = [item for item in found.slices if item.kind == "named"]
    searched = [item for item in found.slices if item.kind == "searched"]
    if named:
        yield from _head("slices of the experiment", width)
        yield from _slices(named, width)
    search = found.slice_search
    if search is not None:
        yield from _head(f"the worst slices by {wording.metric_name(search.metric)}", width)
        yield from _slices(searched, width)
        what = "none stands out as worse"
        if search.found:
            what = f"{search.found:,} stand{'s' if search.found == 1 else ''} out as worse, {len(searched)} shown"
        yield from _note(
            f"{search.tested:,} slices × versions of {len(search.columns)} columns tested: {what}; at most "
            f"{wording.percent(search.rate)} of what stands out is chance (Benjamini & Yekutieli). The verdict is by "
            "the interval, which is wider, for a slice that was looked for",
            width,
        )
    if not named and search is None:
        yield from _head("slices", width)
        yield from _note(
            "none: they need labels, two versions, and `slices:` or columns that can be cut into slices", width
        )


def disagreement_lines(found: Comparison, width: int) -> Iterator[Text]:
    """The cross table and the records that are farthest apart, for each version."""
    for version in (name for name in found.versions if name != found.baseline):
        changes = [item for item in found.changes if item.version == version]
        records = [item for item in found.disagreements if item.version == version]
        if changes:
            yield from _head(f"what changed from {found.baseline} to {version}", width)
            yield from _changes(changes, width)
        yield from _head(f"where {version} and {found.baseline} are farthest apart", width)
        for item in records[:_MOST_SHOWN]:
            yield from _disagreement(item, width)
        if not records:
            yield from _note("nowhere: they say the same of every record", width)
        elif len(records) > _MOST_SHOWN:
            yield from _note(f"{len(records) - _MOST_SHOWN} more in --json", width)


def full_lines(found: Comparison, width: int) -> Iterator[Text]:
    """Everything that is known beside the metrics."""
    yield from slice_lines(found, width)
    yield from disagreement_lines(found, width)
    yield from _shifts(found, width)
    yield from _calibration(found, width)
    yield from _costs(found.costs, width)
    yield from _floor(found, width)
    yield from drift_lines(found, width)


def drift_lines(found: Comparison, width: int) -> Iterator[Text]:
    """The columns of the input beside those of another snapshot."""
    drift = found.drift
    if drift is None:
        return
    yield from _head(f"the input beside {drift.snapshot_name or drift.snapshot_id[:12]}", width)
    size = max([len("column"), *(len(item.column) for item in drift.columns)])
    size = min(size, max(10, width - 46))
    yield _line(f"{'column':<{size}}  {'KS':>7}  {'PSI':>7}  {'here':>11}  {'there':>11}", width, "dim")
    for item in drift.columns:
        yield _line(f"{_cut(item.column, size):<{size}}  {_drifted(item)}", width)
    yield from _note(
        f"{drift.records:,} records here, {drift.other_records:,} there; means of numbers; "
        "PSI below 0.1 is little, above 0.25 much",
        width,
    )


def _drifted(item: ColumnDrift) -> str:
    if item.ks is None or item.psi is None:
        return item.note or ""
    means = "" if item.mean is None or item.other_mean is None else f"{item.mean:>11.5g}  {item.other_mean:>11.5g}"
    return f"{item.ks:>7.4f}  {item.psi:>7.4f}  {means}"


def _slices(items: Sequence[SliceResult], width: int) -> Iterator[Text]:
    for (name, records), group in groupby(items, key=lambda item: (item.slice, item.records)):
        results = list(group)
        counted = f"{records:,} records, {wording.percent(results[0].share)}"
        size = max(width - 4 - len(counted), 12)
        yield Text.assemble("  ", (f"{_cut(name, size):<{size}}", "bold"), "  ", (counted, "dim"))
        for item in results:
            yield _result(item, width)


def _result(item: SliceResult, width: int) -> Text:
    sign = wording.SIGNS[item.verdict]
    told = "" if item.delta is None else f"{wording.signed(item.delta):>9}  "
    told += (item.reason or "") if item.interval is None else wording.interval(item.interval)
    verdict = f"{sign} {item.verdict}"
    name = f"{_cut(item.version, 12)} {wording.metric_name(item.metric)}"
    left = f"    {name:<24}  {told}"
    return Text.assemble(_cut(left, width - 16).ljust(width - 15), (verdict, _COLOURS[item.verdict]))


def _changes(items: Sequence[Change], width: int) -> Iterator[Text]:
    labelled = any(item.label is not None for item in items)
    total = sum(item.records for item in items)
    yield _line(f"{'label' if labelled else '':<14}{'answer before':<18}{'after':<18}{'records':>12}", width, "dim")
    for item in items[: 2 * _MOST_SHOWN]:
        style = "" if item.answer != item.baseline_answer else "dim"
        cells = [_cut(text or "", 12) for text in (item.label, item.baseline_answer, item.answer)]
        share = f"{100 * item.records / total:.1f} %"  # one decimal each, so that they stand below each other
        yield _line(f"{cells[0]:<14}{cells[1]:<18}{cells[2]:<18}{item.records:>12,}  {share:>7}", width, style)


def _disagreement(item: Disagreement, width: int) -> Iterator[Text]:
    when = "no time" if item.timestamp_ms is None else format_time_ms(item.timestamp_ms)
    label = "" if item.label is None else f"  label {_text(item.label)}"
    said = f"{item.version} {_said(item.prediction, item.score)}  {item.baseline} "
    said += _said(item.baseline_prediction, item.baseline_score)
    yield _line(f"partition {item.partition} offset {item.offset}  {when}", width, "bold")
    yield _line(f"  {said}{label}", width)
    columns = "  ".join(f"{name}={_text(value)}".replace(" ", _UNBROKEN) for name, value in item.columns.items())
    for part in textwrap.wrap(columns, width - 4):
        yield _line(f"  {part.replace(_UNBROKEN, ' ')}", width, "dim")


def _said(prediction: object, score: float | None) -> str:
    return _text(prediction) if score is None else f"{_text(prediction)} ({score:.3f})"


def _text(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _shifts(found: Comparison, width: int) -> Iterator[Text]:
    if not found.shifts:
        return
    yield from _head(f"how answers are distributed beside {found.baseline}'s", width)
    for item in found.shifts:
        means = "" if item.mean is None else f"  mean {item.mean:.5g}, {found.baseline} {item.baseline_mean:.5g}"
        yield _line(f"{item.version}: {item.column}s  KS {item.ks:.4f}  PSI {item.psi:.4f}{means}", width)


def _calibration(found: Comparison, width: int) -> Iterator[Text]:
    for item in found.calibration:
        yield from _head(f"are {item.version}'s scores probabilities?", width)
        yield _line(f"{'scores':<14}{'records':>10}{'mean score':>12}{'came true':>12}", width, "dim")
        for cell in item.bins:
            span = f"{cell.low:.3f}–{cell.high:.3f}"
            yield _line(f"{span:<14}{cell.records:>10,}{cell.mean_score:>12.4f}{cell.positives:>12.4f}", width)
        yield from _note(f"expected calibration error {item.expected_error:.4f}", width)


def _costs(costs: Sequence[Cost], width: int) -> Iterator[Text]:
    if not costs:
        return
    yield from _head("what it costs", width)
    head = f"{'version':<14}{'records/s':>11}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU s/M':>9}{'MB':>8}"
    yield _line(head, width, "dim")
    for item in costs:
        cells = [
            _figure(item.records_per_second, 11, 0),
            *(_figure(value, 9, 1) for value in (item.latency_p50_ms, item.latency_p95_ms, item.latency_p99_ms)),
            _figure(item.cpu_seconds_per_million, 9, 1),
            _figure(item.memory_mb, 8, 0),
        ]
        yield _line(f"{_cut(item.version, 13):<14}{''.join(cells)}", width)
    yield from _note("latency is the model's, of a batch; CPU seconds are for a million records", width)


def _floor(found: Comparison, width: int) -> Iterator[Text]:
    floor = found.floor
    if floor is None:
        return
    yield from _head(f"{floor.version} computed {floor.computations} times", width)
    if floor.differing == 0:
        yield _line(f"all {floor.records:,} predictions are equal bit by bit: no difference is noise of that", width)
        return
    yield _line(f"{floor.differing:,} of {floor.records:,} predictions differ, by {floor.largest:.3g} at most", width)
    for metric, value in floor.metrics.items():
        yield _line(f"{wording.metric_name(metric)}: differences below {value:.3g} are noise", width)


def _figure(value: float | None, size: int, digits: int) -> str:
    return f"{'–' if value is None else f'{value:,.{digits}f}':>{size}}"


def _head(text: str, width: int) -> Iterator[Text]:
    yield Text()
    yield _line(text, width, "bold underline")


def _note(text: str, width: int) -> Iterator[Text]:
    for part in textwrap.wrap(text, width - 2):
        yield Text(f"  {part}", style="dim")


def _line(text: str, width: int, style: str = "") -> Text:
    return Text.assemble("  ", (_cut(text, width - 2), style))


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"
