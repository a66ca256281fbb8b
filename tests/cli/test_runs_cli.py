"""`mlstream run --dry-run`, `--repeat`, `run logs`, `run rm`: what they print, where, and their exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from mlstream import Connection, open_run
from mlstream.cli.context import Session
from mlstream.cli.runs.screen import print_outcomes
from mlstream.home import Home
from tests.cli.test_run_cli import narrow
from tests.conftest import Called
from tests.runs.conftest import ROWS, Shop, frame, write_project
from tests.runs.readers import topics

pytestmark = pytest.mark.broker
Cli = Callable[..., Called]


@pytest.fixture
def shop(home: Home, broker: Connection, topic: str, tmp_path: Path) -> Shop:
    """A project, and a snapshot of its topic in the home that `cli` works in."""
    from mlstream import publish, snapshot

    publish(topic, frame(), partitions=3, connection=broker)
    shop = Shop(write_project(tmp_path / "project"), home, broker, topic)
    snapshot(shop.snapshot, topics=[topic], connection=broker, home=home)
    return shop


def test_dry_run_then_repeat_then_show_then_rm(cli: Cli, shop: Shop) -> None:
    shop.config({"v1": {"model": "shop/models.py:Linear"}, "v2": {"model": "shop/models.py:Values"}}, task="regression")
    config = shop.root / "configs" / "shop.yaml"
    asked = cli("run", config, "--snapshot", shop.snapshot, "--dry-run", "--repeat", "2")
    assert asked.exit_code == 0, asked.stderr
    assert asked.stderr == "nothing was made: leave --dry-run out to run it\n"
    assert "would be computed" in asked.stdout
    assert [line.split()[:3] for line in asked.stdout.splitlines() if line.startswith("v")][1:] == [
        ["v1", "computed", str(ROWS)],
        ["v2", "computed", str(ROWS)],
    ]
    assert f"then the baseline is computed 2 times in all, {ROWS} records each" in asked.stdout
    assert cli("run", "ls", "-q").stdout == ""
    said = cli("run", config, "--snapshot", shop.snapshot, "--dry-run", "--json").json
    assert (said["action"], said["rows"], said["repeat"]) == ("compute", ROWS, 1)

    done = cli("run", config, "--snapshot", shop.snapshot, "--repeat", "2")
    assert done.exit_code == 0, done.stderr
    assert "v1 again: done, 0 errors, CPU " in done.stderr
    assert "B\n  p50/p95/p99 " in done.stderr
    assert f"repeat: v1 computed 2 times over {ROWS} records: equal, bit by bit" in done.stdout
    record = cli("run", "show", "--json").json
    assert record["id"] == said["run_id"]
    assert record["repeat"]["equal"] is True
    assert record["versions"]["v1"]["figures"]["record_latency_p50_us"] > 0

    shown = cli("run", "show").stdout
    assert "repeat      v1 computed 2 times" in shown
    assert f"python      {record['environment']['python']}\n" in shown
    assert "polars " in shown
    assert " GB\n            Linux" in shown
    packages = shown.splitlines()[shown.splitlines().index(f"python      {record['environment']['python']}") + 1 :][:3]
    assert "numpy " in packages[0]
    assert narrow("\n".join(packages))
    table = shown.split("the model's time")[1]
    assert " ".join(table.splitlines()[2].split()) == "version p50 p95 p99 p99.9 most batches record µs"
    assert [line.split()[0] for line in table.splitlines()[3:5]] == ["v1", "v2"]
    assert narrow(table)

    # names that are too long take several lines; no figure loses a digit for them
    session = Session()
    session.out = Console(width=80, file=(screen := io.StringIO()), color_system=None)
    run = open_run(record["id"], home=shop.home)
    outcome = run.outcome("v1")
    assert outcome.measured is not None
    large = replace(outcome.measured, rows=98_765_432, seconds=10.0, cpu_seconds=12345.6, memory_bytes=123_456_000_000)
    long = replace(outcome, name="an-awfully-long-name-of-a-version", rows=98_765_432, measured=large)
    print_outcomes(session, replace(run, versions={long.name: long, "v2": run.outcome("v2")}))
    text = screen.getvalue()
    assert narrow(text)
    for figure in ("98,765,432 9,876,543 ", " 12345.6 123,456 MB ", f" {outcome.digest[:8]}", f" {ROWS} "):
        assert figure in text
    width = text.index("status") - 1
    assert "".join(line[:width].strip() for line in text.splitlines()[1:6]).startswith(long.name)

    listed = cli("run", "ls")
    assert "repeated baselines that are not shown: 1; --all shows them" in listed.stderr
    assert len(cli("run", "ls", "--all", "--json").json["runs"]) == 2
    assert narrow(cli("run", "ls", "--all").stdout)
    assert cli("run", "ls", "-q").stdout == f"{record['id']}\n"

    shop.home.comparisons.mkdir()
    (shop.home.comparisons / f"{'c' * 64}.json").write_text(json.dumps({"run_id": record["id"]}))
    refused = cli("run", "rm", record["id"][:8])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "comparisons refer to it: cccccccccccc" in refused.stderr
    assert "--force" in refused.stderr
    gone = cli("run", "rm", record["id"][:8], "--force")
    assert gone.exit_code == 0, gone.stderr
    lines = gone.stdout.splitlines()
    assert lines[0] == f"removed run {record['repeat']['run_ids'][0][:12]}"
    assert f"removed run {record['id'][:12]}" in lines
    for version in record["versions"].values():
        assert f"  topic {version['topic']}" in lines
        assert version["topic"] not in topics(shop.connection)
    assert lines[-1] == "  comparisons that name it: cccccccccccc"
    assert cli("run", "ls", "--json").json == {"runs": []}
    assert cli("run", "rm", record["id"][:8]).exit_code == 1


def test_logs_are_printed_whole_in_part_and_as_json(cli: Cli, shop: Shop) -> None:
    noisy = {"model": "shop/models.py:Noisy"}
    shop.config({"v1": noisy, "bad": {"model": "shop/models.py:Bad", "parameters": {"how": "raise"}}})
    config = shop.root / "configs" / "shop.yaml"
    assert cli("run", config, "--snapshot", shop.snapshot).exit_code == 1
    run_id = cli("run", "ls", "-q").stdout[:12]
    both = cli("run", "logs", run_id)
    assert (both.exit_code, both.stderr) == (0, "")
    first, second = both.stdout.split("==> bad <==\n")
    assert first.startswith("==> v1 <==\nstandard input: ''\n")
    assert "RuntimeError: the model has had enough" in second
    one = cli("run", "logs", run_id, "bad", "-n", "2")
    assert one.stdout == "".join(second.splitlines(keepends=True)[-2:])
    assert cli("run", "logs", run_id, "bad", "-n", "0", "--follow").stdout == ""
    found = cli("run", "logs", run_id, "v1", "-n", "1", "--json").json
    assert found["run_id"].startswith(run_id)
    assert len(found["logs"]["v1"]["lines"]) == 1
    assert Path(found["logs"]["v1"]["path"]).is_file()
    wrong = cli("run", "logs", run_id, "v9")
    assert wrong.exit_code == 1
    assert "has no version 'v9'" in wrong.stderr
    assert "did you mean 'bad'?" in cli("run", "logs", run_id, "bda").stderr
    assert cli("run", "logs", run_id, "--json", "-f").exit_code == 2

    # a version that was taken from that run has its log there
    again = cli("run", config, "--snapshot", shop.snapshot, "--version", "v1", "--json")
    assert again.json["versions"]["v1"]["log"] == found["logs"]["v1"]["path"]
    assert cli("run", "logs", again.json["id"][:12]).stdout.startswith("standard input: ''")


def test_follow_goes_on_until_the_run_has_ended_and_ls_says_that_it_is_running(
    cli: Cli, shop: Shop, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    shop.config({"v1": {"model": "shop/models.py:Waits", "parameters": {"file": str(gate)}}})
    config = shop.root / "configs" / "shop.yaml"
    environment = {**os.environ, "MLSTREAM_HOME": str(shop.home.path)}
    command = [sys.executable, "-m", "mlstream.cli.main", "run"]
    started = [*command, str(config), "--snapshot", shop.snapshot]
    with subprocess.Popen(started, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            log = waited_for(shop.home.runs, "*/v1.log")
            row = cli("run", "ls", "--json").json["runs"][0]
            assert row["status"] == "running"
            busy = cli("run", "rm", row["id"][:12])
            assert busy.exit_code == 1
            assert "is being computed by another process" in busy.stderr
            asked = [*command, "logs", row["id"][:12], "--follow"]
            with subprocess.Popen(asked, env=environment, stdout=subprocess.PIPE, text=True) as follow:
                try:
                    with log.open("a") as file:
                        file.write("a line in between\n")
                    assert follow.stdout is not None
                    assert follow.stdout.readline() == "a line in between\n"
                    assert follow.poll() is None
                finally:
                    gate.touch()
                assert running.wait(60) == 0
                assert follow.wait(30) == 0
        finally:
            gate.touch()
    assert cli("run", "ls", "--json").json["runs"][0]["status"] == "complete"


def waited_for(folder: Path, pattern: str, within_s: float = 60.0) -> Path:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = next(folder.glob(pattern), None)
        if found is not None:
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {pattern} in {folder}")
