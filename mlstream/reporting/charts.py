"""A comparison as a picture: for each metric the values as bars and the differences to the baseline as points.

Pure: a `Comparison` in, the bytes of an SVG and a PNG out, the same bytes for the same comparison. Draws with
matplotlib's objects alone (no pyplot, no window, no global figure).

Colours are Okabe and Ito's, which stay apart for colour-blind readers (https://jfly.uni-koeln.de/color/). Green and
vermilion are kept for verdicts, which also have a sign and a word of their own.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import cycle, islice

import matplotlib as mpl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from mlstream.comparison.result import Comparison, DeltaResult, Interval, MetricResult
from mlstream.reporting import wording

WIDTH_IN = 9.0
SVG_WIDTH_PX = 720
PNG_DPI = 200
BASELINE_COLOUR = "#8A8F98"
CHALLENGER_COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#7A5AA6", "#B8A300")
_INK, _MUTED, _FAINT, _BAND = "#1F2328", "#656D76", "#D5D9DE", "#EEF1F4"
_VERDICT_SIGNS = {
    "better": ("▲", "#00704F"),
    "worse": ("▼", "#B34A00"),
    "equivalent": ("≈", "#3B5B73"),
    "inconclusive": ("?", _MUTED),
}
_LEFT, _VERDICT_X = 0.022, 0.79  # as shares of the figure's width
_HEAD_IN, _FOOT_IN, _LINE_IN, _NAME_IN, _GAP_IN = 1.0, 0.42, 0.205, 0.26, 0.34
_LONGEST_NAME = 28


@dataclass(frozen=True, slots=True)
class _Columns:
    """Left edges and widths of the two columns of panels, as shares of the figure's width."""

    bars: tuple[float, float]
    deltas: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Chart:
    """The same picture twice, and its contents in words for readers that cannot see it."""

    svg: bytes
    png: bytes
    title: str
    text: str

    def _repr_png_(self) -> bytes:
        """As a notebook shows it."""
        return self.png


def colours(comparison: Comparison) -> dict[str, str]:
    """Version → its colour in every picture of the comparison: grey for the baseline."""
    others = [version for version in comparison.versions if version != comparison.baseline]
    chosen = dict(zip(others, islice(cycle(CHALLENGER_COLOURS), len(others)), strict=True))
    return {comparison.baseline: BASELINE_COLOUR, **chosen}


def draw(comparison: Comparison) -> Chart | None:
    """The chart of a comparison; None when it has no metrics, as without labels."""
    if not comparison.metrics:
        return None
    title = wording.title(comparison)
    text = _in_words(comparison)
    svg, png = io.BytesIO(), io.BytesIO()
    # A notebook may have its own style. Without a salt of our own, matplotlib names the parts of an SVG at random.
    with style.context("default"), mpl.rc_context({"svg.hashsalt": comparison.id, "svg.fonttype": "path"}):
        figure = _figure(comparison, title)
        figure.savefig(svg, format="svg", metadata={"Title": title, "Date": None})
        figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Title": title, "Description": text})
    return Chart(_described(svg.getvalue(), text), png.getvalue(), title, text)


def _figure(comparison: Comparison, title: str) -> Figure:
    metrics = tuple(dict.fromkeys(found.metric for found in comparison.metrics))
    lines_in = len(comparison.versions) * _LINE_IN
    row_in = _NAME_IN + lines_in + _GAP_IN
    height_in = _HEAD_IN + len(metrics) * row_in + _FOOT_IN
    figure = Figure(figsize=(WIDTH_IN, height_in), facecolor="white")
    columns = _columns(comparison)
    _write_frame(figure, comparison, title, columns)
    for row, metric in enumerate(metrics):
        top_in = height_in - _HEAD_IN - row * row_in
        _name_metric(figure, comparison.metric(comparison.versions[0], metric), y=top_in / height_in)
        bottom, height = (top_in - _NAME_IN - lines_in) / height_in, lines_in / height_in
        values = [comparison.metric(version, metric) for version in comparison.versions]
        deltas = [comparison.delta(version, metric) for version in comparison.versions]
        for (left, width), draw_panel in (
            (columns.bars, partial(_draw_values, values)),
            (columns.deltas, partial(_draw_deltas, deltas)),
        ):
            draw_panel(figure.add_axes((left, bottom, width, height)), colours(comparison))
    return figure


