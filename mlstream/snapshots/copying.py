"""Copy planned ranges from the broker into a staging folder, on threads and in bounded memory. Publishes nothing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.broker.offsets import bounds
from mlstream.errors import BrokerError, OffsetOutOfRange, TopicChanged, UnknownPartition, UnknownTopic
from mlstream.ranges import PartitionRange
from mlstream.snapshots.assemble import Assembled, PartitionAssembler
from mlstream.snapshots.cuts import Gaps
from mlstream.snapshots.pipeline import Pipeline
from mlstream.snapshots.plan import PartitionPlan
from mlstream.snapshots.store import Store
from mlstream.streams.read import Block, read
from mlstream.wire.columns import no_rows

PENDING_BYTES = 16 << 20  # decoded rows that wait for more of their cell, over all partitions
WORKING_BYTES = 10 << 20  # rows that are being hashed and written, for each thread
FETCH_BYTES = 2 << 20  # a block is that much, decompressed, and is kept as long as any of its rows waits
BUFFER_BYTES = 14 << 20  # answers that wait to be decoded
_NO_ROWS = no_rows()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a freeze is. Offsets include gaps, rows do not; `reused` rows came from the store.

    `doing` says what is under way when it is not the copying of records.
    """

    rows: int
    reused: int
    size_bytes: int
    offsets_done: int
    offsets_total: int
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Copied:
    """One partition, copied. `missing` is not empty only where a partial copy was allowed."""

    plan: PartitionPlan
    assembled: Assembled
    missing: tuple[tuple[int, int], ...]
    control: int
    aborted: int
    leader_epochs: tuple[tuple[int, int], ...]

    @property
    def fetched_offsets(self) -> int:
        """Offsets, gaps and all, that came from the broker."""
        lost = sum(stop - start for start, stop in self.missing)
        return sum(len(part) for part in self.plan.fetches()) - lost

    @property
    def gaps(self) -> Gaps:
        """Offsets without a record, by cause."""
        lost = sum(stop - start for start, stop in self.missing)
        fetched = self.fetched_offsets
        return Gaps(
            control=self.control,
            aborted=self.aborted,
            earlier=len(self.plan.wanted) - fetched - lost - self.assembled.reused,
            other=fetched - self.assembled.fetched - self.control - self.aborted,
        )


def copy(
    client: Client,
    plans: Sequence[PartitionPlan],
    *,
    store: Store,
    staged: Path,
    topic_ids: dict[str, str],
    allow_partial: bool = False,
    max_bytes_s: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Copied]:
    """Copy what the plans fetch, put it together with what the store has, and write the objects into `staged`.

    Args:
        topic_ids: what the topics' ids were when the ranges were fixed.
        allow_partial: go on where offsets expire or a partition is lost, and say what is missing.
        max_bytes_s: the most to fetch, in bytes a second; no limit when None.

    Raises:
        OffsetOutOfRange, UnknownTopic, UnknownPartition: while it was copied (unless `allow_partial`).
        TopicChanged: the topic is another one now.
        CorruptBatch, StoreError: the data or the disk is at fault.
    """
    workers = max(2, min(os.cpu_count() or 2, 8))
    with Pipeline(workers=workers, budget_bytes=workers * WORKING_BYTES) as pipeline:
        copies = {
            (plan.wanted.topic, plan.wanted.partition): _Copy(
                plan, PartitionAssembler(plan, pipeline=pipeline, staged=staged, path_of=store.obtain)
            )
            for plan in plans
        }
        total = sum(len(plan.wanted) for plan in plans)
        while ranges := [found.left[0] for found in copies.values() if found.left]:
            # One range of each partition at a time: holes between parts that the store has are rare.
            try:
                with _blocks(client, ranges, topic_ids, max_bytes_s) as blocks:
                    for block in blocks:
                        copies[block.topic, block.partition].take(block)
                        _relieve(copies.values())
                        if progress is not None:
                            progress(_progress(copies.values(), total))
            except (OffsetOutOfRange, TopicChanged, UnknownTopic, UnknownPartition) as exc:
                if not allow_partial:
                    raise
                _lose(client, copies, topic_ids, exc)
            else:
                for found in copies.values():
                    found.end_range()
        for found in copies.values():
            found.assembler.close()
        pipeline.finish()
        if progress is not None:
            progress(_progress(copies.values(), total, done=True))
        return [found.result() for found in copies.values()]


