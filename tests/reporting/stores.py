"""What tests ask a local MLflow store, by SQL, and how they record in processes of their own. No test is here."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.home import Home

if TYPE_CHECKING:
    pass

PROJECT = Path(__file__).parents[2]


def rows(home: Home, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home.path / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def active_runs(home: Home) -> int:
    return int(rows(home, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'")[0][0])


def in_a_process(code: str, *, home: Home, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter, without what tells MLflow that it is in a test."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTEST", "CI"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
        env={**kept, "MLSTREAM_HOME": str(home.path), **environ},
    )


TRACK = """
from mlstream.home import find_home
from mlstream.reporting.tracking import track
from tests.reporting.examples import example_comparison, example_run

"""
