"""Call a loaded model on a batch and check what it returned. Loads nothing, writes nothing.

Whatever the model is, a batch comes back as a frame of the same height:

task        columns
binary      prediction Boolean, and score Float64 (probability of the positive class) when the model gives one
multiclass  prediction (String or Int64), and scores List(Float64), one for each of the pinned classes, if given
regression  prediction Float64
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from mlstream.errors import PredictError

if TYPE_CHECKING:
    from mlstream.config.models import Task
    from mlstream.versions.stateful import KeptState

# Probabilities of several classes are sums of rounded numbers: float32 models are off by about 1e-6.
SUM_TOLERANCE = 1e-3

Answer = pl.Series | pl.DataFrame | np.ndarray[Any, Any]


class Model(Protocol):
    """What a version's factory returns."""

    def predict(self, frame: pl.DataFrame, /) -> Answer:
        """One row out for each row in, in order."""


@dataclass(frozen=True, slots=True)
class Record:
    """The first record of a batch: what errors name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True)
class Predictor:
    """A loaded version.

    Attributes:
        version: its name, for errors.
        task: what it answers.
        features: the columns that the model gets, in order; None gives it all.
        answer: calls the model.
        threshold: the score from which a binary prediction is positive, where the model gives scores only.
        classes: a multiclass model's classes in the order of its scores; None when it gives no scores.
        kept: of a model that keeps state: one predictor is then good for one partition; None for all others.
    """

    version: str
    task: Task
    features: tuple[str, ...] | None
    answer: Callable[[pl.DataFrame], Any]
    threshold: float = 0.5
    classes: tuple[str | int, ...] | None = None
    kept: KeptState | None = None

    def predict(self, frame: pl.DataFrame, *, first: Record | None = None) -> pl.DataFrame:
        """Score a batch.

        Args:
            frame: decoded columns; those that are not among the features are left out.
            first: the record in its first row, for errors.

        Returns:
            A frame of the same height with the columns that the module's docstring lists.

        Raises:
            PredictError: the model raised, or returned the wrong rows, types or values.
        """
        given = frame if self.features is None else frame.select(self._present(frame.columns))
        try:
            answer = self.answer(given)
        except Exception as exc:
            raise self._error(first, f"predict raised {type(exc).__name__}: {exc}") from exc
        try:
            return _READ[self.task](self, answer, frame.height)
        except _Wrong as wrong:
            raise self._error(first, wrong.message, wrong.hint) from None

    def _present(self, columns: Sequence[str]) -> tuple[str, ...]:
        features = self.features if self.features is not None else ()
        absent = missing_columns(features, columns)
        if absent is not None:
            raise PredictError(f"version {self.version}: {absent}", version=self.version)
        return features

    def _error(self, first: Record | None, message: str, hint: str | None = None) -> PredictError:
        place = "" if first is None else f", batch that starts at {first}"
        return PredictError(f"version {self.version}{place}: {message}", hint=hint, version=self.version)


def missing_columns(features: Sequence[str], columns: Sequence[str]) -> str | None:
    """A sentence that names the features that the input lacks, with near names; None when all are there."""
    absent = [name for name in features if name not in columns]
    if not absent:
        return None
    words = []
    for name in absent:
        near = get_close_matches(name, columns, n=1)
        words.append(f"{name!r}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"the input has no column {', '.join(words)}; it has: {', '.join(columns)}"


class _Wrong(Exception):
    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def _binary(predictor: Predictor, answer: Any, rows: int) -> pl.DataFrame:
    parts = _parts(answer, rows, ("prediction", "score"))
    if isinstance(parts, pl.Series):
        parts = {"score" if parts.dtype.is_float() else "prediction": parts}
    columns = {}
    if "score" in parts:
        columns["score"] = _probabilities(_floats(parts["score"], "score"), "score")
    if "prediction" in parts:
        columns["prediction"] = _booleans(parts["prediction"])
    else:
        columns["prediction"] = (columns["score"] >= predictor.threshold).alias("prediction")
    return pl.DataFrame(columns).select(name for name in ("prediction", "score") if name in columns)


def _regression(predictor: Predictor, answer: Any, rows: int) -> pl.DataFrame:
    parts = _parts(answer, rows, ("prediction",))
    series = parts if isinstance(parts, pl.Series) else parts["prediction"]
    return pl.DataFrame({"prediction": _floats(series, "prediction")})


def _multiclass(predictor: Predictor, answer: Any, rows: int) -> pl.DataFrame:
    if isinstance(answer, np.ndarray) and answer.ndim == 2:
        answer = pl.DataFrame({"scores": pl.Series(answer, dtype=pl.Array(pl.Float64, answer.shape[1]))})
    parts = _parts(answer, rows, ("prediction", "scores"))
    if isinstance(parts, pl.Series):
        parts = {"prediction": parts}
    if "scores" not in parts:
        return pl.DataFrame({"prediction": _labels(parts["prediction"])})
    classes = predictor.classes
    if classes is None:
        raise _Wrong(
            "predict returned scores, and the model does not say of which classes",
            "give the model an attribute `classes`, a list of the classes in the order of the scores",
        )
    scores = _distributions(parts["scores"], len(classes))
    if "prediction" in parts:
        labels = _labels(parts["prediction"])
        unknown = sorted(set(labels.unique().to_list()) - set(classes), key=str)
        if unknown:
            raise _Wrong(f"predict returned {_few(unknown)} as prediction; the classes are {_few(classes)}")
    else:
        labels = pl.Series("prediction", list(classes)).gather(scores.list.arg_max()).alias("prediction")
    return pl.DataFrame({"prediction": labels, "scores": scores})


_READ: dict[Task, Callable[[Predictor, Any, int], pl.DataFrame]] = {
    "binary": _binary,
    "regression": _regression,
    "multiclass": _multiclass,
}


def _parts(answer: Any, rows: int, known: tuple[str, ...]) -> pl.Series | dict[str, pl.Series]:
    """The answer as one series or as named ones, of the right length and without nulls."""
    if isinstance(answer, np.ndarray):
        if answer.ndim != 1:
            raise _Wrong(f"predict returned an array of shape {answer.shape}; expected ({rows},)")
        try:
            answer = pl.Series("prediction", answer)
        except Exception as exc:  # polars words what it cannot hold
            raise _Wrong(f"predict returned an array of {answer.dtype} that is no column: {exc}") from exc
    if isinstance(answer, pl.Series):
        found: dict[str, pl.Series] = {"": answer}
    elif isinstance(answer, pl.DataFrame):
        found = dict(zip(answer.columns, answer.get_columns(), strict=True))
        unknown = [name for name in found if name not in known]
        if unknown or not found:
            raise _Wrong(f"predict returned the columns {_few(list(found))}; expected {' and/or '.join(known)}")
    else:
        kind = type(answer)
        raise _Wrong(
            f"predict returned a {kind.__module__}.{kind.__qualname__}; "
            "expected a polars Series or DataFrame, or a numpy array",
            "for pandas, return `.to_numpy()`" if kind.__module__.startswith("pandas") else None,
        )
    for name, series in found.items():
        if series.len() != rows:
            raise _Wrong(
                f"predict returned {series.len():,} rows for {rows:,} records",
                "return one row for each row of the frame, in its order",
            )
        if series.null_count():
            row = _first(series.is_null())
            raise _Wrong(f"{name or 'predict'} is null in row {row} of the batch; expected a value in every row")
    return answer if isinstance(answer, pl.Series) else found


def _floats(series: pl.Series, name: str) -> pl.Series:
    if not series.dtype.is_numeric():
        raise _Wrong(f"{name} is {series.dtype}; expected numbers")
    floats = series.cast(pl.Float64).alias(name)
    bad = ~floats.is_finite()
    if bad.any():
        row = _first(bad)
        raise _Wrong(
            f"{name} is {floats[row]} in row {row} of the batch ({bad.sum():,} of {floats.len():,} are); "
            "expected finite numbers",
            "JSON holds no NaN and no infinity: make the model answer every record",
        )
    return floats


def _probabilities(scores: pl.Series, name: str) -> pl.Series:
    bad = (scores < 0) | (scores > 1)
    if bad.any():
        row = _first(bad)
        raise _Wrong(
            f"{name} is {scores[row]} in row {row} of the batch; expected a probability, between 0 and 1",
            "return probabilities of the positive class, not margins",
        )
    return scores


def _booleans(series: pl.Series) -> pl.Series:
    if series.dtype == pl.Boolean:
        return series.alias("prediction")
    if series.dtype.is_numeric():
        bad = (series != 0) & (series != 1)
        if not bad.any():
            return (series == 1).alias("prediction")
        row = _first(bad)
        raise _Wrong(f"prediction is {series[row]} in row {row} of the batch; expected 0 or 1")
    raise _Wrong(f"prediction is {series.dtype}; expected Boolean, or 0 and 1")


def _labels(series: pl.Series) -> pl.Series:
    if series.dtype.is_integer():
        return series.cast(pl.Int64).alias("prediction")
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return series.cast(pl.String).alias("prediction")
    if series.dtype == pl.Object:
        values = series.to_list()
        if all(isinstance(value, str) for value in values):
            return pl.Series("prediction", values, pl.String)
    raise _Wrong(f"prediction is {series.dtype}; expected strings or whole numbers")


def _distributions(series: pl.Series, classes: int) -> pl.Series:
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if not isinstance(series.dtype, pl.List):
        raise _Wrong(f"scores is {series.dtype}; expected a list of {classes} numbers in every row")
    lengths = series.list.len()
    bad = lengths != classes
    if bad.any():
        row = _first(bad)
        raise _Wrong(f"scores has {lengths[row]} numbers in row {row} of the batch; there are {classes} classes")
    flat = series.explode() if series.len() else series.list.explode()
    if flat.null_count():
        raise _Wrong("scores holds nulls; expected numbers")
    values = _probabilities(_floats(flat, "scores"), "scores").to_numpy().reshape(-1, classes)
    sums = values.sum(axis=1)
    far = np.abs(sums - 1) > SUM_TOLERANCE
    if far.any():
        row = int(far.argmax())
        raise _Wrong(f"scores add up to {sums[row]} in row {row} of the batch; expected 1")
    return pl.Series("scores", values, dtype=pl.Array(pl.Float64, classes)).arr.to_list()


def _first(marks: pl.Series) -> int:
    """The first row that is marked; there is one."""
    return int(marks.to_numpy().argmax())


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} more" if len(values) > 5 else "")
