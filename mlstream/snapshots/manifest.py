"""What a snapshot is, as plain values and as the JSON of its documents. Opens no file; the format is docs/format.md.

`content` is what the id covers: RFC 8785 JSON, every int64 as a decimal string. `manifests/ID.json` is exactly the
hashed bytes. Where the rows are stored is in storage.py; how and when they were cut is in cuts.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import rfc8785

from mlstream.errors import IntegrityError
from mlstream.snapshots.content import FileContent, SchemaContent, TableContent, check_digest, check_int64

FORMAT = 1
CELL_OFFSETS = 1 << 16  # a format constant: cell k of a partition is the offsets [k * 2^16, (k + 1) * 2^16)
GROUP_ROWS = 1 << 16  # a format constant: the payload digest covers the rows of a range in groups of so many

TimestampType: TypeAlias = Literal["CreateTime", "LogAppendTime", "mixed"]


@dataclass(frozen=True, slots=True)
class Cell:
    """The rows of one cell that lie in `[start, stop)`, the part of the cell inside the snapshot's range.

    Attributes:
        rows: how many; never 0, a cell without rows is not listed.
        positions: SHA-256 of their positions stream.
        payloads: SHA-256 of their payload stream.
        min_timestamp_ms, max_timestamp_ms: over rows that have a timestamp; None when there is none.
        timestamp_types: 1 if any row has CreateTime, plus 2 if any has LogAppendTime.
    """

    start: int
    stop: int
    rows: int
    positions: bytes
    payloads: bytes
    min_timestamp_ms: int | None
    max_timestamp_ms: int | None
    timestamp_types: int

    @property
    def number(self) -> int:
        """Which cell of the partition it is."""
        return self.start // CELL_OFFSETS

    @property
    def records(self) -> bytes:
        """The records digest: SHA-256 over both streams' digests."""
        return hashlib.sha256(self.positions + self.payloads).digest()


@dataclass(frozen=True, slots=True)
class PartitionContent:
    """One partition's part of a snapshot.

    Attributes:
        start, stop: the range of offsets that was frozen, half-open.
        rows: records in it; fewer than offsets where transactions or compaction left gaps.
        root: hex SHA-256 over the list of cells; it covers every byte of every record, and where each stands.
        payload_digest: hex SHA-256 over timestamps, keys, values and headers in order, without offsets.
        min_timestamp_ms, max_timestamp_ms: the range of event time; None when no record has a time.
        timestamp_type: what the timestamps are; None when there are no records.
        missing: ranges inside `[start, stop)` that were asked for and could not be had (partial snapshots only).
    """

    partition: int
    start: int
    stop: int
    rows: int
    root: str
    payload_digest: str
    min_timestamp_ms: int | None
    max_timestamp_ms: int | None
    timestamp_type: TimestampType | None
    missing: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StreamContent:
    """One topic's part of a snapshot; partitions in order of their number, registered schemas in order of their id."""

    cluster_id: str
    topic: str
    topic_id: str
    partitions: tuple[PartitionContent, ...]
    schemas: tuple[SchemaContent, ...] = ()

    @property
    def rows(self) -> int:
        """Records of all partitions."""
        return sum(partition.rows for partition in self.partitions)

    def partition(self, number: int) -> PartitionContent:
        """The partition of that number.

        Raises:
            KeyError: when the snapshot does not hold it.
        """
        for found in self.partitions:
            if found.partition == number:
                return found
        raise KeyError(number)


@dataclass(frozen=True, slots=True)
class Content:
    """All that a snapshot's id covers: streams in order of (cluster id, topic), files of path, tables of name."""

    streams: tuple[StreamContent, ...]
    complete: bool = True
    files: tuple[FileContent, ...] = ()
    tables: tuple[TableContent, ...] = ()

    def to_bytes(self) -> bytes:
        """The canonical JSON, exactly as hashed and stored."""
        return rfc8785.dumps(
            {
                "format": FORMAT,
                "complete": self.complete,
                "streams": [_stream_json(stream) for stream in self.streams],
                "files": [file.to_json() for file in self.files],
                "tables": [table.to_json() for table in self.tables],
            }
        )

    @property
    def id(self) -> str:
        """The snapshot's id: SHA-256 of the canonical JSON, 64 hex digits."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def root_of(cells: Iterable[Cell]) -> str:
    """Hex SHA-256 over, for each cell: number, start, stop, rows (int64, little-endian) and the records digest."""
    found = hashlib.sha256()
    for cell in cells:
        for number in (cell.number, cell.start, cell.stop, cell.rows):
            found.update(number.to_bytes(8, "little", signed=True))
        found.update(cell.records)
    return found.hexdigest()


def payload_digest_of(groups: Iterable[bytes]) -> str:
    """Hex SHA-256 over the digests of the range's groups of 65,536 rows, in order."""
    return hashlib.sha256(b"".join(groups)).hexdigest()


