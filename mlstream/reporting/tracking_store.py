"""The one place that writes to MLflow, through its client alone: no active run, no tracking URI is set or left behind.

A record is written in numbered steps; the tag that says it is complete is the last one, and readers filter on it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.data.dataset_source_registry import get_registered_sources, register_dataset_source
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelInput,
    LoggedModelStatus,
    RunTag,
)
from mlflow.entities import Metric as LoggedMetric
from mlflow.entities import Param as LoggedParam
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from mlstream.comparison.result import Comparison
from mlstream.registry.client import experiment_of, is_local, opened, user
from mlstream.registry.dataset import SOURCE_TYPE
from mlstream.registry.place import shown_uri
from mlstream.reporting import wording
from mlstream.reporting.dataset import snapshot_dataset
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.items import (
    COMPARISON,
    COMPLETED,
    KIND,
    STATUS,
    Artifact,
    Item,
    Metric,
    Param,
    Tag,
    comparison_items,
    version_items,
)
from mlstream.reporting.tracking import Tracked, run_page, runs_page
from mlstream.reporting.tracking_source import SnapshotSource

_BATCH_METRICS = 1000 - 200  # MLflow takes 1,000 entities a request, of which 100 parameters and 100 tags
_BATCH_OTHERS = 100


def record(comparison: Comparison, run: RunFacts, *, uri: str, artifacts: str | None) -> Tracked:
    """Write the record of a comparison, or find the one that is there.

    Raises:
        TrackingError: when MLflow cannot be reached or refuses.
    """
    with opened(uri, artifacts) as client:
        # 1. the experiment, with a place for artifacts where we choose it
        experiment_id = experiment_of(client, comparison.experiment, comparison.question, artifacts)
        # 2. a complete record of the same comparison is enough
        found = _completed(client, [experiment_id], f"tags.`{COMPARISON}` = '{comparison.id}'", uri)
        if found is not None:
            return found
        if is_local(uri):
            _discard_unfinished(client, experiment_id, comparison)
        return _Writer(client, experiment_id, comparison, run).write(uri)


def newest(*, uri: str, artifacts: str | None) -> Tracked | None:
    """The comparison that was completed last.

    Raises:
        TrackingError: when MLflow cannot be reached or refuses.
    """
    with opened(uri, artifacts) as client:
        experiments = [found.experiment_id for found in client.search_experiments()]
        return _completed(client, experiments, "", uri)


class _Writer:
    """One record being written."""

    def __init__(self, client: MlflowClient, experiment_id: str, comparison: Comparison, run: RunFacts) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._comparison = comparison
        self._run = run
        self._now_ms = time.time_ns() // 1_000_000
        found = snapshot_dataset(comparison, run)
        self._dataset = Dataset(found.name, found.digest, SOURCE_TYPE, found.source, found.schema, found.profile)

    def write(self, uri: str) -> Tracked:
        comparison = self._comparison
        with ExitStack() as undo:
            # 3. the parent, marked as being written
            parent = self._start(wording.title(comparison))
            undo.callback(self._give_up, parent)
            # 4. each version: a run below the parent, a model, its figures linked to both
            children: dict[str, str] = {}
            models: list[LoggedModel] = []
            for version in comparison.versions:
                run_id = children[version] = self._start(version, parent)
                undo.callback(self._give_up, run_id)
                models.append(self._model(version, run_id))
                self._inputs(run_id, [models[-1]])
                self._log(run_id, version_items(comparison, self._run, version), models[-1])
            # 5. the comparison itself, with links to the versions and the chart
            self._inputs(parent, models)
            chart = f"get-artifact?path=chart.svg&run_uuid={parent}"
            self._log(parent, comparison_items(comparison, self._run, pages=self._pages(children), chart=chart))
            # 6. all of it is written
            for run_id in (*children.values(), parent):
                self._client.set_terminated(run_id)
            undo.pop_all()
        # 7. the mark that readers look for, on the parent last
        for run_id in (*children.values(), parent):
            self._client.set_tag(run_id, STATUS, COMPLETED)
        return _tracked(uri, self._experiment_id, parent, children)

    def _give_up(self, run_id: str) -> None:
        """Show the run as failed, if that can still be said."""
        with suppress(MlflowException, RequestException, OSError):
            self._client.set_terminated(run_id, "FAILED")

    def _start(self, name: str, parent: str | None = None) -> str:
        tags = {STATUS: "writing", COMPARISON: self._comparison.id, "mlflow.user": user()}
        tags[KIND] = "comparison" if parent is None else "version"
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        return str(self._client.create_run(self._experiment_id, self._now_ms, tags, name).info.run_id)

    def _model(self, version: str, run_id: str) -> LoggedModel:
        """The version as a model whose files are not MLflow's; versions of one digest are one model."""
        digest = self._run.version(version).digest
        name = f"{self._comparison.experiment}-{version}"
        if digest is not None:
            known = self._client.search_logged_models(
                [self._experiment_id], f"name = '{name}' AND tags.`mlstream.digest` = '{digest}'", max_results=1
            )
            if known:
                return known[0]
        items = list(version_items(self._comparison, self._run, version))
        tags = {"mlflow.model.isExternal": "true", "mlstream.version": version}
        tags |= {item.key: item.value for item in items if isinstance(item, Tag) and "mlstream.digest" in item.key}
        params = {item.key: item.value for item in items if isinstance(item, Param)}
        model = self._client.create_logged_model(self._experiment_id, name, run_id, tags, params, self._comparison.task)
        return self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)

    def _inputs(self, run_id: str, models: list[LoggedModel]) -> None:
        context = InputTag("mlflow.data.context", "evaluation")
        self._client.log_inputs(
            run_id,
            [DatasetInput(self._dataset, [context, InputTag("mlstream.snapshot", self._comparison.snapshot_id)])],
            [LoggedModelInput(model.model_id) for model in models],
        )

    def _pages(self, children: dict[str, str]) -> dict[str, str]:
        pages = {version: run_page(self._experiment_id, run_id) for version, run_id in children.items()}
        return {**pages, "all side by side": runs_page(self._experiment_id, children.values())}

    def _log(self, run_id: str, items: Iterable[Item], model: LoggedModel | None = None) -> None:
        metrics: list[LoggedMetric] = []
        params: list[LoggedParam] = []
        tags: list[RunTag] = []
        with tempfile.TemporaryDirectory(prefix="mlstream-") as folder:
            for item in items:
                match item:
                    case Metric():
                        metrics.append(self._metric(run_id, item, model))
                    case Param():
                        params.append(LoggedParam(item.key, item.value))
                    case Tag():
                        tags.append(RunTag(item.key, item.value))
                    case Artifact():
                        file = Path(folder, item.path)
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(item.data)
            for batch in _batches(metrics, params, tags):
                self._client.log_batch(run_id, *batch)
            if any(Path(folder).iterdir()):
                self._client.log_artifacts(run_id, folder)

    def _metric(self, run_id: str, item: Metric, model: LoggedModel | None) -> LoggedMetric:
        if model is None or not item.of_model:
            time_ms = self._now_ms if item.time_ms is None else item.time_ms
            return LoggedMetric(item.key, item.value, time_ms, item.step)
        return LoggedMetric(
            item.key,
            item.value,
            self._now_ms,
            0,
            model_id=model.model_id,
            dataset_name=self._dataset.name,
            dataset_digest=self._dataset.digest,
            run_id=run_id,
        )


