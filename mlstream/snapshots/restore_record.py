"""What is kept of a restore: which topic holds which snapshot's records, and which offset became which. Asks no broker.

    restores/KEY.json       from which snapshot and topic to which topic, and whether it is done
    restores/KEY.parquet    the translation table: runs of offsets, old and new

KEY stands for (snapshot, source, target). The record is written before the first row goes out, so that a restore that
was cut off is known for what it is, and again when the topic has been checked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlstream.errors import IntegrityError
from mlstream.snapshots.documents import flush_folder, move_into_place, write_document
from mlstream.snapshots.failures import store_error
from mlstream.snapshots.manifest import FORMAT
from mlstream.snapshots.store import Store
from mlstream.wire.columns import Longs

FOLDER = "restores"
_GROUP_RUNS = 1 << 16
TRANSLATION = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("old_offset", pa.int64(), nullable=False),
        pa.field("new_offset", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class RestoredPartition:
    """One partition of the new topic: its records are the offsets `[0, rows)`; the digest is the snapshot's."""

    partition: int
    rows: int
    payload_digest: str


@dataclass(frozen=True, slots=True)
class Restored:
    """A topic that holds the records of a snapshot.

    Attributes:
        snapshot_id, source_cluster_id, source_topic: what was restored.
        cluster_id, topic, topic_id: where to; another topic of that name has another id.
        partitions: what it holds, read back and compared when `done`.
        done: False when the restore was cut off, or what it wrote was not what it read back.
        started_at_ms: ms since 1970.
        seconds: how long writing and checking took, in the call that ended it.
        table: the file of the translation table.
    """

    snapshot_id: str
    source_cluster_id: str
    source_topic: str
    cluster_id: str
    topic: str
    topic_id: str
    partitions: tuple[RestoredPartition, ...]
    done: bool
    started_at_ms: int
    seconds: float
    table: Path

    @property
    def rows(self) -> int:
        """Records of all partitions."""
        return sum(part.rows for part in self.partitions)

    def translation(self) -> pl.DataFrame:
        """Which offset became which: `partition`, `old_offset`, `new_offset`, `rows`; a row is a run of records.

        The record at `old_offset + n` of the source is at `new_offset + n` of the new topic, for n below `rows`.
        Offsets in no run had no record.

        Raises:
            IntegrityError: the table is missing (it is written when the topic has been checked) or damaged.
        """
        try:
            return pl.read_parquet(self.table, glob=False)
        except (OSError, pl.exceptions.PolarsError) as exc:
            raise IntegrityError(
                f"{FOLDER}/{self.table.name}: it cannot be read: {exc}",
                hint=f"restore into {self.topic} again: what is there is checked, and the table is made anew",
            ) from exc

    def new_offset(self, partition: int, old_offset: int) -> int | None:
        """Where the record at an offset of the source is in the new topic; None when there was no record.

        Raises:
            IntegrityError: the table is missing or damaged.
        """
        before = self.translation().filter(pl.col("partition") == partition, pl.col("old_offset") <= old_offset)
        for run in before.tail(1).iter_rows(named=True):
            if old_offset < run["old_offset"] + run["rows"]:
                return int(run["new_offset"]) + old_offset - int(run["old_offset"])
        return None

    def finished(self, seconds: float) -> Restored:
        """The same, checked."""
        return replace(self, done=True, seconds=seconds)


def place_of(store: Store, snapshot_id: str, source: tuple[str, str], target: tuple[str, str]) -> Path:
    """Where the record of a restore is, or would be; source and target are (cluster id, topic)."""
    key = hashlib.sha256(json.dumps([snapshot_id, *source, *target]).encode()).hexdigest()[:32]
    return store.path / FOLDER / f"{key}.json"


