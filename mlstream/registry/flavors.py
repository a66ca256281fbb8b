"""Read how a model wants to be loaded, from its file MLmodel. Loads no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mlstream.errors import VersionLoadError

_PICKLE = "cloudpickle"  # what MLflow takes where nothing is said


@dataclass(frozen=True, slots=True)
class Flavor:
    """How a model is loaded.

    Attributes:
        kind: "sklearn" is a fitted estimator in a file; "pyfunc" is whatever MLflow's `pyfunc` loads.
        loader: what loads it: "skops", "cloudpickle" or "pickle" for an estimator, else the module that MLflow calls.
        file: the estimator's, in the folder; None for pyfunc.
        code: the folder of Python code that the model brings along; None when there is none.
        columns: the names of the columns in its signature, in order; None when it says none.
        python: the version of Python that it was made with, "3.11.7"; None when it does not say.
    """

    kind: Literal["sklearn", "pyfunc"]
    loader: str
    file: str | None
    code: str | None
    columns: tuple[str, ...] | None
    python: str | None


def read_flavor(folder: Path, files: Mapping[str, str], *, pinned: str, where: str) -> Flavor:
    """How the model in a folder is loaded: as a scikit-learn estimator where it is one.

    Args:
        files: what is in the folder.
        pinned: the model's URI, for messages.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: MLmodel cannot be read, names files that are not there, or says no way that works here.
    """
    try:
        model = Model.load(str(folder))
        flavors: dict[str, dict[str, Any]] = model.flavors
        columns = _columns(model)
    except (MlflowException, OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
        raise VersionLoadError(
            f"{where}: the file MLmodel of {pinned} cannot be read: {exc}", hint="log the model again", where=where
        ) from exc
    generic = flavors.get("python_function")
    python = None if generic is None else generic.get("python_version")
    python = None if python is None else str(python)
    estimator = flavors.get("sklearn")
    if estimator is not None:
        file = _inside(str(estimator.get("pickled_model", "")), pinned, where)
        if file not in files:
            raise VersionLoadError(
                f"{where}: {pinned} has no file {file!r}, which its MLmodel names",
                hint="log the model again",
                where=where,
            )
        loader = str(estimator.get("serialization_format") or _PICKLE)
        return Flavor("sklearn", loader, file, _code(estimator, pinned, where), columns, python)
    if generic is None:
        raise VersionLoadError(
            f"{where}: {pinned} is of the kind {', '.join(flavors) or 'nothing'}, and has no python_function",
            hint="log it with one of MLflow's Python flavors",
            where=where,
        )
    return Flavor("pyfunc", str(generic.get("loader_module")), None, _code(generic, pinned, where), columns, python)


def _columns(model: Model) -> tuple[str, ...] | None:
    schema = model.get_input_schema()
    if schema is None or not schema.has_input_names():
        return None
    return tuple(str(name) for name in schema.input_names())


def _code(flavor: Mapping[str, Any], pinned: str, where: str) -> str | None:
    code = flavor.get("code")
    return None if code is None else _inside(str(code), pinned, where)


def _inside(path: str, pinned: str, where: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or not path:
        raise VersionLoadError(
            f"{where}: the MLmodel of {pinned} names {path!r}, which is not in its folder",
            hint="log the model again",
            where=where,
        )
    return parts.as_posix()