def _columns(comparison: Comparison) -> _Columns:
    """Wide enough on the left for the longest version's name; the rest is shared between the panels."""
    longest = min(_LONGEST_NAME, max(map(len, comparison.versions)))
    start = _LEFT + (0.075 * longest + 0.12) / WIDTH_IN  # an 8.5 pt character is about 0.075 in wide
    gap = 0.045
    width = _VERDICT_X - gap - start
    return _Columns((start, 0.52 * width), (start + 0.52 * width + gap, 0.48 * width))


def _write_frame(figure: Figure, comparison: Comparison, title: str, columns: _Columns) -> None:
    height_in = figure.get_figheight()
    confidence = next((found.interval.confidence for found in comparison.metrics if found.interval), None)
    interval = "" if confidence is None else f", {wording.percent(confidence)} interval"
    question = textwrap.shorten(comparison.question or comparison.experiment, 115, placeholder=" …")

    def y(inches_from_top: float) -> float:
        return 1 - inches_from_top / height_in

    figure.text(_LEFT, y(0.30), title, size=13.5, weight="bold", color=_INK)
    figure.text(_LEFT, y(0.53), question, size=9.5, color=_MUTED)
    figure.text(columns.bars[0], y(0.84), f"Value{interval}", size=9, color=_MUTED)
    figure.text(columns.deltas[0], y(0.84), f"Difference to {comparison.baseline}{interval}", size=9, color=_MUTED)
    figure.text(_LEFT, 0.17 / height_in, _method(comparison), size=7.5, color=_MUTED)


def _method(comparison: Comparison) -> str:
    parts = []
    if comparison.labels is not None:
        parts.append(f"{comparison.labels.labelled:,} labelled records")
    if comparison.blocks is not None:
        blocks = comparison.blocks
        parts.append(f"paired block bootstrap, {blocks.count} blocks of {wording.duration(blocks.length_s)}")
    if any(delta.margin for delta in comparison.deltas):
        parts.append("grey band: differences that do not matter")
    parts.append(f"snapshot {comparison.snapshot_id[:12]}")
    return "   ·   ".join(parts)


def _name_metric(figure: Figure, found: MetricResult, *, y: float) -> None:
    better = "higher is better ↑" if found.higher_is_better else "lower is better ↓"
    name = figure.text(_LEFT, y, wording.metric_name(found.metric), size=10, weight="bold", color=_INK, va="top")
    figure.add_artist(
        Annotation(
            better,
            xy=(1, 0),
            xycoords=name,
            xytext=(7, 2.3),
            textcoords="offset points",
            size=7.5,
            color=_MUTED,
            va="baseline",
            annotation_clip=False,
        )
    )


def _draw_values(values: Sequence[MetricResult], axes: Axes, colour: Mapping[str, str]) -> None:
    """Bars from zero, each with its interval and its value."""
    _clear(axes, len(values))
    axes.set_yticks(range(len(values)), [_shortened(found.version) for found in values], size=8.5, color=_INK)
    ends = [(0.0, 0.0) if found.value is None else _bounds(found.value, found.interval) for found in values]
    low, high = min(0.0, *(end[0] for end in ends)), max(0.0, *(end[1] for end in ends))
    span = (high - low) or 1.0
    for line, (found, end) in enumerate(zip(values, ends, strict=True)):
        if found.value is None:
            axes.text(0.02 * span, line, "not defined", size=8, color=_MUTED, va="center", style="italic")
            continue
        axes.barh(line, found.value, height=0.66, color=colour[found.version], zorder=2)
        axes.errorbar(
            *_whisker(found.value, line, end), ecolor=_INK, elinewidth=1.1, capsize=2.2, capthick=1.1, zorder=3
        )
        far = max(0.0, *end) + 0.025 * span
        axes.text(far, line, wording.number(found.value), size=8.5, color=_INK, va="center")
    axes.set_xlim(low - (0.02 * span if low < 0 else 0), high + 0.25 * span)
    axes.axvline(0, color=_MUTED, linewidth=0.8, zorder=4)


