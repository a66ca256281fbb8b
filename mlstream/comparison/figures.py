"""All metrics of all versions and their differences to the baseline: point values, blocks, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mlstream.comparison.answers import Answer, Truth
from mlstream.comparison.blocks import (
    MIN_BLOCKS,
    MIN_INTERVAL_BLOCKS,
    Grid,
    choose_factor,
    cut,
    cut_finely,
    describe,
    forgets,
)
from mlstream.comparison.bootstrap import Estimate, Figure, Quantity, estimate, influence
from mlstream.comparison.calibration import CalibrationError
from mlstream.comparison.metrics import METRICS, CoverageGap, Metric, own_mean, pinball
from mlstream.comparison.ranked import find_ranked
from mlstream.comparison.ranking import RANKING_METRICS, error_bound
from mlstream.comparison.result import Blocks, DeltaResult, Interval, MetricResult, Series
from mlstream.comparison.series import over_time
from mlstream.comparison.sums import Floats, Integers
from mlstream.comparison.verdict import Judgement, holm, judge, mcnemar
from mlstream.comparison.wholes import Whole, group_factor
from mlstream.config import ExperimentConfig
from mlstream.errors import ComparisonError
from mlstream.ranges import parse_duration_s

# A version of which the figure is wanted, or a version and the one that it is less: keys of what is estimated.
Pair = tuple[str, str | None]
# Blocks of event time, and which of them each record (or each cell) is in.
Blocked = tuple[Grid, Integers]


@dataclass(frozen=True, slots=True)
class Measured:
    """What `measure` found.

    Attributes:
        metrics, deltas, blocks, value_blocks: as in the comparison.
        score_grid: how far the ranking metrics of the histograms are from the exact ones: metric → version →
            difference.
        blocked: the blocks of the deltas, and which of them each record is in, (n,).
        whole_blocked: those of the deltas of functions of all records, which have fewer; None when there are none.
        series: the figures over event time.
    """

    metrics: tuple[MetricResult, ...]
    deltas: tuple[DeltaResult, ...]
    blocks: Blocks | None
    value_blocks: Blocks
    score_grid: dict[str, dict[str, float]]
    blocked: Blocked
    whole_blocked: Blocked | None
    series: tuple[Series, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: the exact values of the versions that have it, and their sums of each block.

    Attributes:
        metric: the figure.
        undefined: version → why it has none.
        values: version → the exact figure.
        tables: version → (blocks, columns).
        records: how many it is over.
        errors: version → how far its value may be from the exact one at most.
    """

    metric: Metric
    undefined: Mapping[str, str]
    values: Mapping[str, float]
    tables: Mapping[str, Floats]
    records: int
    errors: Mapping[str, float]

    def defined(self, pair: Pair) -> bool:
        """Whether all versions of the pair have the figure."""
        return all(name in self.values for name in pair if name is not None)

    def exact(self, pair: Pair) -> float:
        """The value, or the difference."""
        own, other = pair
        return self.values[own] - (0.0 if other is None else self.values[other])

    def off(self, pair: Pair) -> float:
        """How far that may be from the exact one at most."""
        return sum(self.errors[name] for name in pair if name is not None)

    def influence(self, pair: Pair) -> Floats:
        """How much each block moves the value, or the difference: (blocks,)."""
        own, other = pair
        parts = influence(self.metric, self.tables[own])
        return parts if other is None else parts - influence(self.metric, self.tables[other])

    def support(self, pair: Pair) -> tuple[int, str]:
        """How many blocks hold what the figure needs most sorely, and what that is."""
        return min(self.metric.support(self.tables[name]) for name in pair if name is not None)

    def too_few(self, pair: Pair) -> str | None:
        """Why the blocks do not suffice for a verdict, or None."""
        held, what = self.support(pair)
        if held >= MIN_BLOCKS:
            return None
        where = f"{held} block{'s' if held != 1 else ''}"
        found = where if what == "records" else f"{what} are in {where} only"
        return f"{found}; {MIN_BLOCKS} are needed: freeze a longer range"

    def coarser(self, inside: Integers) -> Row:
        """The same in longer blocks; `inside` says which of them each block is in, rising."""
        starts = np.flatnonzero(np.diff(inside, prepend=-1))
        return replace(
            self, tables={name: np.add.reduceat(table, starts, axis=0) for name, table in self.tables.items()}
        )


