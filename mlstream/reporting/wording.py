"""Names and numbers as people read them, the same in every report. Pure functions on text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from mlstream.comparison.result import Comparison, Coverage, DeltaResult, Interval, Verdict

METRIC_NAMES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "log_loss": "Log loss",
    "brier_score": "Brier score",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "ndcg_at_k": "NDCG@k",
    "precision_at_k": "Precision@k",
    "mrr": "MRR",
    "map": "MAP",
}
VERDICTS: tuple[Verdict, ...] = ("better", "worse", "equivalent", "inconclusive")
SIGNS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "equivalent": "≈", "inconclusive": "?"}
MINUS = "\N{MINUS SIGN}"
_NOTHING = 1e-12


def title(comparison: Comparison) -> str:
    """`v1 · v2 · v3 on flights-q4`; the number of versions where their names would be too long."""
    names = " · ".join(comparison.versions)
    shown = names if len(names) <= 45 else f"{len(comparison.versions)} versions"
    return f"{shown} on {comparison.snapshot_name or comparison.snapshot_id[:12]}"


def metric_name(metric: str) -> str:
    """`roc_auc` → `ROC AUC`; a name that is not known loses its underscores only."""
    return METRIC_NAMES.get(metric, metric.replace("_", " ").capitalize())


def direction(higher_is_better: bool) -> str:
    """An arrow that points to the better side."""
    return "↑" if higher_is_better else "↓"


def number(value: float) -> str:
    """Four decimals below 10, two below 1,000, whole numbers with separators above.

    What four decimals would make zero of has two digits of its own; what is very small or very large, a power of ten:
    `1.2e−7`. What is less than the rounding of sums is zero.
    """
    size = abs(value)
    if size < _NOTHING:
        return "0.0000"
    if size < 1e-5 or size >= 1e15:
        mantissa, _, power = f"{size:.1e}".partition("e")
        text = f"{mantissa}e{int(power)}".replace("-", MINUS)
    elif size < 5e-5:
        text = f"{size:.{1 - math.floor(math.log10(size))}f}"
    else:
        text = f"{size:.4f}" if size < 10 else f"{size:.2f}" if size < 1000 else f"{size:,.0f}"
    return f"{MINUS}{text}" if value < 0 else text


def signed(value: float) -> str:
    """A difference: always with its sign, except for zero."""
    text = number(value)
    return text if text.startswith(MINUS) or not text.strip("0.,") else f"+{text}"


def interval(found: Interval) -> str:
    """The bounds of a difference, each with its sign."""
    return f"{signed(found.low)} to {signed(found.high)}"


def percent(share: float) -> str:
    """`0.95` → `95 %`; one decimal where it is not whole, and never rounded up to all or down to none."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    text = f"{100 * share:.1f}"
    return f"{text.removesuffix('.0')} %"


