"""Models that MLflow's own functions have logged: the oracle of what ours finds, fetches and loads."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from mlstream.config import ExperimentConfig
from mlstream.home import Home

if TYPE_CHECKING:
    from mlflow import MlflowClient

NEEDS = [f"scikit-learn=={installed_version('scikit-learn')}", "mlflow==2.0.1"]
CODE = """\
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Tenth(PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None):
        return model_input["x"].to_numpy() / (10.0 if not params else params["by"])


set_model(Tenth())
"""
INPUT = pd.DataFrame({"x": [0.5 * n for n in range(40)], "n": [n % 7 for n in range(40)]})
LABELS = [n % 3 == 0 for n in range(40)]


@dataclass(frozen=True)
class Kept:
    """A store with models: `linear` 1 (skops; `champion`), 2 (cloudpickle), `coded` 1 (loaded by MLflow)."""

    home: Home
    run_id: str
    linear_id: str


@contextmanager
def mlflow_at(uri: str) -> Iterator[Any]:
    """MLflow's own functions on a store; whatever they set is put back."""
    import mlflow

    from mlstream.registry.place import at_peace

    with at_peace(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(uri)
        try:
            yield mlflow
        finally:
            mlflow.set_tracking_uri(None)


@contextmanager
def client_of(home: Home) -> Iterator[MlflowClient]:
    """A client of MLflow's own on a home's store."""
    from mlflow import MlflowClient

    client = MlflowClient(home.mlflow_uri, home.mlflow_uri)
    try:
        yield client
    finally:
        client._tracking_client.store.engine.dispose()


def log_models(mlflow: Any, folder: Path) -> tuple[str, str]:
    """Log the models: the run that did, and the id of the first."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(INPUT, LABELS)
    (folder / "tenth.py").write_text(CODE)
    signature = ModelSignature(Schema([ColSpec("double", "x")]), None, ParamSchema([ParamSpec("by", "double", 10.0)]))
    with mlflow.start_run() as run:
        found = mlflow.sklearn.log_model(
            model, name="linear", registered_model_name="linear", pip_requirements=NEEDS, serialization_format="skops"
        )
        mlflow.sklearn.log_model(
            model, name="pickled", registered_model_name="linear", pip_requirements=NEEDS, serialization_format="pickle"
        )
        mlflow.pyfunc.log_model(
            python_model=str(folder / "tenth.py"),
            name="coded",
            registered_model_name="coded",
            pip_requirements=["mlflow"],
            signature=signature,
        )
    mlflow.MlflowClient().set_registered_model_alias("linear", "champion", "1")
    return run.info.run_id, found.model_id


@pytest.fixture(scope="session")
def logged(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """The models, which tests only read."""
    home = Home(tmp_path_factory.mktemp("kept"))
    shutil.copy(empty_store, home.path)
    with mlflow_at(home.mlflow_uri) as mlflow:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("kept", home.mlflow_artifacts.as_uri()))
        return Kept(home, *log_models(mlflow, home.path))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test fetches to a cache of its own, from its home's store."""
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def kept(logged: Kept, tmp_path: Path) -> Iterator[Kept]:
    """The models in place, whose files the test may change: they are put back after it."""
    artifacts, copy = logged.home.mlflow_artifacts, tmp_path / "artifacts"
    shutil.copytree(artifacts, copy)
    yield logged
    shutil.rmtree(artifacts)
    shutil.copytree(copy, artifacts)


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., ExperimentConfig]:
    """An experiment with one version, `v`: `experiment(model="models:/linear/1")`."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("")

    def make(features: list[str] | None = ["x", "n"], **version: Any) -> ExperimentConfig:  # noqa: B006
        values = {
            "experiment": "kept",
            "input": {"topic": "t", "decode": {"columns": {"x": "float", "n": "int"}}},
            "features": features,
            "versions": {"v": {"environment": "current", **version}},
        }
        return ExperimentConfig.model_validate(values).located(root / "kept.yaml", root)

    return make
