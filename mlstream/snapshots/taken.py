"""Whether a name is free, or stands for the very thing that is being frozen. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from mlstream.databases import TableRequest
from mlstream.errors import IntegrityError, NameTaken
from mlstream.ranges import PartitionRange
from mlstream.snapshots.files import ListedFile
from mlstream.snapshots.fixing import Fixed
from mlstream.snapshots.manifest import Content, parse_content
from mlstream.snapshots.store import Store


def check_free(
    store: Store, name: str, fixed: Fixed, files: Sequence[ListedFile], tables: Sequence[TableRequest]
) -> Content | None:
    """What the name stands for already, if that may be what is being frozen; None when it is free.

    Raises:
        NameTaken: it stands for other ranges, for files of other paths or sizes, or tables of other names or queries.
    """
    if not store.ref(name).exists():
        return None
    snapshot_id = store.id_of(name)
    try:
        content = parse_content(store.read(store.manifest(snapshot_id)), snapshot_id)
    except IntegrityError:
        raise name_taken(name, snapshot_id) from None
    same = [
        PartitionRange(stream.topic, part.partition, part.start, part.stop)
        for stream in content.streams
        for part in stream.partitions
        if stream.cluster_id == fixed.cluster_id and stream.topic_id == fixed.topic_ids.get(stream.topic)
    ]
    others = len(content.streams) - len(fixed.topic_ids)
    asked = sorted((table.name, table.query) for table in tables)
    if (
        others
        or sorted(same) != list(fixed.ranges)
        or [(file.path, file.size_bytes) for file in content.files] != [(file.path, file.size_bytes) for file in files]
        or [(table.name, table.query) for table in content.tables] != asked
    ):
        raise name_taken(name, snapshot_id)
    return content


def name_taken(name: str, snapshot_id: str) -> NameTaken:
    """The error for a name that stands for something else."""
    return NameTaken(
        f"snapshot {name!r} exists already and holds something else (id {snapshot_id[:12]})",
        hint=f"choose another name; `mlstream snapshot show {name}` says what it holds",
        name=name,
        snapshot_id=snapshot_id,
    )