@contextmanager
def _blocks(
    client: Client, ranges: Sequence[PartitionRange], topic_ids: dict[str, str], max_bytes_s: float | None
) -> Iterator[Iterator[Block]]:
    """The blocks of ranges; whatever happens to the caller, reading ends with it."""
    blocks = read(
        client,
        ranges,
        topic_ids=topic_ids,
        partition_max_bytes=FETCH_BYTES,
        buffer_bytes=BUFFER_BYTES,
        max_bytes_s=max_bytes_s,
    )
    try:
        yield blocks
    finally:
        blocks.close()  # type: ignore[attr-defined]  # a generator: it stops its threads


@dataclass
class _Copy:
    """One partition under way: what is left to fetch, and what was seen."""

    plan: PartitionPlan
    assembler: PartitionAssembler
    left: deque[PartitionRange] = field(default_factory=deque)
    missing: list[tuple[int, int]] = field(default_factory=list)
    control: int = 0
    aborted: int = 0
    size_bytes: int = 0
    leader_epochs: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left.extend(self.plan.fetches())

    def take(self, block: Block) -> None:
        """Go on with a block of the range that is under way."""
        self.assembler.feed(block.columns, block.next_offset)
        self.control += block.control
        self.aborted += block.aborted
        self.size_bytes += block.columns.nbytes
        for epoch, first in block.leader_epochs:
            if not self.leader_epochs or self.leader_epochs[-1][0] != epoch:
                self.leader_epochs.append((epoch, first))
        self.go_to(block.next_offset)

    def go_to(self, offset: int) -> None:
        """Everything below `offset` is dealt with."""
        now = self.left[0]
        self.left[0] = PartitionRange(now.topic, now.partition, offset, now.stop)

    def end_range(self) -> None:
        """The range that is under way is complete."""
        if self.left:
            done = self.left.popleft()
            self.assembler.feed(_NO_ROWS, done.stop)

    def lose(self, upto: int) -> bool:
        """Nothing below `upto` can be had any more; whether that changes anything."""
        lost = False
        while self.left and self.left[0].start < upto:
            now = self.left[0]
            stop = min(now.stop, upto)
            self.missing.append((now.start, stop))
            self.assembler.feed(_NO_ROWS, stop)
            lost = True
            if stop < now.stop:
                self.go_to(stop)
            else:
                self.left.popleft()
        return lost

    def result(self) -> Copied:
        return Copied(
            self.plan,
            self.assembler.result(),
            tuple(self.missing),
            self.control,
            self.aborted,
            tuple(self.leader_epochs),
        )


def _relieve(copies: Collection[_Copy]) -> None:
    """Write out the fullest partitions when rows that wait take too much memory."""
    pending = sum(each.assembler.pending_bytes for each in copies)
    if pending <= PENDING_BYTES:
        return
    for each in sorted(copies, key=lambda copy: copy.assembler.pending_bytes, reverse=True):
        pending -= each.assembler.pending_bytes
        each.assembler.flush()
        if pending <= PENDING_BYTES // 2:
            return


def _lose(client: Client, copies: dict[tuple[str, int], _Copy], topic_ids: dict[str, str], exc: BrokerError) -> None:
    """Find out what of the ranges that are left is gone; raise `exc` again when nothing is."""
    lost = False
    for done in copies.values():
        if done.left and not len(done.left[0]):
            done.end_range()
            lost = True
    for topic in sorted({topic for (topic, _), found in copies.items() if found.left}):
        parts = {part: found for (name, part), found in copies.items() if name == topic and found.left}
        try:
            info = client.topic(topic)
        except UnknownTopic:
            kept = {}
        else:
            if info.topic_id != topic_ids[topic]:
                raise changed(topic) from exc
            kept = bounds(client, topic, [part for part in parts if part in info.partitions])
        for part, found in parts.items():
            upto = kept[part].log_start if part in kept else found.plan.wanted.stop
            lost = found.lose(upto) or lost
    if not lost:
        raise exc


def changed(topic: str) -> TopicChanged:
    """The error for a topic that was made anew while it was read."""
    return TopicChanged(
        f"topic {topic}: it was deleted and made again while it was copied",
        hint="nothing was kept; freeze it again",
        topic=topic,
    )


def _progress(copies: Collection[_Copy], total: int, *, done: bool = False) -> Progress:
    fetched = sum(each.assembler.fetched for each in copies)
    reused = sum(each.assembler.reused for each in copies)
    left = 0 if done else sum(len(part) for each in copies for part in each.left)
    return Progress(fetched + reused, reused, sum(each.size_bytes for each in copies), total - left, total)
