"""Versions whose model MLflow keeps: what they resolve to, how they are loaded, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec
from mlstream.versions import Version, resolve_version
from mlstream.versions.predictor import Predictor
from tests.registry.conftest import INPUT, NEEDS, Kept, client_of, mlflow_at

Make = Callable[..., ExperimentConfig]
FRAME = pl.from_pandas(INPUT)


def scores(version: Version, frame: pl.DataFrame = FRAME) -> list[float]:
    """What the version answers in a process of its own."""
    with Host(HostSpec(load=version.load_spec), python=version.python) as host:
        host.load()
        return host.predict(frame).predictions["score"].to_list()


@pytest.fixture(autouse=True)
def _imports() -> Iterator[None]:
    """Loading a version is global to a process; each test gives back what it found."""
    path, finders, bytecode = list(sys.path), list(sys.meta_path), sys.dont_write_bytecode
    yield
    sys.path[:], sys.meta_path[:], sys.dont_write_bytecode = path, finders, bytecode


@pytest.mark.parametrize(("uri", "trust"), [("models:/linear@champion", False), ("models:/linear/2", True)])
def test_an_estimator_answers_as_it_does_where_mlflow_loads_it(
    logged: Kept, experiment: Make, uri: str, trust: bool
) -> None:
    version = resolve_version(experiment(model=uri, trust=trust), "v", home=logged.home)
    with mlflow_at(logged.home.mlflow_uri) as mlflow:
        theirs = mlflow.sklearn.load_model(uri).predict_proba(INPUT)[:, 1]
    assert version.load().predict(FRAME)["score"].to_list() == theirs.tolist()


def test_what_mlflow_loads_gets_the_columns_of_its_signature(logged: Kept, experiment: Make) -> None:
    version = resolve_version(experiment(model="models:/coded/1", trust=True), "v", home=logged.home)
    frame = FRAME.filter(pl.col("x") <= 10)  # a tenth of it is a probability
    with mlflow_at(logged.home.mlflow_uri) as mlflow:
        theirs = mlflow.pyfunc.load_model("models:/coded/1").predict(frame.select("x").to_pandas())
    assert version.load().predict(frame)["score"].to_list() == theirs.tolist()


def test_a_process_of_its_own_gives_parameters_to_the_predict_of_what_mlflow_loads(
    logged: Kept, experiment: Make
) -> None:
    config = experiment(model="models:/coded/1", trust=True, parameters={"by": 40.0}, features=None)
    version = resolve_version(config, "v", home=logged.home)
    assert scores(version) == (INPUT["x"] / 40).to_list()
    assert not list(version.root.glob("ml*"))  # MLflow has made no store of its own


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "models:/linear/2",
            r"models:/linear/2 is a pickle \(pickle\), .*serialization_format=\"skops\", or set `trust",
        ),
        ("models:/coded/1", r"models:/coded/1 is loaded by mlflow\.\S+, which may run code .*; set `trust"),
    ],
)
def test_what_may_run_code_needs_trust_before_anything_is_loaded(
    logged: Kept, experiment: Make, uri: str, message: str
) -> None:
    with pytest.raises(VersionLoadError, match=message):
        resolve_version(experiment(model=uri), "v", home=logged.home)


def test_the_record_says_what_an_alias_meant(logged: Kept, experiment: Make) -> None:
    found = resolve_version(experiment(model="models:/linear@champion"), "v", home=logged.home).describe()["mlflow"]
    assert json.loads(json.dumps(found)) == found
    expected = {"uri": "models:/linear/1", "name": "linear", "version": "1", "alias": "champion"}
    expected |= {"run_id": logged.run_id, "model_id": logged.linear_id, "flavor": "sklearn", "loader": "skops"}
    assert {key: found[key] for key in expected} == expected
    assert set(found["files"]) >= {"MLmodel", "model.skops", "requirements.txt"}


def test_a_version_is_its_models_files_whatever_they_are_called(logged: Kept, experiment: Make) -> None:
    uris = ["models:/linear/1", "models:/linear@champion", f"runs:/{logged.run_id}/linear"]
    config = experiment(model=uris[0])
    digests = {
        resolve_version(
            config.model_copy(update={"versions": {"v": config.versions["v"].model_copy(update={"model": uri})}}),
            "v",
            home=logged.home,
        ).digest
        for uri in uris
    }
    other = config.model_copy(
        update={"versions": {"v": config.versions["v"].model_copy(update={"model": "models:/linear/2", "trust": True})}}
    )
    assert len(digests) == 1
    assert resolve_version(other, "v", home=logged.home).digest not in digests


@pytest.mark.parametrize("change", ["write", "add"])
def test_a_model_that_changes_after_it_was_resolved_is_not_loaded(logged: Kept, experiment: Make, change: str) -> None:
    version = resolve_version(experiment(model="models:/linear/1"), "v", home=logged.home)
    assert version.found is not None
    file = version.found.folder / ("MLmodel" if change == "write" else "extra.py")
    file.write_text("something else")
    with pytest.raises(VersionLoadError, match=rf"version v: the files of models:/linear/1 .*: {file.name} changed"):
        version.load()


def test_neither_a_worker_nor_the_process_of_an_estimator_imports_mlflow(
    logged: Kept, experiment: Make, tmp_path: Path
) -> None:
    version = resolve_version(experiment(model="models:/linear/1"), "v", home=logged.home)
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(version.load_spec.to_json()))
    program = (
        "import json, sys, mlstream.runs.worker; from mlstream.versions.loading import LoadSpec; "
        f"found = json.load(open({str(spec)!r})); LoadSpec.from_json(found).load(); print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_signature_that_wants_more_than_the_features_is_named(logged: Kept, experiment: Make) -> None:
    version = resolve_version(experiment(model="models:/coded/1", trust=True, features=["n"]), "v", home=logged.home)
    with pytest.raises(VersionLoadError, match="the signature of models:/coded/1 names x, which `features:` lacks"):
        version.load()


def test_a_model_runs_in_what_its_own_requirements_say(
    logged: Kept, experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLSTREAM_CACHE")  # environments are kept for all sessions
    built: list[str] = []
    config = experiment(model="models:/linear/1", environment=None)
    version = resolve_version(config, "v", home=logged.home, on_building=built.append)
    assert version.python is not None
    assert set(built) <= {"the requirements.txt of models:/linear/1"}
    packages = version.environment["packages"]
    assert "mlflow" not in packages  # MLflow 2.0.1, which it asks for, could not be installed beside it
    assert f"scikit-learn=={packages['scikit-learn']}" == NEEDS[0]
    current = resolve_version(experiment_of(config), "v", home=logged.home).load()
    assert np.allclose(scores(version), current.predict(FRAME)["score"])


def experiment_of(config: ExperimentConfig) -> ExperimentConfig:
    """The same, in this process's environment."""
    current = config.versions["v"].model_copy(update={"environment": "current"})
    return config.model_copy(update={"versions": {"v": current}})


