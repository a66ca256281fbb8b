"""Freeze ranges of topics: the public `snapshot`, and the steps that it takes. Prints nothing.

1. claim the name
2. the cut: fix the ranges, the topics' ids and what the broker keeps
3. refuse a name that stands for other ranges, before anything is copied
4. plan what the store has already
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
from mlstream.broker.admin import topic_config
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.offsets import Bounds, bounds, resolve
from mlstream.errors import (
    BrokerRefused,
    IntegrityError,
    NameTaken,
    OffsetOutOfRange,
    TopicChanged,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from mlstream.home import Home, find_home
from mlstream.naming import check_snapshot_name
from mlstream.ranges import PartitionRange, Position, TopicSelection, parse_position, parse_topic
from mlstream.snapshots.copying import Copied, Progress, changed, copy
from mlstream.snapshots.cuts import Cut, CutPartition, CutStream, Gaps
from mlstream.snapshots.index import Holding, remember
from mlstream.snapshots.manifest import Content, StreamContent, parse_content, partition_content
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.reuse import Reuse, find_reuse, objects_are_there
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.storage import (
    Storage,
    StoredObject,
    StoredPartition,
    StoredStream,
    check_storage,
    parse_storage,
)
from mlstream.snapshots.store import Publication, Store, publish


@dataclass(frozen=True, slots=True)
class Fixed:
    """The cut: what is frozen, and what the cluster said when it was fixed.

    Attributes:
        ranges: in order of topic and partition.
        topic_ids: topic → id.
        policies: topic → cleanup.policy; None where it could not be read.
        kept: (topic, partition) → the broker's bounds.
    """

    cluster_id: str
    ranges: tuple[PartitionRange, ...]
    topic_ids: dict[str, str]
    policies: dict[str, str | None]
    kept: dict[tuple[str, int], Bounds]
    created_at_ms: int
    cut_ms: int


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
    with store.claim(name), store.staging() as staged:
        # 2. the cut
        fixed = fix(client, selections, allow_partial=allow_partial)
        # 3. refuse a name that stands for other ranges
        taken = _taken(store, name, fixed)
        # 4. plan
        reuse = find_reuse(client, store, fixed.ranges, cluster_id=fixed.cluster_id, topic_ids=reusable_topics(fixed))
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
        doubtful = _ask_again(client, fixed, copies, allow_partial=allow_partial)
        content, storage = _put_together(fixed, copies, reuse.objects, complete=not doubtful)
        cut = _cut(client, name, fixed, copies, seconds=time.monotonic() - began)
        if taken is not None and taken != content.id:
            raise _name_taken(name, taken)
        # 7. publish
        staged_objects = {digest: path for found in copies for digest, path in found.assembled.staged.items()}
        publication = _publication(store, name, content, storage, cut, staged_objects)
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


def fix(client: Client, selections: Sequence[TopicSelection], *, allow_partial: bool = False) -> Fixed:
    """The cut: ranges of offsets, and all that must be known of the cluster at that moment.

    With `allow_partial` a range may start at offsets that have expired.
    """
    created_at_ms = time.time_ns() // 1_000_000
    began = time.monotonic()
    ranges = tuple(sorted(_resolve_expired(client, selections) if allow_partial else resolve(client, selections)))
    topics = sorted({found.topic for found in ranges})
    kept = {
        (topic, part): found
        for topic in topics
        for part, found in bounds(client, topic, [r.partition for r in ranges if r.topic == topic]).items()
    }
    topic_ids = {topic: client.topic(topic).topic_id for topic in topics}
    cut_ms = round((time.monotonic() - began) * 1000)
    policies = {topic: _policy(client, topic) for topic in topics}
    return Fixed(client.cluster_id, ranges, topic_ids, policies, kept, created_at_ms, cut_ms)


def reusable_topics(fixed: Fixed) -> dict[str, str]:
    """Topics whose records never change once they are there, and their ids."""
    return {
        topic: topic_id
        for topic, topic_id in fixed.topic_ids.items()
        if topic_id and fixed.policies[topic] is not None and "compact" not in str(fixed.policies[topic])
    }


def _resolve_expired(client: Client, selections: Sequence[TopicSelection]) -> list[PartitionRange]:
    """`resolve`, where offsets that have expired may be asked for: they are in the range, and copying finds them gone."""
    ranges: list[PartitionRange] = []
    for asked in selections:
        offset = asked.start.offset
        kept = {} if offset is None else bounds(client, asked.topic, asked.partitions)
        expired = tuple(part for part, found in kept.items() if offset is not None and offset < found.log_start)
        rest = tuple(part for part in kept if part not in expired)
        if offset is None or not expired:
            ranges += resolve(client, [asked])
            continue
        there = resolve(client, [TopicSelection(asked.topic, expired, stop=asked.stop)])
        ranges += [PartitionRange(asked.topic, r.partition, min(offset, r.stop), r.stop) for r in there]
        if rest:
            ranges += resolve(client, [TopicSelection(asked.topic, rest, asked.start, asked.stop)])
    return ranges


def _policy(client: Client, topic: str) -> str | None:
    try:
        return topic_config(client, topic).get("cleanup.policy")
    except BrokerRefused:  # reading it may be forbidden where reading records is not
        return None


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


def _ask_again(client: Client, fixed: Fixed, copies: Sequence[Copied], *, allow_partial: bool) -> bool:
    """Check that the topics are the same and that nothing expired unseen; True when a partial copy is in doubt."""
    doubtful = any(found.missing for found in copies)
    for topic, topic_id in fixed.topic_ids.items():
        mine = [found for found in copies if found.plan.wanted.topic == topic]
        try:
            if client.topic(topic).topic_id != topic_id:
                raise changed(topic)
            now = bounds(client, topic, [found.plan.wanted.partition for found in mine])
        except (UnknownTopic, UnknownPartition) as exc:
            if not allow_partial:
                raise TopicChanged(
                    f"topic {topic}: it, or a partition of it, was deleted while it was copied",
                    hint="nothing was kept; --allow-partial keeps what had been read",
                    topic=topic,
                ) from exc
            continue
        for found in mine:
            wanted = found.plan.wanted
            log_start = now[wanted.partition].log_start
            # A gap is loss only where the log start has passed it; else it is compaction, an abort or a marker.
            if log_start > wanted.start and _gaps(found).other > 0 and not found.missing:
                if not allow_partial:
                    raise OffsetOutOfRange(
                        f"{wanted.topic}[{wanted.partition}]: records expired while they were copied; "
                        f"the broker keeps {log_start} onward now",
                        hint=f"use --from {log_start}, or --allow-partial",
                        topic=topic,
                        partition=wanted.partition,
                        log_start=log_start,
                    )
                doubtful = True
    return doubtful


def _gaps(found: Copied) -> Gaps:
    wanted, done = found.plan.wanted, found.assembled
    lost = sum(stop - start for start, stop in found.missing)
    fetched = found.fetched_offsets
    return Gaps(
        control=found.control,
        aborted=found.aborted,
        earlier=len(wanted) - fetched - lost - done.reused,
        other=fetched - done.fetched - found.control - found.aborted,
    )


def _put_together(
    fixed: Fixed, copies: Sequence[Copied], known: dict[str, StoredObject], *, complete: bool
) -> tuple[Content, Storage]:
    streams, stored, objects = [], [], dict(known)
    for found in copies:
        objects.update(found.assembled.sizes)
    for topic, topic_id in fixed.topic_ids.items():
        mine = [found for found in copies if found.plan.wanted.topic == topic]
        partitions = [
            partition_content(
                found.plan.wanted.partition,
                found.plan.wanted.start,
                found.plan.wanted.stop,
                cells=[cell.cell for cell in found.assembled.cells],
                groups=found.assembled.groups,
                missing=found.missing,
            )
            for found in mine
        ]
        streams.append(StreamContent(fixed.cluster_id, topic, topic_id, tuple(partitions)))
        stored.append(
            StoredStream(
                fixed.cluster_id,
                topic,
                tuple(StoredPartition(f.plan.wanted.partition, f.assembled.cells, f.assembled.groups) for f in mine),
            )
        )
    used = {piece.object for stream in stored for part in stream.partitions for c in part.cells for piece in c.pieces}
    storage = Storage(tuple(stored), {digest: objects[digest] for digest in sorted(used)})
    return Content(tuple(streams), complete=complete), storage


def _publication(
    store: Store, name: str, content: Content, storage: Storage, cut: Cut, staged: dict[str, Path]
) -> Publication:
    """What to publish. Content that the store holds whole keeps the objects that it has."""
    snapshot_id = content.id
    check_storage(storage, content, snapshot_id)
    document = storage.to_bytes(snapshot_id)
    try:
        before = parse_storage(store.read(store.storage(snapshot_id)), snapshot_id)
        check_storage(before, content, snapshot_id)
        if store.manifest(snapshot_id).exists() and objects_are_there(store, before):
            document, staged = store.read(store.storage(snapshot_id)), {}
    except IntegrityError:
        pass  # not there, or damaged: the new one takes its place
    return Publication(
        snapshot_id=snapshot_id,
        name=name,
        objects=staged,
        manifest=content.to_bytes(),
        storage=document,
        cut=cut.to_bytes(snapshot_id),
        created_at_ms=cut.created_at_ms,
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
                    _gaps(found),
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
