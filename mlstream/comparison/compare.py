"""Compare versions on the same records: coverage, labels, metrics, differences, verdicts. A pure function on columns.

Reads no run, no snapshot and no clock; `reporting/compare.py` brings the columns and keeps the result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mlstream.comparison.answers import Answer, Class, Truth, agreement, check_answers, read_answers, read_truth
from mlstream.comparison.blocks import MIN_BLOCKS, describe
from mlstream.comparison.coverage import RECORD, SOURCE, Paired, pair
from mlstream.comparison.disagreements import Answered
from mlstream.comparison.explain import Labelled, compare_answers, explain_labelled
from mlstream.comparison.figures import Blocked, find_metric, measure, point
from mlstream.comparison.groups import find_groups, first_times
from mlstream.comparison.labels import find_labels
from mlstream.comparison.own_metrics import OwnFunction, describe_own, measure_own
from mlstream.comparison.result import Comparison, Cost, Drift, Floor
from mlstream.comparison.shift import find_drift
from mlstream.comparison.sums import Integers
from mlstream.comparison.table import LateTable, Table
from mlstream.config import ExperimentConfig, rules_of
from mlstream.errors import ComparisonError, UsageError


@dataclass(frozen=True, slots=True)
class Other:
    """The same stream's records in another snapshot, with their decoded columns."""

    snapshot_id: str
    snapshot_name: str | None
    records: Table


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is compared.

    Attributes:
        records: the input's `_partition`, `_offset`, `_timestamp` (datetime[ms, UTC]) and the columns that the label
            rule, rankings and metrics of the experiment's own read; one row a record.
        predictions: version → `source_partition`, `source_offset`, `prediction` and, if it gives one, `score` or
            `scores`; in any order. Each is asked for once.
        errors: version → how many records it could not deal with.
        labels: the label stream's `_partition`, `_offset`, `_timestamp` and columns; None when records hold their own.
        classes: version → the classes of its `scores`, in their order.
        against: records of another snapshot that the input is held against.
        functions: metric of the experiment's own → its function.
        costs: what versions cost.
        floor: what came of computing the baseline again, without `metrics`.
        repeats: the baseline's predictions as they were computed again, where they differ.
        columns: all columns of the records, row by row, that slices and the search for them read and disagreements
            show; None when `records` has them.
    """

    records: pl.DataFrame
    predictions: Mapping[str, pl.DataFrame]
    errors: Mapping[str, int] = field(default_factory=dict)
    labels: pl.DataFrame | None = None
    classes: Mapping[str, Sequence[Class]] = field(default_factory=dict)
    against: Other | None = None
    functions: Mapping[str, OwnFunction] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    floor: Floor | None = None
    repeats: Sequence[pl.DataFrame] = ()
    columns: LateTable | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the evidence came from, for the record.

    `left_out` names the versions that failed in the run; `undecodable` records beside the evidence's did not decode.
    """

    run_id: str = ""
    snapshot_id: str = ""
    snapshot_name: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    undecodable: int = 0


