"""Gates: limits that a comparison must keep before somebody ships. Pure: reads a comparison, prints and raises nothing.

A gate reads the bounds of an interval, never the figure alone: it passes when even the worse bound is inside the limit,
and has failed when even the better one is outside. Between the two the data does not say. That is a failure too, for
nothing was shown, unless the gate says `require: verdict`: then it is called inconclusive.

A gate against another version than the comparison's baseline says nothing of this comparison, and is skipped.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.config.measures import GateConfig
from mlstream.errors import GateFailed, Inconclusive, MlstreamError, UsageError
from mlstream.reporting import wording

GateStatus = Literal["passed", "failed", "inconclusive", "skipped"]
GATE_SIGNS: dict[GateStatus, str] = {"passed": "✓", "failed": "✗", "inconclusive": "?", "skipped": "–"}
_CONDITIONS = ("worse", "not-better", "inconclusive")


@dataclass(frozen=True, slots=True)
class GateResult:
    """What came of a gate for one version.

    Attributes:
        gate: the limit in words: `Log loss at most 0.005 worse than v1`.
        found: what the data says about it: `−0.0012 (−0.0031 to +0.0007)`.
    """

    version: str
    metric: str
    gate: str
    status: GateStatus
    found: str

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return asdict(self)


def check_gates(comparison: Comparison, gates: Sequence[GateConfig]) -> tuple[GateResult, ...]:
    """Every gate for every version that it is about, in the order given.

    Raises:
        UsageError: a gate is on a metric or a slice that was not compared.
    """
    return tuple(result for gate in gates for result in _check(comparison, gate))


def check_conditions(comparison: Comparison, conditions: Sequence[str]) -> tuple[GateResult, ...]:
    """What `--fail-if` asks for: `worse`, `not-better`, `inconclusive`, each also of one metric (`log_loss:worse`), or
    `log_loss:worse>0.005` as a gate that is no worse than that. Only what applies is in the answer.

    Raises:
        UsageError: a condition cannot be read, or names a metric that was not computed.
    """
    found: list[GateResult] = []
    for condition in conditions:
        metric, word, limit = read_condition(condition, [found.metric for found in comparison.metrics])
        if limit is not None and metric is not None:
            gate = GateConfig(metric=metric, no_worse_than=limit)
            found += (result for result in _check(comparison, gate) if result.status != "passed")
        else:
            found += _verdicts_that(comparison, metric, word)
    return tuple(found)


def gates_of(config: Mapping[str, Any]) -> tuple[GateConfig, ...]:
    """The gates of an experiment's configuration as a record holds it."""
    return tuple(GateConfig.model_validate(gate) for gate in config.get("gates") or ())


def gate_error(results: Sequence[GateResult]) -> MlstreamError | None:
    """The error that stands for gates that did not pass: failed before inconclusive; None when all passed."""
    failed = [result for result in results if result.status == "failed"]
    open_ = [result for result in results if result.status == "inconclusive"]
    if failed:
        plural = "" if len(failed) == 1 else "s"
        return GateFailed(f"{len(failed)} gate{plural} failed\n{_lines(failed)}", gates=[it.to_dict() for it in failed])
    if open_:
        return Inconclusive(
            f"a verdict was demanded and there is none\n{_lines(open_)}",
            hint="freeze a longer range, or decide without",
            gates=[it.to_dict() for it in open_],
        )
    return None


def _lines(results: Sequence[GateResult]) -> str:
    return "\n".join(f"  {GATE_SIGNS[it.status]} {it.version}: {it.gate}: {it.found}" for it in results)


def _check(comparison: Comparison, gate: GateConfig) -> Iterator[GateResult]:
    base = comparison.baseline
    where = "" if gate.slice is None else f" where {gate.slice}"
    text = _limit_text(gate, base if gate.against is None else gate.against) + where
    # A challenger that failed in the run passes nothing, also where the others were compared without it.
    everyone = dict.fromkeys([*comparison.versions, *(comparison.settings.get("left_out") or ())])
    challengers = [version for version in everyone if version != base]
    for version in challengers if gate.version is None else [gate.version]:
        nothing = _nothing_to_judge(comparison, gate, version)
        if nothing is not None:
            yield GateResult(version, gate.metric, text, *nothing)
            continue
        value, delta = _figures(comparison, version, gate.metric)
        if gate.slice is not None:
            value, delta = _figures_of_slice(comparison, value, gate.slice)
        yield GateResult(version, gate.metric, text, *_judge(gate, _room(gate, value, delta), delta))


