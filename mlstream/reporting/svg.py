"""Small drawings as inline SVG: intervals around zero, and lines in a square. Pure text; knows no page.

Colours are classes of the page's stylesheet, so that one drawing is right in light, in dark and on paper. Numbers are
written short: a report holds hundreds of points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from mlstream.reporting import wording

_WIDTH, _HEIGHT, _PAD = 260, 26, 8  # of an interval's drawing
_SIDE, _LEFT, _BOTTOM, _TOP, _RIGHT = 260, 44, 40, 10, 12  # of a square of lines
_LONG, _HIGH, _UNDER = 480, 170, 24  # of lines over time
_MAX_TICKS = 5


@dataclass(frozen=True, slots=True)
class Whisker:
    """A difference with its interval: what `interval` draws.

    Attributes:
        value: the difference.
        low, high: its interval; both `value` when there is none.
        decided: whether the dot is filled: better or worse.
        colour: class of the version.
        text: the same in words, for readers that cannot see it.
    """

    value: float
    low: float
    high: float
    decided: bool
    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a square: its name, the class of its colour, its points as (x, y)."""

    name: str
    colour: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a square: what is on it, and from where to where."""

    name: str
    low: float = 0.0
    high: float = 1.0

    def share(self, value: float) -> float:
        """Where a value is, from 0 to 1."""
        span = self.high - self.low
        return 0.5 if span <= 0 else min(1.0, max(0.0, (value - self.low) / span))


def interval(found: Whisker, *, reach: float, margin: float | None = None) -> Markup:
    """A dot with its interval around a line at zero; `reach` is how far the drawing goes to either side."""
    middle = _WIDTH / 2

    def at(value: float) -> str:
        share = 0.0 if reach <= 0 else max(-1.0, min(1.0, value / reach))
        return _short(middle + share * (middle - _PAD))

    y = _HEIGHT // 2
    parts = []
    if margin is not None and margin > 0 and reach > 0:
        wide = 2 * min(1.0, margin / reach) * (middle - _PAD)
        parts.append(f'<rect class="band" x="{at(-margin)}" y="0" width="{_short(wide)}" height="{_HEIGHT}"/>')
    parts.append(f'<path class="zero" d="M{_short(middle)} 0V{_HEIGHT}"/>')
    if found.high > found.low:
        low, high = at(found.low), at(found.high)
        parts.append(f'<path class="whisker" d="M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"/>')
    dot = "dot" if found.decided else "dot open"
    parts.append(f'<circle class="{dot}" cx="{at(found.value)}" cy="{y}" r="4.5"/>')
    return Markup(
        f'<svg class="interval {escape(found.colour)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(found.text)}">{"".join(parts)}</svg>'
    )


def interval_axis(reach: float) -> Markup:
    """The scale under intervals that reach that far: its ends and zero."""
    if reach <= 0:
        return Markup("")
    step = _step(reach, 2)
    edge = math.floor(reach / step + 1e-9) * step
    middle = _WIDTH / 2
    parts = []
    for value in (-edge, 0.0, edge):
        x = _short(middle + value / reach * (middle - _PAD))
        parts.append(f'<path class="tick" d="M{x} 0v4"/><text x="{x}" y="15">{escape(_signed(value, step))}</text>')
    return Markup(
        f'<svg class="scale" viewBox="0 0 {_WIDTH} 18" aria-hidden="true">'
        f'<path class="tick" d="M{_PAD} 0H{_WIDTH - _PAD}"/>{"".join(parts)}</svg>'
    )


def square(lines: Sequence[Line], x: Axis, y: Axis, *, text: str, diagonal: bool = False) -> Markup:
    """Lines over two axes, for example a calibration curve; `diagonal` draws where x equals y."""

    def place(at_x: float, at_y: float) -> tuple[str, str]:
        return (
            _short(_LEFT + x.share(at_x) * (_SIDE - _LEFT - _RIGHT)),
            _short(_SIDE - _BOTTOM - y.share(at_y) * (_SIDE - _BOTTOM - _TOP)),
        )

    parts = []
    for tick, shown in _ticks(x):
        at_x, base = place(tick, y.low)
        parts.append(f'<path class="grid" d="M{at_x} {_TOP}V{base}"/>')
        parts.append(f'<text class="under" x="{at_x}" y="{_SIDE - _BOTTOM + 14}">{shown}</text>')
    for tick, shown in _ticks(y):
        base, at_y = place(x.low, tick)
        parts.append(f'<path class="grid" d="M{base} {at_y}H{_SIDE - _RIGHT}"/>')
        parts.append(f'<text class="beside" x="{_LEFT - 6}" y="{at_y}" dy="3.5">{shown}</text>')
    if diagonal:
        start, stop = place(max(x.low, y.low), max(x.low, y.low)), place(min(x.high, y.high), min(x.high, y.high))
        parts.append(f'<path class="diagonal" d="M{start[0]} {start[1]}L{stop[0]} {stop[1]}"/>')
    for line in lines:
        path = "L".join(" ".join(place(*point)) for point in line.points if all(map(math.isfinite, point)))
        if path:
            parts.append(f'<path class="line {escape(line.colour)}" d="M{path}"/>')
    middle = (_LEFT + _SIDE - _RIGHT) / 2
    parts.append(f'<text class="name" x="{_short(middle)}" y="{_SIDE - 6}">{escape(x.name)}</text>')
    up = (_TOP + _SIDE - _BOTTOM) / 2
    parts.append(f'<text class="name" transform="rotate(-90 11 {_short(up)})" x="11" y="{_short(up)}">')
    parts.append(f"{escape(y.name)}</text>")
    return Markup(
        f'<svg class="square" viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{escape(text)}">'
        f"{''.join(parts)}</svg>"
    )


def timeline(lines: Sequence[Line], marks: Sequence[tuple[float, str]], x: Axis, y: Axis, *, text: str) -> Markup:
    """Lines over time, wider than high; a point whose y is NaN is a gap. `marks` are (x, what stands under it)."""

    def place(at_x: float, at_y: float) -> tuple[str, str]:
        return (
            _short(_LEFT + x.share(at_x) * (_LONG - _LEFT - _RIGHT)),
            _short(_HIGH - _UNDER - y.share(at_y) * (_HIGH - _UNDER - _TOP)),
        )

    parts = []
    for tick, shown in _ticks(y):
        base, at_y = place(x.low, tick)
        parts.append(f'<path class="grid" d="M{base} {at_y}H{_LONG - _RIGHT}"/>')
        parts.append(f'<text class="beside" x="{_LEFT - 6}" y="{at_y}" dy="3.5">{shown}</text>')
    for at, shown in marks:
        at_x, base = place(at, y.low)
        parts.append(f'<path class="tick" d="M{at_x} {base}v4"/>')
        last = "under last" if at == x.high else "under"
        parts.append(f'<text class="{last}" x="{at_x}" y="{_HIGH - _UNDER + 16}">{escape(shown)}</text>')
    for line in lines:
        path = "".join(
            f"M{'L'.join(' '.join(place(*point)) for point in points)}{'h0' if len(points) == 1 else ''}"
            for known, group in groupby(line.points, key=lambda point: math.isfinite(point[1]))
            if known and (points := [*group])
        )
        if path:
            parts.append(f'<path class="line {escape(line.colour)}" d="{path}"/>')
    return Markup(
        f'<svg class="timeline" viewBox="0 0 {_LONG} {_HIGH}" role="img" aria-label="{escape(text)}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    span = axis.high - axis.low
    if span <= 0:
        return [(axis.low, _plain(axis.low, 1.0))]
    step = _step(span, _MAX_TICKS)
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    return [(number * step, _plain(number * step, step)) for number in range(first, last + 1)]


def _step(span: float, most: int) -> float:
    """A round step of which at most `most` fit into `span`."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power * most >= span * (1 - 1e-9))


def _plain(value: float, step: float) -> str:
    if value != 0 and (step < 1e-5 or step >= 1e7):
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}".replace("-", wording.MINUS)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if f"{step:.1e}".startswith("2.5") else 0)
    return f"{value:,.{min(digits, 9)}f}".replace("-", wording.MINUS)


def _signed(value: float, step: float) -> str:
    text = _plain(value, step)
    return "0" if value == 0 else text if value < 0 else f"+{text}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
