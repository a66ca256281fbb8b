"""A comparison as lines for a terminal: which version, by how much, how sure. Prints nothing.

Readable without colour: every verdict has a sign and a word, every metric an arrow that points to its better side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.text import Text

from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.reporting import wording
from mlstream.reporting.gates import GATE_SIGNS, GateResult

_COLOURS = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "yellow"}
_MARGIN = 2  # columns left of everything
_NAME = 11  # columns of the names of facts
_GAP = "  "
_PLOT_WIDTHS = (7, 25)  # the least and the most; odd, with zero in the middle
_WIDE = 100  # columns from which there is room for p-values
_MARGIN_SIGN = "┊"
_UNBROKEN = "\N{NO-BREAK SPACE}"  # where no line ends; printed as a space


def screen(found: Comparison, *, width: int, gates: Sequence[GateResult] = ()) -> Iterator[Text]:
    """The lines of a comparison, none longer than `width` but for words that are."""
    yield Text()
    yield from _headline(found, width)
    yield Text()
    for name, text, style in _facts(found):
        yield from _fact(name, text, style, width)
    table = list(_table(found, width)) if found.metrics else []
    if table:
        yield Text()
        yield from table
    if gates:
        yield Text()
        for number, gate in enumerate(gates):
            yield from _gate("" if number else "gates", gate, width)
    notes = list(_notes(found))
    if any(_MARGIN_SIGN in line.plain for line in table):
        notes.append(f"{_MARGIN_SIGN} marks the margin: the difference that would not matter")
    if notes:
        yield Text()
        for note in notes:
            yield from _wrapped(note, "dim", width, hanging=2)
    yield Text()
    yield from _fact("snapshot", f"{_named(found.snapshot_name)}{found.snapshot_id[:12]}", "dim", width)
    yield from _fact("run", found.run_id[:12], "dim", width)
    yield from _fact("comparison", found.id[:12], "dim", width)


def mlflow_line(text: str) -> Text:
    """Where the comparison is recorded; not wrapped, so that an address can be clicked."""
    return Text.assemble(" " * _MARGIN, ("MLflow".ljust(_NAME), "dim"), (text, "dim"))


def _headline(found: Comparison, width: int) -> Iterator[Text]:
    """The question, and a sentence for each challenger, the best first."""
    if found.question:
        yield from _wrapped(found.question, "italic", width)
    challengers = [version for version in found.versions if version != found.baseline]
    sentences = dict(zip(challengers, wording.headline(found), strict=True))
    for version in sorted(challengers, key=lambda version: -_balance(found, version)):
        balance = _balance(found, version)
        style = "bold green" if balance > 0 else "bold red" if balance < 0 else "bold"
        yield from _wrapped(sentences[version], style, width)
    choice = wording.choice(found)
    if choice is not None:
        yield from _wrapped(f"({choice})", "dim", width)
    if not challengers:
        yield from _wrapped(wording.alone(found), "bold", width)
    if found.blocks is not None:
        plural = "" if found.blocks.count == 1 else "s"
        length = wording.duration(found.blocks.length_s)
        method = f"{_confidence(found)} paired block bootstrap, {found.blocks.count} block{plural} of {length}"
        yield from _wrapped(f"({method} of event time)", "dim", width)


def _balance(found: Comparison, version: str) -> int:
    verdicts = [delta.verdict for delta in found.deltas if delta.version == version]
    return verdicts.count("better") - verdicts.count("worse")


def _facts(found: Comparison) -> Iterator[tuple[str, str, str]]:
    """Coverage and labels: name, text, style."""
    records = found.coverage[0].records
    faults = {
        item.version: ", ".join(
            f"{count:,} {what}"
            for what, count in (("missing", item.missing), ("errors", item.errors), ("doubled", item.doubled))
            if count
        )
        for item in found.coverage
    }
    whole = [version for version, fault in faults.items() if not fault]
    all_of_them = "1 record" if records == 1 else f"all {records:,} records"
    told = [f"{all_of_them} answered once by {wording.listed(whole)}"] if whole else []
    told += [f"{version}: {fault} of {records:,} records" for version, fault in faults.items() if fault]
    yield "coverage", "; ".join(told), "" if len(whole) == len(faults) else "yellow"
    if found.paired is not None and found.paired < records:
        yield "", f"computed on the {found.paired:,} records that every version answered exactly once", "yellow"
    failed = wording.left_out(found)
    if failed is not None:
        yield "", failed, "yellow"
    labels = found.labels
    if labels is None:
        yield "labels", "none: the versions are compared with each other only", ""
        for version, share in found.agreement.items():
            yield (
                "agreement",
                f"{version} gives {found.baseline}'s answer on {wording.percent(share)} of the records",
                "",
            )
        return
    parts = [f"{labels.labelled:,} of {labels.records:,} records"]
    if labels.positives is not None and labels.labelled:
        parts[0] += f", {wording.percent(labels.positives / labels.labelled)} of them positive"
    if labels.not_yet_due:
        parts.append(f"{labels.not_yet_due:,} not yet due")
    if labels.missing:
        parts.append(f"{labels.missing:,} without" + (f" ({labels.reason})" if labels.reason else ""))
    yield "labels", "; ".join(parts), ""
    yield "", labels.rule, "dim"


@dataclass(frozen=True, slots=True)
class _Row:
    """What a version's line says of a metric, as text."""

    version: str
    value: str
    delta: DeltaResult | None
    change: str
    bounds: str
    p: str

    @property
    def verdict(self) -> str:
        return "baseline" if self.delta is None else f"{wording.SIGNS[self.delta.verdict]} {self.delta.verdict}"


