"""Put a topic of a snapshot back into Kafka: the same records in a new topic, checked. Changes no snapshot.

1. hold the target's name, and the snapshot's files
2. look at the target: make the topic; or go on where an earlier restore of the same was cut off; or refuse
3. keep a record of what is begun, before the first row goes out
4. write the rows that are missing, partition by partition, in order
5. read the whole topic back: its payload digests must be the snapshot's
6. keep the translation table from old to new offsets, then the record that says done

Key, value, headers and event time are as they were, in the same partition and order. Offsets count from 0 without the
gaps. A time that the broker had given (LogAppendTime) comes back as the record's own (CreateTime).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlstream.broker.client import Client, TopicInfo
from mlstream.errors import TopicChanged, TopicExists, UnknownTopic, UsageError
from mlstream.snapshots.locks import locked
from mlstream.snapshots.manifest import StreamContent
from mlstream.snapshots.restore_check import check
from mlstream.snapshots.restore_record import (
    Restored,
    RestoredPartition,
    place_of,
    read_record,
    write_record,
    write_translation,
)
from mlstream.snapshots.restore_target import prepare
from mlstream.snapshots.store import Store
from mlstream.snapshots.stored_rows import stored_rows
from mlstream.streams.write import StreamWriter, check_codec
from mlstream.wire.columns import Longs

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

AT_ONCE = 8  # partitions that are written side by side: each has one batch under way, and some rows wait in each


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a restore is: records written and acknowledged, or read back and compared."""

    step: Literal["writing", "checking"]
    rows: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a restore came to. `written` records went out now; the others were there from an earlier, cut-off call."""

    restored: Restored
    written: int


def restore(
    client: Client,
    snapshot: Snapshot,
    topic: str,
    *,
    source: str | None = None,
    partitions: int | None = None,
    codec: str = "zstd",
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Write the records of one topic of a snapshot into a new topic, and check that they are there.

    The topic is made with settings that keep old event times. Called again after it was cut off, it goes on; called
    again when it was done, it checks once more and writes nothing.

    Args:
        topic: the new topic. One that exists must be empty, or be what an earlier call left.
        source: which topic of the snapshot; not needed when there is only one.
        partitions: how many the new topic has; as many as needed when None (the highest number in the snapshot + 1).
        codec: none, gzip, snappy, lz4 or zstd.

    Raises:
        UsageError: the snapshot has several topics and none is named; too few partitions; an unknown codec.
        UnknownTopic: the snapshot does not hold `source`.
        TopicExists: the topic holds other records, or its settings would lose some.
        IntegrityError: what was read back is not what the snapshot holds, or the snapshot is damaged.
        BrokerError, StoreError: the cluster or the store cannot be used.
    """
    check_codec(codec)
    stream = choose_stream(snapshot, source)
    store = snapshot.store
    began = time.monotonic()
    place = place_of(store, snapshot.id, (stream.cluster_id, stream.topic), (client.cluster_id, topic))
    # 1. hold the target's name, and the snapshot's files
    with (
        _claim(store, client.cluster_id, topic),
        store.staging() as staged,
        store.in_use(snapshot.id, f"restoring it to {topic}"),
    ):
        store.obtain_all(
            {piece.object for part in stream.partitions for piece in snapshot.pieces(stream.topic, part.partition)}
        )
        # 2. look at the target
        target, first = prepare(client, snapshot, stream, topic, partitions=partitions, earlier=read_record(place))
        # 3. keep a record of what is begun
        record = _record(snapshot, stream, client.cluster_id, target, place)
        write_record(store, place, record, staged=staged)
        # 4. write
        written = _write(client, snapshot, stream, target, first, codec=codec, progress=progress)
        # 5. read back
        check(client, snapshot, stream, target, progress=_checking(progress, stream.rows))
        # 6. keep the translation table, then the record
        offsets = ((part.partition, _offsets(snapshot, stream, part.partition)) for part in stream.partitions)
        write_translation(store, record.table, offsets, staged=staged)
        record = record.finished(time.monotonic() - began)
        write_record(store, place, record, staged=staged)
    return Outcome(record, written)


