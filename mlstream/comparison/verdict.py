"""Read a verdict off an interval and a margin; correct p-values for how many were asked. Computes no metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import bdtr, ndtri

from mlstream.comparison.bootstrap import Estimate
from mlstream.comparison.result import Verdict

# Differences below this share of the figures are rounding: point values are exact to nine digits.
NEGLIGIBLE = 1e-9
POWER = 0.8
# Nobody freezes a range a thousand times as long: then nothing is said.
MOST_TIMES = 1000.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and of an inconclusive one why, and how many times the data would settle it; None when unknown."""

    verdict: Verdict
    reason: str | None = None
    times: float | None = None


def judge(
    estimate: Estimate, *, higher_is_better: bool, confidence: float, margin: float | None, scale: float
) -> Judgement:
    """Equivalent, better, worse or inconclusive.

    Equivalent when the interval at level 1 - 2α lies inside ±margin (two one-sided tests, Schuirmann 1987), or when the
    figures are equal to nine digits; else better or worse when the interval at level 1 - α excludes zero; else
    inconclusive.

    Args:
        estimate: of the difference to the baseline.
        higher_is_better: of the metric.
        confidence: 1 - α.
        margin: the difference that does not matter, or None when nobody said.
        scale: the size of the figures themselves.
    """
    interval = estimate.interval(confidence)
    narrower = estimate.interval(2 * confidence - 1)
    if interval is None or narrower is None:
        return Judgement("inconclusive", "the two versions differ in fewer than two blocks")
    if max(map(abs, interval)) <= NEGLIGIBLE * scale:
        return Judgement("equivalent")
    if margin is not None and -margin < narrower[0] and narrower[1] < margin:
        return Judgement("equivalent")
    low, high = interval
    if low > 0 or high < 0:
        return Judgement("better" if (low > 0) == higher_is_better else "worse")
    return _unsettled(estimate.value, (high - low) / 2, margin, confidence)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) over those that are not None, in the order given."""
    asked = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, at) in enumerate(asked):
        running = max(running, min(1.0, p * (len(asked) - rank)))
        adjusted[at] = running
    return adjusted


def mcnemar(only_own: int, only_other: int) -> float:
    """McNemar's exact two-sided p-value (1947) of two versions that are right alone that often; 1 when never."""
    discordant = only_own + only_other
    if discordant == 0:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_own, only_other), discordant, 0.5)))


def _unsettled(value: float, half_width: float, margin: float | None, confidence: float) -> Judgement:
    """How much more data would settle it; a half-width shrinks with the root of the data.

    With a margin: so much that the half-width is the margin. Without one, or when it is there already: so much that a
    difference as large as the one seen is told from 0 with a power of POWER.
    """
    crossing = f"the {confidence * 100:.4g} % interval holds 0"
    if margin is not None and 0 < margin < half_width:
        times = (half_width / margin) ** 2
        told = f"{crossing}; about {_amount(times)} times the data would bring its half-width down to the margin"
        return Judgement("inconclusive", told, times)
    bound = float(ndtri((1 + confidence) / 2))
    times = math.inf if value == 0 else (half_width / value * (1 + float(ndtri(POWER)) / bound)) ** 2
    if times > MOST_TIMES:
        return Judgement("inconclusive", crossing)
    told = f"about {_amount(times)} times the data would tell a difference as large as this from 0"
    return Judgement("inconclusive", f"{crossing}; {told}", times)


def _amount(times: float) -> str:
    return f"{times:.1f}" if times < 10 else f"{math.ceil(times):,}"