def _table(found: Comparison, width: int) -> Iterator[Text]:
    """A stretch for each metric, a line for each version."""
    metrics = [
        (results[0], [_row(found, result) for result in results])
        for results in (list(group) for _, group in groupby(found.metrics, key=lambda result: result.metric))
    ]
    rows = [row for _, rows in metrics for row in rows]
    alone = len(found.versions) == 1
    heads = ("", "value", "" if alone else f"− {found.baseline}", f"{_confidence(found)} interval")
    wide = width >= _WIDE and not alone
    sizes = [
        max(len(head), *(len(getattr(row, name)) for row in rows))
        for head, name in zip(heads, ("version", "value", "change", "bounds"), strict=True)
    ]
    sizes[0] += 2
    last = 14 + (len("p (Holm)") + len(_GAP) if wide else 0)
    # What is left is the plot's; when it is too little, names and the head of the differences give way.
    left = width - _MARGIN - sum(sizes) - last - 5 * len(_GAP)
    narrowest, widest = _PLOT_WIDTHS
    if left < narrowest:
        sizes[2] = max(len(row.change) for row in rows)
        left = width - _MARGIN - sum(sizes) - last - 5 * len(_GAP)
    if left < narrowest:
        sizes[0] = max(6, sizes[0] - (narrowest - left))
    plot = max(narrowest, min(widest, left)) // 2 * 2 + 1
    plot = plot if plot <= max(left, narrowest) else plot - 2

    def line(name: Text, cells: Sequence[str], picture: str, p: str, verdict: str, colour: str) -> Text:
        name.truncate(sizes[0], overflow="ellipsis", pad=True)
        made = Text(" " * _MARGIN)
        made.append_text(name)
        for cell, size in zip(cells, sizes[1:], strict=True):
            made.append(_GAP + _cut(cell, size).rjust(size))
        made.append(_GAP + picture.ljust(plot), style=colour)
        if wide:
            made.append(_GAP + p.rjust(len("p (Holm)")))
        made.append(_GAP + verdict, style=colour)
        made.rstrip()
        return made

    zero, verdict = ("", "") if alone else ("0".center(plot), "verdict")
    yield line(Text(heads[0]), heads[1:], zero, "p (Holm)", verdict, "dim")
    yield Text(" " * _MARGIN + "─" * (width - _MARGIN), style="dim")
    for first, stretch in metrics:
        arrow = wording.direction(first.higher_is_better)
        yield Text.assemble(" " * _MARGIN, (wording.metric_name(first.metric), "bold"), (f" {arrow}", "dim"))
        scale = _scale([row.delta for row in stretch])
        for row in stretch:
            colour = "dim" if row.delta is None else _COLOURS[row.delta.verdict]
            picture = "" if row.delta is None else _plot(row.delta, scale, plot)
            verdict = "" if alone else row.verdict
            yield line(Text(f"  {row.version}"), (row.value, row.change, row.bounds), picture, row.p, verdict, colour)


