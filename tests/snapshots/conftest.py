"""Fixtures of the snapshot tests: a topic of the test's own, a freeze that tells everything, places for stores."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.home import Home
from mlstream.snapshots.capture import Frozen, Options, freeze, select
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.store import Store
from tests.snapshots.making import Row, columns, make_snapshot, plain

Freeze = Callable[..., Frozen]


@pytest.fixture
def make(client: Client, topic: str) -> Callable[..., None]:
    """Create the test's topic."""

    def create(partitions: int = 1, **config: str) -> None:
        settings = {**KEEP_EVERYTHING, **{key.replace("_", "."): value for key, value in config.items()}}
        create_topic(client, topic, partitions=partitions, config=settings)

    return create


@pytest.fixture
def froze(client: Client, home: Home, topic: str) -> Freeze:
    """Freeze the test's topic, or what is named, and tell everything of it."""

    def run(
        name: str,
        what: str | None = None,
        *,
        at: Home = home,
        progress: Callable[[Progress], None] | None = None,
        **options: object,
    ) -> Frozen:
        selections = select([topic if what is None else what])
        how = Options(**options)  # type: ignore[arg-type]
        return freeze(client, Store(at), name, selections, options=how, progress=progress)

    return run


@pytest.fixture(params=["folder", "s3", "fsspec"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store may be: its URL."""
    if request.param == "folder":
        yield str(tmp_path / "elsewhere")
    elif request.param == "s3":
        yield str(request.getfixturevalue("s3"))
    else:
        yield f"memory://{secrets.token_hex(6)}/store"


@pytest.fixture
def other(tmp_path: Path) -> Home:
    """A second home."""
    return Home(tmp_path / "other-home")


@pytest.fixture
def ticks(home: Home) -> Snapshot:
    """Two topics, three partitions, three objects; one of them is large."""
    large = columns(Row(offset, random.Random(offset).randbytes(200)) for offset in range(500))
    return make_snapshot(home, "ticks", {"a": {0: plain(3000), 1: plain(10, start=70_000)}, "b": {0: large}})


@pytest.fixture(params=["folder", "s3"])
def lasting_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that outlives a process."""
    return str(tmp_path / "elsewhere") if request.param == "folder" else str(request.getfixturevalue("s3"))
