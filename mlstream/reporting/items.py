"""Everything that MLflow is told of a comparison, as a stream of small items. Pure; writes nothing.

`tracking_store` is the one place that writes them. Items carry names and sizes that MLflow takes: it refuses names
with other characters than letters, digits and `_-. :/`, and values over a length.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from mlstream.comparison.result import Comparison
from mlstream.reporting import charts, wording
from mlstream.reporting.facts import RunFacts, VersionFacts
from mlstream.reporting.note import write_note
from mlstream.reporting.report import write_report

MAX_PARAM_CHARACTERS = 6000
MAX_TAG_CHARACTERS = 8000
MAX_KEY_CHARACTERS = 250
STATUS = "mlstream.status"
COMPLETED = "completed"
KIND = "mlstream.kind"
COMPARISON = "mlstream.comparison"


@dataclass(frozen=True, slots=True)
class Param:
    """Something that was chosen before the run."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure.

    Attributes:
        of_model: it says something about the version itself, not about this run of it.
        step: which of several values over time it is.
        time_ms: the time that it is about, ms since 1970; None for the time of recording.
    """

    key: str
    value: float
    of_model: bool = False
    step: int = 0
    time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """Something that is searched for or shown."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file: its path in the run's artifacts and its bytes."""

    path: PurePosixPath
    data: bytes


Item = Param | Metric | Tag | Artifact


def comparison_items(
    comparison: Comparison, run: RunFacts, *, pages: Mapping[str, str] | None = None, chart: str | None = None
) -> Iterator[Item]:
    """The items of the parent run: what was compared, what came out, the chart and the page.

    Args:
        comparison: what was found.
        run: where it comes from.
        pages: link text → address, for the page.
        chart: address of the artifact `chart.svg` as the page can show it.
    """
    yield Tag(KIND, "comparison")
    yield from _identity(comparison, run)
    yield from _commit(run)
    drawn = charts.draw(comparison)
    note = write_note(comparison, run, pages=pages, chart=None if drawn is None else chart)
    yield Tag("mlflow.note.content", note)
    for version in comparison.versions:
        counts = wording.verdict_counts(delta for delta in comparison.deltas if delta.version == version)
        if counts:
            told = ", ".join(f"{verdict} {count}" for verdict, count in counts.items())
            yield Tag(f"mlstream.verdict.{_key(version)}", told)
    yield Param("task", comparison.task)
    yield Param("baseline", comparison.baseline)
    yield Param("versions", _cut(", ".join(comparison.versions), MAX_PARAM_CHARACTERS))
    # The rules are whole in config.json.
    yield from _params("", {name: value for name, value in comparison.settings.items() if name != "rules"})
    for found in comparison.metrics:
        if found.value is not None:
            # The part before the slash is a section of MLflow's charts: one section a metric, one bar a version.
            yield Metric(f"{_key(found.metric)}/{_key(found.version)}", found.value)
    for version, share in comparison.agreement.items():
        yield Metric(f"agreement/{_key(version)}", share)
    if comparison.labels is not None:
        yield Param("labels.labelled", str(comparison.labels.labelled))
        yield Param("labels.missing", str(comparison.labels.missing))
        yield Param("labels.rule", _cut(comparison.labels.rule, MAX_PARAM_CHARACTERS))
    if comparison.blocks is not None:
        yield Param("blocks", str(comparison.blocks.count))
        yield Param("blocks.length_s", str(comparison.blocks.length_s))
    yield _json("comparison.json", comparison.to_dict())
    if drawn is not None:
        yield Artifact(PurePosixPath("chart.png"), drawn.png)
        yield Artifact(PurePosixPath("chart.svg"), drawn.svg)
    yield from _tables(comparison)
    yield Artifact(PurePosixPath("report.html"), write_report(comparison, run).encode())
    if run.config:
        yield _json("config.json", dict(run.config))
    yield from _environment(run)


