"""Which of the store's snapshots a freeze may build on, checked against the broker's log. Copies nothing.

A snapshot's rows are still the broker's when the topic is the same (by its id), is not compacted, and its log has the
same leader epoch at the last record that the snapshot holds: Kafka's logs that agree on the epoch at an offset agree
on everything before it. The broker is asked for that one record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.errors import MlstreamError, StoreError
from mlstream.ranges import PartitionRange
from mlstream.snapshots.copying import Copied
from mlstream.snapshots.fixing import Fixed, reusable_topics
from mlstream.snapshots.index import Holding, holdings, remember
from mlstream.snapshots.leases import Lease
from mlstream.snapshots.manifest import parse_content
from mlstream.snapshots.plan import Known
from mlstream.snapshots.storage import Storage, StoredObject, StoredPartition, check_storage, parse_storage
from mlstream.snapshots.store import Store
from mlstream.streams.read import read

_MOST_HOLDINGS = 8  # of a partition: each costs a question to the broker


@dataclass(frozen=True, slots=True)
class Usable:
    """A snapshot's part of a partition that a new snapshot may build on."""

    holding: Holding
    known: Known


@dataclass(frozen=True, slots=True)
class Reuse:
    """What may be built on: (topic, partition) → snapshots' parts, the tightest first; and the objects they use."""

    usable: dict[tuple[str, int], tuple[Usable, ...]]
    objects: dict[str, StoredObject]

    def known(self, wanted: PartitionRange) -> tuple[Known, ...]:
        """For the plan of a partition."""
        return tuple(found.known for found in self.usable.get((wanted.topic, wanted.partition), ()))


def find_reuse(client: Client, store: Store, fixed: Fixed, lease: Lease | None = None) -> Reuse:
    """What the store holds of the cut's ranges and the broker still has.

    Args:
        lease: holds the snapshots that are found, as long as it lasts; None for an estimate, which relies on nothing.
    """
    topic_ids, cluster_id = reusable_topics(fixed), fixed.cluster_id
    found: list[tuple[PartitionRange, Holding]] = []
    for part in fixed.ranges:
        kept = fixed.kept[part.topic, part.partition]
        topic_id = topic_ids.get(part.topic)
        if not topic_id or not cluster_id:
            continue
        for holding in _covering(part, holdings(store, cluster_id, topic_id, part.partition)):
            if not kept.log_start <= holding.last_offset < kept.last_stable:
                continue  # the log ends earlier than it did, or starts later
            found.append((part, holding))
    # Held before it is looked at: what is there after this stays.
    if lease is not None and found:
        lease.hold(snapshots={holding.snapshot_id for _, holding in found})
    shelf = _Shelf(store)
    candidates: list[_Candidate] = []
    for part, holding in found:
        stored = shelf.partition(holding.snapshot_id, cluster_id, part.topic, part.partition)
        if stored is not None:
            candidates.append(_Candidate(part, holding, stored))
    usable: dict[tuple[str, int], tuple[Usable, ...]] = {}
    objects: dict[str, StoredObject] = {}
    for each in _still_there(client, candidates):
        cells = {cell.cell.number: cell for cell in each.stored.cells}
        known = Known(each.holding.start, each.holding.stop, cells, each.stored.groups)
        where = each.wanted.topic, each.wanted.partition
        usable[where] = (*usable.get(where, ()), Usable(each.holding, known))
        objects.update(shelf.objects(each.holding.snapshot_id))
    return Reuse(usable, objects)


def remember_all(
    store: Store, snapshot_id: str, fixed: Fixed, copies: Sequence[Copied], reuse: Reuse, *, staged: Path
) -> None:
    """Enter the partitions into the index, with the last record's leader epoch where that is known."""
    entered = []
    for topic, topic_id in reusable_topics(fixed).items():
        for found in copies:
            wanted = found.plan.wanted
            if wanted.topic != topic or not fixed.cluster_id:
                continue
            ends = [
                (use.holding.last_offset, use.holding.leader_epoch)
                for use in reuse.usable.get((topic, wanted.partition), ())
                if use.holding.last_offset < wanted.stop
            ]
            last = found.assembled.last_offset
            epochs = [epoch for epoch, first in found.leader_epochs if last is not None and first <= last]
            if last is not None and epochs:
                ends.append((last, epochs[-1]))
            if ends and max(ends)[1] >= 0:
                offset, epoch = max(ends)
                entry = Holding(snapshot_id, wanted.start, offset, epoch)
                entered.append(remember(store, fixed.cluster_id, topic_id, wanted.partition, entry, staged=staged))
    with suppress(StoreError):  # the snapshot is there without them
        store.send(*(path for path in entered if path is not None))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A snapshot's part of a wanted partition, before the broker was asked."""

    wanted: PartitionRange
    holding: Holding
    stored: StoredPartition