def read_record(path: Path) -> Restored | None:
    """The record in a file; None when there is none.

    Raises:
        IntegrityError: when it is damaged.
        StoreError: when it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError(f"format {found['format']}")
        source, target = found["source"], found["target"]
        return Restored(
            snapshot_id=found["snapshot"],
            source_cluster_id=source["cluster_id"],
            source_topic=source["topic"],
            cluster_id=target["cluster_id"],
            topic=target["topic"],
            topic_id=target["topic_id"],
            partitions=tuple(
                RestoredPartition(part["partition"], int(part["rows"]), part["payload_digest"])
                for part in found["partitions"]
            ),
            done=found["done"],
            started_at_ms=int(found["started_at_ms"]),
            seconds=found["seconds"],
            table=path.with_suffix(".parquet"),
        )
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise store_error(path, exc) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise IntegrityError(
            f"{FOLDER}/{path.name}: not the record of a restore: {exc}",
            hint="delete the file; the topic that it told of can be restored again under another name",
        ) from exc


def records(store: Store, snapshot_id: str) -> list[Restored]:
    """Every restore of a snapshot, the newest first; damaged records are left out.

    Raises:
        StoreError: when the folder cannot be read.
    """
    found = []
    for path in (store.path / FOLDER).glob("*.json"):
        try:
            record = read_record(path)
        except IntegrityError:
            continue
        if record is not None and record.snapshot_id == snapshot_id:
            found.append(record)
    return sorted(found, key=lambda record: (-record.started_at_ms, record.topic))


def write_record(store: Store, path: Path, record: Restored, *, staged: Path) -> None:
    """Keep a record, in place of what is there.

    Raises:
        StoreError: when the store cannot be written.
    """
    document = {
        "format": FORMAT,
        "snapshot": record.snapshot_id,
        "source": {"cluster_id": record.source_cluster_id, "topic": record.source_topic},
        "target": {"cluster_id": record.cluster_id, "topic": record.topic, "topic_id": record.topic_id},
        "done": record.done,
        "started_at_ms": str(record.started_at_ms),
        "seconds": round(record.seconds, 3),
        "partitions": [
            {"partition": part.partition, "rows": str(part.rows), "payload_digest": part.payload_digest}
            for part in record.partitions
        ],
    }
    try:
        with store.writing():
            write_document(path, (json.dumps(document, sort_keys=True, indent=1) + "\n").encode(), staged=staged)
            store.send(path)
    except OSError as exc:
        raise store_error(path, exc) from exc


def write_translation(
    store: Store, path: Path, partitions: Iterable[tuple[int, Iterable[Longs]]], *, staged: Path
) -> None:
    """Keep the translation table.

    Args:
        partitions: partition → the offsets of its records in the source, in order and in pieces; the first becomes 0.

    Raises:
        StoreError: when the store cannot be written.
    """
    made = staged / path.name
    try:
        with pq.ParquetWriter(made, TRANSLATION, compression="zstd", compression_level=1) as file:
            waiting: list[pa.RecordBatch] = []
            for partition, offsets in partitions:
                for old, new, rows in runs(offsets):
                    columns = [pa.repeat(pa.scalar(partition, pa.int32()), len(old)), *map(pa.array, (old, new, rows))]
                    waiting.append(pa.RecordBatch.from_arrays(columns, schema=TRANSLATION))
                    if sum(map(len, waiting)) >= _GROUP_RUNS:
                        file.write_table(pa.Table.from_batches(waiting))
                        waiting = []
            file.write_table(pa.Table.from_batches(waiting, schema=TRANSLATION))
        with made.open("rb+") as written:
            os.fsync(written.fileno())
        with store.writing():
            move_into_place(made, path, mode=0o644)
            flush_folder(path.parent)
            store.send(path)
    except OSError as exc:
        raise store_error(path, exc) from exc


def runs(offsets: Iterable[Longs]) -> Iterator[tuple[Longs, Longs, Longs]]:
    """Increasing offsets → runs without a gap, in pieces: the first offset, its rank among all, and the length."""
    carried: tuple[int, int, int] | None = None
    rank = 0
    for part in offsets:
        if len(part) == 0:
            continue
        starts = np.concatenate(([0], np.flatnonzero(np.diff(part) != 1) + 1))
        old, new = part[starts], starts + rank
        rows = np.diff(np.append(starts, len(part)))
        rank += len(part)
        if carried is not None:
            if carried[0] + carried[2] == old[0]:
                old[0], new[0], rows[0] = carried[0], carried[1], carried[2] + rows[0]
            else:
                old, new, rows = (
                    np.concatenate(([before], now)) for before, now in zip(carried, (old, new, rows), strict=True)
                )
        carried = int(old[-1]), int(new[-1]), int(rows[-1])
        if len(old) > 1:
            yield old[:-1], new[:-1], rows[:-1]
    if carried is not None:
        yield tuple(np.array([number], np.int64) for number in carried)  # type: ignore[misc]  # three of them
