"""Freeze ranges of topics: the public `snapshot`, and the steps that it takes. Prints nothing.

1. claim the name
2. the cut: fix the ranges, the topics' ids and what the broker keeps
3. refuse a name that stands for other ranges, before anything is copied
4. plan what the store has already, under a lease
5. copy the rest into a staging folder
6. ask again: the same topics, and nothing expired unseen
7. publish: objects, storage map, cut, manifest, name; then the index
"""

from __future__ import annotations

import getpass
import platform
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlstream import __version__
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.errors import IntegrityError, NameTaken, UsageError
from mlstream.home import Home, find_home
from mlstream.naming import check_snapshot_name
from mlstream.ranges import PartitionRange, Position, TopicSelection, parse_position, parse_topic
from mlstream.snapshots.copying import Copied, Progress, copy
from mlstream.snapshots.cuts import Cut, CutPartition, CutStream
from mlstream.snapshots.fixing import Fixed, ask_again, fix, reusable_topics
from mlstream.snapshots.index import Holding, remember
from mlstream.snapshots.manifest import parse_content
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.reuse import Reuse, find_reuse
from mlstream.snapshots.sealing import publication_of, put_together
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store, publish


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a freeze came to.

    Attributes:
        cut: when, how, and what the broker said.
        existed: the name stood for this very content already.
        fetched, reused: rows from the broker, and rows that the store had.
        written_bytes: what the new objects take.
    """

    snapshot: Snapshot
    cut: Cut
    existed: bool
    fetched: int
    reused: int
    written_bytes: int


def snapshot(
    name: str,
    *,
    topics: Sequence[str | TopicSelection],
    start: str | Position = "earliest",
    stop: str | Position = "latest",
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    allow_partial: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Snapshot:
    """Freeze ranges of topics under a name: an immutable dataset whose id is a digest over every byte of every record.

    Args:
        name: a-z, 0-9, '.', '_' and '-'. If it stands for the same content already, that is fine.
        topics: `"T"`, `"T[0,2-4]"`, `"T[0]@FROM..TO"`, or selections.
        start, stop: for topics that do not say it themselves: an offset, a time (ISO 8601, UTC unless it says
            otherwise), a time ago (`-2h`), `earliest`, `latest` (the last stable offset) or `group:NAME`.
        connection: the cluster; found as `find_connection` says when None.
        home: where snapshots are kept; found as `find_home` says when None.
        allow_partial: keep what can be had where offsets expired or a partition is lost; the snapshot then says
            `complete: false` and what is missing.
        progress: called after each block of records.

    Raises:
        UsageError: a name or a position that is none.
        NameTaken: the name stands for something else.
        UnknownTopic, UnknownPartition, EmptyRange, OffsetOutOfRange: there is nothing to freeze as asked.
        TopicChanged: a topic was deleted or made again meanwhile.
        BrokerUnavailable, StoreError: the cluster or the disk cannot be used.
    """
    home = home if isinstance(home, Home) else find_home(home)
    connection = find_connection(home) if connection is None else connection
    selections = select(topics, start=start, stop=stop)
    check_snapshot_name(name)
    with Client(connection) as client:
        return freeze(client, Store(home), name, selections, allow_partial=allow_partial, progress=progress).snapshot


def select(
    topics: Sequence[str | TopicSelection], *, start: str | Position = "earliest", stop: str | Position = "latest"
) -> list[TopicSelection]:
    """What a user asks for as selections.

    Raises:
        UsageError: no topic, or something that is no topic or position.
    """
    if isinstance(topics, str) or not topics:
        raise UsageError("topics: give a list of topics", hint='for example topics=["ticks"]')
    first = parse_position(start) if isinstance(start, str) else start
    last = parse_position(stop) if isinstance(stop, str) else stop
    return [parse_topic(found, start=first, stop=last) if isinstance(found, str) else found for found in topics]


def freeze(
    client: Client,
    store: Store,
    name: str,
    selections: Sequence[TopicSelection],
    *,
    allow_partial: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Frozen:
    """`snapshot` with the client and the store at hand, and all that is known of the freeze in return."""
    began = time.monotonic()
    check_snapshot_name(name)
    # 1. claim the name
    with store.claim(name), store.staging() as staged, store.lease(f"freezing {name}") as lease:
        # 2. the cut
        fixed = fix(client, selections, allow_partial=allow_partial)
        # 3. refuse a name that stands for other ranges
        taken = _taken(store, name, fixed)
        # 4. plan
        reuse = find_reuse(client, store, fixed, lease)
        plans = [plan_partition(wanted, reuse.known(wanted)) for wanted in fixed.ranges]
        # 5. copy
        copies = copy(
            client,
            plans,
            store=store,
            staged=staged,
            topic_ids=fixed.topic_ids,
            allow_partial=allow_partial,
            progress=progress,
        )
        # 6. ask again
        doubtful = ask_again(client, fixed, copies, allow_partial=allow_partial)
        content, storage = put_together(fixed, copies, reuse.objects, complete=not doubtful)
        cut = _cut(client, name, fixed, copies, seconds=time.monotonic() - began)
        if taken is not None and taken != content.id:
            raise _name_taken(name, taken)
        # 7. publish
        staged_objects = {digest: path for found in copies for digest, path in found.assembled.staged.items()}
        lease.hold(snapshots=[content.id])  # should it be there: held, then looked at
        publication = publication_of(store, name, content, storage, cut, staged_objects)
        publish(store, publication, staged=staged)
        if content.complete:
            _remember(store, content.id, fixed, copies, reuse, staged)
    return Frozen(
        open_snapshot(name, home=store.home),
        cut,
        existed=taken is not None,
        fetched=sum(found.assembled.fetched for found in copies),
        reused=sum(found.assembled.reused for found in copies),
        written_bytes=sum(
            found.assembled.sizes[digest].size_bytes
            for found in copies
            for digest in found.assembled.staged
            if digest in publication.objects
        ),
    )


def _taken(store: Store, name: str, fixed: Fixed) -> str | None:
    """The id that the name stands for, None when it is free; refused when that is of other ranges."""
    if not store.ref(name).exists():
        return None
    snapshot_id = store.id_of(name)
    try:
        content = parse_content(store.read(store.manifest(snapshot_id)), snapshot_id)
    except IntegrityError:
        raise _name_taken(name, snapshot_id) from None
    same = [
        PartitionRange(stream.topic, part.partition, part.start, part.stop)
        for stream in content.streams
        for part in stream.partitions
        if stream.cluster_id == fixed.cluster_id and stream.topic_id == fixed.topic_ids.get(stream.topic)
    ]
    if sorted(same) != list(fixed.ranges):
        raise _name_taken(name, snapshot_id)
    return snapshot_id


def _name_taken(name: str, snapshot_id: str) -> NameTaken:
    return NameTaken(
        f"snapshot {name!r} exists already and holds something else (id {snapshot_id[:12]})",
        hint=f"choose another name; `mlstream snapshot show {name}` says what it holds",
        name=name,
        snapshot_id=snapshot_id,
    )


def _cut(client: Client, name: str, fixed: Fixed, copies: Sequence[Copied], *, seconds: float) -> Cut:
    def partitions(topic: str) -> Iterable[CutPartition]:
        for found in copies:
            wanted = found.plan.wanted
            if wanted.topic == topic:
                kept = fixed.kept[topic, wanted.partition]
                yield CutPartition(
                    wanted.partition,
                    kept.log_start,
                    kept.last_stable,
                    kept.high_watermark,
                    found.leader_epochs,
                    found.gaps,
                    fetched=found.assembled.fetched,
                    reused=found.assembled.reused,
                )

    return Cut(
        name=name,
        created_at_ms=fixed.created_at_ms,
        cut_ms=fixed.cut_ms,
        seconds=seconds,
        user=getpass.getuser(),
        host=socket.gethostname(),
        source=client.connection.bootstrap_servers,
        tools={"mlstream": __version__, "pyarrow": pa.__version__, "python": platform.python_version()},
        streams=tuple(
            CutStream(fixed.cluster_id, topic, fixed.policies[topic], tuple(partitions(topic)))
            for topic in fixed.topic_ids
        ),
    )


def _remember(
    store: Store, snapshot_id: str, fixed: Fixed, copies: Sequence[Copied], reuse: Reuse, staged: Path
) -> None:
    """Enter the partitions into the index, with the last record's leader epoch where that is known."""
    for topic, topic_id in reusable_topics(fixed).items():
        for found in copies:
            wanted = found.plan.wanted
            if wanted.topic != topic or not fixed.cluster_id:
                continue
            ends = [
                (use.holding.last_offset, use.holding.leader_epoch)
                for use in reuse.usable.get((topic, wanted.partition), ())
                if use.holding.last_offset < wanted.stop
            ]
            last = found.assembled.last_offset
            epochs = [epoch for epoch, first in found.leader_epochs if last is not None and first <= last]
            if last is not None and epochs:
                ends.append((last, epochs[-1]))
            if ends and max(ends)[1] >= 0:
                offset, epoch = max(ends)
                entry = Holding(snapshot_id, wanted.start, offset, epoch)
                remember(store, fixed.cluster_id, topic_id, wanted.partition, entry, staged=staged)
