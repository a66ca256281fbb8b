"""What is on the page of a comparison, as plain values that a template only has to lay out. Pure; writes no HTML.

Names of colours are classes of the page's stylesheet: `v0` for the baseline, `v1` to `v6` for the others, in turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from markupsafe import Markup

from mlstream.comparison.result import Comparison, DeltaResult, Interval, LabelCoverage, MetricResult, Verdict
from mlstream.reporting import svg, wording
from mlstream.reporting.facts import RunFacts

COLOURS = 6


@dataclass(frozen=True, slots=True)
class VerdictCard:
    """A challenger in one glance.

    Attributes:
        tone: the verdict that its colour shows; "mixed" when some metrics are better and some worse.
        counts: (verdict, sign, how many metrics).
    """

    version: str
    colour: str
    sentence: str
    tone: str
    counts: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One version on one metric, as text; empty where there is nothing to say."""

    version: str
    colour: str
    baseline: bool
    value: str
    value_interval: str
    delta: str = ""
    interval: str = ""
    p: str = ""
    verdict: str = ""
    sign: str = ""
    picture: Markup = field(default=Markup(""))


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """A metric with a row for each version. `margin` is the difference that does not matter, as text."""

    name: str
    better: str
    arrow: str
    rows: tuple[MetricRow, ...]
    axis: Markup
    margin: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure of the page's head: what it is, the figure, what to know about it, whether it is a warning."""

    name: str
    value: str
    detail: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class VersionCard:
    """What a version is made of: (what, text) pairs, of which digests and paths are code."""

    name: str
    colour: str
    role: str
    description: str
    items: tuple[tuple[str, str], ...]


def colour_classes(comparison: Comparison) -> dict[str, str]:
    """Version → the class of its colour."""
    return version_colours(comparison.versions, comparison.baseline)


def version_colours(versions: Sequence[str], baseline: str) -> dict[str, str]:
    """Name → the class of its colour."""
    others = [version for version in versions if version != baseline]
    colours = [f"v{number + 1}" for number in range(COLOURS)]
    # Beyond six a colour comes again: its lines are dashed, its dot is a ring.
    return {baseline: "v0"} | {
        name: colours[at % COLOURS] + (" again" if at >= COLOURS else "") for at, name in enumerate(others)
    }


def verdicts(comparison: Comparison) -> tuple[VerdictCard, ...]:
    """A card for each challenger, the best first."""
    challengers = [version for version in comparison.versions if version != comparison.baseline]
    colours = colour_classes(comparison)
    cards = []
    for version, sentence in zip(challengers, wording.headline(comparison), strict=True):
        counts = wording.verdict_counts(delta for delta in comparison.deltas if delta.version == version)
        found = tuple((verdict, wording.SIGNS[verdict], count) for verdict, count in counts.items())
        cards.append(VerdictCard(version, colours[version], sentence, _tone(counts), found))
    return tuple(sorted(cards, key=_standing))


def _standing(card: VerdictCard) -> tuple[int, int]:
    """The more metrics are better than worse, the earlier; then the more equivalent."""
    counts = {verdict: count for verdict, _, count in card.counts}
    return counts.get("worse", 0) - counts.get("better", 0), -counts.get("equivalent", 0)


def _tone(counts: dict[Verdict, int]) -> str:
    if "better" in counts and "worse" in counts:
        return "mixed"
    return next((verdict for verdict in ("better", "worse", "equivalent") if verdict in counts), "inconclusive")


