"""What a freeze would come to, without freezing: offsets, what the store has, bytes by a sample. Publishes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds
from mlstream.ranges import PartitionRange, TopicSelection
from mlstream.snapshots.fixing import fix
from mlstream.snapshots.objects import ObjectWriter
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.reuse import find_reuse
from mlstream.snapshots.store import Store
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
    """A freeze that was not made."""

    partitions: tuple[PartitionEstimate, ...]
    free_bytes: int

    @property
    def rows(self) -> int:
        """Records, about."""
        return sum(part.rows for part in self.partitions)

    @property
    def size_bytes(self) -> int:
        """What would be written, about."""
        return sum(part.size_bytes for part in self.partitions)

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it."""
        return self.size_bytes < self.free_bytes


def estimate(
    client: Client, store: Store, selections: Sequence[TopicSelection], *, allow_partial: bool = False
) -> Estimate:
    """What freezing these selections would come to now. Reads a sample of each partition; writes nothing that stays.

    Raises:
        UnknownTopic, UnknownPartition, EmptyRange, OffsetOutOfRange: there is nothing to freeze as asked.
    """
    fixed = fix(client, selections, allow_partial=allow_partial)
    reuse = find_reuse(client, store, fixed)
    found = []
    with store.staging() as staged:
        for wanted in fixed.ranges:
            to_fetch = sum(len(part) for part in plan_partition(wanted, reuse.known(wanted)).fetches())
            density, row_bytes = _sample(client, wanted, staged)
            found.append(
                PartitionEstimate(
                    wanted,
                    fixed.kept[wanted.topic, wanted.partition],
                    rows=round(len(wanted) * density),
                    to_fetch=to_fetch,
                    size_bytes=round(to_fetch * density * row_bytes),
                )
            )
        free_bytes = shutil.disk_usage(staged).free
    return Estimate(tuple(found), free_bytes)


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
