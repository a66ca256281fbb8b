"""Where a snapshot's rows are: cells → rows of objects, as plain values and as JSON. Opens no file.

The storage map is not covered by the id: the same content may be stored in other objects elsewhere. It is proven by
the manifest instead: the cells must add up to each partition's root, and an object's name is the digest of its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlstream.errors import IntegrityError
from mlstream.snapshots.content import check_digest, check_int64
from mlstream.snapshots.manifest import (
    CELL_OFFSETS,
    FORMAT,
    GROUP_ROWS,
    Cell,
    Content,
    PartitionContent,
    int_or_none,
    partition_content,
    payload_digest_of,
    root_of,
    text_or_none,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """`rows` successive rows of an object, from row number `row` on."""

    object: str
    row: int
    rows: int


@dataclass(frozen=True, slots=True)
class StoredCell:
    """A cell and the pieces that hold its rows, in order."""

    cell: Cell
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class StoredPartition:
    """One partition's cells in order, and the payload digests of its groups of 65,536 rows."""

    partition: int
    cells: tuple[StoredCell, ...]
    groups: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StoredStream:
    """One topic's partitions, in the order of the manifest."""

    cluster_id: str
    topic: str
    partitions: tuple[StoredPartition, ...]


@dataclass(frozen=True, slots=True)
class StoredTable:
    """The Parquet objects that hold a table's rows, in order. A file has no such entry: its digest names its object."""

    name: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's size, and how many rows are in it (0 for a file)."""

    size_bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage map of one snapshot: streams and tables in the manifest's order, and every object that is used."""

    streams: tuple[StoredStream, ...]
    objects: Mapping[str, StoredObject]
    tables: tuple[StoredTable, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What the objects take, each counted once."""
        return sum(found.size_bytes for found in self.objects.values())

    def to_bytes(self, snapshot_id: str) -> bytes:
        """The JSON of `storage/ID.json`."""
        document = {
            "format": FORMAT,
            "snapshot": snapshot_id,
            "objects": {
                name: {"size_bytes": str(found.size_bytes), "rows": str(found.rows)}
                for name, found in self.objects.items()
            },
            "streams": [
                {
                    "cluster_id": stream.cluster_id,
                    "topic": stream.topic,
                    "partitions": [_partition_json(part) for part in stream.partitions],
                }
                for stream in self.streams
            ],
            "tables": [
                {"name": table.name, "pieces": [_piece_json(piece) for piece in table.pieces]} for table in self.tables
            ],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse_storage(data: bytes, snapshot_id: str) -> Storage:
    """The storage map in the bytes of `storage/ID.json`.

    Raises:
        IntegrityError: when it is cut off, of another snapshot or of another format.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT or document["snapshot"] != snapshot_id:
            raise ValueError(f"it is of format {document['format']} and snapshot {document['snapshot'][:12]}")
        return Storage(
            tuple(
                StoredStream(found["cluster_id"], found["topic"], tuple(map(_partition_of, found["partitions"])))
                for found in document["streams"]
            ),
            {
                check_digest(name): StoredObject(check_int64(found["size_bytes"]), check_int64(found["rows"]))
                for name, found in document["objects"].items()
            },
            tuple(
                StoredTable(found["name"], tuple(_piece_of(piece) for piece in found["pieces"]))
                for found in document.get("tables", ())  # the first releases had none
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise IntegrityError(
            f"storage/{snapshot_id}.json: not a storage map: {exc}",
            hint="the file was damaged; restore it from a copy, or freeze again",
            snapshot_id=snapshot_id,
        ) from exc


@dataclass(frozen=True, slots=True)
class Misfit:
    """Something in which a storage map is not what its manifest covers: which part, and what is wrong with it."""

    part: str
    problem: str


def check_storage(storage: Storage, content: Content, snapshot_id: str) -> None:
    """Check that the cells and groups of a storage map are those that the manifest's digests cover, all of them.

    Raises:
        IntegrityError: naming the first part that does not add up.
    """
    for found in misfits(storage, content):
        part = f"{found.part}: " if found.part else ""
        raise IntegrityError(f"storage/{snapshot_id}.json: {part}{found.problem}", snapshot_id=snapshot_id)


def misfits(storage: Storage, content: Content) -> Iterator[Misfit]:
    """Every part of a storage map that does not add up to the manifest, or that the manifest lies about."""
    if [(s.cluster_id, s.topic) for s in content.streams] != [(s.cluster_id, s.topic) for s in storage.streams]:
        yield Misfit("", "it does not list the manifest's streams")
    else:
        for stream, stored in zip(content.streams, storage.streams, strict=True):
            if [part.partition for part in stream.partitions] != [part.partition for part in stored.partitions]:
                yield Misfit(stream.topic, "it does not list the manifest's partitions")
                continue
            for part, found in zip(stream.partitions, stored.partitions, strict=True):
                where = f"{stream.topic}[{part.partition}]"
                yield from (Misfit(where, problem) for problem in _partition_misfits(part, found, storage))
    if [table.name for table in content.tables] != [table.name for table in storage.tables]:
        yield Misfit("", "it does not list the manifest's tables")
    else:
        for table, kept in zip(content.tables, storage.tables, strict=True):
            if sum(piece.rows for piece in kept.pieces) != table.rows or not _held(kept.pieces, storage):
                yield Misfit(f"table {table.name}", "it wants rows that no object has")
    for file in content.files:
        known = storage.objects.get(file.sha256)
        if known is None or known.size_bytes != file.size_bytes:
            yield Misfit(f"file {file.path}", "its object is not listed with its size")


def _partition_misfits(part: PartitionContent, found: StoredPartition, storage: Storage) -> Iterator[str]:
    cells = [cell.cell for cell in found.cells]
    if root_of(cells) != part.root or sum(cell.rows for cell in cells) != part.rows:
        yield "its cells are not those of the manifest"
        return  # what they say of the rows proves nothing
    if payload_digest_of(found.groups) != part.payload_digest or len(found.groups) != -(-part.rows // GROUP_ROWS):
        yield "its groups are not those of the manifest"
    before = -1
    for cell in cells:
        low, high = cell.number * CELL_OFFSETS, (cell.number + 1) * CELL_OFFSETS
        inside = (max(low, part.start), min(high, part.stop)) == (cell.start, cell.stop)
        if not inside or cell.number <= before or not 0 < cell.rows <= cell.stop - cell.start:
            yield f"cell {cell.number} is not a cell of the range, or stands in the wrong place"
        before = cell.number
    if any(cell.timestamp_types not in (1, 2, 3) for cell in cells):
        yield "a cell has no type of timestamp"
        return
    # The manifest covers these; a deep check finds out whether the cells' own are those of their rows.
    said = partition_content(part.partition, part.start, part.stop, cells=cells, groups=found.groups)
    if (said.min_timestamp_ms, said.max_timestamp_ms) != (part.min_timestamp_ms, part.max_timestamp_ms):
        yield "its cells have another range of time than the manifest says"
    if said.timestamp_type != part.timestamp_type:
        yield f"its cells have timestamps of type {said.timestamp_type}, the manifest says {part.timestamp_type}"
    for kept in found.cells:
        if sum(piece.rows for piece in kept.pieces) != kept.cell.rows:
            yield f"cell {kept.cell.number} is not covered by its pieces"
        elif not _held(kept.pieces, storage):
            yield f"cell {kept.cell.number} wants rows that no object has"


def _held(pieces: tuple[Piece, ...], storage: Storage) -> bool:
    """Whether the objects have all rows that the pieces want."""
    for piece in pieces:
        known = storage.objects.get(piece.object)
        if known is None or piece.row < 0 or piece.rows < 0 or piece.row + piece.rows > known.rows:
            return False
    return True


def _piece_json(piece: Piece) -> dict[str, str]:
    return {"object": piece.object, "row": str(piece.row), "rows": str(piece.rows)}


def _piece_of(found: dict[str, Any]) -> Piece:
    return Piece(check_digest(found["object"]), check_int64(found["row"]), check_int64(found["rows"]))


def _partition_json(part: StoredPartition) -> dict[str, Any]:
    return {
        "partition": part.partition,
        "groups": [group.hex() for group in part.groups],
        "cells": [
            {
                "cell": str(found.cell.number),
                "start": str(found.cell.start),
                "stop": str(found.cell.stop),
                "rows": str(found.cell.rows),
                "positions": found.cell.positions.hex(),
                "payloads": found.cell.payloads.hex(),
                "min_timestamp_ms": text_or_none(found.cell.min_timestamp_ms),
                "max_timestamp_ms": text_or_none(found.cell.max_timestamp_ms),
                "timestamp_types": found.cell.timestamp_types,
                "pieces": [_piece_json(piece) for piece in found.pieces],
            }
            for found in part.cells
        ],
    }


def _partition_of(found: dict[str, Any]) -> StoredPartition:
    return StoredPartition(
        found["partition"],
        tuple(
            StoredCell(
                Cell(
                    start=check_int64(cell["start"]),
                    stop=check_int64(cell["stop"]),
                    rows=check_int64(cell["rows"]),
                    positions=bytes.fromhex(cell["positions"]),
                    payloads=bytes.fromhex(cell["payloads"]),
                    min_timestamp_ms=int_or_none(cell["min_timestamp_ms"]),
                    max_timestamp_ms=int_or_none(cell["max_timestamp_ms"]),
                    timestamp_types=cell["timestamp_types"],
                ),
                tuple(_piece_of(piece) for piece in cell["pieces"]),
            )
            for cell in found["cells"]
        ),
        tuple(bytes.fromhex(group) for group in found["groups"]),
    )
