"""docs/github-actions.yml does what it says: a gate that fails ends the job, and its comment is posted all the same.

The steps' own scripts are run, with bash as GitHub runs it; only `gh`, which would talk to GitHub, writes down what it
was asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlstream.broker.connection import Connection
from mlstream.home import Home
from tests.comparison.project import Project, copy_project, make_project

pytestmark = pytest.mark.broker
WORKFLOW = Path(__file__).parents[2] / "docs" / "github-actions.yml"
GH = '#!/usr/bin/env bash\necho "$@" >> "$ASKED"\ncase "$*" in *paginate*) ;; *) cp comment.md "$ASKED.md";; esac\n'


@pytest.fixture
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory, home: Home, tmp_path: Path) -> Project:
    """The project in a home and a folder of the test's own, with the layout that the workflow expects."""
    return copy_project(make_project(broker, tmp_path_factory.mktemp("compare")), home, tmp_path / "project")


@pytest.fixture
def job(project: Project, tmp_path: Path) -> Callable[[str], int]:
    """Run the step of that name; its exit code."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "mlstream").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -m mlstream.cli.main "$@"\n')
    (bin_ / "gh").write_text(GH)
    for tool in bin_.iterdir():
        tool.chmod(0o755)
    steps = {step["name"]: step["run"] for step in _steps() if "run" in step and "name" in step}
    variables = {
        "PATH": f"{bin_}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLSTREAM_HOME": str(project.home.path),
        "MLSTREAM_BOOTSTRAP_SERVERS": ",".join(project.connection.bootstrap_servers),
        "GITHUB_ENV": str(tmp_path / "env"),
        "GITHUB_REPOSITORY": "team/models",
        "PULL": "7",
        "EXPERIMENT": "parcels",
        "SNAPSHOT": "parcels",
        "ASKED": str(tmp_path / "asked"),
    }
    (tmp_path / "env").touch()

    def run(name: str) -> int:
        given = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
        environment = {**os.environ, **variables, **given}
        return subprocess.run(
            ["bash", "-e", "-c", steps[name]], cwd=project.root, env=environment, check=False
        ).returncode

    return run


def _steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["compare"]["steps"]
    return found


def test_a_gate_that_fails_ends_the_job_and_is_posted(
    project: Project, job: Callable[[str], int], tmp_path: Path
) -> None:
    project.config(gates=[{"metric": "accuracy", "version": "v3", "better_by": 0}])
    (project.root / "configs").mkdir()
    (project.root / "parcels.yaml").rename(project.root / "configs" / "parcels.yaml")
    assert job("run") == 0
    assert json.loads((project.root / "run.json").read_text())["id"] == project.done.id
    assert job("compare") == 3
    assert "<html" in (project.root / "report.html").read_text()
    assert job("comment") == 0
    posted = (tmp_path / "asked.md").read_text()
    assert posted.startswith("<!-- mlstream parcels-")
    assert "✗ **failed** | v3 |" in posted
    assert (tmp_path / "asked").read_text().splitlines()[-1].startswith("api repos/team/models/issues/7/comments")
    conditions = {step["name"]: step.get("if", "") for step in _steps() if "name" in step}
    assert conditions["comment"].startswith("always() && ")  # after a step that failed, too


def test_an_error_posts_nothing(project: Project, job: Callable[[str], int], tmp_path: Path) -> None:
    (tmp_path / "env").write_text("RUN=0000\n")
    assert job("compare") == 1
    assert job("comment") == 0
    assert not (tmp_path / "asked").exists()
