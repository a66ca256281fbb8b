"""Protection: a snapshot that is kept until a date. Recorded in the store; it can be made longer, never shorter.

    keeps/ID-UNTIL.json     ID is kept until UNTIL (ms since 1970); the file says who asked for it, and when

Each is written once and never changed; the latest counts. They go with their snapshot.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlstream.errors import Protected, UsageError
from mlstream.ranges import format_time_ms
from mlstream.snapshots.documents import write_document
from mlstream.snapshots.store import Store, store_error

FOLDER = "keeps"
_RECORD = re.compile(r"([0-9a-f]{64})-([0-9]{1,15})\.json")
_LATEST_MS = 253_402_300_799_999  # the end of the year 9999, as far as dates go


@dataclass(frozen=True, slots=True)
class Kept:
    """A protection. `extended` is False when the snapshot was kept for as long, or longer, already."""

    snapshot_id: str
    name: str | None
    until_ms: int
    extended: bool


def keep(store: Store, name_or_id: str, *, for_s: float) -> Kept:
    """Protect a snapshot for a time from now on: neither its data nor its last name can be removed until then.

    Raises:
        UsageError: a time that is not positive, or leads past the year 9999.
        UnknownSnapshot: there is no such snapshot.
        IntegrityError: its manifest is missing.
        StoreError: the store cannot be written.
    """
    now_ms = time.time_ns() // 1_000_000
    if not for_s > 0 or now_ms + for_s * 1000 > _LATEST_MS:
        raise UsageError(f"a snapshot cannot be kept for {for_s:g} s", hint="write a time from now on: 90d, 36h, 52w")
    until_ms = now_ms + max(round(for_s * 1000), 1)
    # Through the gate: gc sees the protection, or this sees that the snapshot is gone.
    with store.staging() as staged, store.gate():
        snapshot_id, name = store.find(name_or_id)
        store.read(store.manifest(snapshot_id))
        before = kept_until(store).get(snapshot_id, 0)
        if before >= until_ms:
            return Kept(snapshot_id, name, before, extended=False)
        record = {
            "snapshot": snapshot_id,
            "until_ms": str(until_ms),
            "kept_at_ms": str(now_ms),
            "user": getpass.getuser(),
            "host": socket.gethostname(),
        }
        path = store.path / FOLDER / f"{snapshot_id}-{until_ms}.json"
        try:
            with store.writing():
                write_document(path, (json.dumps(record, sort_keys=True, indent=1) + "\n").encode(), staged=staged)
                store.send(path)
        except OSError as exc:
            raise store_error(path, exc) from exc
    return Kept(snapshot_id, name, until_ms, extended=True)


def kept_until(store: Store) -> dict[str, int]:
    """Snapshot's id → until when it is kept, ms since 1970; also what has run out."""
    return latest(path.name for path in (store.path / FOLDER).glob("*.json"))


def latest(records: Iterable[str]) -> dict[str, int]:
    """Names of records → snapshot's id → until when it is kept; what is no record is passed over."""
    found: dict[str, int] = {}
    for name in records:
        match = _RECORD.fullmatch(name)
        if match is not None:
            found[match[1]] = max(found.get(match[1], 0), int(match[2]))
    return found


def check_not_kept(store: Store, snapshot_id: str, names: list[str]) -> None:
    """Refuse to take away the last names of a snapshot that is kept. No option changes that.

    Raises:
        Protected: naming the date.
    """
    refuse_if_kept(kept_until(store).get(snapshot_id, 0), snapshot_id, names)


def refuse_if_kept(until_ms: int, snapshot_id: str, names: list[str]) -> None:
    """Refuse to take away the last names of a snapshot that is kept until then, if that is still to come.

    Raises:
        Protected: naming the date.
    """
    if until_ms > time.time_ns() // 1_000_000:
        raise Protected(
            f"snapshot {', '.join(names)}: it is kept until {format_time_ms(until_ms)}, so it keeps its last name",
            hint=f"give it another name first: mlstream snapshot tag {names[0]} NEW",
            snapshot_id=snapshot_id,
            until_ms=until_ms,
        )
