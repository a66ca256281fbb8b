"""Check what a model returned for a batch, row by row, and bring it into columns. Calls no model, loads nothing.

Whatever the model is, its answer becomes a frame:

task        columns
binary      prediction Boolean, and score Float64 (probability of the positive class) when the model gives one
multiclass  prediction (String or Int64), and scores List(Float64), one for each of the pinned classes, if given
regression  prediction Float64

An answer of the wrong height, type or columns is wrong as a whole. A row without a usable value (null, NaN, infinite,
no probability, no such class) makes the whole answer wrong, too, unless rows may be refused: then it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlstream.config.models import Task

# Probabilities of several classes are sums of rounded numbers: float32 models are off by about 1e-6.
SUM_TOLERANCE = 1e-3
_ANSWER_ALL = "make the model answer every record, or let the version refuse records with `on_error: errors`"


class WrongAnswer(Exception):
    """What is wrong with an answer; whoever knows the version and the batch makes an error of it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Expected:
    """What an answer is held against.

    Attributes:
        task: what is answered.
        rows: how many rows are due.
        threshold: the score from which a binary prediction is positive, where there are scores only.
        classes: the classes of scores, in their order; None when the model does not say.
        refusing: leave rows without a usable value out, instead of finding the whole answer wrong.
    """

    task: Task
    rows: int
    threshold: float = 0.5
    classes: tuple[str | int, ...] | None = None
    refusing: bool = False


def read_answer(answer: Any, expected: Expected) -> tuple[pl.DataFrame, dict[int, str]]:
    """The answer as columns, and row → why it is left out; no row is, unless `expected.refusing`.

    Raises:
        WrongAnswer: rows, types or values are not as they must be.
    """
    rows = _Rows(expected)
    columns = _READ[expected.task](answer, expected, rows)
    frame = pl.DataFrame(columns)
    return (frame.filter(pl.Series(~rows.bad)) if rows.bad.any() else frame), rows.refused


class _Rows:
    """Which rows of an answer have no usable value, and why. Those without any value are taken out at once."""

    def __init__(self, expected: Expected) -> None:
        self._refusing = expected.refusing
        self._of_batch: NDArray[np.int64] | None = None  # the rows that are left; None: all of them
        self.bad = np.zeros(expected.rows, np.bool_)
        self.refused: dict[int, str] = {}

    def refuse(
        self,
        marks: NDArray[np.bool_],
        found: Callable[[int], str],
        wanted: str,
        *,
        hint: str | None = None,
        counted: bool = False,
    ) -> None:
        """Refuse the rows that are marked, or find the answer wrong.

        Args:
            found: a row → what its value is.
            wanted: what was expected.
            counted: say how many rows there are of the kind.
        """
        if not marks.any():
            return
        if not self._refusing:
            row = int(marks.argmax())
            count = f" ({marks.sum():,} of {len(marks):,} are)" if counted else ""
            raise WrongAnswer(f"{found(row)} in row {row} of the batch{count}; {wanted}", hint)
        for row in np.flatnonzero(marks & ~self.bad).tolist():
            self.refused[self._row_of_batch(row)] = f"{found(row)}; {wanted}"
        self.bad |= marks

    def leave_out(self, marks: NDArray[np.bool_]) -> None:
        """Go on without the rows that are marked, which are refused."""
        self._of_batch = np.flatnonzero(~marks)
        self.bad = np.zeros(len(self._of_batch), np.bool_)

    def _row_of_batch(self, row: int) -> int:
        return row if self._of_batch is None else int(self._of_batch[row])


def _binary(answer: Any, expected: Expected, rows: _Rows) -> dict[str, pl.Series]:
    parts = _parts(answer, expected, rows, ("prediction", "score"))
    if parts is None:
        return {}
    if isinstance(parts, pl.Series):
        parts = {"score" if parts.dtype.is_float() else "prediction": parts}
    columns = {}
    if "score" in parts:
        columns["score"] = _probabilities(_floats(parts["score"], "score", rows), "score", rows)
    if "prediction" in parts:
        columns["prediction"] = _booleans(parts["prediction"], rows)
    else:
        columns["prediction"] = (columns["score"] >= expected.threshold).alias("prediction")
    return {name: columns[name] for name in ("prediction", "score") if name in columns}


