"""The page that describes a comparison in MLflow, as Markdown. Pure text; writes nothing.

MLflow keeps it in a tag, which holds 8,000 characters at most: the parts come in order of importance, and what does
not fit is left out with a word about where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.reporting import wording
from mlstream.reporting.facts import RunFacts

MAX_CHARACTERS = 8000
_ELSEWHERE = "\n\n*The rest did not fit here; it is in `comparison.json` under Artifacts.*"
_GAP = "&emsp;"  # MLflow's tables have no space between their columns
_SIGNS = {"better": "▲", "worse": "▼", "equivalent": "≈", "inconclusive": "?"}


def write_note(
    comparison: Comparison, run: RunFacts, *, pages: Mapping[str, str] | None = None, chart: str | None = None
) -> str:
    """The Markdown of the comparison's page.

    Args:
        comparison: what was found.
        run: where it comes from.
        pages: link text → address of pages that belong to it, such as each version's.
        chart: address of the chart as an image.
    """
    parts = [
        _headline(comparison),
        _links({} if pages is None else pages),
        "" if chart is None else f"![values and differences of every metric]({chart})",
        _verdicts(comparison),
        _coverage(comparison),
        _provenance(comparison, run),
        _again(comparison, run),
    ]
    note = ""
    for part in filter(None, parts):
        longer = f"{note}\n\n{part}" if note else part
        if len(longer) > MAX_CHARACTERS - len(_ELSEWHERE):
            return note + _ELSEWHERE
        note = longer
    return note


def _headline(comparison: Comparison) -> str:
    asked = f"**{_plain(comparison.question)}**\n\n" if comparison.question else ""
    return asked + "\n".join(f"- {_plain(sentence)}." for sentence in wording.headline(comparison))


def _links(pages: Mapping[str, str]) -> str:
    return " · ".join(f"[{_plain(text)}]({address})" for text, address in pages.items())


def _verdicts(comparison: Comparison) -> str:
    if not comparison.metrics:
        return ""
    heads = [f"{version} (baseline)" if version == comparison.baseline else version for version in comparison.versions]
    rows = [
        [
            f"{wording.metric_name(metric)} {wording.direction(_first(comparison, metric).higher_is_better)}",
            *(
                _cell(comparison.metric(version, metric), comparison.delta(version, metric))
                for version in comparison.versions
            ),
        ]
        for metric in dict.fromkeys(found.metric for found in comparison.metrics)
    ]
    return f"### Verdicts\n\n{_table(['', *heads], rows)}\n\n{_method(comparison)}"


def _first(comparison: Comparison, metric: str) -> MetricResult:
    return comparison.metric(comparison.versions[0], metric)


def _cell(found: MetricResult, delta: DeltaResult | None) -> str:
    if found.value is None:
        return "not defined"
    shown = wording.number(found.value)
    if delta is None or delta.delta is None:
        return shown
    bounds = "" if delta.interval is None else f" ({wording.interval(delta.interval)})"
    verdict = f"{_SIGNS[delta.verdict]} **{delta.verdict}**"
    return f"{shown} {verdict}<br>{wording.signed(delta.delta)}{bounds}"


def _method(comparison: Comparison) -> str:
    sentences = []
    confidence = next((found.interval.confidence for found in comparison.deltas if found.interval), None)
    if confidence is not None:
        sentences.append(f"In brackets: the {wording.percent(confidence)} interval of the difference to the baseline")
    if comparison.blocks is not None:
        blocks = comparison.blocks
        resamples = comparison.settings.get("resamples")
        times = "" if resamples is None else f", {resamples:,} resamples"
        sentences.append(
            f"Paired block bootstrap over {blocks.count} blocks of {wording.duration(blocks.length_s)} of event time "
            f"({blocks.chosen}){times}"
        )
    margins = {delta.metric: delta.margin for delta in comparison.deltas if delta.margin}
    if margins:
        shown = (f"{wording.number(margin)} in {wording.metric_name(metric)}" for metric, margin in margins.items())
        sentences.append(f"Differences that do not matter: {wording.listed(shown)}")
    for reason in dict.fromkeys(delta.reason for delta in comparison.deltas):
        if reason is not None:
            found = (delta for delta in comparison.deltas if delta.reason == reason)
            of = wording.listed(f"{delta.version} on {wording.metric_name(delta.metric)}" for delta in found)
            sentences.append(f"Inconclusive: {of} ({reason})")
    undefined = (found for found in comparison.metrics if found.undefined is not None)
    sentences += [f"{wording.metric_name(it.metric)} of {it.version} not defined: {it.undefined}" for it in undefined]
    return _plain(" ".join(f"{sentence}." for sentence in sentences))


def _coverage(comparison: Comparison) -> str:
    if not comparison.coverage:
        return ""
    whole = [it for it in comparison.coverage if it.predictions == it.records and not (it.errors or it.doubled)]
    lines = []
    if whole:
        of = wording.listed(it.version for it in whole)
        lines.append(f"- {of}: {whole[0].predictions:,} of {whole[0].records:,} records answered, each once")
    for it in comparison.coverage:
        if it not in whole:
            counts = {"errors": it.errors, "missing": it.missing, "doubled": it.doubled}
            told = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
            lines.append(f"- {it.version}: {it.predictions:,} of {it.records:,} records answered{told}")
    lines.append(_labels(comparison))
    return "### Coverage\n\n" + "\n".join(lines)


def _labels(comparison: Comparison) -> str:
    labels = comparison.labels
    if labels is None:
        return "- no labels: the versions are compared with each other only"
    parts = [f"{labels.labelled:,} of {labels.records:,} records have a label"]
    if labels.positives is not None and labels.labelled:
        parts.append(f"{wording.percent(labels.positives / labels.labelled)} of them positive")
    if labels.not_yet_due:
        parts.append(f"{labels.not_yet_due:,} are not yet due")
    if labels.missing:
        why = "" if labels.reason is None else f": {_plain(labels.reason)}"
        parts.append(f"{labels.missing:,} have none{why}")
    return f"- labels: {', '.join(parts)} ({_plain(labels.rule)})"


def _provenance(comparison: Comparison, run: RunFacts) -> str:
    lines = [f"- Snapshot {_code(comparison.snapshot_name)}`{comparison.snapshot_id}`{_size(run)}"]
    for topic, ranges in groupby(run.streams, key=lambda found: found.topic):
        found = list(ranges)
        count = sum(map(len, found))
        partitions = f"{len(found)} partition{'s' if len(found) != 1 else ''}"
        lines.append(f"  - topic `{topic}`: {partitions}, {count:,} offsets")
    lines.append(f"- Run `{run.id}`")
    if run.git is not None:
        branch = "" if run.git.branch is None else f" on `{run.git.branch}`"
        lines.append(f"- Commit `{run.git.commit}`{branch}{', with changes' if run.git.dirty else ''}")
    for version in comparison.versions:
        known = run.version(version)
        told = [f"{known.description}" if known.description else "", f"`{known.model}`" if known.model else ""]
        ids = [f"version `{known.digest[:12]}`" if known.digest else ""]
        if version in comparison.outputs:
            ids.append(f"predictions `{comparison.outputs[version][:12]}`")
        lines.append(f"- **{version}**: {', '.join(filter(None, (*told, *ids)))}")
    lines.append(f"- Comparison `{comparison.id}`")
    return "### Made of\n\n" + "\n".join(lines)


def _size(run: RunFacts) -> str:
    known = [
        "" if run.rows is None else f"{run.rows:,} records",
        "" if run.size_bytes is None else wording.size(run.size_bytes),
    ]
    text = ", ".join(filter(None, known))
    return f": {text}" if text else ""


def _again(comparison: Comparison, run: RunFacts) -> str:
    compare = f"mlstream compare {run.id[:12]} --baseline {comparison.baseline}"
    snapshot = comparison.snapshot_name or comparison.snapshot_id[:12]
    lines = [f"mlstream snapshot verify {snapshot}"]
    if run.config_path is not None:
        lines.append(f"mlstream run {run.config_path} --snapshot {snapshot}")
    lines.append(compare)
    return "### Recompute\n\n```\n" + "\n".join(lines) + "\n```"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([f"{cell.replace('|', '¦')}{_GAP}" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str | None) -> str:
    return "" if name is None else f"`{name}` "


def _plain(text: str) -> str:
    """Text of a user's as it is: without the signs that Markdown and HTML would read."""
    return text.translate(_ESCAPED)


_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]#|"} | {"<": "&lt;", "&": "&amp;"})