_Batch = tuple[list[LoggedMetric], list[LoggedParam], list[RunTag]]


def _batches(metrics: list[LoggedMetric], params: list[LoggedParam], tags: list[RunTag]) -> Iterator[_Batch]:
    """As many requests as MLflow's limits need."""
    while metrics or params or tags:
        yield metrics[:_BATCH_METRICS], params[:_BATCH_OTHERS], tags[:_BATCH_OTHERS]
        metrics, params, tags = metrics[_BATCH_METRICS:], params[_BATCH_OTHERS:], tags[_BATCH_OTHERS:]


def _completed(client: MlflowClient, experiments: list[str], condition: str, uri: str) -> Tracked | None:
    complete = f"tags.`{KIND}` = 'comparison' AND tags.`{STATUS}` = '{COMPLETED}'"
    filters = " AND ".join(filter(None, (complete, condition)))
    found = client.search_runs(experiments, filters, max_results=1, order_by=["attributes.end_time DESC"])
    if not found:
        return None
    parent = found[0].info
    return _tracked(uri, parent.experiment_id, parent.run_id, _children(client, parent.experiment_id, parent.run_id))


def _children(client: MlflowClient, experiment_id: str, run_id: str) -> dict[str, str]:
    children = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000)
    return {child.data.tags.get("mlstream.version", child.info.run_name): child.info.run_id for child in children}


def _discard_unfinished(client: MlflowClient, experiment_id: str, comparison: Comparison) -> None:
    """Records of this comparison that were cut off: under the store's lock, nobody is writing them any more."""
    same = f"tags.`{KIND}` = 'comparison' AND tags.`{COMPARISON}` = '{comparison.id}'"
    for run in client.search_runs([experiment_id], f"{same} AND tags.`{STATUS}` != '{COMPLETED}'"):
        for run_id in (*_children(client, experiment_id, run.info.run_id).values(), run.info.run_id):
            client.delete_run(run_id)


def _tracked(uri: str, experiment_id: str, run_id: str, children: dict[str, str]) -> Tracked:
    shown = shown_uri(uri)
    served = urlsplit(uri).scheme in ("http", "https")
    url = f"{shown.rstrip('/')}/{run_page(experiment_id, run_id)}" if served else None
    return Tracked(experiment_id, run_id, url, children, shown)


if SnapshotSource not in get_registered_sources():
    register_dataset_source(SnapshotSource)