def _draw_deltas(deltas: Sequence[DeltaResult | None], axes: Axes, colour: Mapping[str, str]) -> None:
    """Points with intervals around a zero line; beside them the difference and its verdict in words."""
    _clear(axes, len(deltas))
    reach = 0.0
    for line, delta in enumerate(deltas):
        if delta is None:
            axes.text(0, line, "  baseline", size=7.5, color=_MUTED, va="center", style="italic")
            continue
        _write_verdict(axes, line, delta)
        if delta.delta is None:
            continue
        end = _bounds(delta.delta, delta.interval)
        reach = max(reach, *map(abs, end), delta.margin or 0.0)
        axes.errorbar(
            *_whisker(delta.delta, line, end),
            color=colour[delta.version],
            elinewidth=1.8,
            capsize=2.6,
            capthick=1.8,
            marker="D" if delta.verdict == "equivalent" else "o",
            markersize=5.4,
            markerfacecolor=colour[delta.version] if delta.verdict in ("better", "worse") else "white",
            markeredgewidth=1.5,
            zorder=3,
        )
    margin = next((delta.margin for delta in deltas if delta is not None and delta.margin), None)
    if margin is not None:
        axes.axvspan(-margin, margin, color=_BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=_MUTED, linewidth=0.9, zorder=1)
    axes.set_xlim(-1.15 * reach or -1.0, 1.15 * reach or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.xaxis.set_major_formatter(_tick)
    axes.tick_params(axis="x", labelsize=7, labelcolor=_MUTED, length=2.5, width=0.6, color=_FAINT, pad=2)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(_FAINT)


def _write_verdict(axes: Axes, line: int, delta: DeltaResult) -> None:
    sign, colour = _VERDICT_SIGNS[delta.verdict]
    place = blended_transform_factory(axes.figure.transFigure, axes.transData)
    if delta.delta is not None:
        axes.text(
            _VERDICT_X + 0.078,
            line,
            wording.signed(delta.delta),
            size=8.5,
            color=_INK,
            ha="right",
            va="center",
            transform=place,
        )
    axes.text(_VERDICT_X + 0.097, line, sign, size=8, color=colour, ha="center", va="center", transform=place)
    axes.text(_VERDICT_X + 0.112, line, delta.verdict, size=8.5, color=colour, va="center", transform=place)


def _bounds(value: float, interval: Interval | None) -> tuple[float, float]:
    return (value, value) if interval is None else (interval.low, interval.high)


def _whisker(
    value: float, line: int, end: tuple[float, float]
) -> tuple[float, int, None, tuple[tuple[float], tuple[float]]]:
    """The first arguments of `Axes.errorbar`: x, y, no error in y, error in x to the left and to the right."""
    return value, line, None, ((max(0.0, value - end[0]),), (max(0.0, end[1] - value),))


def _tick(value: float, _: object) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:+,.4g}".replace("-", wording.MINUS)


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _clear(axes: Axes, lines: int) -> None:
    axes.set_ylim(lines - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(axis="y", length=0, pad=5)
    axes.patch.set_visible(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _in_words(comparison: Comparison) -> str:
    sentences = [f"{sentence}." for sentence in wording.headline(comparison)]
    for metric in dict.fromkeys(found.metric for found in comparison.metrics):
        values = []
        for version in comparison.versions:
            found, delta = comparison.metric(version, metric), comparison.delta(version, metric)
            shown = "not defined" if found.value is None else wording.number(found.value)
            if delta is not None and delta.delta is not None:
                bounds = "" if delta.interval is None else f", {wording.interval(delta.interval)}"
                shown += f" ({wording.signed(delta.delta)}{bounds}, {delta.verdict})"
            values.append(f"{version} {shown}")
        sentences.append(f"{wording.metric_name(metric)}: {'; '.join(values)}.")
    return " ".join(sentences)


def _described(svg: bytes, text: str) -> bytes:
    """The SVG as an image with a description, for screen readers (SVG 2, "title and desc elements").

    Its natural width becomes SVG_WIDTH_PX: pages that show an image as it is, such as MLflow's, have no room for more.
    """
    ratio = SVG_WIDTH_PX / (72 * WIDTH_IN)

    def natural_size(match: re.Match[bytes]) -> bytes:
        width, height = (ratio * float(points) for points in match.groups()[1:])
        return b'<svg role="img" %swidth="%.0f" height="%.0f"' % (match[1], width, height)

    sized = re.sub(rb'<svg ([^>]*?)width="([\d.]+)pt" height="([\d.]+)pt"', natural_size, svg, count=1)
    head, close, rest = sized.partition(b"</title>")
    return head + close + f"\n <desc>{escape(text, quote=False)}</desc>".encode() + rest
