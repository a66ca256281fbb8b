"""Fixtures of the fault tests: how long they go on, by which seed, and a broker that forgets quickly.

`make test` runs a short form of each, `make test-faults` a long one: MLSTREAM_FAULT_ROUNDS says how many rounds (of
transactions, of broken connections, of points to die at). MLSTREAM_FAULT_SEED repeats a run that failed.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import mlstream
from mlstream.home import Home

if TYPE_CHECKING:
    from mlstream.broker.client import Client
    from mlstream.broker.connection import Connection
    from mlstream.snapshots.snapshot import Snapshot
    from tests.faults.scene import Commands, Scene

SHORT_ROUNDS = 4


@pytest.fixture(scope="session")
def rounds() -> int:
    """How long the test may go on."""
    return int(os.environ.get("MLSTREAM_FAULT_ROUNDS", SHORT_ROUNDS))


@pytest.fixture
def dice() -> random.Random:
    """Chance that can be had again: pytest shows the seed when the test fails."""
    seed = os.environ.get("MLSTREAM_FAULT_SEED", secrets.token_hex(4))
    print(f"to repeat it: MLSTREAM_FAULT_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="session")
def tidy_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A running Kafka that compacts and expires within a second."""
    from tests.faults.tidy_broker import running_tidy_broker

    with running_tidy_broker(tmp_path_factory.mktemp("tidy") / "kafka") as connection:
        yield connection


@pytest.fixture(scope="session")
def tidy_client(tidy_broker: Connection) -> Iterator[Client]:
    """A client of the tidy broker."""
    from mlstream.broker.client import Client

    with Client(tidy_broker) as opened:
        yield opened


@pytest.fixture
def freeze(broker: Connection, home: Home) -> Callable[..., Snapshot]:
    """Freeze from the session's broker into the test's home: `freeze("name", "topic")`."""

    def run(name: str, *topics: str, **options: Any) -> Snapshot:
        return mlstream.snapshot(name, topics=topics, **{"connection": broker, "home": home, **options})

    return run


@pytest.fixture(scope="session")
def commands(broker: Connection) -> Iterator[Commands]:
    """The program that runs commands and lets them die."""
    from tests.faults.scene import running_commands

    with running_commands(broker) as running:
        yield running


@pytest.fixture
def scene(client: Client, broker: Connection, topic: str, tmp_path: Path, commands: Commands) -> Scene:
    """A store with a snapshot of a topic that has grown since."""
    from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
    from tests.faults.scene import make_scene

    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    return make_scene(broker, topic, commands, tmp_path)
