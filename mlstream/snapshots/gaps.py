"""Why offsets of a snapshot's ranges hold no record: an account of every gap, from the cuts. Reads documents only.

A snapshot's id proves which offsets have a record, so a gap is no damage by itself: it was there when the range was
frozen. Why it was there is what the cut says, which no digest covers. It is judged so:

- transaction markers and records of aborted transactions were seen as such: explained;
- what else is missing in a compacted topic was compacted: explained;
- in a topic that is not compacted nothing else may be missing: unexplained;
- gaps in cells that were taken over from earlier snapshots are what those snapshots' cuts say. When they are gone from
  the store, or no cut is there at all, the cause is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mlstream.errors import IntegrityError, StoreError
from mlstream.snapshots.cuts import Cut, CutPartition, Gaps, parse_cut
from mlstream.snapshots.index import holdings
from mlstream.snapshots.manifest import Content, PartitionContent, StreamContent
from mlstream.snapshots.store import Store


@dataclass(frozen=True, slots=True)
class Account:
    """One partition's range: `offsets = rows + missing + all the gaps`.

    Attributes:
        missing: offsets that expired or were lost before they could be copied (partial snapshots only).
        control, aborted: transaction markers, records of aborted transactions.
        compacted: everything else, where the topic is compacted.
        earlier: gaps in cells of earlier snapshots, whose cuts explain theirs.
        unexplained: everything else, where the topic is not compacted.
        unknown: gaps that no cut of the store says anything about.
    """

    topic: str
    partition: int
    offsets: int
    rows: int
    missing: int = 0
    control: int = 0
    aborted: int = 0
    compacted: int = 0
    earlier: int = 0
    unexplained: int = 0
    unknown: int = 0

    @property
    def gaps(self) -> int:
        """All offsets without a record that were there to be copied."""
        return self.offsets - self.rows - self.missing


@dataclass(frozen=True, slots=True)
class CutFault:
    """A cut that cannot be read, or that contradicts the manifest."""

    path: str
    problem: str


def account(store: Store, snapshot_id: str, content: Content) -> tuple[tuple[Account, ...], tuple[CutFault, ...]]:
    """Every partition's account, and what is wrong with the cuts of the snapshot."""
    cuts, faults = _read_cuts(store, snapshot_id)
    accounts = []
    for stream in content.streams:
        for part in stream.partitions:
            lost = sum(stop - start for start, stop in part.missing)
            found = Account(stream.topic, part.partition, part.stop - part.start, part.rows, lost)
            told: list[_Told] = []
            for path, cut in cuts:
                for each in _told_by(cut, stream, part.partition):
                    if each.gaps.total == found.gaps:
                        told.append(each)
                    else:
                        problem = f"it counts {each.gaps.total:,} gaps, the manifest {found.gaps:,}"
                        faults.append(CutFault(path, f"{stream.topic}[{part.partition}]: {problem}"))
            accounts.append(_explain(store, stream, part, found, told))
    return tuple(accounts), tuple(faults)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one cut says of a partition."""

    created_at_ms: int
    policy: str | None
    gaps: Gaps


def _told_by(cut: Cut, stream: StreamContent, partition: int) -> Iterator[_Told]:
    for then in cut.streams:
        if (then.cluster_id, then.topic) == (stream.cluster_id, stream.topic):
            parts: tuple[CutPartition, ...] = then.partitions
            yield from (
                _Told(cut.created_at_ms, then.cleanup_policy, p.gaps) for p in parts if p.partition == partition
            )


def _explain(store: Store, stream: StreamContent, part: PartitionContent, found: Account, told: list[_Told]) -> Account:
    if not told:
        return replace(found, unknown=found.gaps)
    # Another freeze of the same content may have taken everything from the store: the first knows best.
    best = min(told, key=lambda each: (each.gaps.earlier, each.created_at_ms))
    other = best.gaps.other
    found = replace(found, control=best.gaps.control, aborted=best.gaps.aborted)
    if best.policy is None:
        found = replace(found, unknown=other)
    elif "compact" in best.policy:
        found = replace(found, compacted=other)
    else:
        found = replace(found, unexplained=other)
    if best.gaps.earlier == 0:
        return found
    sources = list(_sources(store, stream, part, before_ms=best.created_at_ms))
    if not any(source.gaps.earlier == 0 for source in sources):
        return replace(found, unknown=found.unknown + best.gaps.earlier)
    inherited = min(max(source.gaps.other for source in sources), best.gaps.earlier)
    return replace(found, unexplained=found.unexplained + inherited, earlier=best.gaps.earlier - inherited)


def _sources(store: Store, stream: StreamContent, part: PartitionContent, *, before_ms: int) -> Iterator[_Told]:
    """What the cuts of earlier snapshots say of this partition, where their ranges overlap its own."""
    for holding in holdings(store, stream.cluster_id, stream.topic_id, part.partition):
        if holding.start < part.stop and part.start < holding.stop:
            cuts, _ = _read_cuts(store, holding.snapshot_id)
            told = [each for _, cut in cuts for each in _told_by(cut, stream, part.partition)]
            yield from (each for each in told if each.created_at_ms < before_ms)


def _read_cuts(store: Store, snapshot_id: str) -> tuple[list[tuple[str, Cut]], list[CutFault]]:
    cuts, faults = [], []
    for path in store.cuts(snapshot_id):
        name = f"cuts/{path.name}"
        try:
            cuts.append((name, parse_cut(store.read(path), name)))
        except (IntegrityError, StoreError) as exc:
            faults.append(CutFault(name, exc.message.removeprefix(f"{name}: ")))
    return cuts, faults
