"""docs/what-happens-when.md cannot lie: every line of its tables is done, and answers in the words that stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mlstream
from mlstream.broker.connection import Connection
from mlstream.errors import MlstreamError
from mlstream.home import Home
from mlstream.runs.record import write_record
from tests.cli.happening import (
    QUICK,
    Answer,
    at_once,
    columns,
    doubled,
    many_classes,
    pure,
    refusing,
    strange,
    stream,
    timeless,
    ungrouped,
)
from tests.comparison.project import VERSIONS, Project, copy_project, make_project

pytestmark = pytest.mark.broker
PAGE = Path(__file__).parents[2] / "docs" / "what-happens-when.md"
MODELS = '''\
"""Answers that no comparison can use, and one that ranks nothing."""

import numpy as np
import polars as pl


class Odd:
    def __init__(self, answer):
        self.answer = answer

    def predict(self, frame):
        if self.answer == "text":
            return pl.Series(["late"] * len(frame))
        return np.full(len(frame), float(self.answer))
'''
FAILING = {"nan": "nan", "inf": "inf", "margin": "2.5", "text": "text"}
ODD: dict[str, dict[str, Any]] = {
    "v1": VERSIONS["v1"],
    "flat": {"model": "odd.py:Odd", "parameters": {"answer": "0.5"}},
    **{name: {"model": "odd.py:Odd", "parameters": {"answer": answer}} for name, answer in FAILING.items()},
}


@dataclass(frozen=True)
class Place:
    """Where a case happens.

    Attributes:
        project: three versions that are right, in a home of this module's.
        odd: the id of a run whose versions answer oddly, and what `mlstream run` said of it.
    """

    project: Project
    odd: tuple[str, Answer]
    call: Callable[..., Any]
    patch: pytest.MonkeyPatch

    def cli(self, *args: str) -> Answer:
        """Call the command line."""
        done = self.call(*args)
        assert "Traceback" not in done.stderr
        assert "unexpected" not in done.stderr
        assert max(map(len, done.stdout.splitlines()), default=0) <= 80
        return Answer(done.exit_code, done.stdout + done.stderr)

    def compare(self, *args: str, **settings: Any) -> Answer:
        """Compare the run after its experiment's file was changed."""
        self.write(**settings)
        return self.cli("compare", self.project.done.id, "--no-track", *args)

    def write(self, **settings: Any) -> None:
        """Change the experiment's file; a setting that is None is left out."""
        values = self.project.done.config.model_dump(mode="json", exclude_unset=True) | QUICK | settings
        kept = {name: value for name, value in values.items() if value is not None}
        (self.project.root / "parcels.yaml").write_text(json.dumps(kept))

    def labels(self, **changes: Any) -> dict[str, Any]:
        """The experiment's labels, changed."""
        rule = self.project.done.config.labels
        assert rule is not None
        return rule.model_dump(mode="json", exclude_unset=True) | changes

    def kept(self) -> str:
        """The id of a comparison that was made, by its experiment's file as it was."""
        self.write()
        return str(self.call("compare", self.project.done.id, "--no-track", "--json").json["id"])

    def in_a_copy(self) -> Path:
        """Go on in a copy of the home, which may be damaged."""
        copy = self.project.home.path.parent / f"copy-{len(list(self.project.home.path.parent.iterdir()))}"
        shutil.copytree(self.project.home.path, copy, symlinks=True)
        self.patch.setenv("MLSTREAM_HOME", str(copy))
        return copy


@pytest.fixture(scope="module")
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = make_project(broker, tmp_path_factory.mktemp("compare"))
    folder = tmp_path_factory.mktemp("happens")
    return copy_project(made, Home(folder / "home"), folder / "project")


@pytest.fixture(scope="module")
def odd(project: Project) -> tuple[str, Answer]:
    """One run for all odd answers: a model of each kind, in its own process."""
    (project.root / "odd.py").write_text(MODELS)
    done = project.run(ODD, **QUICK)
    (project.root / "parcels.yaml").rename(project.root / "odd.yaml")
    write_record(project.home, done.to_dict() | {"config_path": str(project.root / "odd.yaml")})
    with pytest.raises(MlstreamError) as caught:
        done.check()
    return done.id, Answer(caught.value.exit_code, str(caught.value))