def test_a_model_that_does_not_say_what_it_needs_is_refused_unless_an_environment_is_named(
    kept: Kept, experiment: Make
) -> None:
    files = kept.home.mlflow_artifacts / "models" / kept.linear_id / "artifacts"
    (files / "requirements.txt").unlink()
    config = experiment(model="models:/linear/1", environment=None)
    with pytest.raises(VersionLoadError, match=r"the model brings no requirements\.txt.*`environment: current`"):
        resolve_version(config, "v", home=kept.home)
    assert isinstance(resolve_version(experiment_of(config), "v", home=kept.home).load(), Predictor)


def test_a_mlmodel_that_leads_out_of_its_folder_is_refused(kept: Kept, experiment: Make) -> None:
    files = kept.home.mlflow_artifacts / "models" / kept.linear_id / "artifacts"
    text = (files / "MLmodel").read_text().replace("pickled_model: model.skops", "pickled_model: ../../secret.skops")
    (files / "MLmodel").write_text(text)
    with pytest.raises(VersionLoadError, match=r"names '\.\./\.\./secret\.skops', which is not in its folder"):
        resolve_version(experiment(model="models:/linear/1"), "v", home=kept.home)


def test_the_store_of_the_project_is_asked_where_no_home_is_named(
    logged: Kept, experiment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTREAM_HOME", str(logged.home.path))
    version = resolve_version(experiment(model="models:/linear@champion"), "v")
    with client_of(logged.home) as client:
        assert version.found is not None
        assert version.found.run_id == client.get_model_version_by_alias("linear", "champion").run_id
