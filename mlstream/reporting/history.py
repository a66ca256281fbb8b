"""How the versions of an experiment did over the comparisons that were kept: one metric, oldest first. No disk."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlstream.comparison.result import Comparison, Interval, Verdict
from mlstream.errors import UsageError
from mlstream.reporting import wording


@dataclass(frozen=True, slots=True)
class Standing:
    """One version in one comparison. `verdict` is None for the baseline."""

    version: str
    value: float | None
    interval: Interval | None
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Moment:
    """One comparison: what it was over, and how each version did."""

    comparison_id: str
    run_id: str
    snapshot_id: str
    snapshot_name: str | None
    baseline: str
    standings: tuple[Standing, ...]

    def standing(self, version: str) -> Standing | None:
        """How that version did; None when it was not in it."""
        return next((found for found in self.standings if found.version == version), None)


@dataclass(frozen=True, slots=True)
class History:
    """An experiment's comparisons on one metric, oldest first.

    Attributes:
        versions: all that occur, in the order in which they came.
    """

    experiment: str
    metric: str
    higher_is_better: bool
    versions: tuple[str, ...]
    moments: tuple[Moment, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def histories(
    comparisons: Sequence[Comparison], *, experiment: str | None = None, metric: str | None = None
) -> tuple[History, ...]:
    """The history of each experiment, those with the newest comparisons first.

    Args:
        comparisons: the newest first.
        experiment: of this one only.
        metric: the metric; of each experiment the first of its newest comparison when None.

    Raises:
        UsageError: no comparison is of that experiment, or has that metric.
    """
    groups: dict[str, list[Comparison]] = {}
    for found in comparisons:
        if found.metrics:
            groups.setdefault(found.experiment, []).append(found)
    if experiment is not None and experiment not in groups:
        raise UsageError(
            f"no comparison with metrics is of the experiment {experiment!r}", hint=_near(experiment, list(groups))
        )
    chosen = groups if experiment is None else {experiment: groups[experiment]}
    made = tuple(
        history
        for name, found in chosen.items()
        if (history := _history(name, found, found[0].metrics[0].metric if metric is None else metric)).moments
    )
    if metric is not None and chosen and not made:
        known = sorted({found.metric for group in chosen.values() for one in group for found in one.metrics})
        raise UsageError(f"no comparison has the metric {metric!r}", hint=_near(metric, known))
    return made


def _history(experiment: str, newest_first: Sequence[Comparison], metric: str) -> History:
    moments = []
    versions: dict[str, None] = {}
    higher = True
    for comparison in reversed(newest_first):
        found = [result for result in comparison.metrics if result.metric == metric]
        if not found:
            continue
        higher = found[0].higher_is_better
        versions |= dict.fromkeys(result.version for result in found)
        standings = []
        for result in found:
            delta = comparison.delta(result.version, metric)
            verdict = None if delta is None else delta.verdict
            standings.append(Standing(result.version, result.value, result.interval, verdict))
        moments.append(
            Moment(
                comparison.id,
                comparison.run_id,
                comparison.snapshot_id,
                comparison.snapshot_name,
                comparison.baseline,
                tuple(standings),
            )
        )
    return History(experiment, metric, higher, tuple(versions), tuple(moments))


def shown(standing: Standing | None) -> str:
    """A version's figure with the sign of its verdict: `0.4528 ▲`; nothing where it was not compared."""
    if standing is None:
        return ""
    value = "undefined" if standing.value is None else wording.number(standing.value)
    return f"{value}  " if standing.verdict is None else f"{value} {wording.SIGNS[standing.verdict]}"


def _near(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(known)}" if known else "make one: mlstream compare"
