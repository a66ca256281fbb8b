"""Stores of MLflow: an empty one of the test's own, and one with the example recorded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlstream.home import Home
from mlstream.reporting.tracking import Tracked, track
from tests.reporting.examples import example_comparison, example_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

    Reader = Callable[[str], AbstractContextManager[MlflowClient]]


@dataclass(frozen=True)
class Recorded:
    """The example, recorded."""

    home: Home
    tracked: Tracked


@pytest.fixture
def stocked(home: Home, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of the test's own with an empty store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home.path.mkdir(parents=True)
    shutil.copy(empty_store, home.path)
    return home


@pytest.fixture(scope="session")
def recorded(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The example in a store that tests only read."""
    home = Home(tmp_path_factory.mktemp("recorded"))
    shutil.copy(empty_store, home.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return Recorded(home, track(example_comparison(), example_run(), home=home))


@pytest.fixture(scope="session")
def reader(empty_store: Path) -> Reader:
    """A client of MLflow's own, to read back what was written: `with reader(uri) as client`."""
    from mlflow import MlflowClient

    @contextmanager
    def open_client(uri: str) -> Iterator[MlflowClient]:
        client = MlflowClient(uri)
        try:
            yield client
        finally:
            store = client._tracking_client.store
            if hasattr(store, "engine"):
                store.engine.dispose()

    return open_client
