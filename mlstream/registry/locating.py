"""Ask MLflow which model a URI means today, and where its files are. Fetches none.

What is not there is named together with what is like it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from mlstream.errors import VersionLoadError
from mlstream.registry.uri import ModelUri

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_MOST_NAMES = 1000
_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Located:
    """A model as MLflow knows it, under a name that means the same tomorrow.

    Attributes:
        pinned: its URI, with the version that an alias points to.
        location: where its files are; it may hold a password.
        name, version, alias: of a registered model, else None.
        model_id: of a logged model; None where MLflow does not say.
        run_id: the run that made it; None where MLflow does not say.
    """

    pinned: str
    location: str = field(repr=False)
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    model_id: str | None = None
    run_id: str | None = None


def locate(client: MlflowClient, uri: ModelUri, *, where: str) -> Located:
    """The model that a URI means.

    Args:
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: there is no such model, version, alias or run, or it is not ready.
        MlflowException: MLflow refuses.
    """
    if uri.name is not None:
        return _registered(client, uri, where)
    if uri.model_id is not None:
        return _logged(client, uri.model_id, where)
    return _of_run(client, uri, where)


def _registered(client: MlflowClient, uri: ModelUri, where: str) -> Located:
    name = str(uri.name)
    try:
        if uri.alias is not None:
            found: ModelVersion = client.get_model_version_by_alias(name, uri.alias)
        else:
            found = client.get_model_version(name, str(uri.version))
    except MlflowException as exc:
        # an alias that does not exist is INVALID_PARAMETER_VALUE
        if exc.error_code not in (_ABSENT, "INVALID_PARAMETER_VALUE"):
            raise
        raise _absent_version(client, uri, where) from exc
    number = str(found.version)
    if found.status != "READY":
        raise VersionLoadError(
            f"{where}: models:/{name}/{number} is not ready: {found.status}",
            hint="wait until it is registered, or register it again",
            where=where,
        )
    source = str(found.source)
    logged = source.removeprefix("models:/")
    return Located(
        pinned=f"models:/{name}/{number}",
        location=str(client.get_model_version_download_uri(name, number)),
        name=name,
        version=number,
        alias=uri.alias,
        model_id=found.model_id or (logged if logged.startswith("m-") and logged != source else None),
        run_id=found.run_id or None,
    )


def _logged(client: MlflowClient, model_id: str, where: str) -> Located:
    try:
        found = client.get_logged_model(model_id)
    except MlflowException as exc:
        if exc.error_code != _ABSENT:
            raise
        raise VersionLoadError(
            f"{where}: MLflow has no logged model {model_id}",
            hint="look for its id on its page, or name a registered version: models:/NAME/3",
            where=where,
        ) from exc
    if str(found.status) != "READY":
        raise VersionLoadError(
            f"{where}: the logged model {model_id} is not ready: {found.status}", hint="log it again", where=where
        )
    return Located(
        pinned=f"models:/{model_id}",
        location=str(found.artifact_location),
        model_id=model_id,
        run_id=found.source_run_id or None,
    )


def _of_run(client: MlflowClient, uri: ModelUri, where: str) -> Located:
    run_id, path = str(uri.run_id), str(uri.path)
    try:
        run: Run = client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code != _ABSENT:
            raise
        raise VersionLoadError(
            f"{where}: MLflow has no run {run_id}", hint="copy the run's id from its page", where=where
        ) from exc
    if run.info.lifecycle_stage != "active":
        raise VersionLoadError(
            f"{where}: the run {run_id} was deleted",
            hint=f"restore it (mlflow runs restore --run-id {run_id}), or name another model",
            where=where,
        )
    # What a run logs as a model since MLflow 3 is no artifact of the run, but one of its outputs.
    logged = {}
    outputs = () if run.outputs is None else run.outputs.model_outputs
    for output in outputs:
        model = client.get_logged_model(output.model_id)
        logged[str(model.name)] = str(model.model_id)
    if path in logged:
        found = _logged(client, logged[path], where)
        return replace(found, pinned=uri.text, run_id=run_id)
    folder, _, last = path.rpartition("/")
    there = [entry.path for entry in client.list_artifacts(run_id, folder or None)]
    if path not in there:
        raise VersionLoadError(
            f"{where}: the run {run_id} has nothing at {path}",
            hint=_like(last, [*logged, *(name.rpartition("/")[2] for name in there)], "it has"),
            where=where,
        )
    return Located(pinned=uri.text, location=f"{str(run.info.artifact_uri).rstrip('/')}/{path}", run_id=run_id)


def _absent_version(client: MlflowClient, uri: ModelUri, where: str) -> VersionLoadError:
    """The error for a version that is not there: of the model, of the alias, or of the number."""
    name = str(uri.name)
    try:
        model = client.get_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != _ABSENT:
            raise
        names = [str(found.name) for found in client.search_registered_models(max_results=_MOST_NAMES)]
        return VersionLoadError(
            f"{where}: MLflow has no registered model {name!r}",
            hint=_like(name, names, "there are")
            if names
            else "nothing is registered there yet: `mlstream train CONFIG --snapshot NAME --register` does",
            where=where,
        )
    if uri.alias is not None:
        return VersionLoadError(
            f"{where}: the registered model {name!r} has no alias {uri.alias!r}",
            hint=_like(uri.alias, sorted(model.aliases), "it has")
            if model.aliases
            else f"it has none: set it in MLflow, or name a version (models:/{name}/1)",
            where=where,
        )
    found = client.search_model_versions(f"name = '{name}'", max_results=_MOST_NAMES)
    numbers = [str(version) for version in sorted(int(each.version) for each in found)]
    return VersionLoadError(
        f"{where}: the registered model {name!r} has no version {uri.version}",
        hint=f"it has: {', '.join(numbers[-_MOST_SHOWN:])}" if numbers else "it has none",
        where=where,
    )


def _like(name: str, known: Iterable[str], words: str) -> str:
    known = list(known)
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"{words}: {', '.join(known[:_MOST_SHOWN])}" if known else f"{words} none"
