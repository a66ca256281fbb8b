"""Leases: what a process relies on before any name covers it, so that a gc in another process spares it.

    leases/ID.json      what is held, by whom and for what
    leases/ID.lock      locked by the holder for as long as it lives; a lease whose lock is free has ended
    leases/gate.lock    locked while something is entered into a lease or a name changes, and while gc deletes

A file of the store to which nothing refers may be deleted by gc at any moment. Whoever wants to refer to files that
are there already (a freeze that reuses objects, a pull that leaves out what it has) therefore holds them first:

holder  1. take a lease: a lock of its own, locked
        2. hold: through the gate, write down the snapshots and the objects that will be relied on
        3. look: only now see what is there. What is missing is done without; what is there stays
        4. publish. `publishing.publish` holds everything that the new snapshot needs, looks whether it is there, and
           moves the parts into place, the manifest then the name last
        5. let go: remove the lease

gc      6. shut the gate
        7. read what is referred to: the leases first, then names, protections, runs and comparisons
        8. delete what no lease, and nothing that is referred to, covers: derived entries, then manifests (flushed),
           then the other documents of snapshots, then objects
        9. open the gate

Names are moved and removed, and protections entered, through the gate too: check, then write, and gc sees both or
neither. (`publish` only adds a name, of a snapshot that it holds.)

Why nothing is lost: a hold (2) comes before or after a gc's 6 to 9 as a whole. Before: gc reads it in 7. After: the
holder looks (3) when the deleting is over, and sees what is left. What is handed on goes from a lease to a name and
never back (4 before 5), and gc reads in that order (7), so that it finds it in one of the two.

A holder that is killed lets go of its lock, whatever it was at: its lease ends, and what it had not published is
garbage. A gc that is killed lets go of the gate, and leaves no snapshot without its parts: a manifest is gone, also
after a power cut, before anything that it needs. The next gc deletes the rest. No clock is involved. Machines that
share a store's folder must share its locks, as NFS 4 and the cluster file systems do.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlstream.errors import StoreError
from mlstream.snapshots.failures import store_error

FOLDER = "leases"
_GATE = "gate.lock"
_GATE_S = 900.0  # a gc deletes some 10,000 files a second; longer means that something is stuck
_POLL_S = 0.01
_STALE_LOCK_S = 86_400


@dataclass(frozen=True, slots=True)
class Held:
    """What a live lease holds: ids of snapshots with all their parts, and digests of objects. Who says whose it is."""

    snapshots: frozenset[str]
    objects: frozenset[str]
    who: str


class Lease:
    """One process's lease on files of a store. Made by `take_lease`; holds nothing until `hold` is called."""

    def __init__(self, root: Path, document: Path, purpose: str) -> None:
        self._root = root
        self._document = document
        self._purpose = purpose
        self._snapshots: set[str] = set()
        self._objects: set[str] = set()

    def hold(self, *, snapshots: Iterable[str] = (), objects: Iterable[str] = ()) -> None:
        """Hold these as well, until the lease ends: when this returns, gc spares whatever of them is there.

        It does not say that they are there. Look after holding, never before.

        Raises:
            StoreError: when the store cannot be written, or the gate stays shut.
        """
        self._snapshots.update(snapshots)
        self._objects.update(objects)
        held = {
            "purpose": self._purpose,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "held_at_ms": str(time.time_ns() // 1_000_000),
            "snapshots": sorted(self._snapshots),
            "objects": sorted(self._objects),
        }
        temporary = self._document.with_suffix(".new")
        # Not flushed: after a power cut no process is left to hold anything.
        with gate(self._root):
            try:
                temporary.write_text(json.dumps(held, indent=1), encoding="utf-8")
                temporary.replace(self._document)
            except OSError as exc:
                raise store_error(self._document, exc) from exc


@contextmanager
def take_lease(root: Path, purpose: str) -> Iterator[Lease]:
    """A lease on files of the store at `root`, let go of at the end, or when the process dies.

    Args:
        purpose: what for, in a few words; gc shows it.

    Raises:
        StoreError: when the store cannot be written.
    """
    document = root / FOLDER / f"{secrets.token_hex(8)}.json"
    # 1. The lock comes before the document: a document whose lock can be had belongs to nobody.
    lock = FileLock(document.with_suffix(".lock"), thread_local=False)
    try:
        document.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except OSError as exc:
        raise store_error(document.parent, exc) from exc
    try:
        yield Lease(root, document, purpose)
    finally:
        # 5. let go
        for path in (document, document.with_suffix(".new")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        _drop_lock(lock)


@contextmanager
def gate(root: Path) -> Iterator[None]:
    """Through the gate, one at a time: what is checked inside is still so when what follows from it is written.

    Raises:
        StoreError: when the store cannot be written, or the gate stays shut for long.
    """
    path = root / FOLDER / _GATE
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_GATE_S, poll_interval=_POLL_S)
    except Timeout:
        raise StoreError(
            f"{path}: another process has held it for {_GATE_S / 60:.0f} minutes",
            hint="look for a `snapshot gc` that does not end",
        ) from None
    except OSError as exc:
        raise store_error(path, exc) from exc
    try:
        yield
    finally:
        lock.release()


def live_leases(root: Path) -> list[Held]:
    """What live processes hold. A lease that cannot be read counts as holding nothing only when its process is dead.

    Raises:
        StoreError: a live lease is damaged, and so nobody can say what it holds.
    """
    found = []
    for document in sorted(_documents(root)):
        lock = FileLock(document.with_suffix(".lock"))
        if _is_free(lock):
            if document.exists():
                lock.release()
            else:  # let go of since it was listed: the lock file is new
                _drop_lock(lock)
            continue
        try:
            held: dict[str, Any] = json.loads(document.read_bytes())
            who = f"{held['purpose']} (pid {held['pid']} on {held['host']})"
            found.append(Held(frozenset(held["snapshots"]), frozenset(held["objects"]), who))
        except FileNotFoundError:
            continue  # just let go of
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise StoreError(
                f"{FOLDER}/{document.name}: a live process holds it, and it cannot be read: {exc}",
                hint="wait until that process has ended",
            ) from exc
    return found


def clear_dead_leases(root: Path) -> None:
    """Remove what dead processes left in the folder."""
    for document in _documents(root):
        lock = FileLock(document.with_suffix(".lock"))
        if _is_free(lock):
            document.unlink(missing_ok=True)
            document.with_suffix(".new").unlink(missing_ok=True)
            _drop_lock(lock)
    for path in (root / FOLDER).glob("*.lock"):
        # Without a document, but perhaps of a process that is just starting: leave young ones.
        with suppress(OSError):
            old = time.time() - path.stat().st_mtime > _STALE_LOCK_S
            lock = FileLock(path)
            if path.name != _GATE and old and not path.with_suffix(".json").exists() and _is_free(lock):
                path.with_suffix(".new").unlink(missing_ok=True)
                _drop_lock(lock)


def _documents(root: Path) -> list[Path]:
    return list((root / FOLDER).glob("*.json"))


def _is_free(lock: FileLock) -> bool:
    """Lock it if nobody has; False also where that cannot be tried, as in a store that is read-only."""
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    return True


def _drop_lock(lock: FileLock) -> None:
    # Removed while it is locked: who opened it meanwhile finds another file in its place, or none, and tries again.
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()