def compare_predictions(
    config: ExperimentConfig,
    evidence: Evidence,
    *,
    origin: Origin | None = None,
    baseline: str | None = None,
    allow_missing: bool = False,
) -> Comparison:
    """Compare the versions of `evidence` as `config` says.

    The same evidence, configuration and seed give the same figures bit for bit on the same machine, in whatever order
    or partitions the records are and on however many threads.

    Args:
        config: task, labels, metrics, margins, bootstrap.
        evidence: records, predictions, labels.
        origin: ids for the record.
        baseline: the version that the others are compared with; the configuration's when None.
        allow_missing: go on over the records that every version answered exactly once.

    Raises:
        UsageError: the baseline is not among the versions.
        CoverageError: versions did not answer the same records.
        LabelError: labels are missing, ambiguous or of the wrong type.
        ComparisonError: predictions are of the wrong type, null, NaN or no probabilities, or records have no time.
    """
    origin = Origin() if origin is None else origin
    versions = tuple(evidence.predictions)
    chosen = config.baseline_version if baseline is None else baseline
    if chosen not in versions:
        raise UsageError(
            f"baseline {chosen!r} is not among the versions of the run",
            hint=f"choose one of {', '.join(versions)} with --baseline",
        )
    paired = pair(evidence.records, evidence.predictions, evidence.errors, allow_missing=allow_missing)
    found = Comparison(
        id="",
        experiment=config.experiment,
        question=config.question,
        task=config.task,
        run_id=origin.run_id,
        snapshot_id=origin.snapshot_id,
        snapshot_name=origin.snapshot_name,
        baseline=chosen,
        versions=versions,
        outputs=dict(origin.outputs),
        coverage=paired.coverage,
        labels=None,
        blocks=None,
        metrics=(),
        deltas=(),
        floor=evidence.floor,
        # What versions rank by need not have one scale: that numbers are equal says nothing.
        agreement={} if config.task == "ranking" else agreement(config, paired.predictions, chosen),
        settings=_settings(config, allow_missing=allow_missing)
        | {"custom_metrics": describe_own(config, evidence.functions), "left_out": list(origin.left_out)}
        | ({"undecodable": origin.undecodable} if origin.undecodable else {}),
        paired=paired.records.height,
    )
    columns = _columns(evidence, paired)
    labels: pl.Series | None = None
    if config.labels is not None:
        # One thread for matrix products: their last bits may depend on how many there are.
        with threadpool_limits(limits=1, user_api="blas"):
            found, labels = _with_metrics(config, evidence, paired, columns, found)
    said = check_answers(config, paired.predictions, evidence.classes)
    group = None if config.ranking is None else config.ranking.group
    answered = Answered(config.task, columns, said, labels, evidence.classes, group)
    found = replace(found, **compare_answers(answered, chosen), costs=evidence.costs, drift=_drift(evidence))
    return replace(found, id=_digest(found))


def _columns(evidence: Evidence, paired: Paired) -> Table:
    """The columns of the paired records."""
    if evidence.columns is None:
        return paired.records
    return evidence.columns if paired.kept is None else evidence.columns.filter(paired.kept)


def _with_metrics(
    config: ExperimentConfig, evidence: Evidence, paired: Paired, columns: Table, found: Comparison
) -> tuple[Comparison, pl.Series | None]:
    """The comparison with what labels tell, and the label of each paired record, null where there is none."""
    if config.labels is None:
        return found, None
    timeless = paired.records["_timestamp"].null_count()
    if timeless:
        raise ComparisonError(
            f"{timeless:,} records have no event time: they belong to no block of it",
            hint="write records with a timestamp",
        )
    labelled = find_labels(config.labels, paired.records, evidence.labels)
    truth = read_truth(config.task, labelled.values)
    mask = None if labelled.chosen.all() else pl.Series(labelled.chosen)
    times = _labelled(paired.records.select("_timestamp"), mask)["_timestamp"]
    times_ms = times.dt.epoch("ms").to_numpy().astype(np.int64, copy=False)
    if config.ranking is not None:
        truth = replace(truth, groups=find_groups(config.ranking, _labelled(paired.records, mask)))
        times_ms = first_times(truth, times_ms)
    answers = _read(config, evidence, paired, labelled.values, mask, truth, times_ms)
    ordered = _ordered(answers, found)
    measured = measure(config, truth, ordered, times_ms)
    told = Labelled(columns, labelled.chosen, truth, ordered, measured.blocked, measured.whole_blocked)
    whole = replace(
        found,
        labels=replace(labelled.coverage, positives=_positives(truth)),
        blocks=measured.blocks,
        value_blocks=measured.value_blocks,
        metrics=measured.metrics,
        deltas=measured.deltas,
        series=measured.series,
        floor=_floor(config, evidence, paired, labelled.chosen, truth, ordered[0]),
        settings=found.settings | {"score_grid": measured.score_grid} | _whole_blocks(config, measured.whole_blocked),
        **explain_labelled(config, told),
    )
    return whole, _spread(labelled.values, labelled.chosen)


