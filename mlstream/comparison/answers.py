"""Labels and predictions as arrays that metrics can read, checked. Joins nothing, sums nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mlstream.comparison.sums import Floats, Integers
from mlstream.config import ExperimentConfig
from mlstream.config.models import Task
from mlstream.errors import ComparisonError, LabelError

if TYPE_CHECKING:
    from mlstream.comparison.wholes import WholeFigure

Class = str | int
# Probabilities of several classes are sums of rounded numbers: float32 models are off by about 1e-6.
SUM_TOLERANCE = 1e-3
# Every class is counted in every block: with more of them, blocks hold next to none of each.
MOST_CLASSES = 1_000
# Squares and their sums stay finite below this.
LARGEST = 1e100


@dataclass(frozen=True, slots=True)
class Truth:
    """The labels of n records.

    Attributes:
        task: what they are labels of.
        values: (n,): bool for binary; codes into `classes`, int64, for multiclass; else float64.
        classes: those that occur, sorted; empty unless multiclass.
        groups: (n,), the number of the group that a record is ranked in; None unless ranking.
    """

    task: Task
    values: NDArray[Any]
    classes: tuple[Class, ...] = ()
    groups: Integers | None = None

    def __len__(self) -> int:
        return int(self.values.size)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one version said of the same n records.

    Attributes:
        version: its name.
        predicted: (n,), like the truth's values; -1 for a class that no label has.
        score: binary: (n,), the probability of the positive class; multiclass: (n, classes), in the order of `classes`;
            None when the version gives no scores.
        classes: of the columns of `score`; empty unless multiclass.
        own: metric of the experiment's own → its value for each record, (n,).
        whole: metric of the experiment's own that is a function of all records → this function.
        kept: what was computed of the answers once and is needed again; of no meaning to others.
    """

    version: str
    predicted: NDArray[Any]
    score: Floats | None = None
    classes: tuple[Class, ...] = ()
    own: Mapping[str, Floats] = field(default_factory=dict)
    whole: Mapping[str, WholeFigure] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


def read_truth(task: Task, labels: pl.Series) -> Truth:
    """Labels without nulls → a truth.

    Raises:
        LabelError: when they are not of a type that the task has.
    """
    if task == "binary":
        booleans = _booleans(labels)
        if booleans is None:
            raise LabelError(
                f"labels are {_kind(labels)}, for example {labels[0]!r}; "
                "a binary task needs true and false, or 1 and 0",
                hint="make `labels.value` a comparison, for example \"status = 'late'\"",
            )
        return Truth(task, booleans)
    if task in ("regression", "quantile", "ranking"):
        if not labels.dtype.is_numeric():
            raise LabelError(
                f"labels are {_kind(labels)}, for example {labels[0]!r}; a {task} needs numbers",
                hint="cast them in `labels.value`, for example CAST(x AS DOUBLE)",
            )
        numbers = labels.cast(pl.Float64).to_numpy()
        if not np.isfinite(numbers).all() or np.abs(numbers).max(initial=0.0) > LARGEST:
            raise LabelError("a label is not a finite number", hint="make `labels.value` null where there is no truth")
        if task == "ranking" and (numbers < 0).any():
            raise LabelError(
                f"{int((numbers < 0).sum()):,} labels are below 0, the first is {numbers[(numbers < 0).argmax()]}; "
                "a ranking needs relevances, 0 for none",
                hint="shift them in `labels.value`",
            )
        return Truth(task, numbers)
    if not (labels.dtype == pl.String or labels.dtype.is_integer()):
        raise LabelError(
            f"labels are {_kind(labels)}; classes are strings or whole numbers",
            hint="cast them in `labels.value`, for example CAST(x AS TEXT)",
        )
    if labels.n_unique() > MOST_CLASSES:
        raise LabelError(
            f"labels have {labels.n_unique():,} classes, for example {labels[0]!r}; "
            f"at most {MOST_CLASSES:,} are compared",
            hint="if they are quantities, it is a regression; if they are many names, group them in `labels.value`",
        )
    classes = tuple(labels.unique().sort().to_list())
    return Truth(task, _codes(labels, classes), classes)


