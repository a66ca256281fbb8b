"""Models on an MLflow server: registered through it and fetched from it, where no file of it is on this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

from mlstream.errors import VersionLoadError
from mlstream.home import Home
from mlstream.registry.dataset import dataset_facts
from mlstream.registry.model import FoundModel, find_model
from mlstream.registry.registration import Estimator, Registration, register
from mlstream.registry.uri import parse_model_uri
from mlstream.reporting.server import serving
from mlstream.versions.trusted import dump_estimator
from tests.registry.conftest import INPUT, LABELS

SNAPSHOT = hashlib.sha256(b"snapshot").hexdigest()


@pytest.fixture(scope="module")
def served(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real server with an experiment whose artifacts go through it: its address, and the folder where it has them."""
    from mlflow import MlflowClient

    home = Home(tmp_path_factory.mktemp("served"))
    shutil.copy(empty_store, home.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with serving(home) as server:
            server.wait_ready()
            MlflowClient(server.url, server.url).create_experiment("remote", "mlflow-artifacts:/remote")
            yield server.url, home.mlflow_artifacts / "remote"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Registration:
    """What a training made, with an estimator."""
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("trained")
    data = dump_estimator(LogisticRegression().fit(INPUT, LABELS), "first.skops", trust=False, where="v")
    (folder / "first.skops").write_bytes(data)
    (folder / "first.skops.json").write_text("{}")
    release = installed_version("scikit-learn")
    return Registration(
        name="remote-first",
        version="first",
        description="the first",
        experiment="remote",
        question="",
        task="binary",
        snapshot_id=SNAPSHOT,
        dataset=dataset_facts(SNAPSHOT, "t", streams={"t": {"0": [0, 40]}}, rows=40, size_bytes=400, schema=None),
        file=folder / "first.skops",
        note_file=folder / "first.skops.json",
        digest=hashlib.sha256(data).hexdigest(),
        estimator=Estimator(
            serialization="skops",
            scikit_learn=release,
            python="3.11.7",
            requirements=(f"scikit-learn=={release}",),
            columns={"x": "float", "n": "int"},
        ),
        tags={"mlstream.code": "c"},
    )


def find(uri: str | None, home: Home) -> FoundModel:
    return find_model(parse_model_uri(str(uri), where="v"), home=home, where="v")


def test_what_is_registered_on_a_server_is_fetched_from_it(
    served: tuple[str, Path], asked: Registration, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, artifacts = served
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    (first,) = register([asked], home=home)
    assert first.uri == "models:/remote-first/1"
    # 1. the bytes that were trained come back
    found = find(first.uri, home)
    assert (found.folder / "model.skops").read_bytes() == asked.file.read_bytes()
    assert (found.place, found.run_id, found.flavor.columns) == (url, first.run_id, ("x", "n"))
    # 2. the same is found again, another one is the next version
    assert register([asked], home=home) == [replace(first, found=True)]
    (second,) = register([replace(asked, tags={"mlstream.code": "d"})], home=home)
    assert second.uri == "models:/remote-first/2"
    # 3. what was fetched is not fetched again, but what is not what it was is noticed
    file = next(artifacts.glob(f"models/{found.model_id}/**/model.skops"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert find(first.uri, home) == found
    file.write_bytes(b"?")
    with pytest.raises(VersionLoadError, match=r"models:/remote-first/1 is not the model that it was: model\.skops ch"):
        find(first.uri, home)
    shutil.rmtree(file.parent)
    with pytest.raises(VersionLoadError, match=r"the files of models:/remote-first/1 are gone"):
        find(first.uri, home)
    assert not home.path.exists()
