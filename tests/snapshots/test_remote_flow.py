"""The main job in a home at a URL, on a real Kafka and a real S3 server, from two machines."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.config import DecodeConfig
from mlstream.home import find_home
from mlstream.runs.run import open_run
from mlstream.snapshots.push import push
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import open_snapshot
from tests.broker.topics import make
from tests.conftest import Called
from tests.runs.conftest import ROWS, Shop, frame, write_project
from tests.snapshots.kafka import Sent, produce

pytestmark = pytest.mark.broker

Cli = Callable[..., Called]


PRINTS = """

def prints(by):
    print("a scale of", by)
    return Linear(by)
"""


@pytest.fixture
def on(cli: Cli, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Cli]:
    """The command line on a machine of that name; every one has the home of the test's URL and a cache of its own."""
    monkeypatch.setenv("MLSTREAM_HOME", s3)

    def machine(name: str) -> Cli:
        monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / name))
        return cli

    return machine


def done(called: Called) -> Any:
    assert called.exit_code == 0, called.stderr
    return called.json if called.stdout.startswith("{") else None


def test_what_is_frozen_on_one_machine_is_read_on_another_and_built_on_there(
    on: Callable[[str], Cli], broker: Connection, client: Client, topic: str, s3: str
) -> None:
    make(client, topic)
    produce(broker, topic, [Sent(b'{"n": %d}' % n, timestamp=1_700_000_000_000 + n) for n in range(5000)])
    made = done(on("a")("snapshot", "create", "ticks", "--topic", topic, "--json"))
    listed = done(on("b")("snapshot", "ls", "--json"))
    assert [entry["id"] for entry in listed["snapshots"]] == [made["id"]]
    assert "ticks" in on("b")("snapshot", "show", "ticks").stdout
    assert done(on("b")("snapshot", "verify", "ticks", "--deep", "--json"))["ok"]
    found = open_snapshot("ticks")
    assert found.scan(topic).collect().height == 5000
    decoded = found.scan(topic, decode=DecodeConfig(columns={"n": "int"})).collect()
    assert decoded["n"].sum() == sum(range(5000))

    # it grew: the other machine fetches the new records only, and finds the rest of the cell in the store
    produce(broker, topic, [Sent(b'{"n": %d}' % n, timestamp=1_700_000_000_000 + n) for n in range(5000, 5100)])
    before = len(open_remote(s3).list("objects"))
    grown = done(on("b")("snapshot", "create", "more", "--topic", topic, "--json"))
    assert (grown["fetched"], grown["reused"]) == (100, 5000)
    assert len(open_remote(s3).list("objects")) == before + 1
    assert done(on("c")("snapshot", "verify", "more", "--deep", "--json"))["ok"]
    taken = on("c")("snapshot", "create", "ticks", "--topic", topic)
    assert taken.exit_code == 1
    assert "'ticks' exists already and holds something else" in taken.stderr


def test_runs_and_comparisons_are_the_store_s(
    on: Callable[[str], Cli], broker: Connection, topic: str, s3: str, tmp_path: Path
) -> None:
    from mlstream import publish

    publish(topic, frame(), partitions=3, connection=broker)
    home = find_home()
    shop = Shop(write_project(tmp_path / "project"), home, broker, topic)
    shop.config(
        {"v1": {"model": "shop/models.py:Linear"}, "v2": {"model": "shop/models.py:prints", "parameters": {"by": 2.0}}},
        task="regression",
        labels={"value": "x"},
    )
    with (shop.root / "shop" / "models.py").open("a") as file:
        file.write(PRINTS)
    config = shop.root / "configs" / "shop.yaml"
    done(on("a")("snapshot", "create", shop.snapshot, "--topic", topic))
    run = done(on("a")("run", config, "--snapshot", shop.snapshot, "--json"))
    assert run["status"] == "complete"
    shown = done(on("b")("run", "show", run["id"][:12], "--json"))
    assert shown["id"] == run["id"]
    assert open_run(run["id"]).predictions("v2").collect().height == ROWS
    # what the versions printed is read there, too, once it has ended
    printed = on("a")("run", "logs", run["id"][:12])
    assert "a scale of 2.0" in printed.stdout
    assert on("b")("run", "logs", run["id"][:12]).stdout == printed.stdout
    assert find_home().path != home.path
    compared = done(on("b")("compare", run["id"][:12], "--no-track", "--json"))
    assert list((find_home().comparisons).glob("*.json"))
    again = on("c")("run", config, "--snapshot", shop.snapshot, "--json")
    assert "the same run was computed before" in again.stderr
    records = [path.name for path in find_home().comparisons.glob("*.json")]
    assert records == [f"{compared['id']}.json"]

    # where there is no log, that is said; and a run goes with its logs
    log = f"runs/{run['id']}/v2.log"
    assert log in {found.path for found in open_remote(s3).list("runs")}
    open_remote(s3).delete(log)
    gone = on("c")("run", "logs", run["id"][:12], "v2")
    assert (gone.exit_code, gone.stdout, gone.stderr) == (0, "", f"v2: {s3} has no log of it\n")
    record = json.loads(open_remote(s3).read(f"runs/{run['id']}.json", most_bytes=1 << 20))
    going_on = json.dumps({**record, "status": "incomplete"}).encode()
    open_remote(s3).put(f"runs/{run['id']}.json", going_on)
    early = on("c")("run", "logs", run["id"][:12], "v2")
    assert early.stderr == f"v2: {s3} has no log of it yet: logs are sent there when a run ends\n"
    done(on("b")("run", "rm", run["id"][:12], "--force", "--json"))
    assert open_remote(s3).list(f"runs/{run['id']}") == []


