"""Load a model of MLflow's from the folder that holds its files. Finds and fetches none, and asks no MLflow server.

A scikit-learn estimator is read as one in a file of the project is: skops with our list of types, a pickle only when
it is trusted; MLflow itself is not needed for it. Anything else is loaded by MLflow's `pyfunc` and asked with a pandas
frame. That may run whatever code its files hold, and so is only done when it is trusted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlstream.errors import VersionLoadError
from mlstream.registry.folder import differing, digest_files
from mlstream.versions.predictor import Predictor
from mlstream.versions.reference import ModelReference
from mlstream.versions.tables import as_pandas

if TYPE_CHECKING:
    from mlstream.config.models import Task

_SKOPS = "skops"


def check_trust(reference: ModelReference, *, trust: bool, where: str) -> None:
    """Nothing, if loading the model runs no code that comes with it, or if that is allowed.

    Args:
        trust: the configuration says that whoever made the model may run code here.
        where: the version, for messages.

    Raises:
        VersionLoadError: it is a pickle, brings code of its own, or is loaded by MLflow.
    """
    if trust:
        return
    if reference.kind == "pyfunc":
        why = f"is loaded by {reference.loader}, which may run code that its files hold"
        hint = f"set `trust: true` for {where} if you know who made it"
    elif reference.loader != _SKOPS:
        why = f"is a pickle ({reference.loader}), and reading a pickle runs whatever code it holds"
        hint = f'log it with serialization_format="skops", or set `trust: true` for {where} if you know who made it'
    elif reference.code is not None:
        why = f"brings code of its own, in {reference.code}"
        hint = f"set `trust: true` for {where} if you know who made it"
    else:
        return
    raise VersionLoadError(f"{where}: {reference.uri} {why}", hint=hint, where=where)


def load_estimator_of(reference: ModelReference, *, trust: bool, where: str) -> Any:
    """The fitted scikit-learn estimator of a model.

    Raises:
        VersionLoadError: it is not trusted, its files changed, or it cannot be read.
    """
    _prepare(reference, trust=trust, where=where)
    # Imported here: scikit-learn takes seconds, and a model of another kind does without.
    from mlstream.versions.trusted import load_estimator

    name = str(reference.file)
    return load_estimator(reference.folder / name, digest=reference.files[name], trust=trust, where=where)


def pyfunc_predictor(
    reference: ModelReference,
    *,
    version: str,
    task: Task,
    features: tuple[str, ...] | None,
    threshold: float,
    parameters: Mapping[str, Any],
    trust: bool,
    where: str,
) -> Predictor:
    """The predictor of a model that MLflow loads.

    It is asked with a pandas frame of the columns of its signature, or where it has none, of the features.

    Args:
        parameters: given to its `predict` as MLflow's `params`, when there are any.

    Raises:
        VersionLoadError: it is not trusted, its files changed, it cannot be loaded, or its columns are not those of
            the experiment.
    """
    _prepare(reference, trust=trust, where=where)
    columns = _columns(reference, features, where)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlstream.registry.pyfunc import load_pyfunc

        model = load_pyfunc(reference.folder)
    except Exception as exc:  # what a model runs when it is loaded may raise anything at all
        raise VersionLoadError(
            f"{where}: {reference.uri} cannot be loaded: {type(exc).__name__}: {exc}",
            hint="let it have the packages that it was made with: leave `environment:` out, or name a lock of them",
            where=where,
        ) from exc
    return Predictor(version, task, columns, _Question(model, dict(parameters)), threshold)


@dataclass(frozen=True)
class _Question:
    """One call of a model that MLflow loaded."""

    model: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, frame: pl.DataFrame) -> Any:
        table = as_pandas(frame)
        answer = self.model.predict(table, params=self.parameters) if self.parameters else self.model.predict(table)
        kind = type(answer)
        if kind.__module__.partition(".")[0] == "pandas":
            answer = pl.from_pandas(answer)
        if isinstance(answer, pl.DataFrame):
            return answer.to_series() if answer.width == 1 else answer
        if isinstance(answer, list):
            answer = np.asarray(answer)
        if isinstance(answer, np.ndarray) and answer.ndim == 2 and answer.shape[1] == 1:
            return answer[:, 0]
        return answer


def _prepare(reference: ModelReference, *, trust: bool, where: str) -> None:
    """The files are those that the version's digest covers, and what code they bring can be imported."""
    check_trust(reference, trust=trust, where=where)
    try:
        changed = differing(reference.files, digest_files(reference.folder))
    except (OSError, ValueError) as exc:
        raise _changed(reference, str(exc), where) from exc
    if changed:
        raise _changed(reference, f"{', '.join(changed[:5])} changed", where)
    sys.dont_write_bytecode = True  # a cache of its code would be a file that nobody digested
    if reference.code is not None:
        sys.path.insert(0, str(reference.folder / reference.code))


def _columns(reference: ModelReference, features: tuple[str, ...] | None, where: str) -> tuple[str, ...] | None:
    """The columns to ask with."""
    if reference.columns is None:
        return features
    if features is None:
        return reference.columns
    lacking = [name for name in reference.columns if name not in features]
    if lacking:
        raise VersionLoadError(
            f"{where}: the signature of {reference.uri} names {', '.join(lacking)}, which `features:` lacks",
            hint="give the version its own `features:`, or leave them out: the signature's columns are taken then",
            where=where,
        )
    return reference.columns  # MLflow would leave out the others, and say so for every batch


def _changed(reference: ModelReference, why: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the files of {reference.uri} are not those that the run was planned with: {why}",
        hint=f"remove {reference.folder} and run again: the model is fetched again",
        where=where,
    )