def moment(time_ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time in UTC, from ms since 1970; outside the years that Python knows the number itself."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):
        return f"{time_ms:,} ms"


def duration(seconds: float) -> str:
    """`21600` → `6 h`: in the largest unit that leaves a number of at least one."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds * 1000:.0f} ms"


def size(size_bytes: float) -> str:
    """Bytes in decimal units: `48.1 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} bytes"
    power = min(4, int(math.log10(size_bytes)) // 3)
    return f"{size_bytes / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def verdict_counts(deltas: Iterable[DeltaResult]) -> dict[Verdict, int]:
    """Verdict → how many of the differences have it, in the order of VERDICTS; only those that occur."""
    counts = Counter(delta.verdict for delta in deltas)
    return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}


def headline(comparison: Comparison) -> list[str]:
    """One sentence for each challenger: what it is against the baseline, over all metrics."""
    base = comparison.baseline
    sentences = []
    for version in comparison.versions:
        if version == base:
            continue
        counts = verdict_counts(delta for delta in comparison.deltas if delta.version == version)
        total = sum(counts.values())
        if total == 0:
            share = comparison.agreement.get(version)
            agreed = "" if share is None else f": it gives {base}'s answer on {percent(share)} of the records"
            sentences.append(f"{version} was not measured against {base}{agreed}")
            continue
        if len(counts) == 1:
            (verdict,) = counts
            where = "its one metric" if total == 1 else f"all {total} metrics"
            sentences.append(f"{version} is {_against(verdict, base)} on {where}")
            continue
        (first, count), *rest = counts.items()
        parts = [f"{_against(first, base)} on {count} of {total} metrics", *(f"{other} on {n}" for other, n in rest)]
        sentences.append(f"{version} is {listed(parts)}")
    return sentences


def alone(comparison: Comparison) -> str:
    """What is said where there is no challenger."""
    return f"{comparison.baseline} alone: there is nothing to compare it with"


def best_first(comparison: Comparison) -> list[str]:
    """The sentences of the headline: the more metrics are better than worse, the earlier."""

    def balance(version: str) -> int:
        counts = verdict_counts(delta for delta in comparison.deltas if delta.version == version)
        return counts.get("worse", 0) - counts.get("better", 0)

    challengers = [version for version in comparison.versions if version != comparison.baseline]
    if not challengers:
        return [alone(comparison)]
    pairs = zip(challengers, headline(comparison), strict=True)
    return [sentence for _, sentence in sorted(pairs, key=lambda pair: balance(pair[0]))]


def choice(comparison: Comparison) -> str | None:
    """How to tell apart the versions that did better than the baseline; None unless there are several."""
    deltas = comparison.deltas
    good = []
    for version in comparison.versions:
        counts = verdict_counts(delta for delta in deltas if delta.version == version)
        if counts.get("better", 0) > counts.get("worse", 0):
            good.append(version)
    if len(good) < 2:
        return None
    between = "between" if len(good) == 2 else "among"
    return f"{between} {listed(good)}: mlstream compare {comparison.run_id[:12]} --baseline {good[0]}"


def _against(verdict: str, base: str) -> str:
    joint = {"better": "than", "worse": "than", "equivalent": "to"}.get(verdict)
    return verdict if joint is None else f"{verdict} {joint} {base}"


def p_value(value: float) -> str:
    """Four decimals, and no zero: resamples cannot tell that there is none."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def faults(found: Coverage) -> str:
    """`v2: 25 missing, 3 errors of 1,600 records`; nothing when each record was answered once."""
    counts = {"missing": found.missing, "errors": found.errors, "doubled": found.doubled}
    told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{found.version}: {told} of {found.records:,} records" if told else ""


def method(comparison: Comparison) -> list[str]:
    """How the figures came about, and why some are inconclusive or not defined: sentences without their full stop."""
    sentences = []
    confidence = next((found.interval.confidence for found in comparison.deltas if found.interval), None)
    if confidence is not None:
        sentences.append(
            f"Intervals are at {percent(confidence)}, of the difference to the baseline where there is one"
        )
    if comparison.blocks is not None:
        blocks = comparison.blocks
        resamples = comparison.settings.get("resamples")
        times = "" if resamples is None else f", {resamples:,} resamples"
        sentences.append(
            f"Paired block bootstrap over {blocks.count} blocks of {duration(blocks.length_s)} of event time "
            f"({blocks.chosen}){times}"
        )
    sentences += about(comparison)
    margins = {delta.metric: delta.margin for delta in comparison.deltas if delta.margin}
    if margins:
        shown = (f"{number(margin)} in {metric_name(metric)}" for metric, margin in margins.items())
        sentences.append(f"Differences that do not matter: {listed(shown)}")
    for reason in dict.fromkeys(delta.reason for delta in comparison.deltas):
        if reason is not None:
            found = (delta for delta in comparison.deltas if delta.reason == reason)
            of = listed(f"{delta.version} on {metric_name(delta.metric)}" for delta in found)
            sentences.append(f"Inconclusive: {of} ({reason})")
    return [*sentences, *undefined(comparison)]


def about(comparison: Comparison) -> list[str]:
    """What must be known to read some of the figures: how rankings are made, which have blocks of their own, and which
    are known up to a bound only. Sentences without their full stop.
    """
    sentences = []
    ranking = comparison.settings.get("ranking")
    if ranking:
        sentences.append(f"Ranked are the records with the same {ranking['group']}; k is {ranking['k']}")
    blocks = comparison.settings.get("whole_blocks")
    if blocks:
        own = comparison.settings.get("custom_metrics") or {}
        names = listed(metric_name(name) for name, how in own.items() if how.get("of") == "whole")
        sentences.append(
            f"Of {names} the spread is that of a jackknife over {blocks['count']} blocks of "
            f"{duration(blocks['length_s'])}"
        )
    bounds: dict[str, list[str]] = {}
    for result in comparison.metrics:
        if result.error_bound:
            bounds.setdefault(result.metric, []).append(f"{_at_most(result.error_bound)} ({result.version})")
    for metric, told in bounds.items():
        sentences.append(f"Scores are counted, not sorted: {metric_name(metric)} is off by at most {listed(told)}")
    return sentences


def _at_most(bound: float) -> str:
    """Two digits, rounded up."""
    unit = 10.0 ** (math.floor(math.log10(bound)) - 1)
    return f"{math.ceil(bound / unit - 1e-9) * unit:.2g}"


def undefined(comparison: Comparison, *, told: Collection[str | None] = ()) -> list[str]:
    """What has no figure and why, a sentence for each version and reason; without the reasons that were told."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in comparison.metrics:
        if result.undefined is not None and result.undefined not in told:
            found.setdefault((result.version, result.undefined), []).append(metric_name(result.metric))
    return [
        f"{listed(metrics)} of {version} {'is' if len(metrics) == 1 else 'are'} not defined: {reason}"
        for (version, reason), metrics in found.items()
    ]


def left_out(comparison: Comparison) -> str | None:
    """What the comparison is without: versions that failed, records that did not decode; None when nothing is."""
    names = comparison.settings.get("left_out") or ()
    records = comparison.settings.get("undecodable", 0)
    told = []
    if names:
        told.append(f"{listed(names)} failed in the run, and {'is' if len(names) == 1 else 'are'} not compared")
    if records:
        plural, them = ("", "it") if records == 1 else ("s", "them")
        told.append(f"{records:,} more record{plural} did not decode, and no version was asked for {them}")
    return "; ".join(told) or None
