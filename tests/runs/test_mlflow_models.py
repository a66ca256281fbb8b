"""Trainings registered in MLflow, and runs of what was registered: by URI, pinned, with the same predictions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlstream import Run, open_snapshot, run
from mlstream.cli.main import run as run_cli
from mlstream.errors import TrackingError, UsageError, VersionLoadError
from mlstream.runs.registering import registration_of
from mlstream.runs.training import Trained, train
from tests.registry.conftest import client_of, mlflow_at
from tests.runs.conftest import ROWS, Shop

pytestmark = pytest.mark.broker
SECRETS = {"MLFLOW_TRACKING_PASSWORD": "open-sesame", "MLSTREAM_KAFKA_CONFIG": "open-sesame", "AWS_TOKEN": "sesame"}
TRAINING = """

def telling(snapshot, config):
    import os

    print("given:", sorted(os.environ.items()))
    return boosting(snapshot, config)
"""
VERSIONS: dict[str, dict[str, Any]] = {
    "fitted": {"model": "models/fitted.skops", "train": "shop/training.py:telling"},
    "table": {
        "model": "shop/table.py:Table",
        "parameters": {"file": "models/table.json"},
        "files": ["models/table.json"],
        "train": "shop/training.py:table",
    },
}


@dataclass(frozen=True)
class Registry:
    """A shop whose versions were trained and registered."""

    shop: Shop
    trained: dict[str, Trained]


@pytest.fixture(scope="module")
def registry(make_shop: Callable[[str], Shop], orders: str, empty_store: Path) -> Iterator[Registry]:
    shop = make_shop(orders)
    with (shop.root / "shop" / "training.py").open("a") as file:
        file.write(TRAINING)
    shutil.copy(empty_store, shop.home.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        found = train(shop.config(VERSIONS), snapshot=shop.snapshot, register=True, home=shop.home)
        yield Registry(shop, {part.version: part for part in found})


@pytest.fixture(scope="module")
def done(registry: Registry) -> Run:
    """A run of the file that was trained and of what was registered, by an alias."""
    shop, found = registry.shop, registry.trained["fitted"].registered
    assert found is not None
    assert found.uri is not None
    _, name, number = found.uri.split("/")
    with client_of(shop.home) as client:
        client.set_registered_model_alias(name, "champion", number)
    versions = {
        "fitted": VERSIONS["fitted"],
        "kept": {"model": f"models:/{name}@champion", "environment": "current"},
    }
    return run(shop.config(versions), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)


def test_a_registered_version_predicts_what_the_trained_file_does(done: Run) -> None:
    done.check()
    found = {name: done.predictions(name).collect() for name in ("fitted", "kept")}
    assert found["kept"].height == ROWS
    assert found["kept"]["score"].to_list() == found["fitted"]["score"].to_list()


def test_the_record_of_the_run_says_which_model_an_alias_was(registry: Registry, done: Run) -> None:
    registered = registry.trained["fitted"].registered
    assert registered is not None
    kept = done.versions["kept"].described["mlflow"]
    assert kept["uri"] == registered.uri
    assert kept["alias"] == "champion"
    assert kept["run_id"] == registered.run_id
    assert done.versions["fitted"].described["mlflow"] is None


def test_what_is_registered_has_the_snapshot_as_its_dataset(registry: Registry) -> None:
    shop, found = registry.shop, registry.trained["fitted"]
    assert found.registered is not None
    snapshot = open_snapshot(shop.snapshot, home=shop.home)
    with client_of(shop.home) as client:
        recorded = client.get_run(found.registered.run_id)
        version = client.get_model_version(*str(found.registered.uri).removeprefix("models:/").split("/"))
    (dataset,) = recorded.inputs.dataset_inputs
    assert dataset.dataset.digest == snapshot.id[:32]
    assert {tag.key: tag.value for tag in dataset.tags}["mlstream.snapshot"] == snapshot.id
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags["mlstream.status"] == "completed"
    assert recorded.data.metrics["rows"] == ROWS
    assert version.run_id == found.registered.run_id
    assert version.tags["mlstream.snapshot"] == snapshot.id
    assert found.note is not None
    assert version.tags["mlstream.weights"] == found.note["digest"]
    assert len(recorded.outputs.model_outputs) == 1


def test_mlflow_loads_what_is_registered(registry: Registry) -> None:
    shop, found = registry.shop, registry.trained["fitted"].registered
    assert found is not None
    records = open_snapshot(shop.snapshot, home=shop.home).scan(shop.topic, decode=shop.config(VERSIONS).input.decode)
    frame = records.select("x", "n").head(50).collect().to_pandas()
    with mlflow_at(shop.home.mlflow_uri) as mlflow:
        theirs = mlflow.sklearn.load_model(found.uri).predict(frame)
        generic = mlflow.pyfunc.load_model(found.uri)
        assert generic.predict(frame).tolist() == theirs.tolist()
    assert generic.metadata.get_input_schema().input_names() == ["x", "n"]


def test_a_table_is_kept_with_its_run_and_is_no_model(registry: Registry) -> None:
    found = registry.trained["table"].registered
    assert found is not None
    assert found.uri is None
    with client_of(registry.shop.home) as client:
        files = {entry.path for entry in client.list_artifacts(found.run_id)}
        assert [model.name for model in client.search_registered_models()] == [
            f"{registry.shop.config(VERSIONS).experiment}-fitted"
        ]
    assert files == {"table.json", "table.json.json"}


def test_the_same_training_again_is_the_same_version(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    shop, found = registry.shop, registry.trained["fitted"].registered
    assert found is not None
    path = shop.config(VERSIONS).path
    asked = ["train", str(path), "--snapshot", shop.snapshot, "--version", "fitted", "--register"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSTREAM_HOME", str(shop.home.path))
        assert run_cli(asked) == 0
    assert f"fitted: {found.uri}\n" in capsys.readouterr().out


def test_a_training_is_given_no_credentials(registry: Registry) -> None:
    told = registry.trained["fitted"].log.read_text()
    assert "given: [(" in told
    assert "sesame" not in told
    assert not any(name in told for name in SECRETS)


def test_an_estimator_of_the_projects_own_types_is_not_registered(registry: Registry) -> None:
    shop, found = registry.shop, registry.trained["fitted"]
    assert found.note is not None
    note = {**found.note, "types": ["sklearn.tree._tree.Tree", "shop.models.Linear"]}
    snapshot = open_snapshot(shop.snapshot, home=shop.home)
    with pytest.raises(VersionLoadError, match=r"holds types of the project's own code \(shop\), which would not be"):
        registration_of(shop.config(VERSIONS), "fitted", snapshot=snapshot, target=found.path, note=note)


def test_a_server_that_does_not_answer_is_found_out_before_anything_is_trained(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 does not answer"):
        train(shop.config(VERSIONS), snapshot=shop.snapshot, register=True, home=shop.home)
    assert not (shop.root / "models").exists()


def test_a_model_that_mlflow_keeps_is_trained_as_a_file(shop: Shop) -> None:
    config = shop.config({"v": {"model": "models:/delays@champion", "train": "shop/training.py:boosting"}})
    with pytest.raises(UsageError, match=r"versions\.v\.train: which file does it make\? .*train it with --register"):
        train(config, snapshot=shop.snapshot, home=shop.home)
