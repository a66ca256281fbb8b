"""A client of MLflow on a store that is known to answer. Writes new stores' tables, and experiments.

MLflow itself would try for minutes where nobody answers, and two processes that open a new store at once both make its
tables.
"""

from __future__ import annotations

import getpass
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException, SSLError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mlstream.errors import TrackingError
from mlstream.registry.place import shown_uri

_LOCK_WAIT_S = 60.0
_CONNECT_S = 5.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


@contextmanager
def opened(uri: str, artifacts: str | None) -> Iterator[MlflowClient]:
    """A client, with the store ready and, if it is a file, locked; every error of MLflow's as a TrackingError."""
    shown = shown_uri(uri)
    _check_names_a_store(uri, shown)
    try:
        with _ready(uri, artifacts):
            yield MlflowClient(uri, uri)
    except MlflowException as exc:
        raise _refused(shown, exc) from exc
    except (RequestException, SQLAlchemyError, sqlite3.Error, OSError) as exc:
        raise TrackingError(
            f"MLflow at {shown}: {_first_line(exc)}",
            hint="look at the store, or set MLFLOW_TRACKING_URI to another one",
            uri=shown,
        ) from exc


def _check_names_a_store(uri: str, shown: str) -> None:
    """Refuse a folder, a host without http and a slip of the pen, to all of which MLflow says the same."""
    named = "://" in uri or uri.startswith(("sqlite:", "databricks"))
    if not named or uri.startswith("file:"):
        raise TrackingError(
            f"MLflow: {shown} names no server and no database",
            hint="set MLFLOW_TRACKING_URI to http://HOST:PORT or sqlite:///FILE, or unset it to record in the "
            "project's own store",
            uri=shown,
        )


@contextmanager
def _ready(uri: str, artifacts: str | None) -> Iterator[None]:
    """The store answers and has its tables.

    MLflow creates and migrates the tables of a database at first sight, which two processes must not do at once.
    """
    if not is_local(uri):
        _knock(uri)
        yield
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # seconds, and a server needs none of it

    file = Path(make_url(uri).database or "mlflow.db").absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{file}.lock", timeout=_LOCK_WAIT_S):
            with closing(sqlite3.connect(file)) as database:
                database.execute("PRAGMA schema_version")  # fails at once where MLflow would try for minutes
            root = (file.parent / "mlartifacts").as_uri() if artifacts is None else artifacts
            store = SqlAlchemyStore(uri, root)
            try:
                yield
            finally:
                store.engine.dispose()
    except Timeout as exc:
        raise TrackingError(
            f"MLflow store {file}: another process has been writing for {_LOCK_WAIT_S:.0f} s",
            hint="wait until it is done",
        ) from exc


def _knock(uri: str) -> None:
    """Whether anybody answers at all, before MLflow tries again and again."""
    parts = urlsplit(uri)
    patience_s = float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", _CONNECT_S))
    try:
        if parts.scheme in ("http", "https"):
            with suppress(SSLError):  # MLflow has its own settings for certificates
                requests.get(f"{uri.rstrip('/')}/health", timeout=patience_s, allow_redirects=False)
        elif parts.hostname is not None:
            port = parts.port or _PORTS.get(parts.scheme.partition("+")[0])
            if port is not None:
                socket.create_connection((parts.hostname, port), timeout=_CONNECT_S).close()
    except (RequestException, OSError) as exc:
        shown = shown_uri(uri)
        raise TrackingError(
            f"MLflow at {shown} does not answer ({type(exc).__name__})",
            hint="start it, correct MLFLOW_TRACKING_URI, or unset it to record in the project's own store",
            uri=shown,
        ) from exc


def _refused(shown: str, exc: MlflowException) -> TrackingError:
    message = str(exc.message)
    if "out-of-date database schema" in message:
        return TrackingError(
            f"MLflow store {shown} was made by another version of MLflow",
            hint=f"back it up and run: mlflow db upgrade {shown}",
            uri=shown,
        )
    return TrackingError(
        f"MLflow at {shown}: {_first_line(message)}",
        hint="look at the server's log, or set MLFLOW_TRACKING_URI to another one",
        uri=shown,
        error_code=exc.error_code,
    )


def is_local(uri: str) -> bool:
    """Whether it is a file of this machine, which only we lock."""
    return uri.startswith("sqlite:")


def _first_line(message: object) -> str:
    return str(message).strip().split("\n", 1)[0][:300]


def experiment_of(client: MlflowClient, name: str, question: str, artifacts: str | None) -> str:
    """The id of the experiment with a name, which is made when there is none.

    Args:
        question: what its page says, when it is made.
        artifacts: where its artifacts go, when it is made; None leaves that to MLflow.

    Raises:
        TrackingError: it was deleted.
        MlflowException: MLflow refuses.
    """
    found: Experiment | None = client.get_experiment_by_name(name)
    if found is None:
        tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": question}
        try:
            return str(client.create_experiment(name, artifacts, tags))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another process made it in the meantime
    if found is None or found.lifecycle_stage != "active":
        number = "" if found is None else found.experiment_id
        raise TrackingError(
            f"the MLflow experiment {name!r} was deleted",
            hint=f"restore it (mlflow experiments restore -x {number}) or rename yours",
        )
    return str(found.experiment_id)


def user() -> str:
    """Who writes, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
