"""Freezing again: only what is new is fetched, and only where what is there cannot have changed."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.broker.admin import delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.capture import Frozen
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import flip

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]


def test_a_grown_topic_shares_its_objects_and_fetches_only_the_tail(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%0100d" % n, partition=n % 2) for n in range(140_000)])
    before = froze("before")
    produce(broker, topic, [Sent(b"more %d" % n, partition=n % 2) for n in range(500)])
    after = froze("after")
    assert (after.fetched, after.reused) == (500, 140_000)
    assert set(before.snapshot.storage.objects) < set(after.snapshot.storage.objects)
    assert len(after.snapshot.storage.objects) == len(before.snapshot.storage.objects) + 2
    assert after.written_bytes < 30_000
    anew = froze("after", at=Home(tmp_path / "anew"))
    assert anew.snapshot.id == after.snapshot.id
    after.snapshot.verify(deep=True)
    inside = froze("inside", f"{topic}[0]@100..60000")
    assert (inside.fetched, inside.reused, inside.written_bytes) == (0, 59_900, 0)
    assert inside.snapshot.scan(topic).collect()["offset"].to_list() == list(range(100, 60_000))


def test_without_the_index_everything_is_fetched_again_to_the_same_id(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one")
    shutil.rmtree(home.path / "index")
    second = froze("two")
    assert (second.snapshot.id, second.fetched) == (first.snapshot.id, 10)


def test_a_log_with_another_leader_epoch_is_not_the_one_that_was_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one")
    (entry,) = (home.path / "index").rglob("*.json")
    known = json.loads(entry.read_text())
    assert known == {"start": "0", "last_offset": "9", "leader_epoch": 0}
    entry.write_text(json.dumps({**known, "leader_epoch": 7}))
    second = froze("two")
    assert (second.fetched, second.snapshot.id) == (10, first.snapshot.id)


@pytest.mark.parametrize("last_offset", [3, 99])
def test_many_partitions_are_asked_for_together_and_one_that_is_shorter_now_is_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, last_offset: int
) -> None:
    make(12)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 12) for n in range(60)])
    first = froze("one")
    assert (froze("two").fetched, froze("two").reused) == (0, 60)
    (entry,) = (home.path / "index").rglob(f"7/{first.snapshot.id}.json")
    # As if the log of partition 7 had been longer, or what is known of it ended earlier.
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "last_offset": str(last_offset)}))
    third = froze("three")
    assert (third.fetched, third.snapshot.id) == ({3: 1, 99: 5}[last_offset], first.snapshot.id)


def test_a_missing_object_is_not_built_upon_and_is_healed_by_freezing_again(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one").snapshot
    (name,) = first.storage.objects
    first.store.object(name).unlink()
    again = froze("one")
    assert (again.existed, again.fetched, again.snapshot.id) == (True, 10, first.id)
    again.snapshot.verify(deep=True)


def test_an_object_that_was_found_damaged_is_not_built_upon_and_is_healed_by_freezing_again(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    first = froze("one").snapshot
    shared = froze("shares-it", f"{topic}[0]@2..8").snapshot
    (name,) = first.storage.objects
    assert set(shared.storage.objects) == {name}
    flip(first.store.object(name))
    with pytest.raises(IntegrityError, match=f"object {name}: its bytes have changed"):
        shared.verify()
    again = froze("one")
    assert (again.existed, again.fetched, again.snapshot.id) == (True, 10, first.id)
    again.snapshot.verify(deep=True)
    shared.verify(deep=True)
    assert froze("two").fetched == 0


def test_damage_that_nobody_has_found_yet_is_found_when_its_cell_is_completed(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    values = [random.Random(n).randbytes(2000) for n in range(20)]  # nothing that compresses: a flipped bit is a value
    produce(broker, topic, [Sent(value) for value in values])
    first = froze("one").snapshot
    (name,) = first.storage.objects
    flip(first.store.object(name))
    changed = first.scan(topic).collect()["value"].to_list()
    assert sum(found != value for found, value in zip(changed, values, strict=True)) == 1, "the file shows it itself"
    produce(broker, topic, [Sent(b"more")] * 5)
    with pytest.raises(IntegrityError, match=rf"object {name}: its rows of {topic}\[0\] cell 0 are not those of its"):
        froze("grown")
    with pytest.raises(IntegrityError, match=f"object {name}: its bytes have changed"):
        first.verify()
    grown = froze("grown")
    assert (grown.fetched, grown.reused) == (25, 0)
    grown.snapshot.verify(deep=True)
    assert grown.snapshot.scan(topic).collect()["value"].to_list() == [*values, *[b"more"] * 5]


def test_compacted_topics_and_topics_made_anew_are_never_built_upon(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, client: Client
) -> None:
    make(cleanup_policy="compact")
    produce(broker, topic, [Sent(b"x", b"k")] * 10)
    froze("one")
    assert (froze("two").fetched, froze("two").reused) == (10, 0)
    delete_topic(client, topic)
    make()
    produce(broker, topic, [Sent(b"x", b"k")] * 10)
    anew = froze("three")
    assert anew.fetched == 10
    assert anew.snapshot.id != mlstream.open_snapshot("one", home=anew.snapshot.store.home).id
