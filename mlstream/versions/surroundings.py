"""What a version runs in: the environment of its own that it names, else this process's. Loads no version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.errors import VersionLoadError
from mlstream.versions.digests import digest_environment, environment
from mlstream.versions.environments import (
    ESTIMATOR_NEEDS,
    HOST_NEEDS,
    PYFUNC_NEEDS,
    TRAINING_NEEDS,
    Listener,
    build,
    pin_environment,
)
from mlstream.versions.pins import name_of
from mlstream.versions.reference import ESTIMATOR_SUFFIXES, FileReference, ModelReference
from mlstream.versions.requirements import Requirements, requirements_in

if TYPE_CHECKING:
    from mlstream.versions.reference import Reference

CURRENT = "current"
_BROUGHT = "requirements.txt"  # the file in which a model of MLflow's says what it needs
_MLFLOW = ("mlflow", "mlflow-skinny")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a version runs in.

    Attributes:
        digest: of Python and of the packages: those that its lock says, or all that are installed here.
        described: what the digest was made from, and `file` for an environment of its own; JSON values.
        python: the interpreter of an environment of its own; None for this process's.
        site: the folder with the packages of an environment of its own.
    """

    digest: str
    described: Mapping[str, Any] = field(repr=False)
    python: Path | None = None
    site: Path | None = None


def surroundings_of(
    named: str | None,
    reference: Reference,
    *,
    root: Path,
    where: str,
    on_building: Listener | None = None,
) -> Surroundings:
    """What a version runs in; an environment of its own is built when it is not there yet.

    Args:
        named: what `environment:` says; "current" takes this process's. None does, too, but for a model of MLflow's,
            which brings its own.
        reference: what `model:` names; an estimator in a file needs more than code does.
        root: the project's root.
        where: the version in messages (`versions.v1`).
        on_building: called with the name of the environment's file before it is built, which may take minutes.

    Raises:
        VersionLoadError: the environment cannot be had, or lacks what the model needs.
    """
    kept = reference if isinstance(reference, ModelReference) else None
    if named == CURRENT or (named is None and kept is None):
        around = environment()
        return Surroundings(digest_environment(around), around)
    fitted = isinstance(reference, FileReference) if kept is None else kept.kind == "sklearn"
    needs = ESTIMATOR_NEEDS if fitted else HOST_NEEDS if kept is None else PYFUNC_NEEDS
    if named is not None:
        where = f"{where}.environment"
        return _own(named, needs, fitted=fitted, root=root, where=where, on_building=on_building)
    where = f"{where}.model"
    brought = _brought(reference, root, where)
    return _own(brought, needs, fitted=fitted, root=root, where=where, on_building=on_building)


def training_of(
    named: str | None, target: Path, *, root: Path, where: str, on_building: Listener | None = None
) -> Surroundings | None:
    """The environment that a version is trained in: what its own locks, and what reading a snapshot takes.

    None when it has none of its own. The arguments are those of `surroundings_of`, but for:

    Args:
        target: the file that the training makes.

    Raises:
        VersionLoadError: the environment cannot be had, or lacks what writing the file takes.
    """
    if named is None or named == CURRENT:
        return None
    fitted = target.name.endswith(ESTIMATOR_SUFFIXES)
    needs = (*ESTIMATOR_NEEDS, *TRAINING_NEEDS) if fitted else TRAINING_NEEDS
    where = f"{where}.environment"
    return _own(named, needs, fitted=fitted, root=root, where=where, on_building=on_building)


def _brought(reference: Reference, root: Path, where: str) -> Requirements:
    """What a model of MLflow's says it needs. Without MLflow itself, where it is an estimator that we read."""
    if not isinstance(reference, ModelReference) or _BROUGHT not in reference.files:
        raise VersionLoadError(
            f"{where}: the model brings no {_BROUGHT}, so it is not known what it needs",
            hint="name a file with `environment:`, or write `environment: current` to run it with mlstream's packages",
            where=where,
        )
    python = None if reference.python is None else ".".join(reference.python.split(".")[:2])
    name = f"the {_BROUGHT} of {reference.uri}"
    found = requirements_in(reference.folder / _BROUGHT, name=name, python=python, where=where)
    lines = found.lines
    if any(line.startswith("-") for line in lines):
        return found  # other files and indexes: as it stands
    if reference.loader == "skops" and reference.code is None:
        lines = tuple(line for line in lines if name_of(line) not in _MLFLOW)
    return replace(found, text="\n".join(lines) + "\n", folder=root, file=None)


def _own(
    named: str | Requirements,
    needs: Sequence[str],
    *,
    fitted: bool,
    root: Path,
    where: str,
    on_building: Listener | None,
) -> Surroundings:
    pinned = pin_environment(named, root=root, where=where, needs=tuple(dict.fromkeys(needs)))
    if fitted and not pinned.pins.holds("scikit-learn"):
        raise VersionLoadError(
            f"{where}: {pinned.requirements.name} has no scikit-learn, and the model is an estimator in a file",
            hint="lock the release of scikit-learn that it was fitted with",
            where=where,
        )
    found = build(pinned, on_building=on_building)
    return Surroundings(found.digest, found.described, found.python, found.site)