def _row(found: Comparison, result: MetricResult) -> _Row:
    value = "undefined" if result.value is None else wording.number(result.value)
    delta = found.delta(result.version, result.metric)
    if delta is None:
        own = result.interval if len(found.versions) == 1 else None
        bounds = "" if own is None else f"{wording.number(own.low)} to {wording.number(own.high)}"
        return _Row(result.version, value, None, "", bounds, "")
    return _Row(
        result.version,
        value,
        delta,
        "" if delta.delta is None else wording.signed(delta.delta),
        "" if delta.interval is None else wording.interval(delta.interval),
        "" if delta.p_adjusted is None else f"{delta.p_adjusted:.4f}",
    )


def _gate(name: str, gate: GateResult, width: int) -> Iterator[Text]:
    """The limit, and below it what was found."""
    colour = {"passed": "green", "failed": "bold red", "inconclusive": "yellow", "skipped": "dim"}[gate.status]
    told = f"{GATE_SIGNS[gate.status]} {gate.status}  "
    yield from _fact(name, f"{told}{gate.version}: {gate.gate}", colour, width, hanging=len(told))
    yield from _fact("", f"{' ' * len(told)}{gate.found}", "dim", width, hanging=len(told))


def _scale(deltas: Sequence[DeltaResult | None]) -> float:
    """How far the plots of a metric reach on either side of zero."""
    intervals = [delta.interval for delta in deltas if delta is not None and delta.interval is not None]
    return max((max(abs(found.low), abs(found.high)) for found in intervals), default=0.0)


def _plot(delta: DeltaResult, scale: float, size: int) -> str:
    """The interval as a line, the difference as a dot, zero as a bar, the margin as dotted bars."""
    middle = size // 2
    cells = [" "] * size
    cells[middle] = "│"
    if scale <= 0:
        return "".join(cells)

    def at(value: float) -> int:
        return middle + round(max(-1.0, min(1.0, value / scale)) * middle)

    if delta.margin is not None and 0 < delta.margin <= scale and at(delta.margin) != middle:
        cells[at(-delta.margin)] = cells[at(delta.margin)] = _MARGIN_SIGN
    if delta.interval is not None and delta.delta is not None:
        # An interval that leaves zero out is drawn beside it, however close it comes.
        least = middle + 1 if delta.interval.low > 0 else 0
        most = middle - 1 if delta.interval.high < 0 else size - 1
        for place in range(max(at(delta.interval.low), least), min(at(delta.interval.high), most) + 1):
            cells[place] = "┿" if place == middle else "━"
        cells[min(max(at(delta.delta), least), most)] = "●"
    return "".join(cells)


def _notes(found: Comparison) -> Iterator[str]:
    """Why something is inconclusive or not defined, and what independent records would say."""
    for reason in dict.fromkeys(delta.reason for delta in found.deltas if delta.reason is not None):
        metrics: dict[str, list[str]] = {}
        for delta in found.deltas:
            if delta.reason == reason:
                metrics.setdefault(delta.version, []).append(wording.metric_name(delta.metric))
        named = "; ".join(f"{version} on {wording.listed(of)}" for version, of in metrics.items())
        yield f"? {named}: {reason}"
    told = {delta.reason for delta in found.deltas}
    yield from wording.undefined(found, told=told)
    yield from wording.about(found)
    independent = [delta for delta in found.deltas if delta.independent_p is not None]
    if independent:
        p_values = ", ".join(f"{delta.version}{_UNBROKEN}{_p(delta.independent_p or 0.0)}" for delta in independent)
        yield f"McNemar's test on accuracy, if records were independent: {p_values}"


def _p(value: float) -> str:
    told = "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"
    return told.replace(" ", _UNBROKEN)


def _confidence(found: Comparison) -> str:
    return wording.percent(float(found.settings["confidence"]))


def _named(name: str | None) -> str:
    return "" if name is None else f"{name} "


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"


def _fact(name: str, text: str, style: str, width: int, *, hanging: int = 0) -> Iterator[Text]:
    for number, part in enumerate(textwrap.wrap(text, width - _MARGIN - _NAME, subsequent_indent=" " * hanging)):
        head = name if number == 0 else ""
        yield Text.assemble(" " * _MARGIN, (head.ljust(_NAME), "dim"), (part, style))


def _wrapped(text: str, style: str, width: int, *, hanging: int = 0) -> Iterator[Text]:
    indent = " " * _MARGIN
    for part in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent + " " * hanging):
        yield Text(part.replace(_UNBROKEN, " "), style=style)
