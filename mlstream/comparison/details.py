"""What a comparison found beside its metrics, as plain values that survive JSON. Computes nothing.

Slices, records on which versions differ, calibration, curves, shifts of scores, drift of the input, cost, noise.
`result.py` has the comparison that they are part of.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval `[low, high]` at level `confidence` (0.95 for 95 %)."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One version against the baseline on one metric, over a part of the labelled records.

    Attributes:
        slice: the condition: `origin = 'JFK'`, `18 <= hour < 21`, or what the experiment wrote.
        kind: "named" by the experiment, or "searched": one of the worst that the search found.
        version, baseline, metric: of what.
        records: labelled records of the slice.
        share: of all labelled records.
        value, baseline_value: the two figures; None when one is not defined there.
        delta: `value - baseline_value`.
        interval: of the delta; None when the slice is in too few blocks.
        p_value: of the delta being 0; None without a verdict.
        p_adjusted: corrected for all that was tested: Holm over the named slices, Benjamini & Yekutieli over what was
            searched.
        verdict: as of a difference over all records.
        reason: why it is inconclusive.
    """

    slice: str
    kind: Literal["named", "searched"]
    version: str
    baseline: str
    metric: str
    records: int
    share: float
    value: float | None
    baseline_value: float | None
    delta: float | None
    interval: Interval | None
    p_value: float | None
    p_adjusted: float | None
    verdict: Verdict
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SliceSearch:
    """How the worst slices were looked for.

    Attributes:
        metric: the loss that decided.
        columns: what was cut into slices.
        tested: how many slices × versions.
        found: of these, where the version is worse than the baseline.
        least_records: slices of fewer labelled records were left out.
        rate: at most this share of what was found is expected to be found by chance.
    """

    metric: str
    columns: tuple[str, ...]
    tested: int
    found: int
    least_records: int
    rate: float


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A record on which a version and the baseline are far apart.

    Attributes:
        version, baseline: the two.
        partition, offset, timestamp_ms: the record; its event time in ms since 1970.
        distance: how far apart: of the scores, else of the numbers, else 1.
        prediction, baseline_prediction: what they said.
        score, baseline_score: the probability of the positive class, or of the class that was said.
        label: the truth; None when there is none.
        right: who is right, or nearer: "version", "baseline", "both", "neither"; None without a label.
        columns: the record's own, as JSON values; long texts are cut.
    """

    version: str
    baseline: str
    partition: int
    offset: int
    timestamp_ms: int | None
    distance: float
    prediction: Scalar
    baseline_prediction: Scalar
    score: float | None
    baseline_score: float | None
    label: Scalar
    right: Literal["version", "baseline", "both", "neither"] | None
    columns: dict[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A cell of the cross table: how many records with that label got that answer of the baseline and of the version.

    Of a regression the answers are "nearer" and "farther" from the label, or "equal". `label` is None without labels.
    """

    version: str
    baseline: str
    label: str | None
    baseline_answer: str
    answer: str
    records: int


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Records with a score in `[low, high)` (the last bin with its end): the mean score and the share of positives."""

    low: float
    high: float
    records: int
    mean_score: float
    positives: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a version's scores are probabilities: the bins that hold records, and their mean distance.

    Of several classes the score is that of the class that was said, and a positive is a right answer.
    """

    version: str
    expected_error: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve of one version over its thresholds, at most 101 points of the exact one.

    `roc`: false positive rate → true positive rate; `precision_recall`: recall → precision. `x` never falls.
    """

    version: str
    kind: Literal["roc", "precision_recall"]
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScoreShift:
    """How the distribution of what a version says differs from the baseline's, over all compared records.

    Attributes:
        version, baseline: the two.
        column: "score", "prediction" or, for several classes, "answer".
        ks: the largest distance of the two distribution functions (Kolmogorov & Smirnov); of answers, the share that
            would have to change (total variation).
        psi: population stability index over the baseline's deciles, or over the answers.
        mean, baseline_mean: None for answers.
        quantiles, baseline_quantiles: at `levels`; empty for answers.
        levels: of the quantiles, rising.
    """

    version: str
    baseline: str
    column: str
    ks: float
    psi: float
    mean: float | None
    baseline_mean: float | None
    quantiles: tuple[float, ...] = ()
    baseline_quantiles: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How one column of the input differs from the other snapshot's.

    Attributes:
        column: its name.
        kind: "number", "category", or "missing" when only one of the two has it or its types do not go together.
        ks: of numbers, the largest distance of the distribution functions; of categories the total variation.
        psi: over the other snapshot's deciles, or over the categories.
        nulls, other_nulls: shares of records without a value.
        mean, other_mean: of numbers.
        note: what is to be said, such as that a column is new.
    """

    column: str
    kind: Literal["number", "category", "missing"]
    ks: float | None
    psi: float | None
    nulls: float | None
    other_nulls: float | None
    mean: float | None = None
    other_mean: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """The input beside that of another snapshot; the columns that drifted most first."""

    snapshot_id: str
    snapshot_name: str | None
    records: int
    other_records: int
    columns: tuple[ColumnDrift, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a version cost, as its run measured it; None where that was not measured.

    Attributes:
        version: its name.
        records: that were scored while it was measured.
        records_per_second: to the last commit.
        latency_p50_ms, latency_p95_ms, latency_p99_ms: of the model, a batch.
        record_latency_p50_us, record_latency_p95_us, record_latency_p99_us: of the model, a record of a batch.
        cpu_seconds_per_million: CPU time for a million records.
        memory_mb: the most that was resident.
        reused: the id of the run that it was measured in, when that was an earlier one.
    """

    version: str
    records: int
    records_per_second: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    record_latency_p50_us: float | None
    record_latency_p95_us: float | None
    record_latency_p99_us: float | None
    cpu_seconds_per_million: float | None
    memory_mb: float | None
    reused: str | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """What differs between computations of the baseline although nothing was changed (A/A).

    Attributes:
        version: the baseline.
        computations: how many were compared.
        records: of each.
        differing: of these, the ones whose predictions differ in any bit, at most.
        largest: the largest difference of a number among the predictions.
        metrics: metric → the largest difference of the figure; differences of versions below it say nothing.
    """

    version: str
    computations: int
    records: int
    differing: int
    largest: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """One version's figure in each interval of event time that holds labelled records; to be looked at, not judged by.

    Attributes:
        version, metric: of what.
        length_s: of an interval, in seconds.
        starts_ms: when each begins, ms since 1970, rising.
        values: the figure of its records; None where it is not defined.
    """

    version: str
    metric: str
    length_s: float
    starts_ms: tuple[int, ...]
    values: tuple[float | None, ...]
