"""Which snapshots hold what of a partition: an index derived from the store, so that a freeze need not copy twice.

    index/streams/CLUSTER/TOPIC-ID/PARTITION/SNAPSHOT.json

One small file for each partition of each snapshot: where its range starts, and the last record's offset and leader
epoch, by which a later freeze finds out whether the log is still the one that was copied. Losing it costs a copy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mlstream.snapshots.documents import write_document
from mlstream.snapshots.store import Store


@dataclass(frozen=True, slots=True)
class Holding:
    """What one snapshot holds of a partition.

    Attributes:
        start: the first offset of its range.
        last_offset, leader_epoch: its last record, and the leader epoch of that record's batch. A log that has this
            epoch at this offset is the same up to here (that is what leader epochs are for: KIP-101, KIP-279).
    """

    snapshot_id: str
    start: int
    last_offset: int
    leader_epoch: int

    @property
    def stop(self) -> int:
        """The end of what it can vouch for. A gap after the last record might be filled by another leader."""
        return self.last_offset + 1


def holdings(store: Store, cluster_id: str, topic_id: str, partition: int) -> list[Holding]:
    """What the store's snapshots hold of a partition, the widest range first; unreadable entries are left out."""
    found = []
    folder = _folder(store, cluster_id, topic_id, partition)
    store.bring(folder.parent)  # of the whole topic
    for path in folder.glob("*.json"):
        try:
            entry = json.loads(path.read_bytes())
            found.append(
                Holding(
                    path.stem,
                    int(entry["start"]),
                    int(entry["last_offset"]),
                    int(entry["leader_epoch"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda holding: (holding.start - holding.stop, holding.snapshot_id))


def remember(
    store: Store, cluster_id: str, topic_id: str, partition: int, holding: Holding, *, staged: Path
) -> Path | None:
    """Enter a snapshot's part of a partition into the index, if the disk lets it: the snapshot is there without it.

    Returns:
        The entry, for `Store.send`; None when the disk did not let it.
    """
    target = _folder(store, cluster_id, topic_id, partition) / f"{holding.snapshot_id}.json"
    entry = {
        "start": str(holding.start),
        "last_offset": str(holding.last_offset),
        "leader_epoch": holding.leader_epoch,
    }
    try:
        write_document(target, json.dumps(entry, sort_keys=True).encode(), staged=staged)
    except OSError:
        return None
    return target


def _folder(store: Store, cluster_id: str, topic_id: str, partition: int) -> Path:
    return store.index / "streams" / quote(cluster_id, safe="") / quote(topic_id, safe="") / str(partition)