def read_answers(
    config: ExperimentConfig,
    predictions: Mapping[str, pl.DataFrame],
    truth: Truth,
    classes: Mapping[str, Sequence[Class]],
) -> dict[str, Answer]:
    """Predictions of the labelled records, one frame a version in the order of the labels → answers.

    Raises:
        ComparisonError: names the version whose predictions are null, NaN, of the wrong type, or no probabilities.
    """
    readers = {"binary": _read_binary, "multiclass": _read_multiclass}
    read = readers.get(config.task, _read_regression)
    return {name: read(config, name, frame, truth, classes.get(name)) for name, frame in predictions.items()}


def check_answers(
    config: ExperimentConfig, predictions: Mapping[str, pl.DataFrame], classes: Mapping[str, Sequence[Class]]
) -> dict[str, pl.DataFrame]:
    """Predictions as a metric would read them, without a label: `prediction` and, when there are any, scores.

    Returns:
        version → `prediction` (bool, float64, or classes) and `score` float64 or `scores` as they were.

    Raises:
        ComparisonError: names the version whose predictions are null, NaN, of the wrong type, or no probabilities.
    """
    return {name: _check(config, name, frame, classes.get(name)) for name, frame in predictions.items()}


def _check(
    config: ExperimentConfig, version: str, frame: pl.DataFrame, classes: Sequence[Class] | None
) -> pl.DataFrame:
    said = _answer_column(config, version, frame)
    if config.task == "binary":
        columns = {"prediction": said}
        if "score" in frame.columns:
            columns["score"] = pl.Series(_probabilities(version, frame["score"]))
        return pl.DataFrame(columns)
    if config.task != "multiclass":
        return pl.DataFrame({"prediction": _numbers(version, said, "predictions")})
    if "scores" not in frame.columns or classes is None:
        return pl.DataFrame({"prediction": said})
    _distributions(version, frame["scores"], classes)
    return pl.DataFrame({"prediction": said, "scores": frame["scores"]})


def agreement(config: ExperimentConfig, predictions: Mapping[str, pl.DataFrame], baseline: str) -> dict[str, float]:
    """Version → the share of records on which it gives the baseline's answer, the baseline left out.

    Raises:
        ComparisonError: when the answers of two versions cannot be equal because their types differ.
    """
    found = {name: _answer_column(config, name, frame) for name, frame in predictions.items()}
    base = found[baseline]
    shares = {}
    for name, column in found.items():
        if name == baseline:
            continue
        if _family(column) != _family(base):
            raise ComparisonError(
                f"{name} predicts {_kind(column)} and {baseline} predicts {_kind(base)}: they never agree",
                hint="let both versions answer in the same type",
                version=name,
            )
        shares[name] = float((column == base).sum()) / max(len(base), 1)
    return shares


def _answer_column(config: ExperimentConfig, version: str, frame: pl.DataFrame) -> pl.Series:
    """What the version says, as one column: its prediction, or its score cut at the threshold."""
    _present(version, frame)
    if "prediction" in frame.columns:
        found = frame["prediction"]
        if found.null_count():
            raise ComparisonError(f"{version}: {found.null_count()} predictions are null", version=version)
        if config.task == "binary":
            booleans = _booleans(found)
            if booleans is None:
                raise ComparisonError(
                    f"{version}: predictions are {_kind(found)}, for example {found[0]!r}; "
                    "a binary task needs true and false, or 1 and 0",
                    version=version,
                )
            return pl.Series(booleans)
        return found
    if config.task != "binary":
        raise ComparisonError(f"{version}: its output has no column `prediction`", version=version)
    return pl.Series(_probabilities(version, frame["score"]) >= config.threshold)


def _read_binary(
    config: ExperimentConfig, version: str, frame: pl.DataFrame, truth: Truth, classes: Sequence[Class] | None
) -> Answer:
    predicted = _answer_column(config, version, frame).to_numpy()
    score = _probabilities(version, frame["score"]) if "score" in frame.columns else None
    return Answer(version, predicted, score)


def _read_regression(
    config: ExperimentConfig, version: str, frame: pl.DataFrame, truth: Truth, classes: Sequence[Class] | None
) -> Answer:
    return Answer(version, _numbers(version, _answer_column(config, version, frame), "predictions"))


