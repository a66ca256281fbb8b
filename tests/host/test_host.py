"""A model in a process of its own answers as it does here, and sees no more than it needs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from sklearn.ensemble import HistGradientBoostingClassifier

import mlstream
from mlstream.config import ExperimentConfig
from mlstream.errors import VersionLoadError
from mlstream.host.host import Host
from mlstream.host.spec import HostSpec
from mlstream.versions import Predictor, resolve_version
from mlstream.versions.trusted import dump_estimator
from tests.host.conftest import COORDINATES, FIRST, ROWS, MakeHost, frame

SECRETS = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
    "MLFLOW_TRACKING_PASSWORD": "s3cret",
    "MLSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:9092",
    "MLSTREAM_SCHEMA_REGISTRY": "http://user:s3cret@127.0.0.1:8081",
    "KAFKA_SASL_PASSWORD": "s3cret",
    "AWS_SECRET_ACCESS_KEY": "s3cret",
    "PGPASSWORD": "s3cret",
    "https_proxy": "http://user:s3cret@127.0.0.1:3128",
    "SOMETHING_ELSE": "s3cret",
}


def write_view(path: Path, rows: pl.DataFrame, chunk: int = 300) -> Path:
    table = rows.to_arrow()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return path


def test_it_answers_as_the_model_does_here_bit_by_bit(make_host: MakeHost, tmp_path: Path) -> None:
    rows = frame()
    expected = rows["x"].to_numpy() / rows["n"].max()
    host = make_host("Plain")
    copied = host.predict(rows.drop(COORDINATES), first=FIRST)
    mapped = host.predict_rows(write_view(tmp_path / "2.arrow", rows), 0, ROWS, first=FIRST)
    for answer in (copied, mapped):
        assert answer.predictions.schema == {"prediction": pl.Float64}
        assert answer.predictions["prediction"].to_numpy().tobytes() == expected.tobytes()
        assert 0 < answer.seconds < 10


def test_rows_of_views_are_those_that_were_asked_for(make_host: MakeHost, tmp_path: Path) -> None:
    host = make_host("Plain")
    files = {}
    folder = tmp_path / "views [1] of *"  # no pattern
    folder.mkdir()
    for number in range(20):
        rows = frame(500, start=number * 1000)
        files[write_view(folder / f"{number}.arrow", rows, chunk=64)] = rows
    order = [(file, start) for start in (0, 130, 260, 390, 130, 0) for file in files]
    for file, start in order:
        rows = files[file][start : start + 110]
        found = host.predict_rows(file, start, 110).predictions["prediction"]
        assert found.to_list() == (rows["x"].to_numpy() / rows["n"].max()).tolist()


def test_a_model_may_answer_with_scores_of_its_classes(make_host: MakeHost) -> None:
    host = make_host("Sorts", task="multiclass")
    assert host.classes == ("small", "large")
    rows = frame().drop(COORDINATES)
    share = rows["n"].to_numpy() % 7 / 7
    answer = lambda _: np.column_stack([share, 1 - share])  # noqa: E731
    expected = Predictor("v1", "multiclass", None, answer, classes=host.classes).predict(rows)
    assert_frame_equal(host.predict(rows).predictions, expected)


def test_an_estimator_in_a_file_answers_bit_by_bit(project: Path, log: Path) -> None:
    rows = frame().drop(COORDINATES)
    table = rows.select("x", "n")
    model = HistGradientBoostingClassifier(max_iter=5).fit(table.to_pandas(), rows["n"].to_numpy() % 3 == 0)
    (project / "model.skops").write_bytes(dump_estimator(model, "model.skops", trust=False, where="v1"))
    values: dict[str, Any] = {
        "experiment": "shop",
        "input": {"topic": "orders"},
        "features": ["n", "x"],
        "versions": {"v1": {"model": "model.skops"}},
    }
    config = ExperimentConfig.model_validate(values).located(project / "shop.yaml", project)
    version = resolve_version(config, "v1")
    with Host(HostSpec(load=version.load_spec), log=log) as host:
        host.load()
        found = host.predict(rows).predictions
    assert_frame_equal(found, version.load().predict(rows))
    assert found["score"].to_numpy().tobytes() == model.predict_proba(table.to_pandas())[:, 1].tobytes()


@pytest.fixture
def told(make_host: MakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a model found in its process."""
    for name, value in {**SECRETS, "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "11", "LC_ALL": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "told.json"
    host = make_host("Tells", {"file": str(file)}, features=["n", "x"])
    host.predict(frame().drop(COORDINATES))
    found = json.loads(file.read_text())
    assert isinstance(found, dict)
    return found


def test_it_gets_no_credentials_and_only_variables_that_are_listed(told: dict[str, Any]) -> None:
    variables = told["environment"]
    assert variables.keys().isdisjoint(SECRETS)
    assert "s3cret" not in json.dumps(variables)
    assert {name: variables[name] for name in ("PATH", "OMP_NUM_THREADS", "PYTHONHASHSEED", "LC_ALL")} == {
        "PATH": os.environ["PATH"],
        "OMP_NUM_THREADS": "3",
        "PYTHONHASHSEED": "11",
        "LC_ALL": "C.UTF-8",
    }


def test_it_loads_nothing_of_ours_but_what_predicting_takes(told: dict[str, Any]) -> None:
    loaded = {name.partition(".")[0] for name in told["modules"]}
    assert loaded.isdisjoint({"pydantic", "pyarrow", "kafka", "numba", "mlflow", "click", "psutil", "yaml"})
    own = {name.split(".")[1] for name in told["modules"] if name.startswith("mlstream.")}
    assert own == {"errors", "host", "registry", "versions"}
    assert {name for name in told["modules"] if name.startswith("mlstream.registry.")} == {"mlstream.registry.uri"}


def test_it_runs_in_the_project_sees_the_features_in_order_and_no_input(told: dict[str, Any], project: Path) -> None:
    assert told["columns"] == ["n", "x"]
    assert (told["folder"], told["path"][0]) == (str(project), str(project))
    assert (told["stdin"], told["argv"]) == ("", [])
    assert told["random"] == np.random.RandomState(11).random_sample()


def test_what_the_model_prints_goes_to_the_log_and_breaks_nothing(make_host: MakeHost, log: Path) -> None:
    host = make_host("Loud")
    for _ in range(2):
        assert host.predict(frame().drop(COORDINATES)).predictions.height == ROWS
    text = log.read_bytes().decode(errors="replace")
    for words in ("printed", "on standard error", "from a child", "mlsh"):
        assert text.count(words) == 2
    children = [int(line.split()[1]) for line in text.splitlines() if line.startswith("child:")]
    assert all(psutil.pid_exists(pid) for pid in children)
    host.finish()
    assert gone([*children, host.pid])
    assert host.memory_bytes > 10_000_000


def test_a_file_that_no_import_statement_names_is_an_error_at_the_end(make_host: MakeHost) -> None:
    host = make_host("Late")
    host.predict(frame().drop(COORDINATES))
    with pytest.raises(VersionLoadError, match=r"version v1: shop/hidden\.py was loaded in a way that its digest does"):
        host.finish()


def test_its_environment_needs_no_mlstream_and_shows_none_of_our_packages(make_host: MakeHost, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    site = Path(pl.__file__).parent.parent
    for name in ("polars", "_polars_runtime*", "numpy", "numpy.libs"):
        for found in site.glob(name):
            (packages / found.name).symlink_to(found)
    python = tmp_path / "python"
    # An interpreter without site-packages: there is neither mlstream nor pydantic.
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" -S "$@"\n')
    python.chmod(0o755)
    file = tmp_path / "told.json"
    host = make_host("Tells", {"file": str(file)}, python=python)
    rows = frame()
    assert host.predict(rows.drop(COORDINATES)).predictions.height == ROWS
    assert host.predict_rows(write_view(tmp_path / "2.arrow", rows), 0, ROWS).predictions.height == ROWS
    told = json.loads(file.read_text())
    assert told["mlstream"] == mlstream.__file__
    assert str(site) not in told["path"]
    assert str(Path(mlstream.__file__).parent.parent) not in told["path"]


def test_an_interpreter_that_is_not_there_is_named(make_spec: Callable[..., HostSpec], tmp_path: Path) -> None:
    with pytest.raises(VersionLoadError, match=r"version v1: its process cannot be started: .*nowhere/python"):
        Host(make_spec("Plain"), python=tmp_path / "nowhere" / "python")


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