def _read(
    config: ExperimentConfig,
    evidence: Evidence,
    paired: Paired,
    labels: pl.Series,
    mask: pl.Series | None,
    truth: Truth,
    times_ms: Integers,
) -> dict[str, Answer]:
    """The answers to the labelled records, with what metrics of the experiment's own make of them."""
    predictions = {name: _labelled(frame, mask) for name, frame in paired.predictions.items()}
    answers = read_answers(config, predictions, truth, evidence.classes)
    if not config.custom_metrics:
        return answers
    said = check_answers(config, predictions, evidence.classes)
    own = measure_own(config, evidence.functions, _labelled(paired.records, mask), labels, said, times_ms)
    return {name: replace(answer, own=own[name].values, whole=own[name].wholes) for name, answer in answers.items()}


def _labelled(frame: pl.DataFrame, mask: pl.Series | None) -> pl.DataFrame:
    """Its rows of the labelled records; the frame itself when all of them are."""
    return frame if mask is None else frame.filter(mask)


def _spread(labels: pl.Series, chosen: NDArray[np.bool_]) -> pl.Series:
    """The labels of the chosen records, with null for all others."""
    if chosen.all():
        return labels
    at = np.where(chosen, np.cumsum(chosen) - 1, -1)
    return labels.gather(pl.Series(at).replace(-1, None))


def _drift(evidence: Evidence) -> Drift | None:
    other = evidence.against
    if other is None:
        return None
    own = evidence.records if evidence.columns is None else evidence.columns
    return find_drift(own, other.records, snapshot_id=other.snapshot_id, snapshot_name=other.snapshot_name)


def _floor(
    config: ExperimentConfig,
    evidence: Evidence,
    paired: Paired,
    chosen: NDArray[np.bool_],
    truth: Truth,
    baseline: Answer,
) -> Floor | None:
    """The floor with how far the metrics of the computations are from those of the baseline, at most."""
    floor = evidence.floor
    if floor is None or floor.version != baseline.version:
        return floor
    named = [name for name in config.metric_names if name not in config.custom_metrics]
    known = {name: point(find_metric(config, name), truth, baseline) for name in named}
    apart = {name: 0.0 for name, value in known.items() if value is not None}
    for frame in evidence.repeats:
        identity = paired.records.select(RECORD)
        known_rows = frame.join(identity, left_on=SOURCE, right_on=RECORD, how="semi", maintain_order="left")
        again = pair(identity, {floor.version: known_rows}, {}).predictions[floor.version].filter(pl.Series(chosen))
        answer = read_answers(config, {floor.version: again}, truth, evidence.classes)[floor.version]
        for name in apart:
            value, own = point(find_metric(config, name), truth, answer), known[name]
            if value is not None and own is not None:
                apart[name] = max(apart[name], abs(value - own))
    return replace(floor, metrics=apart)


def _ordered(answers: Mapping[str, Answer], found: Comparison) -> list[Answer]:
    """The baseline's answers first."""
    rest = [answers[name] for name in found.versions if name != found.baseline]
    return [answers[found.baseline], *rest]


def _positives(truth: Truth) -> int | None:
    return int(truth.values.sum()) if truth.task == "binary" else None


def _whole_blocks(config: ExperimentConfig, blocked: Blocked | None) -> dict[str, object]:
    """The setting that says which blocks functions of all records have; none where there are no such functions."""
    if blocked is None:
        return {}
    return {"whole_blocks": asdict(describe(blocked[0], automatic=config.bootstrap.block == "auto"))}


def _settings(config: ExperimentConfig, *, allow_missing: bool) -> dict[str, object]:
    return {
        "confidence": config.bootstrap.confidence,
        "resamples": config.bootstrap.resamples,
        "seed": config.bootstrap.seed,
        "block": config.bootstrap.block,
        "least_blocks": MIN_BLOCKS,
        "threshold": config.threshold,
        "margins": dict(config.margins),
        "allow_missing": allow_missing,
        "slices": list(config.slices),
        "ranking": None if config.ranking is None else config.ranking.model_dump(),
        "rules": rules_of(config),
    }


def _digest(found: Comparison) -> str:
    """SHA-256 over everything in the comparison but its id."""
    content = {name: value for name, value in asdict(found).items() if name != "id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