@pytest.fixture
def place(project: Project, odd: tuple[str, Answer], cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("MLSTREAM_HOME", str(project.home.path))
    monkeypatch.setenv("COLUMNS", "80")
    return Place(project, odd, cli, monkeypatch)


def no_records(place: Place) -> Answer:
    topic = f"{place.project.topics[0]}-empty"
    connection = place.project.connection
    mlstream.publish(
        topic, pl.DataFrame({"value": []}, schema={"value": pl.String}), partitions=1, connection=connection
    )
    return place.cli("snapshot", "create", "nothing", "--topic", topic)


def no_runs(place: Place) -> Answer:
    place.patch.setenv("MLSTREAM_HOME", str(place.project.home.path.parent / "empty"))
    return place.cli("compare")


def newest_failed(place: Place) -> Answer:
    place.write()
    return place.cli("compare", "--no-track")  # the odd run is newer, and partial


def everyone(place: Place) -> Answer:
    file = place.project.root / "odd.yaml"
    was = file.read_text()
    gate = {"metric": "accuracy", "no_worse_than": 0.5}
    file.write_text(json.dumps(json.loads(was) | {"gates": [gate]}))
    try:
        return place.cli("compare", place.odd[0], "--no-track", "--allow-missing")
    finally:
        file.write_text(was)


def cut_off(place: Place) -> Answer:
    copy = Home(place.in_a_copy())
    write_record(copy, place.project.done.to_dict() | {"status": "incomplete"})
    return place.cli("compare", place.project.done.id)


def tracked(place: Place, uri: str, *args: str, **settings: Any) -> Answer:
    place.patch.setenv("MLFLOW_TRACKING_URI", uri)
    place.patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    place.write(metrics=["accuracy"], **settings)
    done = place.cli("compare", place.project.done.id, *args)
    assert "metric" in done.text  # the comparison is printed all the same
    return done


def damaged(place: Place, *args: str) -> Answer:
    kept = place.kept()
    other = place.call("compare", place.odd[0], "--allow-missing", "--no-track", "--json").json["id"]
    copy = place.in_a_copy()
    (copy / "comparisons" / f"{kept}.json").write_text('{"format": 1}')
    done = place.cli("compare", *[kept if arg == "ID" else arg for arg in args])
    assert (args != ("ls",)) or other[:12] in done.text
    return done


def removed(place: Place, what: Callable[[dict[str, Any]], str], *args: str) -> Answer:
    """Read a comparison after what it was made of was removed."""
    kept = place.kept()
    record = json.loads((place.project.home.comparisons / f"{kept}.json").read_bytes())
    for found in place.in_a_copy().glob(f"*/{what(record)}*"):
        if "views" not in found.parts and found.is_file():
            found.unlink()
    return place.cli("compare", *args, kept)


def into_head(place: Place) -> Answer:
    """A reader that goes away after the first line, as a process of its own."""
    kept = place.kept()
    command = [sys.executable, "-m", "mlstream.cli.main", "compare", "show", kept, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ), text=True)
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate()
    assert said == ""
    return Answer(process.returncode, said)


