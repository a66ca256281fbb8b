"""Which MLflow is used, and how it behaves while it is: its place and its defaults. Imports it only to quieten it.

Where: the `uri` given, else `MLFLOW_TRACKING_URI`, else SQLite under the project's home. MLflow's telemetry is off
unless the user's environment says something about it, and a server that does not answer is given up on within seconds;
both are defaults in the environment, which the user's own settings override.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mlstream.home import Home, cache_root

# Set once and left set, since MLflow reads them whenever it likes and its server inherits them.
# The second one is about a line of advice that importing MLflow may print.
_LASTING = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_DISABLE_AGENT_HINT": "true"}
# Set while we talk to a server. MLflow's own defaults (120 s, 7 retries) make a dead server a wait of minutes.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3")


def tracking_uri(home: Home, uri: str | None = None) -> str:
    """The store or server of comparisons and models."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or home.mlflow_uri


def shown_uri(uri: str) -> str:
    """`uri` without a password, for messages."""
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"…@{host}"))


def models_root() -> Path:
    """The folder of all models that were fetched from MLflow, in this machine's cache."""
    return cache_root() / "mlflow-models"


def artifacts_of(home: Home, place: str) -> str | None:
    """Where artifacts go: beside our own store; elsewhere it is the server's or MLflow's choice."""
    return home.mlflow_artifacts.as_uri() if place == home.mlflow_uri else None


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a process of MLflow's: our lasting defaults, where it says nothing of its own."""
    return {**_LASTING, **environ}


@contextmanager
def at_peace() -> Iterator[None]:
    """MLflow with our defaults in the environment, and quiet: what goes wrong reaches the user as an error.

    Silenced are the log lines of MLflow, its migrations and its HTTP client, and what it is warned of by the libraries
    that it uses, already when it is imported.
    """
    for name, value in _LASTING.items():
        os.environ.setdefault(name, value)
    ours = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    os.environ.update(ours)
    levels: dict[logging.Logger, int] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import_module("mlflow")  # sets the levels of its loggers
            for logger in map(logging.getLogger, _NOISY):
                levels[logger] = logger.level
                logger.setLevel(logging.CRITICAL)
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        for name in ours:
            os.environ.pop(name, None)
