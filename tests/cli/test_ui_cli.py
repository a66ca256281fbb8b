"""`mlstream ui`: MLflow's UI as a process in the foreground."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mlstream.cli.ui import stopped_by_signals
from mlstream.home import Home
from mlstream.reporting.tracking import track
from tests.conftest import Called
from tests.reporting.examples import example_comparison, example_run


def test_before_anything_is_recorded_the_fix_is_named(bare_cli: Callable[..., Called]) -> None:
    shown = bare_cli("ui", "--no-open")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "nothing is recorded yet" in shown.stderr
    assert "run `mlstream compare` first" in shown.stderr


def test_a_server_that_does_not_answer_is_named(
    bare_cli: Callable[..., Called], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    shown = bare_cli("ui", "--no-open")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "http://127.0.0.1:9 does not answer" in shown.stderr


def test_a_port_that_is_taken_is_named(bare_cli: Callable[..., Called], home: Home) -> None:
    home.path.mkdir(parents=True)
    (home.path / "mlflow.db").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shown = bare_cli("ui", "--no-open", "--port", str(port))
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert f"127.0.0.1:{port} cannot be listened on" in shown.stderr
    assert "choose another --port" in shown.stderr


@pytest.mark.parametrize("args", [["--port", "0"], ["--port", "x"], ["extra"]])
def test_wrong_arguments_are_exit_2(args: list[str], bare_cli: Callable[..., Called]) -> None:
    assert bare_cli("ui", *args).exit_code == 2


def test_help_fits_80_columns(bare_cli: Callable[..., Called]) -> None:
    shown = bare_cli("ui", "--help")
    assert shown.exit_code == 0
    assert "--no-open" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_it_serves_the_newest_comparison_until_ctrl_c(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    track(example_comparison(), example_run(), home=home, uri=home.mlflow_uri)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    command = [sys.executable, "-m", "mlstream.cli.main", "--home", str(home.path), "ui", "--no-open"]
    process = subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#/experiments/1/runs/[0-9a-f]{32}\?\S+", url)
        assert match is not None, (url, process.communicate(timeout=30))
        with urllib.request.urlopen(match[1], timeout=30) as answer:
            assert b"MLflow" in answer.read()
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, stdout) == (0, "")
    assert stderr.splitlines() == [f"MLflow UI on {home.mlflow_uri}: {match[1]} (Ctrl-C stops it)", "stopped"]
    assert not any(member.is_running() for member in family)


def test_a_termination_ends_it_in_order_too() -> None:
    before = signal.getsignal(signal.SIGTERM)
    reached = False
    with stopped_by_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        reached = True
    assert not reached
    assert signal.getsignal(signal.SIGTERM) is before