def measure(config: ExperimentConfig, truth: Truth, answers: Sequence[Answer], times_ms: Integers) -> Measured:
    """Measure the versions on the labelled records.

    Args:
        config: metrics, margins, bootstrap.
        truth: the labels.
        answers: of each version, the baseline first.
        times_ms: (n,), the records' event times.

    Raises:
        ComparisonError: the blocks that were asked for are too many.
    """
    automatic = config.bootstrap.block == "auto"
    grid, cell = cut_finely(times_ms) if automatic else cut(times_ms, _length_ms(config))
    metrics = [find_metric(config, name) for name in config.metric_names]
    rows = [tally(metric, truth, answers, cell, len(grid)) for metric in metrics if not isinstance(metric, Whole)]
    wholes = [metric for metric in metrics if isinstance(metric, Whole)]
    versions = [answer.version for answer in answers]

    single: list[Pair] = [(name, None) for name in versions]
    paired: list[Pair] = [(name, versions[0]) for name in versions[1:]]
    values, deltas = (_fit(rows, pairs, grid, automatic=automatic) for pairs in (single, paired))
    found = _estimate_both(config, values, deltas)
    whole: _Fitted | None = None
    if wholes:
        # A block of these is one of the deltas', or several: the function is called once for each.
        groups, group = grid.coarser(group_factor(grid, deltas.grid.length_ms // grid.length_ms))
        asked_of = [tally(metric, truth, answers, group[cell], len(groups)) for metric in wholes]
        alone, whole = (
            _fit(asked_of, part.pairs, groups, automatic=automatic, least_ms=part.grid.length_ms).of_cells(group)
            for part in (values, deltas)
        )
        found |= _estimate_both(config, alone, whole)
        values, deltas = (values.joined(alone), deltas.joined(whole)) if rows else (alone, whole)

    names = config.metric_names
    value_rows, delta_rows = (
        sorted(part.rows, key=lambda row: names.index(row.metric.name)) for part in (values, deltas)
    )
    asked = [(row, pair, found.get((row.metric.name, pair))) for row in delta_rows for pair in paired]
    p_values = [
        None if known is None or row.too_few(pair) is not None else known.p_value() for row, pair, known in asked
    ]
    independent = {answer.version: _mcnemar(truth, answer, answers[0]) for answer in answers[1:]}
    return Measured(
        tuple(
            _metric_result(config, row, own, found.get((row.metric.name, (own, other))))
            for row in value_rows
            for own, other in single
        ),
        tuple(
            delta_result(config, row, pair, known, p, independent)
            for (row, pair, known), p in zip(asked, zip(p_values, holm(p_values), strict=True), strict=True)
        ),
        describe(deltas.grid, automatic=automatic) if paired else None,
        describe(values.grid, automatic=automatic),
        {row.metric.name: _grid_error(row) for row in rows if row.metric.name in RANKING_METRICS and row.values},
        (deltas.grid, deltas.inside[cell]),
        None if whole is None else (whole.grid, whole.inside[cell]),
        over_time([row for row in value_rows if not isinstance(row.metric, Whole)], values.grid),
    )


def find_metric(config: ExperimentConfig, name: str) -> Metric:
    """The metric of that name, which the configuration has checked."""
    own = config.custom_metrics.get(name)
    if own is not None:
        higher = own.better == "higher"
        return Whole(name, higher) if own.of == "whole" else own_mean(name, higher_is_better=higher)
    if config.ranking is not None and (ranked := find_ranked(config.ranking, name)) is not None:
        return ranked
    if name in RANKING_METRICS:
        return RANKING_METRICS[name]
    if name == "expected_calibration_error":
        return CalibrationError()
    if config.quantile is not None and name in ("pinball_loss", "coverage_gap"):
        return pinball(config.quantile) if name == "pinball_loss" else CoverageGap(config.quantile)
    return METRICS[name]


def point(metric: Metric, truth: Truth, answer: Answer) -> float | None:
    """The exact figure of one version; None when it is not defined."""
    if metric.undefined(truth, answer) is not None:
        return None
    return metric.point(truth, answer, metric.tally(truth, answer, np.zeros(len(truth), dtype=np.int64), 1)[0])


def _length_ms(config: ExperimentConfig) -> int:
    return max(1, round(parse_duration_s(config.bootstrap.block) * 1000))


def tally(metric: Metric, truth: Truth, answers: Sequence[Answer], block: Integers, blocks: int) -> Row:
    """The figure of every version that has it, and its sums of each block; `block` is (n,), in [0, blocks)."""
    undefined = {}
    values = {}
    tables = {}
    errors = {}
    for answer in answers:
        reason = metric.undefined(truth, answer)
        if reason is not None:
            undefined[answer.version] = reason
            continue
        try:
            table = metric.tally(truth, answer, block, blocks)
            value = metric.point(truth, answer, table.sum(axis=0))
        except ComparisonError as exc:
            # A function that cannot do with a slice leaves it without the figure; with all records it is an error.
            if not isinstance(metric, Whole) or not answer.whole[metric.name].part:
                raise
            undefined[answer.version] = exc.message
            continue
        tables[answer.version], values[answer.version] = table, value
        errors[answer.version] = error_bound(metric, truth, answer)
    return Row(metric, undefined, values, tables, len(truth), errors)


@dataclass(frozen=True, slots=True)
class _Fitted:
    """Rows in blocks that are long enough for the pairs; `inside` is which of the blocks each cell is in."""

    pairs: Sequence[Pair]
    grid: Grid
    rows: list[Row]
    inside: Integers

    def of_cells(self, group: Integers) -> _Fitted:
        """The same where our cells are groups of others; `group` says which of ours each of those is in."""
        return replace(self, inside=self.inside[group])

    def joined(self, other: _Fitted) -> _Fitted:
        """Our blocks, and the rows of both."""
        return replace(self, rows=[*self.rows, *other.rows])


def _fit(
    rows: Sequence[Row], pairs: Sequence[Pair], grid: Grid, *, automatic: bool, least_ms: int | None = None
) -> _Fitted:
    """The rows in blocks of the length that the rule finds for all of the pairs.

    Cells that are blocks of other figures already, `least_ms` long, are put together only for series that remember
    significantly beyond them.
    """
    series = [row.influence(pair) for row in rows for pair in pairs if row.defined(pair)]
    if least_ms is not None:
        series = [row for row in series if not forgets(row)]
    least = 1 if least_ms is None else math.ceil(least_ms / grid.length_ms)
    if not automatic or (not series and least == 1):
        return _Fitted(pairs, grid, list(rows), np.arange(len(grid)))
    factor = max(least, choose_factor(grid, np.stack(series)) if series else 1)
    coarse, inside = grid.coarser(factor)
    return _Fitted(pairs, coarse, [row.coarser(inside) for row in rows], inside)


def _estimate_both(config: ExperimentConfig, values: _Fitted, deltas: _Fitted) -> dict[tuple[str, Pair], Estimate]:
    """The estimates of both, from the same resamples where they have the same blocks."""
    if values.grid.length_ms == deltas.grid.length_ms:
        return estimate_rows(config, deltas.rows, [*values.pairs, *deltas.pairs], deltas.grid)
    return estimate_rows(config, values.rows, values.pairs, values.grid) | estimate_rows(
        config, deltas.rows, deltas.pairs, deltas.grid
    )


def estimate_rows(
    config: ExperimentConfig, rows: Sequence[Row], pairs: Sequence[Pair], grid: Grid
) -> dict[tuple[str, Pair], Estimate]:
    """(metric, pair) → estimate, of those that are defined and have blocks enough for an interval."""
    keys: list[list[Pair]] = []
    figures = []
    for row in rows:
        wanted = [pair for pair in pairs if row.defined(pair) and row.support(pair)[0] >= MIN_INTERVAL_BLOCKS]
        at = {name: index for index, name in enumerate(row.tables)}
        quantities = [Quantity(at[own], None if other is None else at[other]) for own, other in wanted]
        figures.append(Figure(row.metric, list(row.tables.values()), quantities, [row.exact(pair) for pair in wanted]))
        keys.append(wanted)
    found = estimate(
        [figure for figure in figures if figure.quantities],
        grid,
        config.bootstrap.resamples,
        config.bootstrap.seed,
    )
    answered = [(row, wanted) for row, wanted in zip(rows, keys, strict=True) if wanted]
    return {
        (row.metric.name, pair): replace(one, off=row.off(pair)) if row.off(pair) else one
        for (row, wanted), estimates in zip(answered, found, strict=True)
        for pair, one in zip(wanted, estimates, strict=True)
    }


def _metric_result(config: ExperimentConfig, row: Row, version: str, found: Estimate | None) -> MetricResult:
    confidence = config.bootstrap.confidence
    # Without any spread nothing is known of the error: a version that was never wrong may be next time.
    bounds = None if found is None or found.error == 0.0 else found.interval(confidence)
    least, most = row.metric.bounds
    return MetricResult(
        version=version,
        metric=row.metric.name,
        value=row.values.get(version),
        interval=None if bounds is None else Interval(max(bounds[0], least), min(bounds[1], most), confidence),
        higher_is_better=row.metric.higher_is_better,
        undefined=row.undefined.get(version),
        error_bound=row.errors.get(version, 0.0),
    )


def delta_result(
    config: ExperimentConfig,
    row: Row,
    pair: Pair,
    found: Estimate | None,
    p: tuple[float | None, float | None],
    independent: Mapping[str, float],
) -> DeltaResult:
    """The difference of a pair, judged; `p` is its p-value and the corrected one, `independent` McNemar's."""
    own, other = pair[0], str(pair[1])
    name, confidence, margin = row.metric.name, config.bootstrap.confidence, config.margins.get(row.metric.name)
    bounds = None if found is None else found.interval(confidence)
    if not row.defined(pair):
        judgement = Judgement("inconclusive", row.undefined.get(own) or row.undefined.get(other))
    elif found is None or row.too_few(pair) is not None:
        judgement = Judgement("inconclusive", row.too_few(pair))
    else:
        judgement = judge(
            found,
            higher_is_better=row.metric.higher_is_better,
            confidence=confidence,
            margin=margin,
            scale=max(abs(row.values[own]), abs(row.values[other])),
        )
    return DeltaResult(
        version=own,
        baseline=other,
        metric=name,
        delta=row.exact(pair) if row.defined(pair) else None,
        interval=None if bounds is None else Interval(*bounds, confidence),
        p_value=p[0],
        p_adjusted=p[1],
        margin=margin,
        verdict=judgement.verdict,
        reason=judgement.reason,
        independent_p=independent.get(own) if name == "accuracy" else None,
        error_bound=row.off(pair) if row.defined(pair) else 0.0,
        more_records=None if judgement.times is None else math.ceil((judgement.times - 1) * row.records),
    )


def _mcnemar(truth: Truth, own: Answer, other: Answer) -> float:
    """Of who is right alone how often; of no meaning for a regression, and not shown there."""
    mine, theirs = own.predicted == truth.values, other.predicted == truth.values
    return mcnemar(int(np.count_nonzero(mine & ~theirs)), int(np.count_nonzero(theirs & ~mine)))


def _grid_error(row: Row) -> dict[str, float]:
    return {
        name: abs(float(row.metric.value(table.sum(axis=0))) - row.values[name]) for name, table in row.tables.items()
    }