def _regression(answer: Any, expected: Expected, rows: _Rows) -> dict[str, pl.Series]:
    parts = _parts(answer, expected, rows, ("prediction",))
    if parts is None:
        return {}
    return {"prediction": _floats(parts if isinstance(parts, pl.Series) else parts["prediction"], "prediction", rows)}


def _multiclass(answer: Any, expected: Expected, rows: _Rows) -> dict[str, pl.Series]:
    if isinstance(answer, np.ndarray) and answer.ndim == 2:
        answer = pl.DataFrame({"scores": pl.Series(answer, dtype=pl.Array(pl.Float64, answer.shape[1]))})
    parts = _parts(answer, expected, rows, ("prediction", "scores"))
    if parts is None:
        return {}
    if isinstance(parts, pl.Series):
        parts = {"prediction": parts}
    if "scores" not in parts:
        return {"prediction": _labels(parts["prediction"])}
    classes = expected.classes
    if classes is None:
        raise WrongAnswer(
            "predict returned scores, and the model does not say of which classes",
            "give the model an attribute `classes`, a list of the classes in the order of the scores",
        )
    scores = _distributions(parts["scores"], len(classes), rows)
    if "prediction" in parts:
        labels = _labels(parts["prediction"])
        _check_classes(labels, classes, rows, refusing=expected.refusing)
    else:
        labels = pl.Series("prediction", list(classes)).gather(scores.list.arg_max()).alias("prediction")
    return {"prediction": labels, "scores": scores}


_READ: Mapping[Task, Callable[[Any, Expected, _Rows], dict[str, pl.Series]]] = {
    "binary": _binary,
    "regression": _regression,
    "quantile": _regression,
    "ranking": _regression,
    "multiclass": _multiclass,
}


def _parts(
    answer: Any, expected: Expected, rows: _Rows, known: tuple[str, ...]
) -> pl.Series | dict[str, pl.Series] | None:
    """The answer as one series or as named ones, without nulls; None when no row has a value."""
    found = _named(answer, expected.rows, known)
    empty = np.zeros(expected.rows, np.bool_)
    for name, series in found.items():
        if series.len() != expected.rows:
            raise WrongAnswer(
                f"predict returned {series.len():,} rows for {expected.rows:,} records",
                "return one row for each row of the frame, in its order",
            )
        if series.null_count():
            marks = _marks(series.is_null())
            rows.refuse(
                marks,
                lambda _, name=name: f"{name or 'predict'} is null",  # type: ignore[misc]
                "expected a value in every row",
                hint=_ANSWER_ALL,
                counted=True,
            )
            empty |= marks
    if empty.any():
        rows.leave_out(empty)
        if empty.all():
            return None
        kept = pl.Series(~empty)
        found = {name: series.filter(kept) for name, series in found.items()}
    return found.get("", found)


def _named(answer: Any, rows: int, known: tuple[str, ...]) -> dict[str, pl.Series]:
    """The answer's columns by their names; a lone one has the name ''."""
    if isinstance(answer, np.ndarray):
        if answer.ndim != 1:
            raise WrongAnswer(f"predict returned an array of shape {answer.shape}; expected ({rows},)")
        try:
            return {"": pl.Series("prediction", answer)}
        except Exception as exc:  # polars words what it cannot hold
            raise WrongAnswer(f"predict returned an array of {answer.dtype} that is no column: {exc}") from exc
    if isinstance(answer, pl.Series):
        return {"": answer}
    if isinstance(answer, pl.DataFrame):
        unknown = [name for name in answer.columns if name not in known]
        if unknown or not answer.columns:
            raise WrongAnswer(f"predict returned the columns {_few(answer.columns)}; expected {' and/or '.join(known)}")
        return dict(zip(answer.columns, answer.get_columns(), strict=True))
    kind = type(answer)
    hint = "for pandas, return `.to_numpy()`" if kind.__module__.startswith("pandas") else None
    if isinstance(answer, list):
        hint = "return `polars.Series(…)` of the list"
    raise WrongAnswer(
        f"predict returned a {kind.__module__}.{kind.__qualname__}; "
        "expected a polars Series or DataFrame, or a numpy array",
        hint,
    )


