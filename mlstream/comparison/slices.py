"""Versions on parts of the records: the same figures, intervals and verdicts as over all of them. Finds no slices.

Blocks are those of the comparison: a slice is in fewer of them, and in fewer than thirty there is no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.blocks import Grid
from mlstream.comparison.bootstrap import Estimate
from mlstream.comparison.figures import Pair, Row, delta_result, estimate_rows, tally
from mlstream.comparison.metrics import Metric
from mlstream.comparison.result import SliceResult
from mlstream.comparison.sums import Integers
from mlstream.comparison.verdict import holm
from mlstream.config import ExperimentConfig


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the labelled records.

    Attributes:
        name: the condition.
        mask: (n,), the records for which it holds.
    """

    name: str
    mask: NDArray[np.bool_]


def select(truth: Truth, answers: Sequence[Answer], mask: NDArray[np.bool_]) -> tuple[Truth, list[Answer]]:
    """The labels and answers of those records; only the classes that occur among their labels are left."""
    values = np.compress(mask, truth.values)
    scores = [None if answer.score is None else np.compress(mask, answer.score, axis=0) for answer in answers]
    predicted = [np.compress(mask, answer.predicted) for answer in answers]
    classes = truth.classes
    if truth.task == "multiclass":
        occurring = np.unique(values)
        codes = np.full(len(classes) + 1, -1, dtype=np.int64)  # the last is for -1, a class that no label has
        codes[occurring] = np.arange(occurring.size)
        values, predicted = codes[values], [codes[found] for found in predicted]
        classes = tuple(classes[at] for at in occurring.tolist())
    groups = None if truth.groups is None else truth.groups[mask]
    return Truth(truth.task, values, classes, groups), [
        Answer(
            answer.version,
            own,
            score,
            answer.classes,
            {name: found[mask] for name, found in answer.own.items()},
            {name: found.select(mask) for name, found in answer.whole.items()},
        )
        for answer, own, score in zip(answers, predicted, scores, strict=True)
    ]


def measure_slices(
    config: ExperimentConfig,
    slices: Iterable[Slice],
    metrics: Sequence[Metric],
    truth: Truth,
    answers: Sequence[Answer],
    blocks: tuple[Grid, Integers],
    *,
    kind: Literal["named", "searched"] = "named",
) -> tuple[SliceResult, ...]:
    """Measure every version but the first against the first, on every slice and metric.

    Args:
        config: margins, bootstrap.
        slices: what of.
        metrics: the figures.
        truth: the labels, (n,).
        answers: of each version, the baseline first.
        blocks: those of the comparison, and which of them each record is in.
        kind: how the slices came about.

    Returns:
        By slice, metric and version, with p-values corrected (Holm) for all of them.
    """
    grid, block = blocks
    pairs: list[Pair] = [(answer.version, answers[0].version) for answer in answers[1:]]
    found = []
    for part in slices:
        if not part.mask.any():
            found += [_empty(part, pair, metric.name, kind) for metric in metrics for pair in pairs]
            continue
        own_truth, own_answers = select(truth, answers, part.mask)
        own_block = np.compress(part.mask, block)
        rows = [tally(metric, own_truth, own_answers, own_block, len(grid)) for metric in metrics]
        estimates = estimate_rows(config, rows, pairs, grid)
        found += [
            _result(config, part, row, pair, estimates.get((row.metric.name, pair)), kind)
            for row in rows
            for pair in pairs
        ]
    adjusted = holm([item.p_value for item in found])
    return tuple(replace(item, p_adjusted=p) for item, p in zip(found, adjusted, strict=True))


def _result(
    config: ExperimentConfig,
    part: Slice,
    row: Row,
    pair: Pair,
    found: Estimate | None,
    kind: Literal["named", "searched"],
) -> SliceResult:
    p_value = None if found is None or row.too_few(pair) is not None else found.p_value()
    delta = delta_result(config, row, pair, found, (p_value, None), {})
    return SliceResult(
        slice=part.name,
        kind=kind,
        version=delta.version,
        baseline=delta.baseline,
        metric=delta.metric,
        records=int(part.mask.sum()),
        share=float(part.mask.mean()),
        value=row.values.get(delta.version),
        baseline_value=row.values.get(delta.baseline),
        delta=delta.delta,
        interval=delta.interval,
        p_value=p_value,
        p_adjusted=None,
        verdict=delta.verdict,
        reason=delta.reason,
    )


def _empty(part: Slice, pair: Pair, metric: str, kind: Literal["named", "searched"]) -> SliceResult:
    return SliceResult(
        slice=part.name,
        kind=kind,
        version=pair[0],
        baseline=str(pair[1]),
        metric=metric,
        records=0,
        share=0.0,
        value=None,
        baseline_value=None,
        delta=None,
        interval=None,
        p_value=None,
        p_adjusted=None,
        verdict="inconclusive",
        reason="no labelled record is in it",
    )
