"""What a comparison found, as plain values that survive JSON. Computes nothing.

A figure that is not defined (ROC AUC with one class only, say) is None and `undefined` says why: never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from mlstream.comparison.details import (
    Calibration,
    CalibrationBin,
    Change,
    ColumnDrift,
    Cost,
    Curve,
    Disagreement,
    Drift,
    Floor,
    Interval,
    ScoreShift,
    Series,
    SliceResult,
    SliceSearch,
    Verdict,
)
from mlstream.comparison.frames import to_frame
from mlstream.display import Displayed, chart
from mlstream.errors import UsageError

__all__ = [
    "Blocks",
    "Calibration",
    "CalibrationBin",
    "Change",
    "ColumnDrift",
    "Comparison",
    "Cost",
    "Coverage",
    "Curve",
    "DeltaResult",
    "Disagreement",
    "Drift",
    "Floor",
    "Interval",
    "LabelCoverage",
    "MetricResult",
    "ScoreShift",
    "Series",
    "SliceResult",
    "SliceSearch",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many records of the input one version answered. `predictions + errors + missing == records` when nothing
    is doubled.
    """

    version: str
    records: int
    predictions: int
    errors: int
    missing: int
    doubled: int


@dataclass(frozen=True, slots=True)
class LabelCoverage:
    """How many records have a truth to compare with. `labelled + not_yet_due + missing == records`.

    `null` of the missing have a label record whose value is null. For `absent` of the labelled none came, which the
    experiment says is a label, too. `cut_ms` is the event time up to which labels could
    have come (ms since 1970), None when the truth is in the record itself. `reason` is the experiment's own word on why
    labels may be missing.
    """

    records: int
    labelled: int
    not_yet_due: int
    missing: int
    positives: int | None
    rule: str
    null: int = 0
    cut_ms: int | None = None
    reason: str | None = None
    absent: int = 0


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of the bootstrap: intervals of event time across all partitions, each `length_s` seconds long.

    `count` is of those that hold labelled records. `chosen` says how the length came about ("given", or the rule that
    picked it).
    """

    count: int
    length_s: float
    chosen: str


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One version's value of one metric over the labelled records.

    `error_bound` says how far the exact figure may be from it at most; 0 but for ranking metrics of very many records.
    """

    version: str
    metric: str
    value: float | None
    interval: Interval | None
    higher_is_better: bool
    undefined: str | None = None
    error_bound: float = 0.0


