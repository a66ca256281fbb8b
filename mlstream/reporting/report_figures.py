"""The drawings of a comparison's page: metrics over time, calibration, ROC, precision and recall, quantiles. Pure.

Each is empty where the comparison has nothing for it, and then its section is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlstream.comparison.result import Comparison
from mlstream.reporting import svg, wording
from mlstream.reporting.report_parts import colour_classes

_LEAST_POINTS = 3
_DAY_MS = 86_400_000
_MARKS = 5
_MAX_SHORT_DAYS = 300  # beyond, a day's name needs its year


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing with its caption and a sentence about it."""

    caption: str
    drawing: Markup
    detail: str


def figures(comparison: Comparison) -> tuple[Figure, ...]:
    """Calibration, ROC and precision–recall curves, and the quantiles of scores against the baseline's."""
    colours = colour_classes(comparison)
    found: list[Figure] = []
    if comparison.calibration:
        lines = [
            svg.Line(it.version, colours[it.version], [(bin_.mean_score, bin_.positives) for bin_ in it.bins])
            for it in comparison.calibration
        ]
        errors = ", ".join(f"{it.version} {wording.number(it.expected_error)}" for it in comparison.calibration)
        what = "Calibration"
        drawing = svg.square(
            lines,
            svg.Axis("mean score"),
            svg.Axis("share of positives"),
            text=f"{what}; expected calibration error: {errors}",
            diagonal=True,
        )
        found.append(
            Figure(what, drawing, f"Expected calibration error: {errors}. On the dashed line scores are shares.")
        )
    for kind, what, x, y in (
        ("roc", "ROC", "false positive rate", "true positive rate"),
        ("precision_recall", "Precision and recall", "recall", "precision"),
    ):
        curves = [it for it in comparison.curves if it.kind == kind]
        if curves:
            lines = [svg.Line(it.version, colours[it.version], list(zip(it.x, it.y, strict=True))) for it in curves]
            text = f"{what} of {wording.listed(it.version for it in curves)}: {y} over {x}"
            drawing = svg.square(lines, svg.Axis(x), svg.Axis(y), text=text, diagonal=kind == "roc")
            found.append(Figure(what, drawing, ""))
    shifted = [it for it in comparison.shifts if it.quantiles]
    if shifted:
        ends = [end for it in shifted for end in (*it.quantiles, *it.baseline_quantiles)]
        low, high = min(0.0, *ends), max(ends)
        lines = [
            svg.Line(it.version, colours[it.version], list(zip(it.baseline_quantiles, it.quantiles, strict=True)))
            for it in shifted
        ]
        base = comparison.baseline
        drawing = svg.square(
            lines,
            svg.Axis(f"{shifted[0].column}s of {base}", low, high),
            svg.Axis("those of the versions", low, high),
            text=f"Quantiles of each version's {shifted[0].column}s against those of {base}",
            diagonal=True,
        )
        found.append(Figure("Quantiles", drawing, "Above the dashed line a version's are higher."))
    return tuple(found)


def over_time(comparison: Comparison) -> tuple[Figure, ...]:
    """Each metric of all versions over event time; nothing where there are fewer than three intervals."""
    colours = colour_classes(comparison)
    found = []
    for metric in dict.fromkeys(it.metric for it in comparison.series):
        series = [it for it in comparison.series if it.metric == metric and len(it.starts_ms) >= _LEAST_POINTS]
        known = [value for it in series for value in it.values if value is not None]
        if not known:
            continue
        starts = sorted({start for it in series for start in it.starts_ms})
        span = (max(known) - min(known)) or 1.0
        lines = [
            svg.Line(
                it.version,
                colours[it.version],
                [
                    (float(start), math.nan if value is None else value)
                    for start, value in zip(it.starts_ms, it.values, strict=True)
                ],
            )
            for it in series
        ]
        name = wording.metric_name(metric)
        length = wording.duration(series[0].length_s)
        drawing = svg.timeline(
            lines,
            _marks(starts),
            svg.Axis("event time", starts[0], starts[-1]),
            svg.Axis(name, min(known) - 0.04 * span, max(known) + 0.04 * span),
            text=f"{name} of {wording.listed(it.version for it in series)} in each {length} of event time",
        )
        found.append(Figure(name, drawing, f"in each {length} of event time"))
    return tuple(found)


def _marks(starts_ms: Sequence[int]) -> list[tuple[float, str]]:
    """A few moments of the range, with a day or a time of the day under each."""
    days = (starts_ms[-1] - starts_ms[0]) / _DAY_MS
    form = "%Y-%m-%d" if days > _MAX_SHORT_DAYS else "%d %b" if days >= _MARKS else "%d %b %H:%M"
    wanted = _MARKS if days <= _MAX_SHORT_DAYS else _MARKS - 1
    places = sorted({round(at * (len(starts_ms) - 1) / (wanted - 1)) for at in range(wanted)})
    return [(float(starts_ms[at]), wording.moment(starts_ms[at], form)) for at in places]