def _floats(series: pl.Series, name: str, rows: _Rows) -> pl.Series:
    if not series.dtype.is_numeric():
        raise WrongAnswer(f"{name} is {series.dtype}; expected numbers")
    floats = series.cast(pl.Float64).alias(name)
    rows.refuse(
        ~_marks(floats.is_finite()),
        lambda row: f"{name} is {floats[row]}",
        "expected finite numbers",
        hint=f"JSON holds no NaN and no infinity: {_ANSWER_ALL}",
        counted=True,
    )
    return floats


def _probabilities(scores: pl.Series, name: str, rows: _Rows) -> pl.Series:
    rows.refuse(
        _marks((scores < 0) | (scores > 1)),
        lambda row: f"{name} is {scores[row]}",
        "expected a probability, between 0 and 1",
        hint="return probabilities of the positive class, not margins",
    )
    return scores


def _booleans(series: pl.Series, rows: _Rows) -> pl.Series:
    if series.dtype == pl.Boolean:
        return series.alias("prediction")
    if series.dtype.is_numeric():
        marks = _marks((series != 0) & (series != 1))
        rows.refuse(marks, lambda row: f"prediction is {series[row]}", "expected 0 or 1")
        return (series == 1).alias("prediction")
    raise WrongAnswer(f"prediction is {series.dtype}; expected Boolean, or 0 and 1")


def _labels(series: pl.Series) -> pl.Series:
    if series.dtype.is_integer():
        return series.cast(pl.Int64).alias("prediction")
    if series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return series.cast(pl.String).alias("prediction")
    if series.dtype == pl.Object:
        values = series.to_list()
        if all(isinstance(value, str) for value in values):
            return pl.Series("prediction", values, pl.String)
    raise WrongAnswer(f"prediction is {series.dtype}; expected strings or whole numbers")


def _check_classes(labels: pl.Series, classes: tuple[str | int, ...], rows: _Rows, *, refusing: bool) -> None:
    unknown = sorted(set(labels.unique().to_list()) - set(classes), key=str)
    if not unknown:
        return
    if not refusing:
        raise WrongAnswer(f"predict returned {_few(unknown)} as prediction; the classes are {_few(classes)}")
    marks = _marks(labels.is_in([value for value in unknown if type(value) is type(labels[0])]))
    rows.refuse(marks, lambda row: f"prediction is {labels[row]!r}", f"the classes are {_few(classes)}")


def _distributions(series: pl.Series, classes: int, rows: _Rows) -> pl.Series:
    if isinstance(series.dtype, pl.Array):
        series = series.arr.to_list()
    if not isinstance(series.dtype, pl.List):
        raise WrongAnswer(f"scores is {series.dtype}; expected a list of {classes} numbers in every row")
    lengths = series.list.len()
    other = _marks(lengths != classes)
    if other.any():
        row = int(other.argmax())
        raise WrongAnswer(f"scores has {lengths[row]} numbers in row {row} of the batch; there are {classes} classes")
    flat = series.explode() if series.len() else series.list.explode()
    if not flat.dtype.is_numeric():
        raise WrongAnswer(f"scores is {series.dtype}; expected lists of numbers")
    nulls = _marks(flat.is_null()).reshape(-1, classes)
    rows.refuse(np.logical_or.reduce(nulls, axis=1), lambda _: "scores holds nulls", "expected numbers")
    values: NDArray[np.float64] = flat.cast(pl.Float64).fill_null(np.nan).to_numpy().reshape(-1, classes)

    def first(bad: NDArray[np.bool_]) -> Callable[[int], str]:
        return lambda row: f"scores is {values[row, int(bad[row].argmax())]}"

    unusable = ~np.isfinite(values)
    rows.refuse(np.logical_or.reduce(unusable, axis=1), first(unusable), "expected finite numbers", counted=True)
    outside = (values < 0) | (values > 1)
    rows.refuse(np.logical_or.reduce(outside, axis=1), first(outside), "expected a probability, between 0 and 1")
    sums = values.sum(axis=1)
    rows.refuse(np.asarray(np.abs(sums - 1) > SUM_TOLERANCE), lambda row: f"scores add up to {sums[row]}", "expected 1")
    return pl.Series("scores", values, dtype=pl.Array(pl.Float64, classes)).arr.to_list()


def _marks(series: pl.Series) -> NDArray[np.bool_]:
    """A series of booleans without nulls as an array."""
    return np.asarray(series.to_numpy(), np.bool_)


def _few(values: Sequence[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:5])
    return shown + (f" and {len(values) - 5} more" if len(values) > 5 else "")
