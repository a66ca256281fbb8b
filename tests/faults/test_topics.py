"""Topics that change under a freeze: made again at every step of it, given more partitions, kept under other settings.

Deleting and making anew in the middle of the copying is in `tests/snapshots/test_freeze*.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import NameTaken, TopicChanged, UnknownTopic
from mlstream.home import Home
from mlstream.snapshots import capture, copying
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.snapshot import Snapshot
from tests.faults.topics import add_partitions
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, consume, produce

pytestmark = pytest.mark.broker

Freeze = Callable[..., Snapshot]


def published(home: Home) -> list[Path]:
    """All that a snapshot would leave."""
    folders = ("objects", "storage", "cuts", "manifests", "refs", "index")
    return [path for name in folders for path in (home.path / name).rglob("*") if path.is_file()]


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("step", ["fix", "find_reuse", "copy", "ask_again"])
def test_a_topic_that_is_made_again_with_other_records_before_any_step_is_noticed(
    client: Client,
    broker: Connection,
    topic: str,
    freeze: Freeze,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    allow_partial: bool,
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"first")] * 10)
    real = getattr(capture, step)

    def replaced(*args: object, **options: object) -> object:
        delete_topic(client, topic)
        create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
        produce(broker, topic, [Sent(b"other")] * 10)
        return real(*args, **options)

    monkeypatch.setattr(capture, step, replaced)
    if step == "fix":  # it was another one when the freeze began
        found = freeze("x", topic, allow_partial=allow_partial)
        assert set(found.scan(topic).collect()["value"].to_list()) == {b"other"}
        return
    with pytest.raises(TopicChanged, match=topic):
        freeze("x", topic, allow_partial=allow_partial)
    assert published(home) == []
    monkeypatch.undo()
    assert freeze("x", topic).rows == 10


@pytest.mark.parametrize("step", ["find_reuse", "copy", "ask_again"])
def test_a_topic_that_is_deleted_before_any_step_is_noticed(
    client: Client,
    broker: Connection,
    topic: str,
    freeze: Freeze,
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"first")] * 10)
    real = getattr(capture, step)

    def deleted(*args: object, **options: object) -> object:
        delete_topic(client, topic)
        return real(*args, **options)

    monkeypatch.setattr(capture, step, deleted)
    with pytest.raises((TopicChanged, UnknownTopic), match=topic):
        freeze("x", topic)
    assert published(home) == []


def test_a_snapshot_of_a_topic_that_was_made_again_stays_what_it_was_and_the_new_one_shares_nothing(
    client: Client, broker: Connection, topic: str, freeze: Freeze
) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"first")] * 10)
    first = freeze("first", topic)
    delete_topic(client, topic)
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    produce(broker, topic, [Sent(b"other")] * 20)
    with pytest.raises(NameTaken, match="'first' exists already and holds something else"):
        freeze("first", topic)
    second = freeze("second", topic)
    (cut,) = second.cuts()[0].streams[0].partitions
    assert (cut.fetched, cut.reused) == (20, 0)
    assert not set(first.storage.objects) & set(second.storage.objects)
    assert (
        mlstream.open_snapshot("first", home=first.store.home).scan(topic).collect()["value"].to_list()
        == [b"first"] * 10
    )
    first.verify(deep=True)


def test_partitions_that_are_added_while_a_topic_is_frozen_are_in_the_next_snapshot(
    client: Client, broker: Connection, topic: str, freeze: Freeze, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "FETCH_BYTES", 1)
    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    for _ in range(5):
        produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(20)])
    added: list[bool] = []

    def add(progress: Progress) -> None:
        if progress.rows > 0 and not added:
            added.append(True)
            add_partitions(broker, topic, 4)
            produce(broker, topic, [Sent(b"late", partition=n % 4) for n in range(40)])

    found = freeze("before", topic, progress=add)
    assert added
    assert found.complete
    assert [(part.partition, part.start, part.stop, part.rows) for part in found.streams[0].partitions] == [
        (0, 0, 50, 50),
        (1, 0, 50, 50),
    ]
    assert b"late" not in found.scan(topic).collect()["value"].to_list()
    with pytest.raises(NameTaken):
        freeze("before", topic)
    after = freeze("after", topic)
    parts = after.cuts()[0].streams[0].partitions
    assert [(part.partition, part.fetched, part.reused) for part in parts] == [
        (0, 10, 50),
        (1, 10, 50),
        (2, 10, 0),
        (3, 10, 0),
    ]
    frame = after.scan(topic).collect()
    for number in range(4):
        rows = frame.filter(frame["partition"] == number).to_arrow()
        assert list(oracle.rows_of(rows)) == consume(broker, topic, number, 0, 60)
    assert oracle.recomputed_id(home.path, after.id) == after.id
