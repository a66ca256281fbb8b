"""Record a comparison in MLflow, and find what was recorded. Imports MLflow only when it is asked for something.

Where: the `uri` given, else `MLFLOW_TRACKING_URI`, else SQLite under the project's home. MLflow's telemetry is off
unless the user's environment says something about it, and a server that does not answer is given up on within seconds;
both are defaults in the environment, which the user's own settings override.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from mlstream.comparison.result import Comparison
from mlstream.home import Home
from mlstream.reporting.facts import RunFacts, run_facts

if TYPE_CHECKING:
    from mlstream.runs.run import Run

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
_VIEW = "workflowType=machine_learning"  # else MLflow 3 may show the run in its view for language models
_NOISY = ("mlflow", "alembic", "sqlalchemy", "urllib3")


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a comparison is recorded.

    Attributes:
        experiment_id: MLflow's experiment.
        run_id: the comparison's run, parent of the versions'.
        url: its page; None for a store that no server stands in front of (`mlstream ui` starts one).
        child_run_ids: version → its run.
        uri: the store or server, without credentials.
    """

    experiment_id: str
    run_id: str
    url: str | None
    child_run_ids: dict[str, str] = field(default_factory=dict)
    uri: str = ""

    @property
    def page(self) -> str:
        """The comparison's page, relative to the address of the MLflow UI."""
        return run_page(self.experiment_id, self.run_id)


def run_page(experiment_id: str, run_id: str) -> str:
    """A run's page, relative to the address of the MLflow UI."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{_VIEW}"


def runs_page(experiment_id: str, run_ids: Iterable[str]) -> str:
    """Several runs side by side, relative to the address of the MLflow UI."""
    runs = ",".join(f"%22{run_id}%22" for run_id in run_ids)
    return f"#/compare-runs?runs=[{runs}]&experiments=[%22{experiment_id}%22]&{_VIEW}"


def track(comparison: Comparison, run: Run | RunFacts, *, home: Home, uri: str | None = None) -> Tracked:
    """Record `comparison` in MLflow: a run for it and, below, one for each version.

    The same comparison is recorded once: when a complete record of it exists already, that one is returned. A record
    that was cut off never counts as complete.

    Args:
        comparison: what was found.
        run: where it comes from, or what is known of it.
        home: the project's home, which holds the local store.
        uri: an MLflow store or server; `MLFLOW_TRACKING_URI` or the local store when None.

    Raises:
        TrackingError: when MLflow cannot be reached within seconds, or refuses.
    """
    place = tracking_uri(home, uri)
    facts = run if isinstance(run, RunFacts) else run_facts(run)
    with _at_peace():
        from mlstream.reporting import tracking_store

        return tracking_store.record(comparison, facts, uri=place, artifacts=_artifacts(home, place))


def newest(home: Home, *, uri: str | None = None) -> Tracked | None:
    """The comparison that was completed last, of any experiment; None when there is none.

    Raises:
        TrackingError: when MLflow cannot be reached within seconds, or refuses.
    """
    place = tracking_uri(home, uri)
    with _at_peace():
        from mlstream.reporting import tracking_store

        return tracking_store.newest(uri=place, artifacts=_artifacts(home, place))


def tracking_uri(home: Home, uri: str | None = None) -> str:
    """The store or server that comparisons go to."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or home.mlflow_uri


def shown_uri(uri: str) -> str:
    """`uri` without a password, for messages."""
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"…@{host}"))


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` for a process of MLflow's: our lasting defaults, where it says nothing of its own."""
    return {**_LASTING, **environ}


def _artifacts(home: Home, place: str) -> str | None:
    """Where artifacts go: beside our own store; elsewhere it is the server's or MLflow's choice."""
    return home.mlflow_artifacts.as_uri() if place == home.mlflow_uri else None


@contextmanager
def _at_peace() -> Iterator[None]:
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
