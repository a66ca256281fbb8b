"""What refers to a store's snapshots: leases, names, protections, runs, comparisons. Reads only; deletes nothing.

A run or a comparison refers to every snapshot whose id its record mentions, wherever in it that stands: gc must not
depend on knowing what a record of another version of mlstream means.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.errors import IntegrityError
from mlstream.ranges import format_time_ms
from mlstream.snapshots.leases import live_leases
from mlstream.snapshots.protection import kept_until
from mlstream.snapshots.store import Store

_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class References:
    """What is referred to.

    Attributes:
        why: snapshot's id → what refers to it, in words; its leases are not among them.
        leased: snapshot's id → who holds it. It need not be there (yet).
        leased_objects: digests of objects that are held by themselves.
    """

    why: dict[str, list[str]] = field(default_factory=dict)
    leased: dict[str, list[str]] = field(default_factory=dict)
    leased_objects: set[str] = field(default_factory=set)

    def reasons(self, snapshot_id: str) -> tuple[str, ...]:
        """Everything that keeps a snapshot, in words."""
        leases = (f"in use: {who}" for who in self.leased.get(snapshot_id, ()))
        return (*self.why.get(snapshot_id, ()), *leases)


def references(store: Store, known: Collection[str]) -> References:
    """What refers to what, read in the order in which references are handed on (leases.py).

    Args:
        known: the ids of snapshots of which there is anything in the store.

    Raises:
        IntegrityError: a name holds no id, or the record of a run or a comparison is damaged.
        StoreError: something cannot be read.
    """
    found = References()
    # 7. the leases first
    for lease in live_leases(store.path):
        for snapshot_id in lease.snapshots:
            found.leased.setdefault(snapshot_id, []).append(lease.who)
        found.leased_objects.update(lease.objects)
    # then names, protections, runs and comparisons
    for name, snapshot_id in store.refs().items():
        found.why.setdefault(snapshot_id, []).append(f"name {name}")
    now_ms = time.time_ns() // 1_000_000
    for snapshot_id, until_ms in sorted(kept_until(store).items()):
        if until_ms > now_ms:
            found.why.setdefault(snapshot_id, []).append(f"kept until {format_time_ms(until_ms)}")
    for what, folder in (("run", store.home.runs), ("comparison", store.home.comparisons)):
        for record, mentioned in _records(store, folder, what):
            for snapshot_id in sorted(mentioned.intersection(known)):
                found.why.setdefault(snapshot_id, []).append(f"{what} {record[:_SHOWN]}")
    return found


def digests_in(data: bytes) -> set[str]:
    """Every SHA-256 in hex that a text mentions."""
    return {match.decode() for match in _DIGEST.findall(data)}


def _records(store: Store, folder: Path, what: str) -> Iterator[tuple[str, set[str]]]:
    """Each record's name, and what it mentions."""
    for path in sorted(folder.glob("*.json")):
        try:
            data = store.read(path)
        except IntegrityError:
            continue  # removed since it was listed
        try:
            json.loads(data)
        except ValueError as exc:
            raise IntegrityError(
                f"{path}: the record of this {what} is damaged, so nobody can say what it refers to: {exc}",
                hint=f"restore it, or remove it if the {what} is not needed any more",
                path=str(path),
            ) from exc
        yield path.stem, digests_in(data)