def _nothing_to_judge(comparison: Comparison, gate: GateConfig, version: str) -> tuple[GateStatus, str] | None:
    """The status and why, where the comparison holds nothing that the gate could read; None where it does."""
    if gate.against is not None and gate.against != comparison.baseline:
        return "skipped", f"this comparison is against {comparison.baseline}"
    if version not in comparison.versions:
        failed = version in (comparison.settings.get("left_out") or ())
        why = "failed in the run" if failed else "is not in this comparison"
        return _undecided(gate), f"not shown: {version} {why}"
    if not comparison.metrics:
        return _undecided(gate), "not shown: without labels there are no metrics"
    return None


def _undecided(gate: GateConfig) -> GateStatus:
    """What a gate is when the data does not say."""
    return "inconclusive" if gate.require == "verdict" else "failed"


def _limit_text(gate: GateConfig, base: str) -> str:
    """The gate in words."""
    name = wording.metric_name(gate.metric)
    if gate.at_least is not None:
        return f"{name} at least {_limit(gate.at_least)}"
    if gate.at_most is not None:
        return f"{name} at most {_limit(gate.at_most)}"
    if gate.better_by is not None:
        more = f" by {_limit(gate.better_by)} or more" if gate.better_by else ""
        return f"{name} better than {base}{more}"
    if gate.no_worse_than is not None:
        return f"{name} at most {_limit(gate.no_worse_than)} worse than {base}"
    return f"{name} has a verdict"


def _figures_of_slice(comparison: Comparison, whole: MetricResult, condition: str) -> tuple[MetricResult, DeltaResult]:
    """The figures of a slice that the experiment named, in the shape of those of all records."""
    named = [found for found in comparison.slices if found.kind == "named"]
    for found in named:
        if (found.slice, found.version, found.metric) == (condition, whole.version, whole.metric):
            return replace(whole, value=found.value, interval=None, undefined=found.reason), DeltaResult(
                version=found.version,
                baseline=found.baseline,
                metric=found.metric,
                delta=found.delta,
                interval=found.interval,
                p_value=found.p_value,
                p_adjusted=found.p_adjusted,
                margin=None,
                verdict=found.verdict,
                reason=found.reason,
            )
    known = list(dict.fromkeys(found.slice for found in named))
    close = difflib.get_close_matches(condition, known, n=1)
    hint = (
        f"did you mean {close[0]!r}?"
        if close
        else f"there are: {', '.join(known)}"
        if known
        else "name it in `slices:`"
    )
    raise UsageError(f"the gate on {whole.metric} is on the slice {condition!r}, which was not compared", hint=hint)


def _figures(comparison: Comparison, version: str, metric: str) -> tuple[MetricResult, DeltaResult | None]:
    return comparison.metric(version, metric), comparison.delta(version, metric)


@dataclass(frozen=True, slots=True)
class _Room:
    """How far inside its limit a figure is, at the bounds of its interval: at 0 and more it is inside.

    Attributes:
        low, high: the worse and the better bound; None when the data gives none.
        shown: the figure that was judged, with its interval; why there is none.
    """

    low: float | None
    high: float | None
    shown: str


def _room(gate: GateConfig, value: MetricResult, delta: DeltaResult | None) -> _Room:
    if gate.at_least is not None or gate.at_most is not None:
        low, high = (None, None) if value.interval is None else (value.interval.low, value.interval.high)
        shown = value.undefined if value.undefined is not None else "it has no interval"
        if value.value is not None and value.interval is not None:
            bounds = f"{wording.number(value.interval.low)} to {wording.number(value.interval.high)}"
            shown = f"{wording.number(value.value)} ({bounds})"
        if gate.at_least is not None:
            return _Room(_less(low, gate.at_least), _less(high, gate.at_least), shown)
        return _Room(_less(gate.at_most, high), _less(gate.at_most, low), shown)
    low, high, shown = _gain(delta, higher_is_better=value.higher_is_better)
    if gate.better_by is not None:
        return _Room(_less(low, gate.better_by), _less(high, gate.better_by), shown)
    if gate.no_worse_than is not None:
        return _Room(_less(low, -gate.no_worse_than), _less(high, -gate.no_worse_than), shown)
    return _Room(None, None, shown)


