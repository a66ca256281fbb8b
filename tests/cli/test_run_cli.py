"""`mlstream run`, `run ls`, `run show`, `mlstream train`: what they print, where, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlstream import Connection
from mlstream.home import Home
from tests.conftest import Called
from tests.runs.conftest import ROWS, Shop, frame, write_project

Cli = Callable[..., Called]


@pytest.fixture
def shop(home: Home, broker: Connection, topic: str, tmp_path: Path) -> Shop:
    """A project, and a snapshot of its topic in the home that `cli` works in."""
    from mlstream import publish, snapshot

    publish(topic, frame(), partitions=3, connection=broker)
    shop = Shop(write_project(tmp_path / "project"), home, broker, topic)
    snapshot(shop.snapshot, topics=[topic], connection=broker, home=home)
    return shop


def narrow(text: str) -> bool:
    return all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.broker
def test_run_ls_and_show(cli: Cli, shop: Shop) -> None:
    shop.config(
        {
            "v1": {"model": "shop/models.py:Linear"},
            "bad": {"model": "shop/models.py:Bad", "parameters": {"how": "exit"}},
        }
    )
    config = shop.root / "configs" / "shop.yaml"
    empty = cli("run", "ls")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "no runs in" in empty.stderr

    # one version that works
    done = cli("run", config, "--snapshot", shop.snapshot, "--version", "v1")
    assert done.exit_code == 0, done.stderr
    assert "v1: loading" in done.stderr
    assert f"v1: {ROWS} records, freezing" in done.stderr
    head, line = done.stdout.splitlines()[:2]
    assert " ".join(head.split()) == "version status records records/s p50 ms p99 ms CPU s memory digest"
    assert line.split()[:3] == ["v1", "complete", str(ROWS)]
    assert narrow(done.stdout)
    assert ".v1." in done.stdout.splitlines()[-1]

    # the same again
    again = cli("run", "--snapshot", shop.snapshot, "--version", "v1", "--json", config)
    assert again.exit_code == 0
    assert "the same run was computed before" in again.stderr
    record = again.json
    assert record["status"] == "complete"
    assert record["versions"]["v1"]["figures"]["records"] == ROWS
    assert record["id"][:12] in done.stdout

    # one that fails beside it
    failed = cli("run", config, "--snapshot", shop.snapshot)
    assert failed.exit_code == 1
    assert "1 of 2 versions failed" in failed.stderr
    assert "version bad failed: its process ended by itself with exit code 7, in the batch" in failed.stderr
    assert "bad.log\n    about to go wrong: exit" in failed.stderr
    assert [line.split()[:2] for line in failed.stdout.splitlines()[1:3]] == [["v1", "complete"], ["bad", "failed"]]
    assert "Traceback" not in failed.stderr

    # both are listed, the newest first, and shown
    listed = cli("run", "ls")
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert [row[3:5] for row in rows[1:]] == [["partial", "1/2"], ["complete", str(ROWS)]]
    assert rows[2][0] == record["id"][:12]
    assert narrow(listed.stdout)
    assert [found["id"] for found in cli("run", "ls", "--json").json["runs"]][1] == record["id"]
    # one that is damaged hides none
    damaged = shop.home.runs / f"{'0' * 64}.json"
    damaged.write_text("{")
    beside = cli("run", "ls")
    assert (beside.exit_code, beside.stdout) == (1, listed.stdout)
    assert "0000.json: the run's record is damaged: " in beside.stderr
    assert "remove the file and run again" in beside.stderr
    found = cli("run", "ls", "--json")
    assert (found.exit_code, len(found.json["runs"])) == (1, 2)
    damaged.write_text(json.dumps({"format": 7, "id": "0" * 64, "started_at": "2020"}))
    other = cli("run", "ls", "-q")
    assert (other.exit_code, len(other.stdout.splitlines())) == (1, 2)
    assert "its record has the format 7" in other.stderr
    damaged.unlink()
    shown = cli("run", "show", record["id"][:8])
    assert shown.exit_code == 0
    assert f"run         {record['id']}" in shown.stdout
    assert "columns     x float, n int, s string" in shown.stdout
    assert cli("run", "show", record["id"][:8], "--json").json == record
    newest = cli("run", "show").stdout
    assert "status      partial" in newest
    assert "bad failed: its process ended by itself with exit code 7, in the batch" in newest


@pytest.mark.broker
def test_a_declared_column_that_no_record_has_is_named(cli: Cli, shop: Shop) -> None:
    shop.config({"v1": {"model": "shop/models.py:Linear"}})
    config = shop.root / "configs" / "shop.yaml"
    said = yaml.safe_load(config.read_text())
    said["input"]["decode"] = {"columns": {"x": "float", "n": {"type": "int", "pointer": "/nn"}, "t": "string"}}
    config.write_text(yaml.safe_dump(said, sort_keys=False))
    done = cli("run", config, "--snapshot", shop.snapshot, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert f"null in all {ROWS} records of {shop.topic}: 'n', 't'; is a name or `pointer` under" in done.stderr
    said["input"]["decode"]["columns"] = {"x": "float", "n": "int"}
    config.write_text(yaml.safe_dump(said, sort_keys=False))
    assert "null in all" not in cli("run", config, "--snapshot", shop.snapshot, "--dry-run").stderr


@pytest.mark.broker
def test_train_writes_the_model_and_says_where(cli: Cli, shop: Shop) -> None:
    shop.config({"v1": {"model": "models/v1.skops", "train": "shop/training.py:boosting"}})
    config = shop.root / "configs" / "shop.yaml"
    early = cli("run", config, "--snapshot", shop.snapshot)
    assert early.exit_code == 1
    assert "versions.v1.model: there is no file models/v1.skops" in early.stderr
    assert "make it with `mlstream train" in early.stderr
    done = cli("train", config, "--snapshot", shop.snapshot)
    assert done.exit_code == 0, done.stderr
    assert done.stderr == "v1: training\nv1: done\n"
    head, line = done.stdout.splitlines()
    assert head.split() == ["version", "file", "records", "seconds", "digest"]
    assert line.split()[:3] == ["v1", "models/v1.skops", str(ROWS)]
    note = json.loads((shop.root / "models" / "v1.skops.json").read_text())
    assert note["digest"].startswith(line.split()[-1])
    said = cli("train", config, "--snapshot", shop.snapshot, "--json").json
    assert [(part["version"], part["digest"]) for part in said["trained"]] == [("v1", note["digest"])]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["run"], 2, "Usage: mlstream run CONFIG --snapshot NAME [OPTIONS]"),
        (["compare", "--nonsense"], 2, "Usage: mlstream compare [RUN] [OPTIONS]"),
        (["run", "c.yaml"], 2, "Missing option '--snapshot'"),
        (["run", "--snapshot", "x"], 2, "Missing argument 'CONFIG'"),
        (["run", "c.yaml", "--snapshot", "x", "--nonsense"], 2, "No such option"),
        (["run", "nope.yaml", "--snapshot", "x"], 1, "nope.yaml: there is no such file"),
        (["run", "show", "12345678"], 1, "no run '12345678'"),
        (["run", "show", "123"], 1, "write the first digits of its id, 4 at least"),
        (["run", "show"], 1, "no runs in"),
        (["train"], 2, "Usage: mlstream train"),
        (["train", "nope.yaml", "--snapshot", "x"], 1, "nope.yaml: there is no such file"),
    ],
)
def test_wrong_calls_say_so(bare_cli: Cli, args: list[str], code: int, message: str) -> None:
    called = bare_cli(*args)
    assert called.exit_code == code
    assert called.stdout == ""
    assert message in called.stderr


@pytest.mark.parametrize("args", [["run", "--help"], ["run", "c.yaml", "--help"], ["run", "ls", "-h"], ["train", "-h"]])
def test_help_fits_80_columns_and_names_what_it_takes(bare_cli: Cli, args: list[str]) -> None:
    called = bare_cli(*args)
    assert called.exit_code == 0
    assert narrow(called.stdout)
    assert "replay" not in called.stdout
    if args[:2] != ["run", "ls"]:
        assert "--snapshot NAME" in called.stdout


def test_a_version_that_does_not_exist_is_named_before_anything_starts(
    bare_cli: Cli, home: Home, tmp_path: Path
) -> None:
    values: dict[str, Any] = {"experiment": "e", "input": {"topic": "t"}, "versions": {"v1": {"model": "a.py:b"}}}
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(values))
    called = bare_cli("run", config, "--snapshot", "nope")
    assert called.exit_code == 1
    assert "nope" in called.stderr
    assert not home.runs.exists()
