"""Records that the broker takes away by itself, before and while they are frozen: compaction, tombstones, retention.

On a broker whose housekeeping is quick. What `delete_records` does in the middle of a freeze is in
`tests/snapshots/test_freeze*.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.errors import OffsetOutOfRange
from mlstream.home import Home
from mlstream.snapshots import copying
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.snapshot import Snapshot
from tests.faults.topics import set_config
from tests.faults.writers import while_doing
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, Transactions, consume, produce

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]

COMPACTED = {
    **KEEP_EVERYTHING,
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0",
    "min.compaction.lag.ms": "0",
    "max.compaction.lag.ms": "1",
    "delete.retention.ms": "0",
    "segment.ms": "100",
}
PATIENCE_S = 60


@pytest.fixture
def freeze(tidy_broker: Connection, home: Home, topic: str) -> Callable[..., Snapshot]:
    """Freeze the test's topic, or what is named, from the tidy broker."""

    def run(name: str, what: str | None = None, *, at: Home = home, **options: object) -> Snapshot:
        asked = topic if what is None else what
        return mlstream.snapshot(name, topics=[asked], connection=tidy_broker, home=at, **options)  # type: ignore[arg-type]

    return run


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"the broker did not {what}"
        time.sleep(0.05)


def roll(broker: Connection, topic: str) -> None:
    """Begin a new segment, which a broker does by the times of records: what came before may then be cleaned."""
    produce(broker, topic, [Sent(b"roll", b"roll", timestamp=time.time_ns() // 1_000_000)])


def rows_of(snapshot: Snapshot, topic: str) -> list[oracle.Record]:
    return list(oracle.rows_of(snapshot.scan(topic).collect().to_arrow()))


def test_a_compacted_topic_with_tombstones_is_frozen_as_it_is_at_the_cut_and_never_built_upon(
    tidy_client: Client, tidy_broker: Connection, topic: str, freeze: Callable[..., Snapshot], home: Home
) -> None:
    create_topic(tidy_client, topic, partitions=1, config=COMPACTED)
    produce(tidy_broker, topic, [Sent(b"old %d" % n, b"k%d" % n) for n in range(50)])
    writer = Transactions(tidy_broker, topic)
    writer.send(topic, [Sent(b"kept", b"t%d" % n) for n in range(5)])
    writer.send(topic, [Sent(b"lost", b"t%d" % n) for n in range(5)], commit=False)
    produce(tidy_broker, topic, [Sent(b"new %d" % n, b"k%d" % n) for n in range(50)])
    produce(tidy_broker, topic, [Sent(None, b"k%d" % n) for n in range(10)])
    stop = bounds(tidy_client, topic)[0].last_stable
    dirty = freeze("dirty", f"{topic}@0..{stop}")
    assert dirty.rows <= 115
    # Until nothing of the first values is left, and the tombstones are gone, too: a second look after the horizon.

    def is_clean() -> bool:
        roll(tidy_broker, topic)
        time.sleep(0.2)
        values = [record[4] for record in consume(tidy_broker, topic, 0, 0, stop)]
        return None not in values and not [value for value in values if value is not None and value.startswith(b"old")]

    wait_for(is_clean, "compact the topic")
    clean = freeze("clean", f"{topic}@0..{stop}")
    found = rows_of(clean, topic)
    assert found == consume(tidy_broker, topic, 0, 0, stop)
    values = [record[4] for record in found]
    assert sorted(value for value in values if value is not None and value.startswith(b"new")) == sorted(
        b"new %d" % n for n in range(10, 50)
    )
    assert b"lost" not in values
    assert None not in values
    assert clean.complete
    assert clean.id != dirty.id
    (part,) = clean.streams[0].partitions
    (cut,) = clean.cuts()[0].streams[0].partitions
    assert (cut.fetched, cut.reused) == (clean.rows, 0)
    gaps = cut.gaps
    assert gaps.other > 0
    assert part.stop - part.start == clean.rows + gaps.control + gaps.aborted + gaps.earlier + gaps.other
    assert not (home.path / "index" / "streams").exists()
    assert oracle.recomputed_id(home.path, clean.id) == clean.id
    clean.verify(deep=True)
    assert len(rows_of(dirty, topic)) == dirty.rows  # what was frozen before stays what it was


@pytest.mark.parametrize("lag_ms", ["0", "600000"])
def test_a_topic_that_is_compacted_while_it_is_frozen_lacks_only_keys_that_were_written_again_too_early(
    tidy_client: Client,
    tidy_broker: Connection,
    topic: str,
    freeze: Callable[..., Snapshot],
    dice: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    lag_ms: str,
) -> None:
    # A record may be compacted away between the cut and its turn to be copied, when its key is written again in the
    # meantime: no reader can then have it. A topic's min.compaction.lag.ms says how long that takes at least.
    monkeypatch.setattr(copying, "FETCH_BYTES", 1)  # one batch an answer, so that cleaning comes in between
    monkeypatch.setattr(copying, "BUFFER_BYTES", 1)
    config = {**COMPACTED, "segment.ms": "20", "min.compaction.lag.ms": lag_ms, "max.compaction.lag.ms": "600000"}
    create_topic(tidy_client, topic, partitions=1, config=config)
    last: dict[bytes, bytes] = {}
    for turn in range(30):
        chosen = [(b"k%d" % dice.randrange(40), b"%d-%d" % (turn, n)) for n in range(20)]
        last.update(chosen)
        times = 1_700_000_000_000 + turn * 1000
        produce(tidy_broker, topic, [Sent(value, key, timestamp=times) for key, value in chosen], codec="none")
    stop = bounds(tidy_client, topic)[0].last_stable

    def write_again() -> None:
        now_ms = time.time_ns() // 1_000_000
        produce(tidy_broker, topic, [Sent(b"again", b"k%d" % n, timestamp=now_ms) for n in range(20)])

    with while_doing(write_again, every_s=0.01):
        found = freeze("moving", f"{topic}@0..{stop}", progress=lambda _: time.sleep(0.03))
    rows = rows_of(found, topic)
    values = {key: value for _, _, _, key, value, _ in rows if key is not None}
    assert found.complete
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert found.rows < 600, "nothing was compacted"
    lacking = {key for key, value in last.items() if values.get(key) != value}
    assert lacking <= {b"k%d" % n for n in range(20)}
    assert not lacking or lag_ms == "0"
    found.verify(deep=True)


def segments(broker: Connection, topic: str, old: int, new: int) -> None:
    """Segments of 10 records each: old ones, whose times are long past, and new ones."""
    now_ms = time.time_ns() // 1_000_000
    for number in range(old + new):
        timestamp = 1_000_000 + number * 1000 if number < old else now_ms + number * 1000
        produce(broker, topic, [Sent(b"x" * 1000, timestamp=timestamp)] * 10, codec="none")


@pytest.mark.parametrize("allow_partial", [False, True])
def test_records_whose_retention_ends_while_they_are_frozen_are_an_error_or_named_as_missing(
    tidy_client: Client,
    tidy_broker: Connection,
    topic: str,
    freeze: Callable[..., Snapshot],
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    allow_partial: bool,
) -> None:
    monkeypatch.setattr(copying, "FETCH_BYTES", 1)
    monkeypatch.setattr(copying, "BUFFER_BYTES", 1)
    create_topic(tidy_client, topic, partitions=1, config={**KEEP_EVERYTHING, "segment.ms": "50"})
    segments(tidy_broker, topic, 25, 5)
    expired: list[bool] = []

    def expire(progress: Progress) -> None:
        if progress.rows > 0 and not expired:
            expired.append(True)
            set_config(tidy_broker, topic, retention_ms="3600000")
            wait_for(lambda: bounds(tidy_client, topic)[0].log_start == 250, "expire anything")

    def frozen() -> Snapshot:
        return freeze("x", f"{topic}@0..300", progress=expire, allow_partial=allow_partial)

    if not allow_partial:
        with pytest.raises(OffsetOutOfRange, match="use --from 250"):
            frozen()
        assert not (home.path / "manifests").exists()
        assert not (home.path / "refs").exists()
        assert expired
        return
    found = frozen()
    (part,) = found.streams[0].partitions
    ((lost, back),) = part.missing
    offsets = found.scan(topic).collect()["offset"].to_list()
    assert not found.complete
    assert 0 < lost < back == 250
    assert offsets == [*range(lost), *range(back, 300)]
    assert oracle.recomputed_id(home.path, found.id) == found.id


def test_records_whose_retention_ended_after_the_freeze_stay_in_the_snapshot_and_are_built_upon(
    tidy_client: Client,
    tidy_broker: Connection,
    topic: str,
    freeze: Callable[..., Snapshot],
    tmp_path: Path,
) -> None:
    create_topic(tidy_client, topic, partitions=1, config={**KEEP_EVERYTHING, "segment.ms": "50"})
    segments(tidy_broker, topic, 3, 2)
    before = freeze("before")
    set_config(tidy_broker, topic, retention_ms="3600000")
    wait_for(lambda: bounds(tidy_client, topic)[0].log_start == 30, "expire anything")
    assert before.rows == 50
    before.verify(deep=True)
    assert len(rows_of(before, topic)) == 50
    with pytest.raises(OffsetOutOfRange, match="the broker keeps 30 onward"):
        freeze("whole", f"{topic}@0..50")
    produce(tidy_broker, topic, [Sent(b"new", timestamp=int(time.time() * 1000))] * 5)
    after = freeze("after", at=Home(tmp_path / "elsewhere"))
    assert rows_of(after, topic) == consume(tidy_broker, topic, 0, 30, 55)
