"""The page that describes a comparison in MLflow, as Markdown. Pure text; writes nothing.

MLflow keeps it in a tag, which holds 8,000 characters at most: the parts come in order of importance, and what does
not fit is left out with a word about where it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby

from mlstream.comparison.result import Comparison, DeltaResult, MetricResult
from mlstream.reporting import wording
from mlstream.reporting.facts import RunFacts

MAX_CHARACTERS = 8000
_ELSEWHERE = "\n\n*The rest did not fit here; it is in `comparison.json` under Artifacts.*"
_GAP = "&emsp;"  # MLflow's tables have no space between their columns


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
        headline(comparison),
        _links({} if pages is None else pages),
        "" if chart is None else f"![values and differences of every metric]({chart})",
        _verdicts(comparison),
        _section("Coverage", coverage(comparison)),
        _section("Made of", provenance(comparison, run)),
        _section("Recompute", recompute(comparison, run)),
    ]
    note = ""
    for part in filter(None, parts):
        longer = f"{note}\n\n{part}" if note else part
        if len(longer) > MAX_CHARACTERS - len(_ELSEWHERE):
            return note + _ELSEWHERE
        note = longer
    return note


def _section(name: str, text: str) -> str:
    return f"### {name}\n\n{text}" if text else ""


def folded(name: str, text: str) -> str:
    """A part that opens when its name is clicked; nothing for nothing."""
    return f"<details><summary>{name}</summary>\n\n{text}\n\n</details>" if text else ""


def headline(comparison: Comparison) -> str:
    """The question, and a sentence for each challenger."""
    asked = f"**{escaped(comparison.question)}**\n\n" if comparison.question else ""
    return asked + "\n".join(f"- {escaped(sentence)}." for sentence in wording.best_first(comparison))


def _links(pages: Mapping[str, str]) -> str:
    return " · ".join(f"[{escaped(text)}]({address})" for text, address in pages.items())


def _verdicts(comparison: Comparison) -> str:
    if not comparison.metrics:
        return ""
    return f"### Verdicts\n\n{verdict_table(comparison, gap=_GAP)}\n\n{how(comparison)}"


def verdict_table(comparison: Comparison, *, gap: str = "") -> str:
    """A row for each metric, a column for each version; nothing without metrics."""
    heads = [
        escaped(f"{version} (baseline)" if version == comparison.baseline else version)
        for version in comparison.versions
    ]
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
    return table(["", *heads], rows, gap=gap) if rows else ""


def _first(comparison: Comparison, metric: str) -> MetricResult:
    return comparison.metric(comparison.versions[0], metric)


def _cell(found: MetricResult, delta: DeltaResult | None) -> str:
    if found.value is None:
        return "not defined"
    shown = wording.number(found.value)
    if delta is None or delta.delta is None:
        return shown
    bounds = "" if delta.interval is None else f" ({wording.interval(delta.interval)})"
    verdict = f"{wording.SIGNS[delta.verdict]} **{delta.verdict}**"
    return f"{shown} {verdict}<br>{wording.signed(delta.delta)}{bounds}"


def how(comparison: Comparison) -> str:
    """How the figures came about."""
    return escaped(" ".join(f"{sentence}." for sentence in wording.method(comparison)))


def coverage(comparison: Comparison) -> str:
    """How many records were answered and have a label."""
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
    failed = wording.left_out(comparison)
    if failed is not None:
        lines.append(f"- {failed}")
    lines.append(_labels(comparison))
    return "\n".join(lines)


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
        why = "" if labels.reason is None else f" ({escaped(labels.reason)})"
        parts.append(f"{labels.missing:,} have none{why}")
    return f"- labels: {', '.join(parts)}; {escaped(labels.rule)}"


def provenance(comparison: Comparison, run: RunFacts) -> str:
    """Snapshot, run, commit, versions."""
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
    return "\n".join(lines)


def _size(run: RunFacts) -> str:
    known = [
        "" if run.rows is None else f"{run.rows:,} records",
        "" if run.size_bytes is None else wording.size(run.size_bytes),
    ]
    text = ", ".join(filter(None, known))
    return f": {text}" if text else ""


def recompute(comparison: Comparison, run: RunFacts) -> str:
    """The commands, as code."""
    return "```\n" + "\n".join(commands(comparison, run)) + "\n```"


def commands(comparison: Comparison, run: RunFacts) -> list[str]:
    """What to type for the same comparison."""
    snapshot = comparison.snapshot_name or comparison.snapshot_id[:12]
    lines = [f"mlstream snapshot verify {snapshot}"]
    if run.config_path is not None:
        lines.append(f"mlstream run {run.config_path} --snapshot {snapshot}")
    return [*lines, " ".join(_compare(comparison, run)), f"mlstream compare verify {comparison.id[:12]}"]


def _compare(comparison: Comparison, run: RunFacts) -> Iterator[str]:
    yield f"mlstream compare {run.id[:12]} --baseline {comparison.baseline}"
    if comparison.settings.get("allow_missing"):
        yield "--allow-missing"
    named = run.config.get("slices") or ()
    for condition in comparison.settings.get("slices") or ():
        if condition not in named:
            yield f"--slice {shlex.quote(condition)}"
    if comparison.drift is not None:
        yield f"--against {comparison.drift.snapshot_name or comparison.drift.snapshot_id[:12]}"


def table(heads: list[str], rows: list[list[str]], *, gap: str = "") -> str:
    """A table of Markdown; `gap` is what each cell ends with."""
    lines = [heads, ["---"] * len(heads), *([f"{cell.replace('|', '¦')}{gap}" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str | None) -> str:
    return "" if name is None else f"`{name}` "


def escaped(text: str) -> str:
    """Text of a user's as it is: without the signs that Markdown and HTML would read."""
    return text.translate(_ESCAPED)


_ESCAPED = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]#|"} | {"<": "&lt;", "&": "&amp;"})