DOOMED = """
import os, signal, sys
from mlstream.cli.main import run
from mlstream.snapshots.remote_objects import ObjectsRemote

method, left = sys.argv[1], [int(sys.argv[2])]
real = getattr(ObjectsRemote, method)

def deadly(self, *args, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *args, **options)

setattr(ObjectsRemote, method, deadly)
sys.exit(run(sys.argv[3:]))
"""


def test_a_freeze_that_is_killed_leaves_the_snapshot_there_or_not_and_the_next_one_works(
    on: Callable[[str], Cli], broker: Connection, client: Client, topic: str
) -> None:
    make(client, topic)
    produce(broker, topic, [Sent(b'{"n": %d}' % n) for n in range(500)])
    there = []
    # before the object, the manifest, the name
    for method, calls in (("upload", 0), ("put_new", 1), ("put_new", 2)):
        on("a")
        command = [sys.executable, "-c", DOOMED, method, str(calls), "snapshot", "create", "ticks", "--topic", topic]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
        assert ended.returncode == -signal.SIGKILL, (method, calls, ended.stderr)
        listed = done(on("b")("snapshot", "ls", "--json"))
        assert listed["damaged"] == {}
        there.append(
            [done(on("b")("snapshot", "verify", e["id"], "--deep", "--json"))["ok"] for e in listed["snapshots"]]
        )
    assert there == [[], [], [True]]
    for name in ("a", "b"):
        made = done(on(name)("snapshot", "create", "ticks", "--topic", topic, "--json"))
        assert made["rows"] == 500
        assert done(on(name)("snapshot", "verify", "ticks", "--deep", "--json"))["ok"]


def test_files_tables_and_streams_are_pushed_and_pulled_together(
    cli: Cli,
    broker: Connection,
    client: Client,
    topic: str,
    s3: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(client, topic)
    produce(broker, topic, [Sent(b'{"n": 1}')])
    project = tmp_path / "project"
    (project / "reference").mkdir(parents=True)
    (project / "pyproject.toml").write_text("")
    (project / "reference" / "airports.csv").write_bytes(b"code\nSJU\n" * 100)
    with sqlite3.connect(project / "labels.db") as database:
        database.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO labels VALUES (?, ?)", [(n, f"label {n}") for n in range(50)])
    database.close()
    monkeypatch.chdir(project)
    table = f"sqlite:///{project}/labels.db#labels"
    made = done(cli("snapshot", "create", "all", "--topic", topic, "--file", "reference", "--table", table, "--json"))
    sent = done(cli("snapshot", "push", "all", s3, "--json"))
    assert sent["snapshots"][0]["objects"] == 3
    monkeypatch.setenv("MLSTREAM_HOME", str(tmp_path / "second"))
    came = done(cli("snapshot", "pull", "--all", s3, "--json"))
    assert [(each["name"], each["snapshot_id"]) for each in came["snapshots"]] == [("all", made["id"])]
    found = open_snapshot("all")
    assert found.file("reference/airports.csv").read_bytes() == b"code\nSJU\n" * 100
    assert found.table("labels").collect().height == 50
    assert done(cli("snapshot", "verify", "all", "--deep", "--json"))["ok"]

    # through a folder, as it would go on a disk that is carried
    push(found, open_remote(tmp_path / "disk"), name="all")
    assert json.loads((tmp_path / "disk" / "manifests" / f"{made['id']}.json").read_bytes())["files"]