def partition_content(
    partition: int,
    start: int,
    stop: int,
    *,
    cells: Sequence[Cell],
    groups: Iterable[bytes],
    missing: tuple[tuple[int, int], ...] = (),
) -> PartitionContent:
    """What follows from a partition's cells and groups."""
    kinds = 0
    for cell in cells:
        kinds |= cell.timestamp_types
    types: dict[int, TimestampType | None] = {0: None, 1: "CreateTime", 2: "LogAppendTime", 3: "mixed"}
    return PartitionContent(
        partition,
        start,
        stop,
        rows=sum(cell.rows for cell in cells),
        root=root_of(cells),
        payload_digest=payload_digest_of(groups),
        min_timestamp_ms=min((c.min_timestamp_ms for c in cells if c.min_timestamp_ms is not None), default=None),
        max_timestamp_ms=max((c.max_timestamp_ms for c in cells if c.max_timestamp_ms is not None), default=None),
        timestamp_type=types[kinds],
        missing=missing,
    )


def parse_content(data: bytes, snapshot_id: str) -> Content:
    """The content in a manifest's bytes, checked against the id that it is filed under.

    Raises:
        IntegrityError: when the bytes are not those of that id, of a format that this version does not know, or
            not what a manifest is.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != snapshot_id:
        raise IntegrityError(
            f"manifests/{snapshot_id}.json: its bytes have the digest {found[:12]}…, not its name",
            hint="the file was damaged or edited; restore it from a copy, or freeze again",
            snapshot_id=snapshot_id,
        )
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise IntegrityError(
                f"snapshot {snapshot_id[:12]}: format {document['format']}, and this version reads format {FORMAT}",
                hint="use the mlstream that wrote it, or a newer one",
            )
        content = Content(
            tuple(_stream_of(stream) for stream in document["streams"]),
            complete=bool(document["complete"]),
            files=tuple(FileContent.of(found) for found in document["files"]),
            tables=tuple(TableContent.of(found) for found in document["tables"]),
        )
        _check(content)
        if content.to_bytes() != data:
            raise ValueError("it is not in canonical form, or holds what is not in the format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        # The bytes are those of the id: whoever made the id made a manifest that is none.
        raise IntegrityError(
            f"manifests/{snapshot_id}.json: not a manifest: {exc}",
            hint="it was not made by mlstream; do not use it",
            snapshot_id=snapshot_id,
        ) from exc
    return content


def _check(content: Content) -> None:
    """What no manifest may claim, whatever its digest.

    Raises:
        ValueError: saying what it is.
    """
    for what, names in (
        ("streams", [(stream.cluster_id, stream.topic) for stream in content.streams]),
        ("files", [(file.path,) for file in content.files]),
        ("tables", [(table.name,) for table in content.tables]),
    ):
        if names != sorted(set(names)):
            raise ValueError(f"its {what} are not in order, or stand there twice")
    folders = {
        "/".join(file.path.split("/")[:depth]) for file in content.files for depth in range(1, file.path.count("/") + 1)
    }
    for file in content.files:
        if file.path in folders:
            raise ValueError(f"{file.path!r} is a file and a folder")
    for stream in content.streams:
        ids = [schema.id for schema in stream.schemas]
        if ids != sorted(set(ids)):
            raise ValueError(f"the schemas of {stream.topic} are not in order, or stand there twice")
        numbers = [part.partition for part in stream.partitions]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"the partitions of {stream.topic} are not in order, or stand there twice")
        for part in stream.partitions:
            check_digest(part.root)
            check_digest(part.payload_digest)
            if not (0 <= part.start <= part.stop and 0 <= part.rows <= part.stop - part.start):
                raise ValueError(f"{stream.topic}[{part.partition}]: {part.rows} rows in [{part.start}, {part.stop})")


def text_or_none(number: int | None) -> str | None:
    """An int64 as JSON carries it: a decimal string, or null."""
    return None if number is None else str(number)


def int_or_none(text: str | None) -> int | None:
    """The inverse of `text_or_none`."""
    return None if text is None else check_int64(text)


def _stream_json(stream: StreamContent) -> dict[str, Any]:
    # Only where there are any: most topics have none.
    schemas = {"schemas": [schema.to_json() for schema in stream.schemas]} if stream.schemas else {}
    return {
        **schemas,
        "cluster_id": stream.cluster_id,
        "topic": stream.topic,
        "topic_id": stream.topic_id,
        "partitions": [
            {
                "partition": part.partition,
                "start": str(part.start),
                "stop": str(part.stop),
                "rows": str(part.rows),
                "root": part.root,
                "payload_digest": part.payload_digest,
                "min_timestamp_ms": text_or_none(part.min_timestamp_ms),
                "max_timestamp_ms": text_or_none(part.max_timestamp_ms),
                "timestamp_type": part.timestamp_type,
                "missing": [{"start": str(start), "stop": str(stop)} for start, stop in part.missing],
            }
            for part in stream.partitions
        ],
    }


def _stream_of(found: dict[str, Any]) -> StreamContent:
    return StreamContent(
        found["cluster_id"],
        found["topic"],
        found["topic_id"],
        tuple(
            PartitionContent(
                partition=part["partition"],
                start=check_int64(part["start"]),
                stop=check_int64(part["stop"]),
                rows=check_int64(part["rows"]),
                root=part["root"],
                payload_digest=part["payload_digest"],
                min_timestamp_ms=int_or_none(part["min_timestamp_ms"]),
                max_timestamp_ms=int_or_none(part["max_timestamp_ms"]),
                timestamp_type=part["timestamp_type"],
                missing=tuple((check_int64(gap["start"]), check_int64(gap["stop"])) for gap in part["missing"]),
            )
            for part in found["partitions"]
        ),
        tuple(SchemaContent.of(schema) for schema in found.get("schemas", ())),
    )
