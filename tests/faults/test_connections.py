"""Connections that break, hang and answer half, and a broker that is killed: the same snapshot as without any of it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.embedded import down, up
from mlstream.broker.embedded.state import read_state
from mlstream.errors import BrokerUnavailable
from mlstream.home import Home
from mlstream.snapshots import copying
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.snapshot import Snapshot
from tests.faults.writers import while_doing
from tests.guard import guarded
from tests.proxy import FaultProxy
from tests.snapshots.kafka import Sent, produce

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]

Freeze = Callable[..., Snapshot]


@pytest.fixture
def small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small topic takes many answers."""
    monkeypatch.setattr(copying, "FETCH_BYTES", 20_000)
    monkeypatch.setattr(copying, "BUFFER_BYTES", 60_000)


def wait(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """How long a freeze puts up with brokers that do not answer."""
    monkeypatch.setitem(copying.read.__kwdefaults__, "stall_s", seconds)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "timeout_s", seconds)


def fill(broker: Connection, topic: str, batches: int = 60) -> None:
    for number in range(batches):
        records = [Sent(b"%06d" % (number * 100 + n) + b"x" * 90, partition=n % 3) for n in range(100)]
        produce(broker, topic, records, codec="none")


@pytest.mark.usefixtures("small_answers")
def test_connections_that_break_at_any_moment_of_a_freeze_change_nothing_of_it(
    client: Client,
    broker: Connection,
    topic: str,
    freeze: Freeze,
    tmp_path: Path,
    dice: random.Random,
    rounds: int,
) -> None:
    create_topic(client, topic, partitions=3, config=KEEP_EVERYTHING)
    fill(broker, topic)
    expected = freeze("undisturbed", topic)
    assert expected.rows == 6000
    with FaultProxy() as proxy:
        cut: list[int] = []

        def cut_once(progress: Progress) -> None:
            if progress.rows > 1000 and len(cut) == number:
                cut.append(proxy.drop())

        def disturb() -> None:
            match dice.randrange(4):
                case 0:
                    proxy.drop()
                case 1:
                    proxy.cut_after(dice.randrange(40_000))
                case 2:
                    proxy.lose_answer()
                case _:
                    proxy.hold()
                    proxy.release()

        for number in range(max(3, rounds // 4)):
            home = Home(tmp_path / f"home-{number}")
            with while_doing(disturb, every_s=0.1):
                found = freeze("disturbed", topic, connection=proxy.through(broker), home=home, progress=cut_once)
            assert found.id == expected.id
            (stream,) = found.cuts()[0].streams
            assert sum(part.fetched for part in stream.partitions) == 6000
            found.verify(deep=True)
            assert len(cut) == number + 1
        assert sum(cut) > 0


@pytest.mark.usefixtures("small_answers")
def test_brokers_that_go_away_in_the_middle_are_an_error_and_the_next_freeze_is_whole(
    client: Client, broker: Connection, topic: str, home: Home, freeze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(monkeypatch, seconds=2.0)
    create_topic(client, topic, partitions=3, config=KEEP_EVERYTHING)
    fill(broker, topic)
    with FaultProxy() as proxy:

        def go_away(progress: Progress) -> None:
            if progress.rows > 1000:
                proxy.refuse()

        with pytest.raises(BrokerUnavailable):
            freeze("gone", topic, connection=proxy.through(broker), progress=go_away)
    assert [path for path in home.path.rglob("*") if path.is_file() and path.parent.name in ("refs", "manifests")] == []
    assert freeze("gone", topic).rows == 6000
    assert [path for path in (home.path / "tmp").iterdir() if path.is_dir() and path.name != "names"] == []


@pytest.mark.usefixtures("small_answers")
def test_a_broker_that_is_killed_and_comes_up_again_in_the_middle_of_a_freeze_changes_nothing_of_it(
    tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait(monkeypatch, seconds=120.0)  # a busy machine needs its time to start a broker
    own = Home(tmp_path / "own")
    started = up(own, timeout_s=120)
    try:
        state = read_state(own)
        assert state is not None
        token = str(state.nodes[0].token)
        with guarded(started.pid, token):
            connection = Connection(started.bootstrap_servers)
            with Client(connection) as client:
                create_topic(client, topic, partitions=3, config=KEEP_EVERYTHING)
            fill(connection, topic)
            expected = mlstream.snapshot("before", topics=[topic], connection=connection, home=tmp_path / "one")
            killed: list[int] = []

            def kill(progress: Progress) -> None:
                if progress.rows > 500 and not killed:
                    killed.append(started.pid)
                    os.kill(started.pid, signal.SIGKILL)
                    while psutil.pid_exists(started.pid):  # until then the system has not closed its port
                        time.sleep(0.01)
                    assert up(own, timeout_s=120).bootstrap_servers == started.bootstrap_servers

            found = mlstream.snapshot(
                "during", topics=[topic], connection=connection, home=tmp_path / "two", progress=kill
            )
        assert killed
        assert found.id == expected.id
        found.verify(deep=True)
    finally:
        down(own)
