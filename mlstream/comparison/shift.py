"""How far two distributions are apart: scores of versions, columns of two snapshots. Looks at no label.

The largest distance of two empirical distribution functions (the statistic of Kolmogorov and Smirnov) is exact. The
population stability index compares shares over the ten bins that hold a tenth of the reference each, where its values
allow that; shares below 0.0001 count as 0.0001. There are no p-values: records of a stream are not independent, and
with enough of them any difference is significant. Usual readings of the index: below 0.1 little, above 0.25 much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from mlstream.comparison.result import ColumnDrift, Drift, ScoreShift
from mlstream.comparison.sums import Floats, add
from mlstream.comparison.table import Table

LEVELS = tuple(round(level / 40, 3) for level in range(41))
_DECILES = np.arange(1, 10) / 10
_LEAST_SHARE = 1e-4
# Numbers looked at together: bounds the memory.
_AT_ONCE = 1 << 20
_PLACE = ("_partition", "_offset", "_timestamp", "_key")


def kolmogorov_smirnov(own: Floats, other: Floats) -> float:
    """The largest distance of the distribution functions of (n,) and (m,) numbers."""
    return _distance(np.sort(own), np.sort(other))


def stability_index(own: Floats, reference: Floats) -> float:
    """The population stability index of numbers, over the deciles of the reference."""
    return _stability(np.sort(own), np.sort(reference))


def _distance(own: Floats, other: Floats) -> float:
    """`kolmogorov_smirnov` of sorted numbers."""
    return max(_farthest_above(own, other), _farthest_above(other, own))


def _farthest_above(own: Floats, other: Floats) -> float:
    """How far the first function is above the other at most: it is so where the first rises, at one of its numbers."""
    farthest = 0.0
    for start in range(0, own.size, _AT_ONCE):
        part = own[start : start + _AT_ONCE]
        above = np.arange(start + 1, start + part.size + 1) / own.size
        above -= np.searchsorted(other, part, side="right") / other.size
        farthest = max(farthest, float(above.max()))
    return farthest


def _stability(own: Floats, reference: Floats) -> float:
    """`stability_index` of sorted numbers."""
    edges, times = np.unique(np.quantile(reference, _DECILES), return_counts=True)
    # A value that is several deciles at once gets a bin of its own.
    edges = np.unique(np.concatenate([edges, np.nextafter(edges[times > 1], np.inf)]))
    shares = (
        np.diff(np.searchsorted(part, edges, side="left"), prepend=0, append=part.size) / part.size
        for part in (own, reference)
    )
    return _index(*shares)


def shift_scores(predictions: Mapping[str, pl.DataFrame], baseline: str, task: str) -> Iterator[ScoreShift]:
    """How what each version says is distributed beside the baseline, over all compared records."""
    for version, frame in predictions.items():
        if version == baseline:
            continue
        base = predictions[baseline]
        column = "score" if "score" in frame.columns and "score" in base.columns else "prediction"
        if column == "prediction" and task in ("binary", "multiclass"):
            distance, index = _categories(frame[column], base[column])
            yield ScoreShift(version, baseline, "answer", distance, index, None, None)
            continue
        own, other = (np.sort(part[column].cast(pl.Float64).to_numpy()) for part in (frame, base))
        yield ScoreShift(
            version,
            baseline,
            column,
            _distance(own, other),
            _stability(own, other),
            _mean(own),
            _mean(other),
            _quantiles(own),
            _quantiles(other),
            LEVELS,
        )


def find_drift(records: Table, others: Table, *, snapshot_id: str, snapshot_name: str | None = None) -> Drift:
    """The columns of a snapshot's records beside those of another, the one that drifted most first.

    Args:
        records, others: the decoded columns; those that say where a record is are left out.
        snapshot_id, snapshot_name: of the other one.
    """
    names = [name for name in dict.fromkeys([*records.columns, *others.columns]) if name not in _PLACE]
    found = [_drift(name, records, others) for name in names]
    # A column that is new or gone comes first.
    found.sort(key=lambda item: (-(1.1 if item.ks is None else item.ks), item.column))
    return Drift(snapshot_id, snapshot_name, records.height, others.height, tuple(found))


def _drift(name: str, records: Table, others: Table) -> ColumnDrift:
    if name not in others.columns or name not in records.columns:
        where = "this snapshot only" if name in records.columns else "the other snapshot only"
        return _missing(name, records, others, f"in {where}")
    own, other = records[name], others[name]
    if own.dtype.is_numeric() and other.dtype.is_numeric():
        numbers = [np.sort(_numbers(part)) for part in (own, other)]
        if not all(part.size for part in numbers):
            return _missing(name, records, others, "without a number on one side")
        return ColumnDrift(
            name,
            "number",
            _distance(*numbers),
            _stability(*numbers),
            _nulls(own),
            _nulls(other),
            _mean(numbers[0]),
            _mean(numbers[1]),
        )
    categories = (pl.String, pl.Boolean, pl.Categorical, pl.Enum)
    if own.dtype in categories and other.dtype in categories:
        if own.count() == 0 or other.count() == 0:
            return _missing(name, records, others, "without a value on one side")
        distance, index = _categories(own.drop_nulls(), other.drop_nulls())
        return ColumnDrift(name, "category", distance, index, _nulls(own), _nulls(other))
    if own.dtype != other.dtype:
        return _missing(name, records, others, f"{own.dtype} here and {other.dtype} in the other snapshot")
    return _missing(name, records, others, f"{own.dtype} is not compared")


def _missing(name: str, records: Table, others: Table, note: str) -> ColumnDrift:
    shares = [_nulls(frame[name]) if name in frame.columns else None for frame in (records, others)]
    return ColumnDrift(name, "missing", None, None, shares[0], shares[1], note=note)


def _numbers(column: pl.Series) -> Floats:
    """Those that are numbers: no nulls, no NaN, no infinities."""
    numbers: Floats = column.drop_nulls().cast(pl.Float64).to_numpy()
    return numbers[np.isfinite(numbers)]


def _nulls(column: pl.Series) -> float:
    return column.null_count() / max(column.len(), 1)


def _categories(own: pl.Series, other: pl.Series) -> tuple[float, float]:
    """Total variation and stability index of the shares of values."""
    counts = [
        part.cast(pl.String).alias("value").value_counts(name=name)
        for part, name in ((own, "own"), (other, "reference"))
    ]
    both = counts[0].join(counts[1], on="value", how="full", coalesce=True).fill_null(0).sort("value")
    shares = both["own"].to_numpy() / own.len(), both["reference"].to_numpy() / other.len()
    return float(np.abs(shares[0] - shares[1]).sum() / 2), _index(*shares)


def _index(own: Floats, reference: Floats) -> float:
    own, reference = np.maximum(own, _LEAST_SHARE), np.maximum(reference, _LEAST_SHARE)
    return float(np.sum((own - reference) * np.log(own / reference)))


def _mean(values: Floats) -> float:
    """The same in whatever order the values are."""
    return float(add(values, np.zeros(values.size, dtype=np.int64), 1)[0] / values.size)


def _quantiles(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in np.quantile(values, LEVELS))