LOUD = {"value": "CASE WHEN delay > 1000000 THEN TRUE END"}
ALWAYS = {"value": "delay > -1000000"}
AUC = {"metric": "roc_auc", "version": "v2", "better_by": 0}
V3 = {"metric": "accuracy", "version": "v3", "better_by": 0}
CASES: dict[str, Callable[[Place], Answer]] = {
    "labels never come": lambda it: it.compare(labels=it.labels(**LOUD, missing="refuse", within=None)),
    "labels never come, with `missing: exclude`": lambda it: it.compare(labels=it.labels(**LOUD, within=None)),
    "labels come later than `within`": lambda it: it.compare(labels=it.labels(within="1s", missing="refuse")),
    "some records are not due yet, some labels are missing, with `missing: exclude`": lambda it: it.compare(),
    "two labels for one record, from a topic": lambda it: doubled(topic="outcomes"),
    "a label file with the same key twice": lambda it: doubled(file="outcomes.csv"),
    "one class only": lambda it: it.compare(labels=it.labels(**ALWAYS)),
    "labels are strings in a binary task": lambda it: it.compare(labels=it.labels(value="CAST(delay AS TEXT)")),
    "labels are 1 and 0, predictions true and false": lambda it: it.compare(
        labels=it.labels(value="CASE WHEN delay > 0 THEN 1 ELSE 0 END")
    ),
    "labels are strings in a regression": lambda it: pure(columns(["late"] * 40, v1=[1.0] * 40), "regression"),
    "a label's column is misspelt": lambda it: it.compare(labels=it.labels(value="dely > 0")),
    "the record's column of the label is misspelt": lambda it: it.compare(labels={"value": "noize > 0"}),
    "`labels.value` is no SQL": lambda it: it.compare(labels=it.labels(value="delay >>")),
    "NaN scores": lambda it: it.odd[1],
    "infinite scores": lambda it: it.odd[1],
    "probabilities outside [0, 1]": lambda it: it.odd[1],
    "a version predicts strings in a binary task": lambda it: it.odd[1],
    "a version predicts strings where others predict numbers": lambda it: pure(
        columns([1, 2] * 20, v1=[1, 2] * 20, v2=["1", "2"] * 20), "multiclass"
    ),
    "predictions are numbers, labels are strings": lambda it: pure(
        columns(["late", "in time"] * 20, v1=[1, 2] * 20), "multiclass"
    ),
    "constant scores": lambda it: it.cli("compare", it.odd[0], "--no-track", "--allow-missing"),
    "a version refused records (`on_error: errors`)": lambda _: refusing(),
    "no records": no_records,
    "one record": lambda it: pure(columns([True], v1=[True], v2=[False])),
    "all records in one block of time": lambda _: at_once(),
    "records without event time": lambda _: timeless(),
    "predictions for records that the snapshot does not hold": lambda _: strange(),
    "a ranking's group is null": lambda _: ungrouped(),
    "two million classes": lambda _: many_classes(),
    "a metric's name is misspelt": lambda it: it.compare(metrics=["log_los"]),
    "a metric of another task": lambda it: it.compare(metrics=["rmse"]),
    "a metric is named twice": lambda it: it.compare(metrics=["accuracy", "accuracy"]),
    "a slice's column is misspelt": lambda it: it.compare("--slice", "nois > 0"),
    "a slice is no SQL": lambda it: it.compare("--slice", "noise >"),
    "a slice compares text with a number": lambda it: it.compare("--slice", "noise = 'loud'"),
    "an empty slice": lambda it: it.compare("--slices", "--slice", "noise > 100", metrics=["accuracy"]),
    "a gate failed": lambda it: it.compare(gates=[V3]),
    "a gate is on a metric that is not defined": lambda it: it.compare(labels=it.labels(**ALWAYS), gates=[AUC]),
    "the same, with `require: verdict`": lambda it: it.compare(
        labels=it.labels(**ALWAYS), gates=[{**AUC, "require": "verdict"}]
    ),
    "a gate failed and another is inconclusive": lambda it: it.compare(
        labels=it.labels(**ALWAYS), gates=[{**AUC, "require": "verdict"}, V3]
    ),
    "a gate, and no labels": lambda it: it.compare(labels=None, gates=[V3 | {"version": "v2"}]),
    "a gate for every challenger, and one failed in the run, with `--allow-missing`": everyone,
    "`--fail-if worse`, and a version is": lambda it: it.compare(
        "--baseline", "v2", "--fail-if", "worse", metrics=["accuracy"]
    ),
    "`--fail-if inconclusive`, and a verdict is": lambda it: it.compare(
        "--fail-if", "inconclusive", labels=it.labels(**ALWAYS)
    ),
    "`--fail-if not-better`, and no labels": lambda it: it.compare("--fail-if", "not-better", labels=None),
    "`--fail-if worse`, and a version failed, with `--allow-missing`": lambda it: it.cli(
        "compare", it.odd[0], "--no-track", "--allow-missing", "--fail-if", "worse"
    ),
    "`--fail-if` with nonsense": lambda it: it.compare("--fail-if", "wors"),
    "`--fail-if` with a misspelt metric": lambda it: it.compare("--fail-if", "log_los:worse"),
    "labels, metrics or gates were changed since the run": lambda it: it.compare(
        gates=[{"metric": "accuracy", "version": "v2", "better_by": 0}]
    ),
    "the experiment's file is of another task by now": lambda it: it.compare(
        task="regression", metrics=["mae"], margins={}
    ),
    "no run": no_runs,
    "one version only": lambda it: pure(replace(stream(), predictions={"v1": stream().predictions["v1"]})),
    "a version failed": lambda it: it.cli("compare", it.odd[0]),
    "a version failed, with `--allow-missing`": lambda it: it.cli(
        "compare", it.odd[0], "--no-track", "--allow-missing"
    ),
    "the baseline failed": lambda it: it.cli("compare", it.odd[0], "--allow-missing", "--baseline", "nan"),
    "the newest run failed, and none is named": newest_failed,
    "the run was cut off": cut_off,
    "versions of two runs, over different snapshots": lambda it: it.cli("compare", it.odd[0], it.project.done.id),
    "`--baseline` names no version": lambda it: it.compare("--baseline", "v9"),
    "MLflow's server is dead": lambda it: tracked(it, "http://127.0.0.1:1"),
    "MLflow's store cannot be written": lambda it: tracked(it, f"sqlite:///{it.project.root}/odd.py/mlflow.db"),
    "`MLFLOW_TRACKING_URI` is none": lambda it: tracked(it, "frob"),
    "MLflow's server is dead, and a gate failed": lambda it: tracked(it, "http://127.0.0.1:1", gates=[V3]),
    "a comparison's file is damaged": lambda it: damaged(it, "show", "ID"),
    "the same, `compare ls`": lambda it: damaged(it, "ls"),
    "`compare show` of an unknown id": lambda it: it.cli("compare", "show", "0000"),
    "`compare verify` after the snapshot was removed": lambda it: removed(
        it, lambda record: record["snapshot_id"], "verify"
    ),
    "`compare verify` after predictions were removed": lambda it: removed(
        it, lambda record: record["outputs"]["v1"], "verify"
    ),
    "`compare verify` after the run was removed": lambda it: removed(it, lambda record: record["run_id"], "verify"),
    "`compare show` after the run was removed": lambda it: removed(it, lambda record: record["run_id"], "show"),
    "`--html` into a folder that is not there": lambda it: it.compare("--html", str(it.project.root / "no" / "a.html")),
    "`--json` and `--markdown` together": lambda it: it.compare("--json", "--markdown"),
    "`--json` into `head`": into_head,
}


def rows() -> dict[str, tuple[str, int]]:
    """Of the page's tables: when → the answer and the exit code."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 3 and cells[2].isdigit():
            assert cells[0] not in found
            found[cells[0]] = (cells[1], int(cells[2]))
    return found


def test_every_line_of_the_page_is_checked() -> None:
    assert list(rows()) == list(CASES)


@pytest.mark.parametrize("when", CASES)
def test_what_happens_is_what_the_page_says(when: str, place: Place) -> None:
    answer, exit_code = rows()[when]
    kept = list(place.project.home.comparisons.glob("*"))
    done = CASES[when](place)
    if "before anything is computed" in answer:
        assert list(place.project.home.comparisons.glob("*")) == kept
    said = " ".join(done.text.replace("`", "").split())
    for words in re.findall(r"`([^`]+)`", answer):
        wanted = ".*?".join(re.escape(" ".join(part.split())) for part in words.split("…"))
        assert re.search(wanted, said), f"{words}\n--- is not in ---\n{done.text}"
    assert done.exit_code == exit_code, done.text