@dataclass(frozen=True, slots=True)
class DeltaResult:
    """One version against the baseline on one metric: `delta = value(version) - value(baseline)`, paired.

    `p_adjusted` is corrected (Holm) for all pairs of version × metric of the comparison. `verdict` reads the interval
    and the margin; `reason` says why it is inconclusive. `independent_p` is McNemar's exact p-value, which would hold
    if records were independent: it is shown beside accuracy and sets no verdict. `more_records` is about how many more
    labelled records like these would settle an inconclusive one; None when nothing says so. `error_bound` says how far
    the exact difference may be from `delta` at most; intervals and verdicts count it in.
    """

    version: str
    baseline: str
    metric: str
    delta: float | None
    interval: Interval | None
    p_value: float | None
    p_adjusted: float | None
    margin: float | None
    verdict: Verdict
    reason: str | None = None
    independent_p: float | None = None
    more_records: int | None = None
    error_bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison(Displayed):
    """Versions compared on one run, paired record by record. `id` is a digest of everything else in it.

    `paired` counts the records that every version answered exactly once: all figures are over these. `blocks` are those
    of the deltas, `value_blocks` those of the intervals of single values, whose series are another. What is below
    `value_blocks` is empty or None where the evidence does not give it: without labels there are no slices, no
    calibration and no curves; drift is there when another snapshot was given, a floor when the baseline was repeated.
    """

    id: str
    experiment: str
    question: str
    task: str
    run_id: str
    snapshot_id: str
    snapshot_name: str | None
    baseline: str
    versions: tuple[str, ...]
    outputs: dict[str, str]  # version → id of the snapshot that froze its predictions
    coverage: tuple[Coverage, ...]
    labels: LabelCoverage | None
    blocks: Blocks | None
    metrics: tuple[MetricResult, ...]
    deltas: tuple[DeltaResult, ...]
    agreement: dict[str, float] = field(default_factory=dict)  # version → share of records with the baseline's answer
    settings: dict[str, Any] = field(default_factory=dict)  # confidence, resamples, seed, block, threshold
    paired: int | None = None
    value_blocks: Blocks | None = None
    slices: tuple[SliceResult, ...] = ()
    slice_search: SliceSearch | None = None
    disagreements: tuple[Disagreement, ...] = ()
    changes: tuple[Change, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    curves: tuple[Curve, ...] = ()
    shifts: tuple[ScoreShift, ...] = ()
    drift: Drift | None = None
    costs: tuple[Cost, ...] = ()
    floor: Floor | None = None
    series: tuple[Series, ...] = ()

    def metric(self, version: str, metric: str) -> MetricResult:
        """The value of `metric` for `version`.

        Raises:
            UsageError: when it was not computed.
        """
        for found in self.metrics:
            if (found.version, found.metric) == (version, metric):
                return found
        raise self._not_computed(version, metric)

    def delta(self, version: str, metric: str) -> DeltaResult | None:
        """The difference of `version` to the baseline, or None for the baseline itself.

        Raises:
            UsageError: when the metric was not computed for that version.
        """
        for found in self.deltas:
            if (found.version, found.metric) == (version, metric):
                return found
        if all((found.version, found.metric) != (version, metric) for found in self.metrics):
            raise self._not_computed(version, metric)
        return None

    def _not_computed(self, version: str, metric: str) -> UsageError:
        """What to say of a figure that there is not."""
        asked, there = (metric, {found.metric: None for found in self.metrics})
        what = f"{metric!r} was not computed"
        if version not in self.versions:
            asked, there, what = version, dict.fromkeys(self.versions), f"{version!r} is not in this comparison"
        near = get_close_matches(asked, there, n=1)
        return UsageError(
            what, hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there) or 'none'}"
        )

    def to_frame(self, part: str = "metrics") -> pl.DataFrame:
        """One part as a data frame, a row for each figure.

        Args:
            part: "metrics", "slices", "disagreements", "changes", "calibration", "curves", "shifts", "drift", "costs".

        Raises:
            UsageError: there is no such part.
        """
        return to_frame(self, part)

    def plot(self) -> Any:
        """The chart: values and differences of every metric. A notebook shows it; None when there are no metrics."""
        return chart(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: dicts, lists, strings, numbers and None only."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_dict` made `found` from.

        Raises:
            TypeError: when a field is missing or unknown.
            KeyError, ValueError: likewise.
        """
        values = dict(found)
        values["versions"] = tuple(values["versions"])
        values["coverage"] = tuple(Coverage(**item) for item in values["coverage"])
        values["metrics"] = tuple(MetricResult(**_with_interval(item)) for item in values["metrics"])
        values["deltas"] = tuple(DeltaResult(**_with_interval(item)) for item in values["deltas"])
        values["labels"] = None if values["labels"] is None else LabelCoverage(**values["labels"])
        for name in ("blocks", "value_blocks"):
            values[name] = None if values[name] is None else Blocks(**values[name])
        for name in _DETAILS.keys() & values.keys():
            values[name] = _reader(name).validate_python(values[name])
        return cls(**values)


def _with_interval(item: Mapping[str, Any]) -> dict[str, Any]:
    interval = item["interval"]
    return {**item, "interval": None if interval is None else Interval(**interval)}


_DETAILS: dict[str, Any] = {
    "slices": tuple[SliceResult, ...],
    "slice_search": SliceSearch | None,
    "disagreements": tuple[Disagreement, ...],
    "changes": tuple[Change, ...],
    "calibration": tuple[Calibration, ...],
    "curves": tuple[Curve, ...],
    "shifts": tuple[ScoreShift, ...],
    "drift": Drift | None,
    "costs": tuple[Cost, ...],
    "floor": Floor | None,
    "series": tuple[Series, ...],
}


@cache
def _reader(name: str) -> TypeAdapter[Any]:
    """Reads the JSON of that field."""
    return TypeAdapter(_DETAILS[name])
