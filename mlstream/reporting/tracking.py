"""Record a comparison in MLflow, and find what was recorded. Imports MLflow only when it is asked for something.

Where, and with what defaults, `registry/place.py` says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlstream.comparison.result import Comparison
from mlstream.home import Home
from mlstream.registry.place import artifacts_of, at_peace, tracking_uri
from mlstream.reporting.facts import RunFacts, run_facts

if TYPE_CHECKING:
    from mlstream.runs.run import Run

_VIEW = "workflowType=machine_learning"  # else MLflow 3 may show the run in its view for language models


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
    with at_peace():
        from mlstream.reporting import tracking_store

        return tracking_store.record(comparison, facts, uri=place, artifacts=artifacts_of(home, place))


def newest(home: Home, *, uri: str | None = None) -> Tracked | None:
    """The comparison that was completed last, of any experiment; None when there is none.

    Raises:
        TrackingError: when MLflow cannot be reached within seconds, or refuses.
    """
    place = tracking_uri(home, uri)
    with at_peace():
        from mlstream.reporting import tracking_store

        return tracking_store.newest(uri=place, artifacts=artifacts_of(home, place))
