"""The demo as a newcomer runs it: in a project and a home of its own, twice; then the notebook."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mlstream

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "flights.ipynb"
pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Project:
    """A copy of what the demo needs, and how to run programs in it."""

    path: Path
    environment: dict[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, *command]
        return subprocess.run(
            program, cwd=self.path, env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project of its own, whose broker is stopped at the end."""
    path = tmp_path_factory.mktemp("project")
    for name in ("pipelines", "configs", "notebooks"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", path)
    unwanted = ("MLSTREAM_", "MLFLOW_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    found = Project(path, environment | {"MLSTREAM_HOME": str(path / ".mlstream"), "MPLBACKEND": "Agg"})
    try:
        yield found
    finally:
        found.run("-m", "mlstream.cli.main", "broker", "down")


@pytest.fixture(scope="module")
def first(project: Project) -> subprocess.CompletedProcess[str]:
    """The first run of the demo."""
    return project.run("-m", "pipelines.flights.demo")


def commands(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"^\$ (.*)$", done.stdout, re.MULTILINE)


def test_the_demo_prints_each_command_that_it_runs_and_ends_with_what_to_try_next(
    first: subprocess.CompletedProcess[str],
) -> None:
    assert first.returncode == 0, first.stderr
    programs = [re.match(r"(mlstream \w+|python -m \S+)", command) for command in commands(first)]
    assert [found[1] for found in programs if found] == [
        "mlstream broker",
        "python -m pipelines.flights.load",
        "mlstream snapshot",
        "mlstream snapshot",
        "mlstream train",
        "mlstream run",
        "mlstream compare",
    ]
    assert "\033[" not in first.stdout
    table, end = first.stdout.split("$ mlstream compare")[1].split("Try next")
    assert "cancelled or diverted: no arrival" in " ".join(table.split())
    assert "mlstream ui" in end
    assert "docs/demo.md" in end


def test_the_snapshots_hold_the_flights_of_new_yorks_months(
    first: subprocess.CompletedProcess[str], project: Project
) -> None:
    assert first.returncode == 0
    home = project.path / ".mlstream"
    train, test = (mlstream.open_snapshot(name, home=home) for name in ("flights-train", "flights-q4"))
    assert train.scan("flights").collect().height + test.scan("flights").collect().height == 336_776
    decode = mlstream.load_config(project.path / "configs" / "flights.yaml").input.decode
    assert set(train.scan("flights", decode=decode).collect()["month"]) == set(range(1, 10))
    assert set(test.scan("flights", decode=decode).collect()["month"]) == {10, 11, 12}


def test_the_comparison_counts_every_flight_and_learns_that_landings_help(
    first: subprocess.CompletedProcess[str], project: Project
) -> None:
    assert first.returncode == 0
    run = mlstream.open_run(home=project.path / ".mlstream")
    found = mlstream.compare(run, track=False)
    assert all((part.records, part.predictions, part.errors) == (84_292, 84_292, 0) for part in found.coverage)
    assert found.labels is not None
    assert (found.labels.labelled, found.labels.missing, found.labels.not_yet_due) == (81_518, 1_663, 1_111)
    assert found.labels.reason == "cancelled or diverted: no arrival"
    verdicts = {(delta.version, delta.metric): delta.verdict for delta in found.deltas}
    for version in ("v2", "v3"):
        assert {verdicts[version, name] for name in ("log_loss", "brier_score", "roc_auc")} == {"better"}


def test_a_second_run_makes_nothing_anew(first: subprocess.CompletedProcess[str], project: Project) -> None:
    assert first.returncode == 0
    records = {path.name for path in (project.path / ".mlstream" / "runs").glob("*.json")}
    again = project.run("-m", "pipelines.flights.demo")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing to do") == 2
    assert "the same run was computed before" in again.stderr
    assert commands(again) == commands(first)
    assert {path.name for path in (project.path / ".mlstream" / "runs").glob("*.json")} == records
    ids = re.compile(r"^id +([0-9a-f]{64})", re.MULTILINE)
    assert ids.findall(again.stdout) == ids.findall(first.stdout)
    assert len(ids.findall(first.stdout)) == 2


def test_the_notebook_runs_after_the_demo(first: subprocess.CompletedProcess[str], project: Project) -> None:
    assert first.returncode == 0
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = Project(project.path / "notebooks", project.environment).run("-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "81,518 flights with a truth" in done.stdout


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse("".join(cell["source"]))


def test_the_demo_stops_where_a_command_fails_with_its_exit_code(project: Project) -> None:
    elsewhere = Project(project.path, project.environment | {"MLSTREAM_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    done = elsewhere.run("-m", "pipelines.flights.demo")
    assert done.returncode == 1
    assert done.stdout.startswith("The cluster that MLSTREAM_BOOTSTRAP_SERVERS names is used")
    assert commands(done) == ["python -m pipelines.flights.load"]
    assert "stopped: `python -m pipelines.flights.load` ended with exit code 1" in done.stderr
