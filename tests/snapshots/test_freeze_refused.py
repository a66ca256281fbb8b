"""Freezing what cannot be had: a clear error that says what to do, and nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.broker.admin import delete_records, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import (
    BrokerUnavailable,
    EmptyRange,
    NameTaken,
    OffsetOutOfRange,
    StoreError,
    TopicChanged,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from mlstream.home import Home
from mlstream.snapshots import copying
from mlstream.snapshots.capture import Frozen, select
from mlstream.snapshots.copying import Copied, Progress
from mlstream.snapshots.fixing import ask_again, fix
from mlstream.snapshots.plan import plan_partition
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import assemble, left, plain

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("{topic}x", UnknownTopic, "did you mean"),
        ("{topic}[7]", UnknownPartition, "has no partition 7"),
        ("{topic}@5..5", EmptyRange, "nothing between 5 and 5"),
        ("{topic}@0..11", OffsetOutOfRange, "use --to 10, or --to latest"),
        ("{topic}@99..latest", OffsetOutOfRange, "the stream ends at 10"),
        ("{topic}@yesterday..latest", UsageError, "not a position"),
        ("{topic}@group:nobody..latest", UsageError, "has committed no offset"),
    ],
)
def test_a_range_that_is_not_there_is_refused_and_leaves_nothing(
    broker: Connection,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    home: Home,
    what: str,
    error: type[Exception],
    message: str,
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    with pytest.raises(error, match=message):
        froze("bad", what.format(topic=topic))
    assert left(home) == []


def test_a_start_below_the_log_start_is_refused_unless_partial_is_allowed(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make(2)
    produce(broker, topic, [Sent(b"%d" % n, partition=n % 2) for n in range(200)])
    delete_records(client, topic, {0: 40})
    with pytest.raises(OffsetOutOfRange, match="asked from 0, the broker keeps 40 onward; use --from 40"):
        froze("whole", f"{topic}@0..latest")
    assert left(home) == []
    part = froze("part", f"{topic}@0..latest", allow_partial=True).snapshot
    assert not part.complete
    assert [found.missing for found in part.streams[0].partitions] == [((0, 40),), ()]
    assert part.rows == 160
    assert part.scan(topic).collect()["offset"].to_list() == [*range(40, 100), *range(100)]
    assert oracle.recomputed_id(home.path, part.id) == part.id


def test_a_name_that_is_taken_is_refused_before_anything_is_copied(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    froze("taken")
    before = left(home)
    seen: list[Progress] = []
    with pytest.raises(NameTaken, match="'taken' exists already and holds something else"):
        froze("taken", f"{topic}@0..5", progress=seen.append)
    assert (left(home), seen) == (before, [])
    again = froze("taken")
    assert again.existed


@pytest.mark.parametrize("name", ["Upper", "a b", "", "../x", "deadbeefdeadbeef"])
def test_a_name_that_is_none_is_refused(froze: Freeze, name: str) -> None:
    with pytest.raises(UsageError, match="snapshot"):
        froze(name)


def test_a_broker_that_is_not_there_is_an_error_within_ten_seconds(home: Home) -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        mlstream.snapshot(
            "x", topics=["t"], connection=Connection(bootstrap_servers=("127.0.0.1:1",), settings={}), home=home
        )
    assert time.monotonic() - began < 11
    assert left(home) == []


def test_a_home_that_cannot_be_a_store_is_an_error(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, tmp_path: Path
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")])
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="set MLSTREAM_HOME to a folder"):
        froze("x", at=Home(tmp_path / "file"))


def test_a_topic_that_is_made_anew_while_it_is_copied_is_an_error_and_nothing_is_kept(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    done: list[bool] = []

    def replace(_progress: Progress) -> None:
        if not done:
            done.append(True)
            delete_topic(client, topic)
            make()
            produce(broker, topic, [Sent(b"y")] * 10)

    with pytest.raises(TopicChanged, match=topic):
        froze("x", progress=replace, allow_partial=True)
    assert left(home) == []


def test_a_topic_that_is_deleted_while_it_is_copied_is_an_error(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home, client: Client
) -> None:
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    with pytest.raises(TopicChanged, match="deleted"):
        froze("x", progress=lambda _: delete_topic(client, topic, missing_ok=True))
    assert left(home) == []


@pytest.mark.parametrize("allow_partial", [False, True])
def test_records_that_expire_while_they_are_copied_are_an_error_or_missing(
    broker: Connection,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    home: Home,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    allow_partial: bool,
) -> None:
    monkeypatch.setattr(copying, "FETCH_BYTES", 1)  # one batch an answer
    monkeypatch.setattr(copying, "BUFFER_BYTES", 1)
    make()
    for _ in range(60):
        produce(broker, topic, [Sent(b"x" * 1000)] * 10, codec="none")

    def expire(_progress: Progress) -> None:
        delete_records(client, topic, {0: 500})

    if not allow_partial:
        with pytest.raises(OffsetOutOfRange, match="500"):
            froze("x", f"{topic}@0..600", progress=expire)
        assert left(home) == []
        return
    found = froze("x", f"{topic}@0..600", progress=expire, allow_partial=True).snapshot
    (part,) = found.streams[0].partitions
    ((lost, back),) = part.missing
    assert not found.complete
    assert (0 < lost < 500, back) == (True, 500)
    assert found.scan(topic).collect()["offset"].to_list() == [*range(lost), *range(500, 600)]
    assert not (home.path / "index").exists()  # nothing is built upon a partial one


def test_a_gap_that_the_log_start_has_passed_is_doubted(
    broker: Connection, make: Callable[..., None], topic: str, home: Home, client: Client
) -> None:
    # A copy of [0, 10) that got eight records, of a log that keeps only 5 onward now: did two expire, or were they
    # compacted away? Nobody can tell.
    make()
    produce(broker, topic, [Sent(b"x")] * 10)
    fixed = fix(client, select([topic]))
    (wanted,) = fixed.ranges
    plan = plan_partition(wanted)
    rows = assemble(home, plan, [plain(8)])
    copied = [Copied(plan, rows, (), control=0, aborted=0, leader_epochs=())]
    assert ask_again(client, fixed, copied, allow_partial=False) is False  # all is still there: it is no loss
    delete_records(client, topic, {0: 5})
    with pytest.raises(OffsetOutOfRange, match="records expired while they were copied; the broker keeps 5 onward"):
        ask_again(client, fixed, copied, allow_partial=False)
    assert ask_again(client, fixed, copied, allow_partial=True) is True
    explained = [Copied(plan, rows, (), control=2, aborted=0, leader_epochs=())]
    assert ask_again(client, fixed, explained, allow_partial=False) is False
