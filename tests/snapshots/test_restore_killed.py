"""A restore that is killed at any step goes on when it is called again, and writes no record twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.home import Home
from mlstream.snapshots.restore import restore
from tests.snapshots.kafka import consume
from tests.snapshots.making import make_snapshot, plain

pytestmark = pytest.mark.broker

KILLED = """
import os, signal, sys
import mlstream.snapshots.restore as module
from mlstream.cli.main import run
from mlstream.streams.write import StreamWriter

name, number, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
calls = 0
holder = StreamWriter if name == "write" else module
original = getattr(holder, name)

def killing(*args, **settings):
    global calls
    calls += 1
    if calls == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **settings)
    if calls == number:
        if when == "flushed":
            args[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, name, killing)
sys.exit(run(sys.argv[4:]))
"""


@pytest.mark.parametrize(
    ("name", "number", "when"),
    [
        ("prepare", 1, "after"),
        ("write_record", 1, "after"),
        ("write", 1, "after"),
        ("write", 2, "flushed"),
        ("write", 3, "after"),
        ("check", 1, "before"),
        ("write_translation", 1, "before"),
        ("write_record", 2, "before"),
        ("write_record", 2, "after"),
    ],
)
def test_a_restore_that_was_killed_goes_on_and_doubles_nothing(
    broker: Connection, client: Client, home: Home, topic: str, name: str, number: int, when: str
) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(100_000), 1: plain(40_000)}})
    command = [sys.executable, "-c", KILLED, name, str(number), when]
    call = ["--bootstrap-servers", broker.servers, "snapshot", "restore", "jan", "--topic", topic]
    done = subprocess.run([*command, *call], env={**os.environ, "MLSTREAM_HOME": str(home.path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    there = sum(kept.high_watermark for kept in bounds(client, topic).values())
    if when == "flushed":
        assert 65_536 < there < 140_000
    found = restore(client, made, topic)
    assert found.written == 140_000 - there
    assert [record.done for record in made.restored()] == [True]
    for part, rows in ((0, 100_000), (1, 40_000)):
        values = [record[4] for record in consume(broker, topic, part, 0, rows)]
        assert values == [b"%020d" % n for n in range(rows)]
    assert found.restored.translation().rows() == [(0, 0, 0, 100_000), (1, 0, 0, 40_000)]
