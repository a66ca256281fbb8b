"""Compare two snapshots: which streams belong together, and what differs in each; files; tables. Prints nothing.

Streams belong together when they are the same topic; else when they have the same name (on another cluster, or made
anew), else when all their records are the same, else when they are the only ones left. Records of the same topic, by
its id, are compared by offset, all others by content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from mlstream.snapshots.content import FileContent, SchemaContent, TableContent
from mlstream.snapshots.diff_offsets import compare_offsets
from mlstream.snapshots.diff_rows import Side
from mlstream.snapshots.difference import (
    Difference,
    FileDifference,
    PartitionDifference,
    RecordChange,
    SchemaChange,
    StreamDifference,
    TableDifference,
)
from mlstream.snapshots.manifest import PartitionContent, StreamContent

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

Pair: TypeAlias = "tuple[StreamContent | None, StreamContent | None]"


def diff(old: Snapshot, new: Snapshot, *, limit: int = 20) -> Difference:
    """How two snapshots differ; they may come from different homes.

    Args:
        limit: how many records of each stream, and rows of each table, are given. All are counted.

    Raises:
        IntegrityError: when an object that has to be read is missing or damaged.
    """
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="diff") as pool:
        streams = [_stream(pool, old, new, pair, limit) for pair in _pairs(old.streams, new.streams)]
        tables = _tables(old, new, limit)
    return Difference(
        old.id,
        new.id,
        old.complete,
        new.complete,
        tuple(sorted(streams, key=lambda found: (found.old if found.old is not None else found.new) or "")),
        _files(old.files, new.files),
        tables,
    )


def _pairs(old: Sequence[StreamContent], new: Sequence[StreamContent]) -> list[Pair]:
    """Which streams belong together, by the first rule that fits."""
    mine, theirs = list(old), list(new)
    found: list[Pair] = []
    rules: list[Callable[[StreamContent], Hashable]] = [
        lambda stream: (stream.cluster_id, stream.topic),
        lambda stream: stream.topic,
        _records_of,
    ]
    for rule in rules:
        for stream in list(mine):
            fitting = next((other for other in theirs if rule(other) == rule(stream)), None)
            if fitting is not None:
                found.append((stream, fitting))
                mine.remove(stream)
                theirs.remove(fitting)
    if len(mine) == len(theirs) == 1:
        return [*found, (mine[0], theirs[0])]
    return [*found, *((stream, None) for stream in mine), *((None, stream) for stream in theirs)]


def _records_of(stream: StreamContent) -> Hashable:
    """What two streams with the same records have in common; streams without records have nothing."""
    parts = tuple((part.partition, part.payload_digest) for part in stream.partitions if part.rows > 0)
    return parts if parts else object()


def _stream(pool: ThreadPoolExecutor, old: Snapshot, new: Snapshot, pair: Pair, limit: int) -> StreamDifference:
    left, right = pair
    if left is None or right is None:
        alone = right if left is None else left
        parts = tuple(_alone(part, is_old=right is None) for part in alone.partitions) if alone is not None else ()
        return StreamDifference(
            None if left is None else left.topic, None if right is None else right.topic, None, parts
        )
    same_topic = (left.cluster_id, left.topic, left.topic_id) == (right.cluster_id, right.topic, right.topic_id)
    compare = compare_offsets if same_topic else _by_content
    mine = {part.partition: part for part in left.partitions}
    theirs = {part.partition: part for part in right.partitions}

    def compared(number: int) -> tuple[PartitionDifference, list[RecordChange]]:
        if number not in theirs:
            return _alone(mine[number], is_old=True), []
        if number not in mine:
            return _alone(theirs[number], is_old=False), []
        return compare(_side(old, left, mine[number]), _side(new, right, theirs[number]), limit=limit)

    results = list(pool.map(compared, sorted(mine.keys() | theirs.keys())))
    records = [record for _, found in results for record in found]
    return StreamDifference(
        left.topic,
        right.topic,
        "offset" if same_topic else "content",
        tuple(part for part, _ in results),
        tuple(sorted(records, key=_place)[:limit]),
        _schemas(left.schemas, right.schemas),
    )


def _by_content(old: Side, new: Side, *, limit: int) -> tuple[PartitionDifference, list[RecordChange]]:
    # Compiled kernels, which comparing by offset does not need.
    from mlstream.snapshots.diff_content import compare_content

    return compare_content(old, new, limit=limit)


def _side(snapshot: Snapshot, stream: StreamContent, part: PartitionContent) -> Side:
    for content, stored in zip(snapshot.streams, snapshot.storage.streams, strict=True):
        if content is stream:
            found = next(found for found in stored.partitions if found.partition == part.partition)
            return Side(snapshot, part, found)
    raise ValueError(f"{stream.topic}: not a stream of snapshot {snapshot.id[:12]}")


def _place(record: RecordChange) -> tuple[int, int]:
    shown = record.old if record.old is not None else record.new
    return record.partition, 0 if shown is None else shown.offset


def _alone(part: PartitionContent, *, is_old: bool) -> PartitionDifference:
    """A partition that one snapshot holds only."""
    span = (part.start, part.stop)
    if is_old:
        return PartitionDifference(part.partition, span, None, part.rows, 0, None, old_only=part.rows)
    return PartitionDifference(part.partition, None, span, 0, part.rows, None, new_only=part.rows)


def _schemas(old: Sequence[SchemaContent], new: Sequence[SchemaContent]) -> tuple[SchemaChange, ...]:
    mine = {schema.id: schema for schema in old}
    theirs = {schema.id: schema for schema in new}
    found = []
    for number in sorted(mine.keys() | theirs.keys()):
        if number not in theirs:
            found.append(SchemaChange(number, "removed"))
        elif number not in mine:
            found.append(SchemaChange(number, "added"))
        elif mine[number] != theirs[number]:
            found.append(SchemaChange(number, "changed"))
    return tuple(found)


def _files(old: Sequence[FileContent], new: Sequence[FileContent]) -> tuple[FileDifference, ...]:
    mine = {file.path: file for file in old}
    theirs = {file.path: file for file in new}
    return tuple(
        FileDifference(path, mine.get(path), theirs.get(path))
        for path in sorted(mine.keys() | theirs.keys())
        if mine.get(path) != theirs.get(path)
    )


def _tables(old: Snapshot, new: Snapshot, limit: int) -> tuple[TableDifference, ...]:
    mine = {table.name: table for table in old.tables}
    theirs = {table.name: table for table in new.tables}
    found = []
    for name in sorted(mine.keys() | theirs.keys()):
        left, right = mine.get(name), theirs.get(name)
        if left is None or right is None:
            found.append(_table_alone(name, left, right))
        else:
            found.append(_table(old, left, new, right, limit))
    return tuple(found)


def _table(old: Snapshot, left: TableContent, new: Snapshot, right: TableContent, limit: int) -> TableDifference:
    # Compiled kernels, which snapshots without tables do not need.
    from mlstream.snapshots.diff_tables import TableSide, compare_tables

    sides = [
        TableSide(snapshot, table, next(found for found in snapshot.storage.tables if found.name == table.name))
        for snapshot, table in ((old, left), (new, right))
    ]
    return compare_tables(*sides, limit=limit)


def _table_alone(name: str, old: TableContent | None, new: TableContent | None) -> TableDifference:
    there = old if old is not None else new
    key = () if there is None else there.primary_key
    rows = (None if old is None else old.rows, None if new is None else new.rows)
    return TableDifference(name, key, *rows, removed=rows[0] or 0, added=rows[1] or 0)
