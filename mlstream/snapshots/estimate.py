"""What a freeze would come to, without freezing: offsets, what the store has, bytes by a sample. Publishes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds
from mlstream.ranges import PartitionRange
from mlstream.snapshots.file_bytes import digest_files
from mlstream.snapshots.files import list_files
from mlstream.snapshots.fixing import Fixed, fix
from mlstream.snapshots.gather import opened, sources_of
from mlstream.snapshots.objects import ObjectWriter
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.reuse import find_reuse
from mlstream.snapshots.store import Store
from mlstream.snapshots.wanted import Wanted
from mlstream.streams.read import read

_SAMPLE_BYTES = 256 << 10
_SAMPLE_OFFSETS = 20_000


@dataclass(frozen=True, slots=True)
class PartitionEstimate:
    """One partition.

    Attributes:
        rows: records at most: gaps of transactions and compaction are only known when they are read; sampled.
        to_fetch: offsets that would come from the broker; the store has the others.
        size_bytes: what their objects would take, from a sample.
    """

    wanted: PartitionRange
    kept: Bounds
    rows: int
    to_fetch: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A freeze that was not made.

    Attributes:
        files: how many; `files_bytes` is what those of them take that the store lacks.
        tables: their names. They are there; their rows are counted only when they are read, and not estimated.
        free_bytes: what the disk has.
    """

    partitions: tuple[PartitionEstimate, ...]
    files: int
    files_bytes: int
    tables: tuple[str, ...]
    free_bytes: int

    @property
    def rows(self) -> int:
        """Records, about."""
        return sum(part.rows for part in self.partitions)

    @property
    def size_bytes(self) -> int:
        """What would be written, about."""
        return sum(part.size_bytes for part in self.partitions) + self.files_bytes

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it."""
        return self.size_bytes < self.free_bytes


def estimate(client: Client | None, store: Store, wanted: Wanted, *, allow_partial: bool = False) -> Estimate:
    """What freezing this would come to now. Reads samples of topics, and the files; writes nothing that stays.

    Args:
        client: None when no topic is wanted.

    Raises:
        UnknownTopic, UnknownPartition, EmptyRange, OffsetOutOfRange, UnknownFile, UnknownTable: there is nothing to
            freeze as asked.
        BrokerUnavailable, DatabaseError, StoreError: the cluster, a database or the disk cannot be used.
    """
    listed = list_files(wanted.files, home=store.path)
    with store.staging() as staged, opened(sources_of(wanted.tables, staged=staged)):
        fixed = fix(client, wanted.topics, allow_partial=allow_partial)
    sizes = {file.sha256: file.size_bytes for file in digest_files(listed)}
    new_bytes = sum(size for digest, size in sizes.items() if not store.holds(digest, size))
    with store.staging() as staged:
        parts = () if client is None else tuple(_partitions(client, store, fixed, staged))
        free_bytes = shutil.disk_usage(staged).free
    tables = tuple(sorted(table.name for table in wanted.tables))
    return Estimate(parts, len(listed), new_bytes, tables, free_bytes)


def _partitions(client: Client, store: Store, fixed: Fixed, staged: Path) -> Iterator[PartitionEstimate]:
    reuse = find_reuse(client, store, fixed)
    for wanted in fixed.ranges:
        to_fetch = sum(len(part) for part in plan_partition(wanted, reuse.known(wanted)).fetches())
        density, row_bytes = _sample(client, wanted, staged)
        yield PartitionEstimate(
            wanted,
            fixed.kept[wanted.topic, wanted.partition],
            rows=round(len(wanted) * density),
            to_fetch=to_fetch,
            size_bytes=round(to_fetch * density * row_bytes),
        )


def _sample(client: Client, wanted: PartitionRange, staged: Path) -> tuple[float, float]:
    """Records an offset, and bytes of Parquet a record, at the end of the range."""
    first = max(wanted.start, wanted.stop - _SAMPLE_OFFSETS)
    part = PartitionRange(wanted.topic, wanted.partition, first, wanted.stop)
    rows = []
    offsets = size = 0
    blocks = read(client, [part], partition_max_bytes=_SAMPLE_BYTES, threads=1)
    for block in blocks:
        rows.append(block.columns)
        offsets += block.next_offset - block.start
        size += block.columns.nbytes
        if size >= 8 * _SAMPLE_BYTES:
            blocks.close()  # type: ignore[attr-defined]  # a generator: it stops to fetch
            break
    count = sum(len(found) for found in rows)
    if count == 0:
        return (0.0 if offsets else 1.0), 0.0
    writer = ObjectWriter(staged, wanted.partition)
    writer.write(rows)
    _, path, stored = writer.close()
    path.unlink()
    return count / offsets, stored.size_bytes / count