def _read_multiclass(
    config: ExperimentConfig, version: str, frame: pl.DataFrame, truth: Truth, classes: Sequence[Class] | None
) -> Answer:
    column = _answer_column(config, version, frame)
    if column.dtype != pl.String and not column.dtype.is_integer():
        raise ComparisonError(
            f"{version}: predictions are {_kind(column)}; classes are strings or whole numbers", version=version
        )
    if isinstance(truth.classes[0], str) != (column.dtype == pl.String):
        raise ComparisonError(
            f"{version}: predictions are {_kind(column)}, for example {column[0]!r}, "
            f"and labels are like {truth.classes[0]!r}",
            hint="cast the label in `labels.value`, or let the version answer in the labels' type",
            version=version,
        )
    predicted = _codes(column, truth.classes)
    if "scores" not in frame.columns or classes is None:
        return Answer(version, predicted)
    return Answer(version, predicted, _distributions(version, frame["scores"], classes), tuple(classes))


def _distributions(version: str, scores: pl.Series, classes: Sequence[Class]) -> Floats:
    """(n, classes)."""
    if scores.null_count() or (scores.list.len() != len(classes)).any():
        raise ComparisonError(
            f"{version}: `scores` does not hold {len(classes)} numbers for every record", version=version
        )
    flat = _probabilities(version, scores.explode(empty_as_null=False)).reshape(-1, len(classes))
    if np.abs(flat.sum(axis=1) - 1).max(initial=0.0) > SUM_TOLERANCE:
        raise ComparisonError(f"{version}: the scores of a record do not add up to 1", version=version)
    return flat


def _present(version: str, frame: pl.DataFrame) -> None:
    if "prediction" not in frame.columns and "score" not in frame.columns:
        raise ComparisonError(
            f"{version}: its output has neither `prediction` nor `score`; it has: {', '.join(frame.columns)}",
            version=version,
        )


def _numbers(version: str, column: pl.Series, what: str) -> Floats:
    if not column.dtype.is_numeric():
        raise ComparisonError(
            f"{version}: {what} are {_kind(column)}, for example {column[0]!r}; expected numbers", version=version
        )
    numbers: Floats = column.cast(pl.Float64).to_numpy()
    bad = ~(np.abs(numbers) <= LARGEST)
    if bad.any():
        raise ComparisonError(
            f"{version}: {int(bad.sum())} of its {what} are not finite numbers, the first is {numbers[bad.argmax()]}",
            version=version,
        )
    return numbers


def _probabilities(version: str, column: pl.Series) -> Floats:
    if column.null_count():
        raise ComparisonError(f"{version}: {column.null_count()} scores are null", version=version)
    numbers = _numbers(version, column, "scores")
    bad = (numbers < 0) | (numbers > 1)
    if bad.any():
        raise ComparisonError(
            f"{version}: {int(bad.sum())} of its scores are no probabilities, the first is {numbers[bad.argmax()]}",
            hint="return probabilities between 0 and 1, not margins or percentages",
            version=version,
        )
    return numbers


def _booleans(column: pl.Series) -> NDArray[np.bool_] | None:
    """True and false, also from 1 and 0; None when it is neither."""
    if column.dtype == pl.Boolean:
        found: NDArray[np.bool_] = column.to_numpy().astype(np.bool_)
        return found
    if not column.dtype.is_numeric():
        return None
    numbers = column.cast(pl.Float64).to_numpy()
    return numbers == 1 if np.isin(numbers, (0.0, 1.0)).all() else None


def _codes(column: pl.Series, classes: Sequence[Class]) -> Integers:
    codes = pl.Series(np.arange(len(classes)), dtype=pl.Int64)
    kind = pl.String if column.dtype == pl.String else pl.Int64
    found = column.cast(kind).replace_strict(pl.Series(list(classes), dtype=kind), codes, default=-1)
    return found.to_numpy().astype(np.int64)


def _family(column: pl.Series) -> str:
    return "numbers" if column.dtype.is_numeric() else "booleans" if column.dtype == pl.Boolean else str(column.dtype)


def _kind(column: pl.Series) -> str:
    """The type in plain words."""
    dtype = column.dtype
    if dtype == pl.String:
        return "strings"
    if dtype == pl.Boolean:
        return "true and false"
    if dtype.is_integer():
        return "whole numbers"
    return "numbers" if dtype.is_numeric() else str(dtype)