def choose_stream(snapshot: Snapshot, topic: str | None) -> StreamContent:
    """The topic of a snapshot that is meant.

    Raises:
        UsageError: none is named, and there are several.
        UnknownTopic: it holds no such topic, or none at all.
    """
    if topic is not None:
        return snapshot.stream(topic)
    if not snapshot.streams:
        raise UnknownTopic(
            f"snapshot {snapshot.name or snapshot.id[:12]} holds no topic",
            hint="restore puts topics back; files and tables come out with `mlstream snapshot export`",
        )
    if len(snapshot.streams) > 1:
        raise UsageError(
            f"snapshot {snapshot.name or snapshot.id[:12]} holds {len(snapshot.streams)} topics",
            hint=f"say which one: --from-topic {snapshot.streams[0].topic}",
        )
    return snapshot.streams[0]


@contextmanager
def _claim(store: Store, cluster_id: str, topic: str) -> Iterator[None]:
    """Hold a target against other processes of this store; a process that dies lets go of it."""
    # No snapshot's name holds a '~'.
    name = f"{place_of(store, '', ('', ''), (cluster_id, topic)).stem}~restore.lock"
    busy = TopicExists(
        f"topic {topic}: another process is restoring into it", hint="wait for it, or choose another name"
    )
    with locked(store.path / "tmp" / "names" / name, busy=busy):
        yield


def _record(snapshot: Snapshot, stream: StreamContent, cluster_id: str, target: TopicInfo, place: Path) -> Restored:
    return Restored(
        snapshot_id=snapshot.id,
        source_cluster_id=stream.cluster_id,
        source_topic=stream.topic,
        cluster_id=cluster_id,
        topic=target.name,
        topic_id=target.topic_id,
        partitions=tuple(RestoredPartition(p.partition, p.rows, p.payload_digest) for p in stream.partitions),
        done=False,
        started_at_ms=time.time_ns() // 1_000_000,
        seconds=0.0,
        table=place.with_suffix(".parquet"),
    )


def _write(
    client: Client,
    snapshot: Snapshot,
    stream: StreamContent,
    target: TopicInfo,
    first: dict[int, int],
    *,
    codec: str,
    progress: Callable[[Progress], None] | None,
) -> int:
    """Write the rows from `first` on, a few partitions side by side; how many."""
    there = sum(first.values())
    left = [part.partition for part in stream.partitions if first.get(part.partition, 0) < part.rows]
    if not left:
        return 0

    def tell(writer: StreamWriter) -> None:
        if progress is not None:
            progress(Progress("writing", there + writer.rows, stream.rows))

    with StreamWriter(client, target.name, codec=codec) as writer:
        if writer.topic.topic_id != target.topic_id:
            raise TopicChanged(f"topic {target.name}: it was deleted and made again", hint="restore again")
        for start in range(0, len(left), AT_ONCE):
            wave = deque(
                (number, stored_rows(snapshot, stream.topic, number, start=first.get(number, 0)))
                for number in left[start : start + AT_ONCE]
            )
            while wave:
                number, rows = wave.popleft()
                batch = next(rows, None)
                if batch is not None:
                    writer.write(number, batch)
                    wave.append((number, rows))
                    tell(writer)
            # Rows that do not fill a batch wait in each partition: not in a thousand of them.
            writer.flush()
            tell(writer)
        return writer.rows


def _checking(progress: Callable[[Progress], None] | None, total: int) -> Callable[[int], None] | None:
    if progress is None:
        return None
    return lambda rows: progress(Progress("checking", rows, total))


def _offsets(snapshot: Snapshot, stream: StreamContent, partition: int) -> Iterator[Longs]:
    for rows in stored_rows(snapshot, stream.topic, partition, columns=("offset",)):
        yield rows.column("offset").to_numpy()
