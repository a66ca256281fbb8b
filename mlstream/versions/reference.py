"""What a version's `model:` and `train:` may say, as plain values. Finds files; imports and opens none.

`path.py:name` and `package.module:name` name code; a file that ends in .skops, .joblib or .pkl holds a fitted
estimator; `models:/…` and `runs:/…` are models of MLflow's (`registry/uri.py` has their forms).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mlstream.errors import VersionLoadError
from mlstream.registry.uri import ModelUri, is_model_uri, parse_model_uri

ESTIMATOR_SUFFIXES = (".skops", ".joblib", ".pkl", ".pickle")
PICKLE_SUFFIXES = ESTIMATOR_SUFFIXES[1:]
_IDENTIFIER = r"[^\W\d]\w*"
_IN_FILE = re.compile(rf"(?P<path>.+\.py):(?P<name>{_IDENTIFIER})")
_IN_MODULE = re.compile(rf"(?P<module>{_IDENTIFIER}(?:\.{_IDENTIFIER})*):(?P<name>{_IDENTIFIER})")


@dataclass(frozen=True, slots=True)
class CodeReference:
    """A name in a Python module.

    Attributes:
        module: the module's dotted name, as it is imported.
        file: its file, when it was given by path; None when it is still to be found by its name.
        name: the attribute: a function or a class.
        alone: the file's path is no dotted name (`my-model.py`), so it is imported on its own, outside any package.
    """

    module: str
    file: Path | None
    name: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class FileReference:
    """The file of a fitted estimator, below the project's root."""

    path: Path


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model of MLflow's whose files are on this machine.

    Attributes:
        uri: what it is called, for messages: without an alias, which may point elsewhere tomorrow.
        folder: its files.
        files: path in the folder → digest: all that may be in it.
        kind: "sklearn" is a fitted estimator in `file`, "pyfunc" is loaded by MLflow.
        loader: of an estimator "skops", or a kind of pickle; else the module that MLflow calls.
        file: the estimator's; None for pyfunc.
        code: the folder of Python code that it brings along; None when there is none.
        columns: those of its signature, in order; None when it has none.
        python: the version of Python that it was made with, "3.11.7"; None when it does not say.
    """

    uri: str
    folder: Path
    files: Mapping[str, str] = field(repr=False)
    kind: Literal["sklearn", "pyfunc"]
    loader: str
    file: str | None = None
    code: str | None = None
    columns: tuple[str, ...] | None = None
    python: str | None = None


Reference = CodeReference | FileReference | ModelReference


def parse_model(text: str, *, root: Path, where: str) -> CodeReference | FileReference | ModelUri:
    """What `model:` names.

    Args:
        text: as it stands in the configuration.
        root: the project's root, where relative paths start.
        where: the key in the configuration, for messages (`versions.v1.model`).

    Raises:
        VersionLoadError: it is none of the known forms, or the file is not in the project.
    """
    if is_model_uri(text):
        return parse_model_uri(text, where=where)
    if text.endswith(ESTIMATOR_SUFFIXES):
        return FileReference(_inside(text, root, where))
    return parse_code(text, root=root, where=where)


def parse_code(text: str, *, root: Path, where: str) -> CodeReference:
    """What `path.py:name` or `package.module:name` names.

    Raises:
        VersionLoadError: it is of neither form, or the file is missing or not in the project.
    """
    if (match := _IN_FILE.fullmatch(text)) is not None:
        file = _inside(match["path"], root, where)
        if not file.is_file():
            raise missing(file, root, where)
        parts = file.relative_to(root).with_suffix("").parts
        # A path whose parts are names is imported as the module that it is, so that its relative imports work and
        # it exists only once.
        if all(part.isidentifier() for part in parts):
            return CodeReference(".".join(parts).removesuffix(".__init__"), file, match["name"])
        return CodeReference(re.sub(r"\W", "_", f"_{file.stem}"), file, match["name"], alone=True)
    if (match := _IN_MODULE.fullmatch(text)) is not None:
        return CodeReference(match["module"], None, match["name"])
    raise VersionLoadError(
        f"{where}: {text!r} is not a model that can be loaded",
        hint="write path.py:factory, package.module:factory, the file of a fitted scikit-learn estimator (.skops), or "
        "models:/NAME/3",
        where=where,
    )


def missing(file: Path, root: Path, where: str, hint: str | None = None) -> VersionLoadError:
    """The error for a file that is not there; `hint` None names files of its folder that look like it."""
    if hint is None:
        names = sorted(path.name for path in file.parent.iterdir()) if file.parent.is_dir() else []
        near = difflib.get_close_matches(file.name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"paths start at {root}"
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    return VersionLoadError(f"{where}: there is no file {shown}", hint=hint, where=where, path=str(file))


def check_pickle(path: Path, *, trust: bool, where: str) -> None:
    """Nothing, if the file of an estimator is no pickle, or pickles are allowed; told by its name alone.

    Raises:
        VersionLoadError: it is a pickle, and the configuration does not say that its maker may run code here.
    """
    if path.suffix in PICKLE_SUFFIXES and not trust:
        raise VersionLoadError(
            f"{where}: {path.name} is a pickle, and reading a pickle runs whatever code it holds",
            hint=f"save the estimator with skops instead, or set `trust: true` for {where} if you made the file",
            where=where,
        )


def _inside(text: str, root: Path, where: str) -> Path:
    path = (root / text).resolve()
    if not path.is_relative_to(root.resolve()):
        raise VersionLoadError(
            f"{where}: {text} is outside the project {root}", hint="move it into the project", where=where
        )
    return root / path.relative_to(root.resolve())