def metric_groups(comparison: Comparison) -> tuple[MetricGroup, ...]:
    """Every metric in the comparison's order."""
    colours = colour_classes(comparison)
    groups = []
    for metric, results in groupby(comparison.metrics, key=lambda found: found.metric):
        found = list(results)
        deltas = [comparison.delta(result.version, metric) for result in found]
        reach = _reach(deltas)
        rows = tuple(
            _row(result, delta, colours[result.version], reach) for result, delta in zip(found, deltas, strict=True)
        )
        margin = next((delta.margin for delta in deltas if delta is not None and delta.margin), None)
        higher = found[0].higher_is_better
        groups.append(
            MetricGroup(
                wording.metric_name(metric),
                "higher is better" if higher else "lower is better",
                wording.direction(higher),
                rows,
                svg.interval_axis(reach),
                "" if margin is None else wording.number(margin),
            )
        )
    return tuple(groups)


def _reach(deltas: list[DeltaResult | None]) -> float:
    """How far the drawings of a metric go from zero: all intervals are inside, with a little room."""
    ends = [0.0]
    for delta in deltas:
        if delta is not None and delta.delta is not None:
            ends += [abs(delta.delta), *(abs(it) for it in _ends(delta.interval))]
    margin = max((delta.margin for delta in deltas if delta is not None and delta.margin), default=0.0)
    widest = max(ends)
    return 1.08 * max(widest, margin if margin < 3 * widest else 0.0)


def _ends(found: Interval | None) -> tuple[float, ...]:
    return () if found is None else (found.low, found.high)


def _row(result: MetricResult, delta: DeltaResult | None, colour: str, reach: float) -> MetricRow:
    if result.value is None:
        value, bounds = "not defined", ""
    else:
        value, bounds = wording.number(result.value), _bounds(result.interval)
    if delta is None:
        return MetricRow(result.version, colour, True, value, bounds)
    return MetricRow(
        result.version,
        colour,
        False,
        value,
        bounds,
        "" if delta.delta is None else wording.signed(delta.delta),
        "" if delta.interval is None else wording.interval(delta.interval),
        "" if delta.p_adjusted is None else wording.p_value(delta.p_adjusted),
        delta.verdict,
        wording.SIGNS[delta.verdict],
        _picture(delta, colour, reach),
    )


def _bounds(found: Interval | None) -> str:
    return "" if found is None else f"{wording.number(found.low)} to {wording.number(found.high)}"


def _picture(delta: DeltaResult, colour: str, reach: float) -> Markup:
    if delta.delta is None:
        return Markup("")
    low, high = (delta.delta, delta.delta) if delta.interval is None else (delta.interval.low, delta.interval.high)
    shown = wording.signed(delta.delta)
    if delta.interval is not None:
        shown += f", {wording.percent(delta.interval.confidence)} interval {wording.interval(delta.interval)}"
    text = f"{delta.version} less {delta.baseline}: {shown}: {delta.verdict}"
    decided = delta.verdict in ("better", "worse")
    return svg.interval(svg.Whisker(delta.delta, low, high, decided, colour, text), reach=reach, margin=delta.margin)


def facts(comparison: Comparison, run: RunFacts) -> tuple[Fact, ...]:
    """The figures of the page's head: records, labels, blocks."""
    # A number and its sign of percent stay on one line.
    return tuple(replace(it, detail=it.detail.replace(" %", "\N{NO-BREAK SPACE}%")) for it in _facts(comparison, run))


