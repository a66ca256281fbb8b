"""A model of MLflow's, found, pinned and on this machine: for the process that plans, not for those that load.

MLflow is imported when a model is asked for, which takes seconds. Its credentials stay in this process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlstream.errors import VersionLoadError
from mlstream.home import Home
from mlstream.registry.place import artifacts_of, at_peace, shown_uri, tracking_uri
from mlstream.registry.uri import ModelUri

if TYPE_CHECKING:
    from mlstream.registry.flavors import Flavor


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model of MLflow's.

    Attributes:
        asked: its URI as it was given.
        pinned: its URI with the version that an alias pointed to.
        name, version, alias: of a registered model, else None.
        model_id, run_id: of the logged model and the run that made it; None where MLflow does not say.
        place: the store or server that knows it, without a password.
        folder: its files, in this machine's cache.
        digest: of all its files: 64 hex.
        files: path in the folder → digest.
        flavor: how it is loaded.
    """

    asked: str
    pinned: str
    name: str | None
    version: str | None
    alias: str | None
    model_id: str | None
    run_id: str | None
    place: str
    folder: Path
    digest: str
    files: Mapping[str, str] = field(repr=False)
    flavor: Flavor

    def describe(self) -> dict[str, Any]:
        """What a run's record says of it: JSON values only."""
        return {
            "uri": self.pinned,
            "name": self.name,
            "version": self.version,
            "alias": self.alias,
            "model_id": self.model_id,
            "run_id": self.run_id,
            "mlflow": self.place,
            "flavor": self.flavor.kind,
            "loader": self.flavor.loader,
            "files": dict(self.files),
        }


def find_model(uri: ModelUri, *, home: Home, where: str) -> FoundModel:
    """The model that a URI means now, its files fetched unless they are there, all of them digested.

    Args:
        home: the project's home, which holds the MLflow store where the environment names none.
        where: the key in the configuration, for messages (`versions.v1.model`).

    Raises:
        VersionLoadError: there is no such model, its files are gone or changed, or it cannot be loaded here.
        TrackingError: MLflow cannot be reached within seconds, or refuses.
    """
    place = tracking_uri(home)
    _check_store(place, uri, where)
    with at_peace():
        from mlstream.registry.client import opened
        from mlstream.registry.fetching import fetch
        from mlstream.registry.flavors import read_flavor
        from mlstream.registry.locating import locate

        with opened(place, artifacts_of(home, place)) as client:
            located = locate(client, uri, where=where)
            fetched = fetch(located, place, where=where)
        flavor = read_flavor(fetched.folder, fetched.files, pinned=located.pinned, where=where)
    return FoundModel(
        asked=uri.text,
        pinned=located.pinned,
        name=located.name,
        version=located.version,
        alias=located.alias,
        model_id=located.model_id,
        run_id=located.run_id,
        place=shown_uri(place),
        folder=fetched.folder,
        digest=fetched.digest,
        files=fetched.files,
        flavor=flavor,
    )


def _check_store(place: str, uri: ModelUri, where: str) -> None:
    """A store in a file that is not there holds no model, and looking for one should not make it."""
    parts = urlsplit(place)
    file = Path(unquote(parts.path)[1:] if parts.path.startswith("/") else parts.path)
    if parts.scheme == "sqlite" and file.is_absolute() and not file.exists():
        raise VersionLoadError(
            f"{where}: there is no {uri.text}: the MLflow store {file} is not there",
            hint="name the server with MLFLOW_TRACKING_URI, or register a model with `mlstream train --register`",
            where=where,
        )
