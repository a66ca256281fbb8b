"""Ask a fitted scikit-learn estimator as it wants to be asked: its columns, its kind of table. Loads nothing.

An estimator that was fitted on a table with column names gets a pandas frame with these names in that order (so that
transformers which select by name work, and scikit-learn does not warn); one that was fitted on an array gets an array.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from mlstream.errors import VersionLoadError
from mlstream.versions.predictor import Predictor
from mlstream.versions.tables import as_pandas

if TYPE_CHECKING:
    from mlstream.config.models import Task


@dataclass(frozen=True)
class _Question:
    """One call of the estimator's `method`; `column` picks one of the probabilities."""

    estimator: Any
    method: Literal["predict", "predict_proba"]
    named: bool
    column: int | None = None

    def __call__(self, frame: pl.DataFrame) -> Any:
        table = as_pandas(frame) if self.named else _as_array(frame)
        values = np.asarray(getattr(self.estimator, self.method)(table))
        if self.column is not None:
            return np.ascontiguousarray(values[:, self.column])
        if self.method == "predict_proba":
            return values
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        # Named, because an array of floats would be a binary task's score.
        return values if values.ndim != 1 else pl.DataFrame({"prediction": values})


def estimator_predictor(
    estimator: Any, *, version: str, task: Task, features: tuple[str, ...] | None, threshold: float, where: str
) -> Predictor:
    """The predictor of a fitted estimator.

    Of a classification `predict_proba` is used when there is one (binary: the probability of class 1 or True); else,
    and for all tasks whose answer is a number, `predict`: a classifier's too.

    Raises:
        VersionLoadError: it is not fitted, or its columns or classes are not those of the experiment.
    """
    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError as exc:
        raise VersionLoadError(f"{where}: the {kind} is not fitted", hint="fit it, then save it", where=where) from exc
    except TypeError as exc:
        raise VersionLoadError(
            f"{where}: a {kind} is no scikit-learn estimator",
            hint="write a factory (path.py:name) that returns an object with predict(frame)",
            where=where,
        ) from exc
    if not hasattr(estimator, "predict"):
        raise VersionLoadError(f"{where}: a {kind} has no predict", hint="save the whole pipeline", where=where)
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        _check_pandas(kind, where)
    columns = _columns(estimator, None if names is None else [str(name) for name in names], features, where)
    question = _Question(estimator, "predict", named=names is not None)
    classes: tuple[str | int, ...] | None = None
    if task in ("binary", "multiclass") and hasattr(estimator, "predict_proba"):
        found = [value.item() if isinstance(value, np.generic) else value for value in estimator.classes_]
        column = _positive(found, where) if task == "binary" else None
        classes = _pinned(found, where) if task == "multiclass" else None
        question = _Question(estimator, "predict_proba", names is not None, column)
    return Predictor(version, task, columns, question, threshold, classes)


def _columns(
    estimator: Any, fitted: list[str] | None, features: tuple[str, ...] | None, where: str
) -> tuple[str, ...] | None:
    """The columns to ask with, in the order that the estimator was fitted in."""
    if fitted is None:
        count = getattr(estimator, "n_features_in_", None)
        if features is None:
            raise VersionLoadError(
                f"{where}: the estimator was fitted without column names",
                hint=f"write `features:` with its {count if count is not None else ''} columns in the order of fitting",
                where=where,
            )
        if count is not None and count != len(features):
            raise VersionLoadError(
                f"{where}: the estimator was fitted on {count} columns, `features:` has {len(features)}",
                hint="make them agree",
                where=where,
            )
        return features
    if features is not None and set(features) != set(fitted):
        only_fitted = [name for name in fitted if name not in features]
        only_given = [name for name in features if name not in fitted]
        parts = [
            f"it was fitted on {', '.join(only_fitted)} too" if only_fitted else "",
            f"it was not fitted on {', '.join(only_given)}" if only_given else "",
        ]
        raise VersionLoadError(
            f"{where}: the estimator's columns are not those of `features:`: {' and '.join(filter(None, parts))}",
            hint="train it again, or give the version its own `features:`",
            where=where,
        )
    return tuple(fitted)


def _check_pandas(kind: str, where: str) -> None:
    """Refuse to load what cannot be asked: an environment of its own may have no pandas."""
    lacking = [name for name in ("pandas", "pyarrow") if find_spec(name) is None]
    if lacking:
        raise VersionLoadError(
            f"{where}: the {kind} was fitted on named columns, and its environment has no {' and no '.join(lacking)}",
            hint="add pandas and pyarrow to what `environment:` names",
            where=where,
        )


def _positive(classes: list[Any], where: str) -> int:
    """The place of the positive class among a binary classifier's."""
    if len(classes) == 2 and not any(isinstance(value, str) for value in classes) and set(classes) == {0, 1}:
        return classes.index(1)
    what = "one class only" if len(classes) == 1 else "the classes"
    raise VersionLoadError(
        f"{where}: the estimator was fitted on {what} {', '.join(map(repr, classes))}; a binary task has 0 and 1 "
        "(or False and True)",
        hint="fit it on labels of both kinds" if len(classes) == 1 else "fit it on such labels, or set `task:`",
        where=where,
    )


def _pinned(classes: list[Any], where: str) -> tuple[str | int, ...]:
    if all(isinstance(value, str) for value in classes) or all(type(value) is int for value in classes):
        return tuple(classes)
    raise VersionLoadError(
        f"{where}: the estimator's classes are {', '.join(map(repr, classes))}",
        hint="fit it on labels that are strings or whole numbers",
        where=where,
    )


def _as_array(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in frame.dtypes):
        return frame.cast(pl.Float64).to_numpy()
    return frame.to_numpy()