def _facts(comparison: Comparison, run: RunFacts) -> Iterator[Fact]:
    if comparison.coverage:
        records = comparison.coverage[0].records
        faults = [fault for it in comparison.coverage if (fault := wording.faults(it))]
        paired = records if comparison.paired is None else comparison.paired
        detail = "; ".join(faults) if faults else "every version answered each of them once"
        if paired < records:
            detail = f"of {records:,}, those that every version answered once; {detail}"
        failed = wording.left_out(comparison)
        detail = detail if failed is None else f"{detail}; {failed}"
        yield Fact("records compared", f"{paired:,}", detail, bool(faults) or failed is not None)
    labels = comparison.labels
    if labels is None:
        yield Fact("labels", "none", "the versions are compared with each other only")
    else:
        share = labels.labelled / labels.records if labels.records else 0.0
        yield Fact("with a label", f"{labels.labelled:,}", f"{wording.percent(share)}; {_label_detail(labels)}")
    if comparison.agreement:
        least, most = (wording.percent(pick(comparison.agreement.values())) for pick in (min, max))
        each = ", ".join(f"{version} {wording.percent(share)}" for version, share in comparison.agreement.items())
        shown = least if least == most else f"{least.removesuffix(' %')} to {most}"
        yield Fact(f"same answer as {comparison.baseline}", shown, f"of the records: {each}")
    if comparison.blocks is not None:
        blocks = comparison.blocks
        yield Fact(
            "blocks of time", f"{blocks.count:,}", f"of {wording.duration(blocks.length_s)}, drawn again and again"
        )
    if run.rows is not None and run.size_bytes is not None:
        name = comparison.snapshot_name or comparison.snapshot_id[:12]
        yield Fact("snapshot", name, f"{run.rows:,} records, {wording.size(run.size_bytes)}")


def _label_detail(labels: LabelCoverage) -> str:
    parts = []
    if labels.positives is not None and labels.labelled:
        parts.append(f"{wording.percent(labels.positives / labels.labelled)} of them positive")
    if labels.not_yet_due:
        parts.append(f"{labels.not_yet_due:,} are not yet due")
    if labels.missing:
        parts.append(f"{labels.missing:,} have none" + (f" ({labels.reason})" if labels.reason else ""))
    return ", ".join(parts) if parts else labels.rule


def notes(comparison: Comparison) -> tuple[str, ...]:
    """How the figures came about, and why something is inconclusive or not defined; a sentence each."""
    return tuple(f"{sentence}." for sentence in wording.method(comparison))


def made_of(comparison: Comparison, run: RunFacts) -> tuple[tuple[str, str], ...]:
    """What the comparison was made of: (what, text)."""
    named = "" if comparison.snapshot_name is None else f"{comparison.snapshot_name} "
    found = [("snapshot", f"{named}{comparison.snapshot_id}")]
    for topic, ranges in groupby(run.streams, key=lambda part: part.topic):
        partitions = list(ranges)
        plural = "" if len(partitions) == 1 else "s"
        count = sum(map(len, partitions))
        found.append(("topic", f"{topic}: {len(partitions)} partition{plural}, {count:,} offsets"))
    found.append(("run", comparison.run_id))
    if run.git is not None:
        branch = "" if run.git.branch is None else f" on {run.git.branch}"
        found.append(("commit", f"{run.git.commit}{branch}{', with changes' if run.git.dirty else ''}"))
    if comparison.labels is not None:
        found.append(("labels", comparison.labels.rule))
    if run.python is not None:
        found.append(("environment", ", ".join(filter(None, (run.python, run.platform)))))
    found.append(("comparison", comparison.id))
    return tuple(found)


def version_cards(comparison: Comparison, run: RunFacts) -> tuple[VersionCard, ...]:
    """What each version is."""
    colours = colour_classes(comparison)
    cards = []
    for version in comparison.versions:
        known = run.version(version)
        items = [] if known.model is None else [("model", known.model)]
        if known.features is not None:
            items.append(("features", ", ".join(known.features)))
        items += [(name, str(value)) for name, value in known.parameters.items()]
        if known.git is not None and known.git["revision"] is not None:
            items.append(("revision", f"{known.git['revision']}, commit {known.git['commit']}"))
        elif known.git is not None and known.git["changed"]:
            items.append(("changed since the commit", ", ".join(known.git["changed"])))
        items += [] if known.digest is None else [("version", known.digest)]
        items += [(part, digest) for part, digest in known.digests.items()]
        if version in comparison.outputs:
            items.append(("predictions", comparison.outputs[version]))
        role = "baseline" if version == comparison.baseline else "challenger"
        cards.append(VersionCard(version, colours[version], role, known.description, tuple(items)))
    return tuple(cards)
