"""The records on which versions and the baseline are farthest apart, and what changed for whom. Judges no version.

How far: the distance of the scores of the positive class (binary), half the sum of the distances of all classes' scores
(several classes, total variation), the distance of the numbers (regression), how many places of its group are between
them (ranking: what versions rank by need not have one scale); 1 or 0 where there are no scores. Of a ranking no single
record is right or wrong: nothing says who was right, and there is no cross table.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from mlstream.comparison.result import Change, Disagreement
from mlstream.comparison.sums import Floats
from mlstream.comparison.table import Table
from mlstream.config.models import Task

SHOWN = 20
# Of several classes the cross table holds the most frequent cells.
MOST_CELLS = 100
_LONGEST_TEXT = 200
_PLACE = ("_partition", "_offset", "_timestamp")
_Right = Literal["version", "baseline", "both", "neither"]
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Answered:
    """Paired records and what versions said of them, row by row.

    Attributes:
        task: of the experiment.
        records: `_partition`, `_offset`, `_timestamp` and the record's columns.
        predictions: version → `prediction` and, if it gives one, `score` or `scores`; checked.
        labels: the truth, null where there is none; None without labels.
        classes: version → the classes of its `scores`.
        group: the column of the records whose equal values are ranked together; None unless it is a ranking.
    """

    task: Task
    records: Table
    predictions: Mapping[str, pl.DataFrame]
    labels: pl.Series | None
    classes: Mapping[str, Sequence[str | int]]
    group: str | None = None


def find_disagreements(found: Answered, baseline: str, *, shown: int = SHOWN) -> tuple[Disagreement, ...]:
    """For each version the records where it is farthest from the baseline, the farthest first; none where both agree.

    Equal distances go by partition and offset. Columns of the record are shown as they were decoded.
    """
    return tuple(_disagreements(found, baseline, shown))


def cross_tables(found: Answered, baseline: str) -> tuple[Change, ...]:
    """For each version: how many records of each label got which answer of the baseline and which of the version."""
    if found.task == "ranking":
        return ()
    challengers = [version for version in found.predictions if version != baseline]
    return tuple(change for version in challengers for change in _cross(found, version, baseline))


def _disagreements(found: Answered, baseline: str, shown: int) -> Iterator[Disagreement]:
    base = found.predictions[baseline]
    for version, own in found.predictions.items():
        if version == baseline:
            continue
        distance = _distance(found, version, baseline)
        farthest = _farthest(distance, found.records, shown)
        # Column by column: each may have to be read, and is in memory alone.
        columns = {name: found.records[name].gather(farthest) for name in found.records.columns} if farthest else {}
        for row, at in enumerate(farthest):
            label = None if found.labels is None else _plain(found.labels[at])
            said, base_said = _plain(own["prediction"][at]), _plain(base["prediction"][at])
            yield Disagreement(
                version=version,
                baseline=baseline,
                partition=int(columns["_partition"][row]),
                offset=int(columns["_offset"][row]),
                timestamp_ms=_time_ms(columns["_timestamp"][row]),
                distance=float(distance[at]),
                prediction=said,
                baseline_prediction=base_said,
                score=_score(own, at),
                baseline_score=_score(base, at),
                label=label,
                right=None if label is None or found.task == "ranking" else _right(found.task, label, said, base_said),
                columns={name: _plain(column[row]) for name, column in columns.items() if name not in _PLACE},
            )


def _distance(found: Answered, version: str, baseline: str) -> Floats:
    own, base = found.predictions[version], found.predictions[baseline]
    if found.group is not None:
        groups = found.records[found.group]
        return np.abs(_places(own["prediction"], groups) - _places(base["prediction"], groups))
    if found.task not in ("binary", "multiclass"):
        return _apart(own["prediction"], base["prediction"])
    if "score" in own.columns and "score" in base.columns:
        return _apart(own["score"], base["score"])
    classes, others = found.classes.get(version), found.classes.get(baseline)
    if "scores" in own.columns and "scores" in base.columns and classes is not None and others is not None:
        shared = list(dict.fromkeys([*classes, *others]))
        spread = np.abs(_spread(own, classes, shared) - _spread(base, others, shared))
        apart: Floats = spread.sum(axis=1) / 2
        return apart
    return (own["prediction"] != base["prediction"]).to_numpy().astype(np.float64)


def _places(said: pl.Series, groups: pl.Series) -> Floats:
    """The place of each record in its group, the highest first; equal answers share the mean of theirs."""
    frame = pl.DataFrame({"said": said, "group": groups})
    place = pl.col("said").rank("average", descending=True).over("group")
    # A record without a group is in no ranking.
    found: Floats = frame.select(place=pl.when(pl.col("group").is_null()).then(0.0).otherwise(place))[
        "place"
    ].to_numpy()
    return found


def _apart(own: pl.Series, base: pl.Series) -> Floats:
    apart: Floats = np.abs(own.cast(pl.Float64).to_numpy() - base.cast(pl.Float64).to_numpy())
    return apart


def _spread(frame: pl.DataFrame, classes: Sequence[str | int], shared: Sequence[str | int]) -> Floats:
    """The scores with a column for each of the shared classes, 0 for those that the version does not know."""
    scores = frame["scores"].explode(empty_as_null=False).cast(pl.Float64).to_numpy().reshape(-1, len(classes))
    whole = np.zeros((frame.height, len(shared)))
    whole[:, [shared.index(item) for item in classes]] = scores
    return whole


def _farthest(distance: Floats, records: Table, shown: int) -> list[int]:
    apart = np.flatnonzero(distance > 0)
    if apart.size > shown > 0:
        least = np.partition(distance[apart], apart.size - shown)[apart.size - shown]
        apart = apart[distance[apart] >= least]
    places = [records[name].gather(apart).to_numpy() for name in ("_offset", "_partition")]
    order = np.lexsort((*places, -distance[apart]))
    return [int(at) for at in apart[order[:shown]]]


def _right(task: Task, label: Scalar, own: Scalar, base: Scalar) -> _Right:
    if task in ("binary", "multiclass"):
        mine, theirs = own == label, base == label
    else:
        far, near = abs(float(own or 0) - float(label or 0)), abs(float(base or 0) - float(label or 0))
        mine, theirs = far <= near, near <= far
    return "both" if mine and theirs else "version" if mine else "baseline" if theirs else "neither"


def _score(frame: pl.DataFrame, at: int) -> float | None:
    """Of the positive class, or of the class with the highest score."""
    if "score" in frame.columns:
        return float(frame["score"][at])
    if "scores" in frame.columns:
        return float(frame["scores"][at].max())
    return None


def _cross(found: Answered, version: str, baseline: str) -> Iterator[Change]:
    own, base = (found.predictions[name]["prediction"] for name in (version, baseline))
    if found.task in ("binary", "multiclass"):
        columns = {"answer": own, "baseline_answer": base}
        if found.labels is not None:
            columns["label"] = found.labels
    elif found.labels is None:
        return
    else:
        columns = _nearer(own, base, found.labels)
    table = pl.DataFrame(columns)
    if found.labels is not None:
        table = table.filter(found.labels.is_not_null())
    counted = table.group_by(table.columns).len("records")
    for row in (
        counted.with_columns(pl.col(table.columns).cast(pl.String))
        .sort(["records", *table.columns], descending=[True] + [False] * table.width)
        .head(MOST_CELLS)
        .iter_rows(named=True)
    ):
        yield Change(version, baseline, row.get("label"), row["baseline_answer"], row["answer"], row["records"])


def _nearer(own: pl.Series, base: pl.Series, labels: pl.Series) -> dict[str, pl.Series]:
    far, near = ((series.cast(pl.Float64) - labels.cast(pl.Float64)).abs() for series in (own, base))
    words = pl.DataFrame({"own": far, "base": near}).select(
        answer=_word(pl.col("own"), pl.col("base")), baseline_answer=_word(pl.col("base"), pl.col("own"))
    )
    return {name: words[name] for name in words.columns}


def _word(mine: pl.Expr, theirs: pl.Expr) -> pl.Expr:
    closer = pl.when(mine < theirs).then(pl.lit("nearer"))
    return closer.when(mine > theirs).then(pl.lit("farther")).otherwise(pl.lit("equal"))


def _time_ms(value: dt.datetime | None) -> int | None:
    return None if value is None else round(value.timestamp() * 1000)


def _plain(value: Any) -> Scalar:
    """A value as JSON has it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        value = value.hex()
    if isinstance(value, pl.Series):
        value = value.to_list()
    text = json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
