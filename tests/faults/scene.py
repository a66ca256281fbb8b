"""A store with a snapshot, a topic that has grown since, and commands that may die while they freeze it. No tests."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.broker.connection import Connection
from mlstream.errors import MlstreamError, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots.snapshot import list_snapshots
from mlstream.snapshots.store import Store
from tests.snapshots.kafka import Sent, produce

ROOT = Path(__file__).parents[2]


@dataclass
class Outcome:
    """What became of a command; without an exit code when it was killed."""

    signal: int | None = None
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    steps: list[list[str]] = field(default_factory=list)


class Commands:
    """The program that runs commands and lets them die."""

    def __init__(self, process: subprocess.Popen[str], broker: Connection) -> None:
        self._process = process
        self._broker = broker

    def __call__(self, home: Path, *args: str, **job: Any) -> Outcome:
        found = {"home": str(home), "servers": self._broker.servers, "args": args, **job}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(found), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))


@dataclass
class Scene:
    """A store with a snapshot `old` of a topic that has grown since, and what `create new` should come to."""

    topic: str
    home: Path
    old: str
    new: str
    work: Path
    run: Commands
    connection: Connection
    wanted: tuple[str, ...]
    copies: int = 0

    def copy(self) -> Path:
        """The store as it was, in a folder of its own."""
        self.copies += 1
        target = self.work / f"copy-{self.copies}"
        shutil.copytree(self.home, target)
        return target

    def create(self, home: Path, **job: Any) -> Outcome:
        return self.run(home, "snapshot", "create", "new", *self.wanted, folder=str(self.work), **job)

    def state(self, home: Path) -> str:
        """`old` or `new`; an AssertionError when it is neither."""
        try:
            known = {found.id for found in list_snapshots(home)}
            names = Store(Home(home)).refs()
            assert {self.old} <= known <= {self.old, self.new}
            assert names["old"] == self.old
            assert set(names) <= {"old", "new"}
            assert len(list((home / "manifests").iterdir())) == len(known), "a manifest that is damaged"
            for found in known:
                mlstream.open_snapshot(found, home=home).verify(deep=True)
            assert names.get("new", self.new) == self.new
            if "new" in names:
                return mlstream.open_snapshot("new", home=home).name or ""
        except MlstreamError as exc:
            raise AssertionError(f"half a state: {exc}") from exc
        with pytest.raises(UnknownSnapshot):
            mlstream.open_snapshot("new", home=home)
        return "old"

    def recover(self, home: Path) -> None:
        """The next `create` just works, and nothing is left of what was tried before."""
        again = self.create(home)
        assert again.exit_code == 0, again.stderr
        assert self.state(home) == "new"
        left = [path for path in (home / "tmp").iterdir() if path.is_dir() and any(path.iterdir())]
        assert [path.name for path in left if path.name != "names"] == []
        shutil.rmtree(home)


@contextmanager
def running_commands(broker: Connection) -> Iterator[Commands]:
    """Start the program, and end it at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.dying"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield Commands(process, broker)
        process.stdin.close()


def make_scene(broker: Connection, topic: str, run: Commands, work: Path) -> Scene:
    """Freeze a topic's first records as `old`; `new` is to have more of them, a file and a table."""
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(100)])
    home = work / "store"
    first = run(home, "snapshot", "create", "old", "--topic", topic)
    assert first.exit_code == 0, first.stderr
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(100)])
    (work / "labels.csv").write_text("id,label\n1,0\n")
    with closing(sqlite3.connect(work / "weather.db")) as database:
        database.execute("CREATE TABLE weather (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO weather VALUES (?, ?)", [(n, "sun") for n in range(50)])
        database.commit()
    wanted = ("--topic", topic, "--file", "labels.csv", "--table", f"sqlite:///{work}/weather.db#weather")
    made = Scene(topic, home, mlstream.open_snapshot("old", home=home).id, "", work, run, broker, wanted)
    trial = made.copy()
    done = made.create(trial)
    assert done.exit_code == 0, done.stderr
    made.new = mlstream.open_snapshot("new", home=trial).id
    assert made.new != made.old
    return made