def _tables(comparison: Comparison) -> Iterator[Item]:
    """Disagreements and slices as what MLflow's `log_table` writes, and the tag by which its UI finds them."""
    paths = []
    for part in ("disagreements", "slices"):
        frame = comparison.to_frame(part)
        if frame.height:
            rows = [[_table_cell(value) for value in row] for row in frame.iter_rows()]
            yield _json(f"{part}.json", {"columns": frame.columns, "data": rows})
            paths.append({"path": f"{part}.json", "type": "table"})
    if paths:
        yield Tag("mlflow.loggedArtifacts", json.dumps(paths))


def _table_cell(value: Any) -> Any:
    """A value for a table that is looked at: six digits of a number are enough, `comparison.json` has all."""
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.6g}")
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def version_items(comparison: Comparison, run: RunFacts, version: str) -> Iterator[Item]:
    """The items of one version's run: its figures, its differences to the baseline, what it is made of."""
    known = run.version(version)
    yield Tag(KIND, "version")
    yield Tag("mlstream.version", version)
    yield Tag("mlflow.runColor", charts.colours(comparison)[version])
    yield from _identity(comparison, run)
    yield from _commit(run) if known.git is None else _own_commit(known.git)
    yield from _parts(comparison, known)
    yield Param("version", version)
    yield Param("role", "baseline" if version == comparison.baseline else "challenger")
    if known.model is not None:
        yield Param("model", _cut(known.model, MAX_PARAM_CHARACTERS))
    if known.features is not None:
        yield Param("features", str(len(known.features)))
        yield Param("features.names", _cut(", ".join(known.features), MAX_PARAM_CHARACTERS))
    yield from _params("parameters.", known.parameters)
    yield from _figures(comparison, version)
    yield from (Metric(f"run/{_key(name)}", value) for name, value in known.figures.items())
    yield _json("version.json", _version_record(comparison, known))


def _identity(comparison: Comparison, run: RunFacts) -> Iterator[Tag]:
    yield Tag(COMPARISON, comparison.id)
    yield Tag("mlstream.run", run.id)
    yield Tag("mlstream.snapshot", comparison.snapshot_id)
    if comparison.snapshot_name is not None:
        yield Tag("mlstream.snapshot.name", comparison.snapshot_name)
    yield Tag("mlflow.source.name", f"mlstream compare {run.id[:12]}")
    yield Tag("mlflow.source.type", "LOCAL")


def _own_commit(git: Mapping[str, Any]) -> Iterator[Tag]:
    """The commit that a version's files were taken from, which need not be the run's."""
    yield Tag("mlflow.source.git.commit", git["commit"])
    yield Tag("mlstream.git.dirty", str(bool(git["changed"])).lower())
    if git["revision"] is not None:
        yield Tag("mlstream.git.revision", _cut(git["revision"], MAX_TAG_CHARACTERS))
    if git["diff_digest"] is not None:
        yield Tag("mlstream.git.diff", git["diff_digest"])


def _commit(run: RunFacts) -> Iterator[Tag]:
    if run.git is not None:
        yield Tag("mlflow.source.git.commit", run.git.commit)
        yield Tag("mlstream.git.dirty", str(run.git.dirty).lower())
        if run.git.branch is not None:
            yield Tag("mlflow.source.git.branch", run.git.branch)


def _parts(comparison: Comparison, known: VersionFacts) -> Iterator[Tag]:
    yield Tag("mlstream.version.status", known.status)
    if known.description:
        yield Tag("mlflow.note.content", _cut(known.description, MAX_TAG_CHARACTERS))
    if known.digest is not None:
        yield Tag("mlstream.digest", known.digest)
    for part, digest in known.digests.items():
        yield Tag(f"mlstream.digest.{_key(part)}", digest)
    if known.topic is not None:
        yield Tag("mlstream.topic", known.topic)
    output = comparison.outputs.get(known.name, known.output_id)
    if output is not None:
        yield Tag("mlstream.output", output)
    for delta in comparison.deltas:
        if delta.version == known.name:
            yield Tag(f"mlstream.verdict.{_key(delta.metric)}", delta.verdict)
    for found in comparison.metrics:
        if found.version == known.name and found.undefined is not None:
            yield Tag(f"mlstream.undefined.{_key(found.metric)}", _cut(found.undefined, MAX_TAG_CHARACTERS))