def _covering(wanted: PartitionRange, found: Iterable[Holding]) -> Iterator[Holding]:
    """Holdings that together cover as much as they can, largest share first; of equal shares the tightest."""

    def share(holding: Holding) -> int:
        return max(min(holding.stop, wanted.stop) - max(holding.start, wanted.start), 0)

    covered: list[tuple[int, int]] = []
    ranked = sorted(found, key=lambda holding: (-share(holding), holding.stop - holding.start))
    for holding in ranked:
        start, stop = max(holding.start, wanted.start), min(holding.stop, wanted.stop)
        if start < stop and not any(low <= start and stop <= high for low, high in covered):
            covered.append((start, stop))
            yield holding
        if len(covered) == _MOST_HOLDINGS:
            return


def _still_there(client: Client, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Those whose last record has the same leader epoch in the log as when it was copied, in the same order."""
    epochs: dict[int, int | None] = {}
    left = list(enumerate(candidates))
    while left:
        # One record of each partition at a time.
        round_of = {(each.wanted.topic, each.wanted.partition): (number, each) for number, each in reversed(left)}
        epochs.update(_epochs(client, dict(round_of.values())))
        left = [(number, each) for number, each in left if number not in epochs]
    return [each for number, each in enumerate(candidates) if epochs[number] == each.holding.leader_epoch]


def _epochs(client: Client, asked: dict[int, _Candidate]) -> dict[int, int | None]:
    """The leader epoch of each candidate's last record in the broker's log; None when it has no such record."""
    found: dict[int, int | None] = dict.fromkeys(asked)
    numbers = {(each.wanted.topic, each.wanted.partition): number for number, each in asked.items()}
    ranges = [
        PartitionRange(each.wanted.topic, each.wanted.partition, each.holding.last_offset, each.holding.stop)
        for each in asked.values()
    ]
    try:
        for block in read(client, ranges, partition_max_bytes=1, threads=1):
            if len(block.columns) > 0 and block.leader_epochs:
                found[numbers[block.topic, block.partition]] = block.leader_epochs[-1][0]
    except MlstreamError:
        # A record has expired, or a log ends earlier now: find out which, and copy those.
        if len(asked) > 1:
            for number, each in asked.items():
                found.update(_epochs(client, {number: each}))
    return found


class _Shelf:
    """Storage maps of snapshots, read once; damaged ones and those that miss objects count as not there."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, Storage | None] = {}

    def partition(self, snapshot_id: str, cluster_id: str, topic: str, partition: int) -> StoredPartition | None:
        storage = self._storage(snapshot_id)
        if storage is None:
            return None
        for stream in storage.streams:
            if (stream.cluster_id, stream.topic) == (cluster_id, topic):
                return next((part for part in stream.partitions if part.partition == partition), None)
        return None

    def objects(self, snapshot_id: str) -> dict[str, StoredObject]:
        storage = self._storage(snapshot_id)
        return {} if storage is None else dict(storage.objects)

    def _storage(self, snapshot_id: str) -> Storage | None:
        if snapshot_id not in self._read:
            self._read[snapshot_id] = self._load(snapshot_id)
        return self._read[snapshot_id]

    def _load(self, snapshot_id: str) -> Storage | None:
        try:
            content = parse_content(self._store.read(self._store.manifest(snapshot_id)), snapshot_id)
            storage = parse_storage(self._store.read(self._store.storage(snapshot_id)), snapshot_id)
            check_storage(storage, content, snapshot_id)
        except MlstreamError:
            return None
        return storage if objects_are_there(self._store, storage) else None


def objects_are_there(store: Store, storage: Storage) -> bool:
    """Whether every object exists, has its size and was not found damaged. Their bytes are `verify`'s to check."""
    return not store.missing({digest: found.size_bytes for digest, found in storage.objects.items()})
