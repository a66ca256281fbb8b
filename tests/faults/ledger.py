"""What producers sent and what became of it, against what a snapshot holds: lost, doubled, and what must not be there.

A producer writes a word of its own into each value; the brokers tell the offset of each record when they acknowledge
it, and the producer knows how its transaction ended. So it is known of every offset what must be there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from mlstream.snapshots.snapshot import Snapshot

COMMITTED, ABORTED = "committed", "aborted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One record that a broker acknowledged, and how its transaction ended (without one it counts as committed)."""

    partition: int
    offset: int
    word: bytes
    fate: str


@dataclass(frozen=True)
class Verdict:
    """How the records of a snapshot differ from the ledger; words of records."""

    lost: tuple[bytes, ...] = ()
    doubled: tuple[bytes, ...] = ()
    aborted: tuple[bytes, ...] = ()
    moved: tuple[bytes, ...] = ()
    strange: tuple[bytes, ...] = ()

    @property
    def faults(self) -> int:
        return sum(map(len, (self.lost, self.doubled, self.aborted, self.moved, self.strange)))


@dataclass
class Ledger:
    """All entries of a topic; producers write into it from their threads."""

    entries: list[Entry] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def enter(self, entries: Iterable[Entry]) -> None:
        with self._lock:
            self.entries.extend(entries)

    def judge(self, snapshot: Snapshot, topic: str, frame: pl.DataFrame | None = None) -> Verdict:
        """Hold a snapshot against the ledger, once all producers have ended.

        Args:
            frame: the rows to look at instead of the snapshot's own, for tests of the ledger.
        """
        rows = snapshot.scan(topic).collect() if frame is None else frame
        found = [
            (partition, offset, value)
            for partition, offset, value in rows.select("partition", "offset", "value").iter_rows()
        ]
        ranges = {part.partition: range(part.start, part.stop) for part in snapshot.stream(topic).partitions}
        inside = [entry for entry in self.entries if entry.offset in ranges.get(entry.partition, ())]
        place = {entry.word: (entry.partition, entry.offset) for entry in inside}
        committed = {entry.word for entry in inside if entry.fate == COMMITTED}
        counts = Counter(word for _, _, word in found)
        return Verdict(
            lost=tuple(sorted(committed - counts.keys())),
            doubled=tuple(sorted(word for word, count in counts.items() if count > 1)),
            aborted=tuple(sorted(word for word in counts if word in place and word not in committed)),
            moved=tuple(
                word for partition, offset, word in found if place.get(word, (partition, offset)) != (partition, offset)
            ),
            strange=tuple(sorted(word for word in counts if word not in place)),
        )

    def gaps(self, snapshot: Snapshot, topic: str) -> tuple[int, int]:
        """How many aborted records and how many offsets without any record the snapshot's ranges must have."""
        ranges = {part.partition: range(part.start, part.stop) for part in snapshot.stream(topic).partitions}
        inside = [entry for entry in self.entries if entry.offset in ranges.get(entry.partition, ())]
        aborted = sum(entry.fate == ABORTED for entry in inside)
        return aborted, sum(map(len, ranges.values())) - len(inside)