def _figures(comparison: Comparison, version: str) -> Iterator[Metric]:
    for found in comparison.metrics:
        if found.version == version and found.value is not None:
            name = _key(found.metric)
            yield Metric(name, found.value, of_model=True)
            if found.interval is not None:
                yield Metric(f"{name}.low", found.interval.low)
                yield Metric(f"{name}.high", found.interval.high)
    for delta in comparison.deltas:
        if delta.version == version and delta.delta is not None:
            name = f"delta.{_key(delta.metric)}"
            yield Metric(name, delta.delta)
            if delta.interval is not None:
                yield Metric(f"{name}.low", delta.interval.low)
                yield Metric(f"{name}.high", delta.interval.high)
            if delta.p_adjusted is not None:
                yield Metric(f"{name}.p_adjusted", delta.p_adjusted)
    for series in comparison.series:
        if series.version == version:
            points = enumerate(zip(series.starts_ms, series.values, strict=True))
            yield from (
                Metric(f"over_time/{_key(series.metric)}", value, step=step, time_ms=max(0, start_ms))
                for step, (start_ms, value) in points
                if value is not None
            )
    if version in comparison.agreement:
        yield Metric("agreement", comparison.agreement[version])
    for covered in comparison.coverage:
        if covered.version == version:
            counts = ("records", "predictions", "errors", "missing", "doubled")
            yield from (Metric(f"coverage/{name}", float(getattr(covered, name))) for name in counts)


def _version_record(comparison: Comparison, known: VersionFacts) -> dict[str, Any]:
    return {
        "version": known.name,
        "status": known.status,
        "model": known.model,
        "description": known.description,
        "parameters": dict(known.parameters),
        "features": None if known.features is None else list(known.features),
        "digest": known.digest,
        "digests": dict(known.digests),
        "topic": known.topic,
        "output": comparison.outputs.get(known.name, known.output_id),
        "figures": dict(known.figures),
        "git": None if known.git is None else dict(known.git),
    }


def _environment(run: RunFacts) -> Iterator[Item]:
    if run.python is not None:
        yield Param("python", run.python)
    if run.platform is not None:
        yield Tag("mlstream.platform", run.platform)
    if run.environment:
        head = f"# {run.python}\n" if run.python is not None else ""
        pins = "".join(f"{name}=={version}\n" for name, version in sorted(run.environment.items()))
        yield Artifact(PurePosixPath("environment/requirements.txt"), (head + pins).encode())


def _params(prefix: str, values: Mapping[str, Any]) -> Iterator[Param]:
    taken: set[str] = set()
    for name, value in values.items():
        key = _key(f"{prefix}{name}", taken)
        taken.add(key)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        yield Param(key, _cut(text, MAX_PARAM_CHARACTERS))


def _key(name: str, taken: set[str] | None = None) -> str:
    """`name` as MLflow allows it, and not one of `taken`."""
    key = re.sub(r"[^\w.\-/ ]", "_", name)[:MAX_KEY_CHARACTERS]
    if normpath(key) != key or key.startswith(("/", "..")) or key == ".":
        key = re.sub(r"[./]+", "_", key)
    unique, number = key, 2
    while taken is not None and unique in taken:
        unique, number = f"{key[: MAX_KEY_CHARACTERS - 8]}_{number}", number + 1
    return unique


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _json(path: str, value: dict[str, Any]) -> Artifact:
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return Artifact(PurePosixPath(path), f"{text}\n".encode())
