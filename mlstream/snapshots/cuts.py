"""What differs between two freezes of the same content: when, by whom, what the broker said at the cut. Plain values.

Every freeze leaves one such record in `cuts/`; none of it is covered by the snapshot's id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from mlstream.errors import IntegrityError
from mlstream.snapshots.manifest import FORMAT


@dataclass(frozen=True, slots=True)
class Gaps:
    """Offsets of the range that hold no record, by cause.

    Attributes:
        control: transaction markers.
        aborted: records of aborted transactions.
        earlier: gaps in cells that an earlier snapshot had copied; its cut knows their causes.
        other: everything else, in a topic that is not compacted usually nothing.
    """

    control: int
    aborted: int
    earlier: int
    other: int

    @property
    def total(self) -> int:
        """All offsets without a record."""
        return self.control + self.aborted + self.earlier + self.other


@dataclass(frozen=True, slots=True)
class CutPartition:
    """One partition as it was when the range was fixed.

    Attributes:
        log_start, last_stable, high_watermark: offsets that the broker reported.
        leader_epochs: (epoch, first offset at which it was seen), as far as batches were read.
        fetched, reused: rows that came from the broker, and from objects that the store had.
    """

    partition: int
    log_start: int
    last_stable: int
    high_watermark: int
    leader_epochs: tuple[tuple[int, int], ...]
    gaps: Gaps
    fetched: int
    reused: int


@dataclass(frozen=True, slots=True)
class CutStream:
    """One topic as it was when the range was fixed. `cleanup_policy` is None when it could not be read."""

    cluster_id: str
    topic: str
    cleanup_policy: str | None
    partitions: tuple[CutPartition, ...]


@dataclass(frozen=True, slots=True)
class CutFile:
    """One file as it was listed at the cut.

    Attributes:
        path: what the snapshot calls it.
        source: where it was.
        modified_ms: when it had last been written to, ms since 1970.
    """

    path: str
    source: str
    modified_ms: int


@dataclass(frozen=True, slots=True)
class CutDatabase:
    """One database, whose tables were all read in one transaction.

    Attributes:
        source: its URL, without secrets.
        kind: `postgresql` or `sqlite`.
        mark: what the database itself says of the state that was read; docs/format.md lists the names.
        tables: what the snapshot calls the tables that came from it.
    """

    source: str
    kind: str
    mark: dict[str, str]
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """One freeze.

    Attributes:
        name: the name that was asked for.
        created_at_ms: when fixing began, ms since 1970.
        cut_ms: how long it took to fix all: files listed, databases' transactions begun, ends of streams known.
        seconds: how long the whole freeze took.
        source: the bootstrap servers, without settings or secrets; empty without topics.
        tools: name → version of what wrote the objects.
    """

    name: str
    created_at_ms: int
    cut_ms: int
    seconds: float
    user: str
    host: str
    source: tuple[str, ...]
    tools: dict[str, str]
    streams: tuple[CutStream, ...]
    databases: tuple[CutDatabase, ...] = ()
    files: tuple[CutFile, ...] = ()

    def to_bytes(self, snapshot_id: str) -> bytes:
        """The JSON of `cuts/ID-….json`."""
        document = {
            "format": FORMAT,
            "snapshot": snapshot_id,
            "name": self.name,
            "created_at_ms": str(self.created_at_ms),
            "cut_ms": self.cut_ms,
            "seconds": round(self.seconds, 3),
            "user": self.user,
            "host": self.host,
            "source": list(self.source),
            "tools": self.tools,
            "streams": [_stream_json(stream) for stream in self.streams],
            "databases": [asdict(database) for database in self.databases],
            "files": [{**asdict(file), "modified_ms": str(file.modified_ms)} for file in self.files],
        }
        return (json.dumps(document, sort_keys=True, indent=1) + "\n").encode()


def parse_cut(data: bytes, path: str) -> Cut:
    """The cut in the bytes of a file of `cuts/`.

    Raises:
        IntegrityError: when it is cut off or of another format.
    """
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        return Cut(
            name=found["name"],
            created_at_ms=int(found["created_at_ms"]),
            cut_ms=found["cut_ms"],
            seconds=found["seconds"],
            user=found["user"],
            host=found["host"],
            source=tuple(found["source"]),
            tools=found["tools"],
            streams=tuple(_stream_of(stream) for stream in found["streams"]),
            databases=tuple(
                CutDatabase(str(each["source"]), str(each["kind"]), dict(each["mark"]), tuple(map(str, each["tables"])))
                for each in found.get("databases", ())  # the first releases had none
            ),
            files=tuple(
                CutFile(str(each["path"]), str(each["source"]), int(each["modified_ms"]))
                for each in found.get("files", ())
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise IntegrityError(f"{path}: not a cut: {exc}", hint="delete it; no snapshot needs it") from exc


def _stream_json(stream: CutStream) -> dict[str, Any]:
    return {
        "cluster_id": stream.cluster_id,
        "topic": stream.topic,
        "cleanup_policy": stream.cleanup_policy,
        "partitions": [
            {
                "partition": part.partition,
                "log_start": str(part.log_start),
                "last_stable": str(part.last_stable),
                "high_watermark": str(part.high_watermark),
                "leader_epochs": [{"epoch": epoch, "first": str(first)} for epoch, first in part.leader_epochs],
                "gaps": {
                    "control": str(part.gaps.control),
                    "aborted": str(part.gaps.aborted),
                    "earlier": str(part.gaps.earlier),
                    "other": str(part.gaps.other),
                },
                "fetched": str(part.fetched),
                "reused": str(part.reused),
            }
            for part in stream.partitions
        ],
    }


def _stream_of(found: dict[str, Any]) -> CutStream:
    return CutStream(
        found["cluster_id"],
        found["topic"],
        found["cleanup_policy"],
        tuple(
            CutPartition(
                partition=part["partition"],
                log_start=int(part["log_start"]),
                last_stable=int(part["last_stable"]),
                high_watermark=int(part["high_watermark"]),
                leader_epochs=tuple((entry["epoch"], int(entry["first"])) for entry in part["leader_epochs"]),
                gaps=Gaps(**{cause: int(count) for cause, count in part["gaps"].items()}),
                fetched=int(part["fetched"]),
                reused=int(part["reused"]),
            )
            for part in found["partitions"]
        ),
    )
