"""Copied partitions → the documents of a snapshot, ready to be published. Writes nothing."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from mlstream import __version__
from mlstream.broker.client import Client
from mlstream.errors import IntegrityError
from mlstream.snapshots.content import SchemaContent
from mlstream.snapshots.copying import Copied
from mlstream.snapshots.cuts import Cut, CutPartition, CutStream
from mlstream.snapshots.fixing import Fixed
from mlstream.snapshots.gather import NOTHING, Gathered
from mlstream.snapshots.manifest import Content, StreamContent, partition_content
from mlstream.snapshots.publishing import Publication
from mlstream.snapshots.reuse import objects_are_there
from mlstream.snapshots.storage import (
    Storage,
    StoredObject,
    StoredPartition,
    StoredStream,
    check_storage,
    parse_storage,
)
from mlstream.snapshots.store import Store


def put_together(
    fixed: Fixed,
    copies: Sequence[Copied],
    known: Mapping[str, StoredObject],
    *,
    complete: bool,
    gathered: Gathered = NOTHING,
    schemas: Mapping[str, tuple[SchemaContent, ...]] = MappingProxyType({}),
) -> tuple[Content, Storage]:
    """Content and storage map of what was copied.

    Args:
        known: the objects of earlier snapshots that the copies may use.
        complete: whether everything that was asked for is there.
        gathered: what is in it beside topics.
        schemas: topic → the schemas that its records name.
    """
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
        streams.append(
            StreamContent(fixed.cluster_id, topic, topic_id, tuple(partitions), schemas=schemas.get(topic, ()))
        )
        stored.append(
            StoredStream(
                fixed.cluster_id,
                topic,
                tuple(StoredPartition(f.plan.wanted.partition, f.assembled.cells, f.assembled.groups) for f in mine),
            )
        )
    used = {piece.object for stream in stored for part in stream.partitions for c in part.cells for piece in c.pieces}
    all_objects = {**{digest: objects[digest] for digest in used}, **gathered.objects}
    storage = Storage(tuple(stored), dict(sorted(all_objects.items())), gathered.stored)
    return Content(tuple(streams), complete, gathered.files, gathered.tables), storage


def cut_of(
    client: Client | None,
    name: str,
    fixed: Fixed,
    copies: Sequence[Copied],
    gathered: Gathered,
    *,
    seconds: float,
) -> Cut:
    """The record of a freeze: when, by whom, what the brokers and databases said, where files were."""

    def partitions(topic: str) -> Iterator[CutPartition]:
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
        user=_user(),
        host=socket.gethostname(),
        source=() if client is None else client.connection.bootstrap_servers,
        tools={"mlstream": __version__, "pyarrow": pa.__version__, "python": platform.python_version()},
        streams=tuple(
            CutStream(fixed.cluster_id, topic, fixed.policies[topic], tuple(partitions(topic)))
            for topic in fixed.topic_ids
        ),
        databases=gathered.cut_databases,
        files=gathered.cut_files,
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number that has no name
        return str(os.getuid())


def publication_of(
    store: Store, name: str, content: Content, storage: Storage, cut: Cut, staged: dict[str, Path]
) -> Publication:
    """What to publish. Content that the store holds whole keeps the objects that it has.

    Raises:
        IntegrityError: cells and digests do not add up; nothing wrong is ever published.
    """
    snapshot_id = content.id
    check_storage(storage, content, snapshot_id)
    document = storage.to_bytes(snapshot_id)
    needed = storage
    try:
        before = parse_storage(store.read(store.storage(snapshot_id)), snapshot_id)
        check_storage(before, content, snapshot_id)
        if store.manifest(snapshot_id).exists() and objects_are_there(store, before):
            document, staged, needed = store.read(store.storage(snapshot_id)), {}, before
    except IntegrityError:
        pass  # not there, or damaged: the new one takes its place
    return Publication(
        snapshot_id=snapshot_id,
        name=name,
        objects=staged,
        sizes={digest: found.size_bytes for digest, found in needed.objects.items()},
        manifest=content.to_bytes(),
        storage=document,
        cut=cut.to_bytes(snapshot_id),
        created_at_ms=cut.created_at_ms,
    )
