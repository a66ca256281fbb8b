"""Fixtures of the snapshot tests with a broker: a topic of the test's own, and a freeze that tells everything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.home import Home
from mlstream.snapshots.capture import Frozen, Options, freeze, select
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.store import Store

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
