"""`mlstream broker`: what it prints and where, and its exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlstream.broker.embedded import Progress, down, read_state
from mlstream.broker.embedded.state import write_state
from mlstream.cli import broker as command
from mlstream.cli.context import Session
from mlstream.home import Home
from tests.broker.pausing import pause
from tests.conftest import Called

Cli = Callable[..., Called]


def test_status_of_a_home_without_a_broker_says_so_and_what_to_do(bare_cli: Cli, home: Home) -> None:
    called = bare_cli("broker", "status")
    assert called.exit_code == 0
    assert called.stdout == "absent: no broker was ever started in this home\n"
    assert "mlstream broker up" in called.stderr
    assert bare_cli("broker", "status", "--json").json["state"] == "absent"
    assert bare_cli("broker", "down").stderr == "the broker was not running\n"
    assert not home.path.exists()


def test_logs_without_a_broker_is_an_error(bare_cli: Cli) -> None:
    called = bare_cli("broker", "logs")
    assert (called.exit_code, called.stdout) == (1, "")
    assert "no broker was ever started there" in called.stderr


@pytest.mark.parametrize(
    "options", [["--port", "0"], ["--port", "x"], ["--profile", "fast"], ["--heap", "1"], ["--nodes"]]
)
def test_wrong_options_are_exit_2_and_start_nothing(bare_cli: Cli, home: Home, options: list[str]) -> None:
    called = bare_cli("broker", "up", *options)
    assert (called.exit_code, called.stdout) == (2, "")
    assert read_state(home) is None


@pytest.mark.broker
def test_a_broker_from_up_to_down(bare_cli: Cli, home: Home) -> None:
    try:
        started = bare_cli("broker", "up")
        assert started.exit_code == 0
        # stdout is the address alone: `export MLSTREAM_BOOTSTRAP_SERVERS=$(mlstream broker up)`.
        address = started.stdout.strip()
        assert address.startswith("127.0.0.1:")
        assert "Kafka 4.3.1 is up" in started.stderr
        assert "starting Kafka 4.3.1 …" in started.stderr

        again = bare_cli("broker", "up", "--json").json
        assert (again["bootstrap_servers"], again["started"]) == ([address], False)

        noted = bare_cli("--bootstrap-servers", "kafka.example:9092", "broker", "up")
        assert (noted.exit_code, noted.stdout.strip()) == (0, address)
        assert "note: the other commands use kafka.example:9092" in noted.stderr
        assert "note:" not in bare_cli("--bootstrap-servers", address, "broker", "up").stderr

        found = bare_cli("broker", "status", "--json").json
        assert found["state"] == "running"
        assert found["bootstrap_servers"] == [address]
        assert found["pid"] == again["pid"]
        assert found["kafka_version"] == "4.3.1"
        assert found["heap_mb"] == 512
        assert found["uptime_s"] > 0
        assert found["data_bytes"] > 0
        assert [node["node_id"] for node in found["nodes"]] == [1]
        shown = bare_cli("broker", "status").stdout
        assert shown.startswith(f"running: Kafka 4.3.1 on {address}\n")
        assert f"pid {again['pid']}" in shown
        assert max(map(len, shown.splitlines())) <= 80

        last = bare_cli("broker", "logs", "-n", "200").stdout.splitlines()
        assert any("Kafka Server started" in line for line in last)
        assert bare_cli("broker", "logs", "-n", "2").stdout.splitlines() == last[-2:]

        other = bare_cli("broker", "up", "--port", "1")
        assert other.exit_code == 1
        assert "runs already" in other.stderr

        pause(again["pid"])
        hanging = bare_cli("broker", "status")
        assert hanging.stdout.startswith("unresponsive: ")
        assert "mlstream broker down ends it" in hanging.stderr
        killed = bare_cli("broker", "down", "--timeout", "0.2")
        assert killed.exit_code == 0
        assert f"was killed (pid {again['pid']})" in killed.stderr

        state = read_state(home)
        assert state is not None
        write_state(home, state.with_node(replace(state.nodes[0], pid=again["pid"], token="0" * 32)))
        died = bare_cli("broker", "status")
        assert died.stdout.startswith("died: ")
        assert "recovers its data" in died.stderr
    finally:
        down(home)
    assert bare_cli("broker", "down", "--json").json == {"pids": [], "killed": []}
    assert bare_cli("broker", "status", "--json").json["state"] == "stopped"


@pytest.mark.broker
def test_following_the_log_ends_with_an_interrupt_as_exit_130(broker_home: Home, broker: object) -> None:
    if read_state(broker_home) is None:
        pytest.skip("the session's broker is not an embedded one")
    arguments = ["--home", str(broker_home.path), "broker", "logs", "-n", "1", "-f"]
    with subprocess.Popen(
        [sys.executable, "-m", "mlstream.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("20")
        following.send_signal(signal.SIGINT)
        _, errors = following.communicate(timeout=20)
    assert following.returncode == 130
    assert errors.strip() == "interrupted"


def test_on_a_terminal_the_fetch_is_a_bar_and_elsewhere_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [Progress("fetching Kafka", done=done, total=46, size_bytes=done << 20) for done in range(47)]
    with command._shown_progress(Session()) as report:
        for step in steps:
            report(step)
    assert capsys.readouterr() == ("", "fetching Kafka …\n")

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with command._shown_progress(Session()) as report:
        for step in steps:
            report(step)
    out, err = capsys.readouterr()
    assert out == ""
    assert "46/46 jars, 48.2 MB" in err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")])
def test_an_uptime_is_readable(seconds: float, text: str) -> None:
    assert command._duration(seconds) == text
