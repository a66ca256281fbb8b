"""Whether a topic holds a snapshot's records, all of them and nothing else, by reading it back. Writes nothing.

The digests are those that a freeze of the topic would come to: SHA-256 over the payload stream of each group of 65,536
records. Where one differs, both sides are read again, and the first record that is another is named.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mlstream.broker.client import Client, TopicInfo
from mlstream.broker.offsets import bounds
from mlstream.errors import IntegrityError
from mlstream.ranges import PartitionRange
from mlstream.snapshots.canonical import PayloadHasher, payloads_of
from mlstream.snapshots.manifest import GROUP_ROWS, StreamContent
from mlstream.snapshots.pipeline import Chain, Pipeline
from mlstream.snapshots.stored_rows import stored_rows
from mlstream.streams.read import read
from mlstream.wire.columns import no_rows

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

WORKERS = 2
WORKING_BYTES = 24 << 20  # columns that were read back and wait to be hashed
_NO_ROWS = no_rows()
_DELETE = "something else has written to it: delete the topic, and restore again"


def check(
    client: Client,
    snapshot: Snapshot,
    stream: StreamContent,
    target: TopicInfo,
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Read a topic back and compare it with what a snapshot holds.

    Args:
        stream: the snapshot's part that it should hold.
        target: the topic, with the id that it must have.
        progress: called with the records that were read so far.

    Raises:
        IntegrityError: naming the partition, and the record where one can be named.
        TopicChanged: the topic was deleted or made again.
        BrokerUnavailable: no answer.
    """
    check_extent(client, stream, target)
    topic_ids = {target.name: target.topic_id}
    parts = {part.partition: _Partition(target.name, part.partition) for part in stream.partitions}
    ranges = [PartitionRange(target.name, part.partition, 0, part.rows) for part in stream.partitions if part.rows]
    done = 0
    with Pipeline(workers=WORKERS, budget_bytes=WORKING_BYTES) as pipeline:
        for block in read(client, ranges, topic_ids=topic_ids):
            parts[block.partition].take(block.columns, pipeline)
            done += len(block.columns)
            if progress is not None:
                progress(done)
        pipeline.finish()
    for stored in snapshot.stored(stream.topic):
        found = parts[stored.partition].digests()
        for number, (its, wanted) in enumerate(zip_longest(found, stored.groups)):
            if its != wanted:
                raise _Sides(client, snapshot, stream, target).difference(stored.partition, number, wanted)


def check_extent(client: Client, stream: StreamContent, target: TopicInfo, *, whole: bool = True) -> None:
    """Whether each partition is as long as it should be, and those that the snapshot does not hold are empty.

    Args:
        whole: False while records may still be missing at the ends.

    Raises:
        IntegrityError: naming the partition.
    """
    wanted = {part.partition: part.rows for part in stream.partitions}
    for partition, kept in bounds(client, target.name).items():
        rows = wanted.get(partition, 0)
        if kept.log_start == 0 and (kept.high_watermark == rows or (kept.high_watermark < rows and not whole)):
            continue
        raise IntegrityError(
            f"{target.name}[{partition}]: it has the offsets {kept.log_start} to {kept.high_watermark} "
            f"instead of 0 to {rows}",
            hint=_DELETE if kept.log_start == 0 else "its oldest records were deleted: restore into another topic",
            topic=target.name,
            partition=partition,
        )


class _Partition:
    """One partition that is being read back."""

    def __init__(self, topic: str, partition: int) -> None:
        self._where = f"{topic}[{partition}]"
        self._chain = Chain()
        self._next = 0
        self._groups: list[bytes] = []
        self._open = PayloadHasher()

    def take(self, rows: pa.RecordBatch, pipeline: Pipeline) -> None:
        """The next records: their offsets follow each other without a gap."""
        offsets = rows.column("offset").to_numpy()
        expected = np.arange(self._next, self._next + len(rows))
        if not np.array_equal(offsets, expected):
            wrong = int(expected[np.flatnonzero(offsets != expected)[0]])
            raise IntegrityError(f"{self._where}@{wrong}: no record is there", hint=_DELETE)
        self._next += len(rows)
        pipeline.submit(self._chain, lambda: self._hash(rows), size_bytes=rows.nbytes)

    def _hash(self, rows: pa.RecordBatch) -> None:
        while len(rows) > 0:
            now = rows.slice(0, GROUP_ROWS - self._open.rows)
            rows = rows.slice(len(now))
            self._open.update(now)
            if self._open.rows == GROUP_ROWS:
                self._groups.append(self._open.digest())
                self._open = PayloadHasher()

    def digests(self) -> list[bytes]:
        return [*self._groups, self._open.digest()] if self._open.rows else self._groups


@dataclass(frozen=True, slots=True)
class _Sides:
    """A snapshot's part and the topic that should hold it, to be read again where they differ."""

    client: Client
    snapshot: Snapshot
    stream: StreamContent
    target: TopicInfo

    def difference(self, partition: int, number: int, digest: bytes | None) -> IntegrityError:
        """What is wrong with a group of records: the snapshot's own rows, or the topic's."""
        source, topic = self.stream.topic, self.target.name
        start = number * GROUP_ROWS
        stop = min(start + GROUP_ROWS, self.stream.partition(partition).rows)
        stored = PayloadHasher()
        for rows in stored_rows(self.snapshot, source, partition, start=start, stop=stop):
            stored.update(rows)
        if stored.digest() != digest:
            return IntegrityError(
                f"snapshot {self.snapshot.id[:12]}: its rows of {source}[{partition}] are not those of its digest",
                hint=f"delete topic {topic}, and run `mlstream snapshot verify --deep`",
            )
        other = self._first_other(PartitionRange(topic, partition, start, stop))
        if other is None:
            return IntegrityError(f"{topic}[{partition}]: its records change while they are read", hint=_DELETE)
        old, new = other
        return IntegrityError(
            f"{topic}[{partition}]@{new}: it is not the record that the snapshot holds of {source}[{partition}]@{old}",
            hint=_DELETE,
            topic=topic,
            partition=partition,
            offset=new,
        )

    def _first_other(self, wanted: PartitionRange) -> tuple[int, int] | None:
        """The first record of a range that differs: its offsets in the source and in the topic."""
        here = stored_rows(self.snapshot, self.stream.topic, wanted.partition, start=wanted.start, stop=wanted.stop)
        there = read(self.client, [wanted], topic_ids={self.target.name: self.target.topic_id})
        for old, new in _side_by_side(here, (block.columns for block in there)):
            if payloads_of(old) != payloads_of(new):
                same = bisect_left(range(1, len(old) + 1), True, key=partial(_differ, old, new))
                return old.column("offset")[same].as_py(), new.column("offset")[same].as_py()
        return None


def _differ(old: pa.RecordBatch, new: pa.RecordBatch, rows: int) -> bool:
    return payloads_of(old.slice(0, rows)) != payloads_of(new.slice(0, rows))


def _side_by_side(
    old: Iterator[pa.RecordBatch], new: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Two streams of rows, cut at each other's edges."""
    left = right = _NO_ROWS
    while True:
        while len(left) == 0:
            if (following := next(old, None)) is None:
                return
            left = following
        while len(right) == 0:
            if (following := next(new, None)) is None:
                return
            right = following
        rows = min(len(left), len(right))
        yield left.slice(0, rows), right.slice(0, rows)
        left, right = left.slice(rows), right.slice(rows)