def _gain(delta: DeltaResult | None, *, higher_is_better: bool) -> tuple[float | None, float | None, str]:
    """How much better it is, at the bounds of its interval, and the difference in words."""
    if delta is None:
        return None, None, "it is the baseline"
    if delta.delta is None:
        return None, None, delta.reason if delta.reason is not None else "it is not defined"
    if delta.interval is None:
        if delta.verdict == "equivalent":  # equal figures need no interval
            return 0.0, 0.0, wording.signed(delta.delta)
        return None, None, delta.reason if delta.reason is not None else "it has no interval"
    if delta.p_value is None and delta.verdict == "inconclusive":
        # Too few blocks: the interval is shown, and decides nothing.
        return None, None, delta.reason if delta.reason is not None else "too few blocks"
    low, high = delta.interval.low, delta.interval.high
    shown = f"{wording.signed(delta.delta)} ({wording.interval(delta.interval)})"
    return (low, high, shown) if higher_is_better else (-high, -low, shown)


def _judge(gate: GateConfig, room: _Room, delta: DeltaResult | None) -> tuple[GateStatus, str]:
    if gate.limit is None:
        decided = delta is not None and delta.verdict != "inconclusive"
        return ("passed", delta.verdict) if delta is not None and decided else ("inconclusive", room.shown)
    if room.low is None or room.high is None:
        return _undecided(gate), f"not shown: {room.shown}"
    strict = gate.better_by == 0.0  # better by nothing is not better
    if room.low > 0 or (room.low == 0 and not strict):
        return "passed", room.shown
    if room.high < 0 or (room.high == 0 and strict):
        return "failed", room.shown
    return _undecided(gate), f"not shown: {room.shown}"


def _less(value: float | None, limit: float | None) -> float | None:
    return None if value is None or limit is None else value - limit


def _limit(value: float) -> str:
    """A limit as it was written."""
    return f"{value:g}"


def read_condition(condition: str, metrics: Collection[str]) -> tuple[str | None, str, float | None]:
    """A condition's metric, word and limit.

    Args:
        condition: what `--fail-if` was given.
        metrics: those that are computed.

    Raises:
        UsageError: it cannot be read, or names another metric.
    """
    metric, colon, rest = condition.strip().rpartition(":")
    word, more, number = (part.strip() for part in rest.partition(">"))
    how = "write worse, not-better or inconclusive, one of them for a metric (log_loss:worse), or log_loss:worse>0.005"
    if word not in _CONDITIONS or (more and (word != "worse" or not colon)):
        raise UsageError(f"--fail-if {condition!r} is no condition", hint=how)
    if colon and metric not in metrics:
        near = difflib.get_close_matches(metric, metrics, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"computed: {_sorted(set(metrics))}"
        raise UsageError(f"--fail-if {condition!r}: {metric!r} is not computed", hint=hint)
    if not more:
        return (metric if colon else None), word, None
    try:
        limit = float(number)
    except ValueError as exc:
        raise UsageError(f"--fail-if {condition!r}: {number!r} is no number", hint=how) from exc
    if not 0 <= limit < float("inf"):
        raise UsageError(f"--fail-if {condition!r}: the limit is a difference of 0 or more", hint=how)
    return metric, word, limit


def _sorted(names: set[str]) -> str:
    return ", ".join(sorted(names)) if names else "nothing; without labels there are no metrics"


def _verdicts_that(comparison: Comparison, metric: str | None, word: str) -> Iterator[GateResult]:
    # What was not measured passes nothing: neither a version without metrics nor one that failed in the run.
    base = comparison.baseline
    status: GateStatus = "inconclusive" if word == "inconclusive" else "failed"
    wanted = {"worse": f"not worse than {base}", "not-better": f"better than {base}", "inconclusive": "a verdict"}[word]
    measured = {base, *(delta.version for delta in comparison.deltas)}
    for version in dict.fromkeys([*comparison.versions, *(comparison.settings.get("left_out") or ())]):
        if version not in measured:
            yield GateResult(version, "" if metric is None else metric, wanted, status, "it was not measured")
    for delta in comparison.deltas:
        if metric is not None and delta.metric != metric:
            continue
        name = wording.metric_name(delta.metric)
        if word == "inconclusive" and delta.verdict == "inconclusive":
            why = delta.reason if delta.reason is not None else "no verdict"
            yield GateResult(delta.version, delta.metric, f"{name} has a verdict", "inconclusive", why)
        elif (word == "worse" and delta.verdict == "worse") or (word == "not-better" and delta.verdict != "better"):
            than = "not worse than" if word == "worse" else "better than"
            shown = "" if delta.delta is None else f" ({wording.signed(delta.delta)})"
            yield GateResult(
                delta.version, delta.metric, f"{name} {than} {delta.baseline}", "failed", f"{delta.verdict}{shown}"
            )
