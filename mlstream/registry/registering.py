"""Write what a training made to MLflow: a run, its model, and a version of a registered model. Loads no model.

The file that was trained is put into a model's folder as it is, so that what is registered has the very bytes that the
training wrote. A record is written in numbered steps; a run that is cut off is marked as failed.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from mlflow import MlflowClient
from mlflow import __version__ as mlflow_release
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    RunTag,
)
from mlflow.entities import Param as LoggedParam
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from requests.exceptions import RequestException

from mlstream.registry.client import experiment_of, is_local, user
from mlstream.registry.dataset import SOURCE_TYPE
from mlstream.registry.place import shown_uri
from mlstream.registry.registration import Registered, Registration

_IDENTITY = "mlstream.identity"
_TYPES = {"int": "long", "float": "double", "string": "string", "bool": "boolean", "time": "datetime"}
_MOST_CHARACTERS = 500  # MLflow takes more for tags, but not in every store


def write(client: MlflowClient, asked: Registration, *, uri: str, artifacts: str | None) -> Registered:
    """Register what a training made, or find the version that is the same.

    Args:
        uri: the store or server that the client talks to.
        artifacts: where artifacts of a new experiment go; None leaves that to MLflow.

    Raises:
        MlflowException, OSError: MLflow refuses, or a file cannot be read.
        TrackingError: the experiment was deleted.
    """
    place = shown_uri(uri)
    # 1. the same thing registered before is enough
    if asked.estimator is not None:
        known = _known(client, asked)
        if known is not None:
            return Registered(asked.version, f"models:/{asked.name}/{known[0]}", known[1], place, found=True)
    # 2. the run, marked as being written, with the snapshot as what it was trained on
    experiment_id = experiment_of(client, asked.experiment, asked.question, artifacts)
    now_ms = time.time_ns() // 1_000_000
    tags = {"mlstream.status": "writing", "mlstream.kind": "training", "mlflow.user": user(), **_tags(asked)}
    run_id = str(client.create_run(experiment_id, now_ms, tags, f"train {asked.version}").info.run_id)
    with ExitStack() as undo:
        undo.callback(_give_up, client, run_id)
        context = InputTag("mlflow.data.context", "training")
        data = asked.dataset
        dataset = Dataset(data.name, data.digest, SOURCE_TYPE, data.source, data.schema, data.profile)
        client.log_inputs(run_id, [DatasetInput(dataset, [context, InputTag("mlstream.snapshot", asked.snapshot_id)])])
        client.log_batch(run_id, params=[LoggedParam(*item) for item in asked.params.items()])
        client.log_artifact(run_id, str(asked.file))
        client.log_artifact(run_id, str(asked.note_file))
        # 3. the model, linked to the run, its figures linked to both
        model = None if asked.estimator is None else _model(client, asked, experiment_id, run_id)
        client.log_batch(
            run_id,
            metrics=[
                Metric(
                    key,
                    value,
                    now_ms,
                    0,
                    model_id=None if model is None else model.model_id,
                    dataset_name=data.name,
                    dataset_digest=data.digest,
                    run_id=run_id,
                )
                for key, value in asked.metrics.items()
            ],
        )
        # 4. the version of the registered model
        name = None if model is None else _registered(client, asked, model, run_id, uri)
        # 5. all of it is written
        client.set_terminated(run_id)
        undo.pop_all()
    client.log_batch(run_id, tags=[RunTag("mlstream.status", "completed")])
    return Registered(asked.version, name, run_id, place)


def _known(client: MlflowClient, asked: Registration) -> tuple[str, str] | None:
    """The newest version of the same identity, and its run."""
    found = client.search_model_versions(f"name = '{asked.name}'")
    same = [
        each for each in found if each.tags.get(_IDENTITY) == asked.identity and each.status == "READY" and each.run_id
    ]
    newest = max(same, key=lambda each: int(each.version), default=None)
    return None if newest is None else (str(newest.version), str(newest.run_id))


def _model(client: MlflowClient, asked: Registration, experiment_id: str, run_id: str) -> LoggedModel:
    """The trained estimator as a model of MLflow's."""
    logged = client.create_logged_model(
        experiment_id, asked.name, run_id, _tags(asked), dict(asked.params), asked.task or ""
    )
    try:
        with tempfile.TemporaryDirectory(prefix="mlstream-") as work:
            write_model(Path(work), asked, model_id=logged.model_id, run_id=run_id, location=logged.artifact_location)
            client.log_model_artifacts(logged.model_id, work)
    except BaseException:
        with suppress(MlflowException, RequestException, OSError):
            client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
        raise
    ready = client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return ready


def write_model(folder: Path, asked: Registration, *, model_id: str, run_id: str, location: str) -> None:
    """Write the folder of a model: the trained file, what it needs, and MLmodel, which says how it is loaded."""
    estimator = asked.estimator
    if estimator is None:
        raise ValueError("there is no estimator to write")
    file = f"model{asked.file.suffix}"
    (folder / file).write_bytes(asked.file.read_bytes())
    lines = [f"mlflow=={mlflow_release}", *estimator.requirements]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # JSON is YAML
    python = {"python": estimator.python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(json.dumps(python, indent=1), encoding="utf-8")
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={estimator.python}", "pip", {"pip": lines}],
    }
    (folder / "conda.yaml").write_text(json.dumps(conda, indent=1), encoding="utf-8")
    model = Model(artifact_path=location, run_id=run_id, model_uuid=model_id, model_id=model_id)
    if estimator.columns is not None:
        columns = [ColSpec(_TYPES[kind], name, required=False) for name, kind in estimator.columns.items()]
        model.signature = ModelSignature(inputs=Schema(columns))
    # As `mlflow.pyfunc.add_to_model` has it, which would take seconds to import.
    model.add_flavor(
        "python_function",
        loader_module="mlflow.sklearn",
        model_path=file,
        predict_fn="predict",
        python_version=estimator.python,
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    model.add_flavor(
        "sklearn",
        pickled_model=file,
        sklearn_version=estimator.scikit_learn,
        serialization_format=estimator.serialization,
        code=None,
        skops_trusted_types=list(estimator.types),
    )
    model.model_size_bytes = sum(path.stat().st_size for path in folder.iterdir())
    model.save(str(folder / "MLmodel"))


def _registered(client: MlflowClient, asked: Registration, model: LoggedModel, run_id: str, uri: str) -> str:
    """The model as the next version of the registered model."""
    try:
        client.create_registered_model(asked.name, description=asked.question or None)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # MLflow's own store looks up `models:/m-…` in the process's default store, which ours is not.
    source = model.artifact_location if is_local(uri) else f"models:/{model.model_id}"
    version = client.create_model_version(
        asked.name,
        source,
        run_id,
        tags={**_tags(asked), _IDENTITY: asked.identity},
        description=asked.description or None,
        model_id=model.model_id,
    )
    return f"models:/{asked.name}/{version.version}"


def _tags(asked: Registration) -> dict[str, str]:
    return {key: value[:_MOST_CHARACTERS] for key, value in asked.tags.items()}


def _give_up(client: MlflowClient, run_id: str) -> None:
    """Show the run as failed, if that can still be said."""
    with suppress(MlflowException, RequestException, OSError):
        client.set_terminated(run_id, "FAILED")
