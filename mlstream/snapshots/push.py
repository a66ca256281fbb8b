"""Push a snapshot to another store: only what is missing there travels, the manifest last, then the name.

1. refuse a name that stands for something else there
2. hold the snapshot here against gc; hold it there too where that store is a folder
3. ask which objects are there, with their sizes
4. send the others, several at once; each is hashed before it goes, and its size asked for when it came
5. the storage map, unless there is one whose objects are all there; the cuts
6. the manifest: from here on the snapshot exists there
7. its name; in a folder under the claim and through the gate of the store there, as `tag` does

Killed at any point, the store there has the snapshot or has it not, and the next push goes on where this one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from mlstream.errors import IntegrityError, NameTaken, StoreError
from mlstream.home import Home
from mlstream.snapshots.protection import latest, refuse_if_kept
from mlstream.snapshots.remote import Remote, manifest_path, ref_path, storage_path
from mlstream.snapshots.remote_fetch import Counter, Progress, sha256_of, upload_object
from mlstream.snapshots.remote_folder import FolderRemote
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.store import Store, store_error
from mlstream.snapshots.transfer import (
    JOBS,
    Moved,
    content_there,
    id_there,
    in_parallel,
    missing_there,
    name_taken,
    names_there,
    storage_there,
)

_CLAIM_S = 2.0  # to wait for a name that somebody else holds
_POLL_S = 0.02


def push(
    snapshot: Snapshot,
    remote: Remote,
    *,
    name: str | None = None,
    force: bool = False,
    jobs: int = JOBS,
    progress: Callable[[Progress], None] | None = None,
) -> Moved:
    """Copy a snapshot to another store.

    Args:
        name: what it is called there; no name when None.
        force: a name that stands for something else there is moved, unless that is kept and would lose its last name.
        jobs: objects that travel at the same time.
        progress: called as bytes travel.

    Raises:
        NameTaken: the name stands for another snapshot there, or one is being made under it.
        Protected: moving the name would take the last one of a snapshot that is kept there.
        IntegrityError: the snapshot here is not whole; nothing of it is visible there.
        StoreError: the store there cannot be used.
    """
    # 1. the name
    taken = None if name is None else id_there(remote, name)
    if name is not None and taken not in (None, snapshot.id) and not force:
        raise name_taken(remote.url, name, str(taken))
    if name is not None and taken not in (None, snapshot.id):
        _check_movable(remote, name, str(taken))
    with _held(snapshot, remote):
        # 3. what is there
        sizes = {digest: found.size_bytes for digest, found in snapshot.storage.objects.items()}
        whole = _is_whole(remote, snapshot)
        missing = [] if whole else missing_there(remote, sizes)
        # 4. the others
        counter = Counter({digest: sizes[digest] for digest in missing}, progress)
        in_parallel(lambda digest: _send(snapshot.store, digest, sizes[digest], remote, counter), missing, jobs=jobs)
        # 5. where they are, and how they came about
        if not whole:
            remote.put(storage_path(snapshot.id), snapshot.storage.to_bytes(snapshot.id))
        for path in snapshot.store.cuts(snapshot.id):
            remote.put_new(f"cuts/{path.name}", snapshot.store.read(path))
        # 6. the manifest
        _put_manifest(remote, snapshot)
        # 7. its name
        if name is not None and taken != snapshot.id:
            with _naming(remote, name):
                _put_name(remote, name, snapshot.id, force=force)
    return Moved(snapshot.id, name, len(missing), sum(sizes[digest] for digest in missing), len(sizes) - len(missing))


def _send(store: Store, digest: str, size_bytes: int, remote: Remote, counter: Counter) -> None:
    path = store.obtain(digest)
    try:
        found = sha256_of(path)
    except OSError as exc:
        raise store_error(path, exc) from exc
    if found != digest:
        store.mark(digest, damaged=True)
        raise IntegrityError(
            f"object {digest}: its bytes have changed", hint="run `mlstream snapshot verify`", object=digest
        )
    upload_object(remote, digest, path)
    counter.add(size_bytes, objects=1)


def _put_manifest(remote: Remote, snapshot: Snapshot) -> None:
    data = snapshot.content.to_bytes()
    if remote.put_new(manifest_path(snapshot.id), data):
        return
    try:
        content_there(remote, snapshot.id)
    except IntegrityError:  # damaged there
        remote.put(manifest_path(snapshot.id), data)


def _put_name(remote: Remote, name: str, snapshot_id: str, *, force: bool) -> None:
    line = f"{snapshot_id}\n".encode()
    if remote.put_new(ref_path(name), line):
        return
    taken = id_there(remote, name)  # somebody was quicker, or it is to be moved
    if taken not in (None, snapshot_id):
        if not force:
            raise name_taken(remote.url, name, str(taken))
        _check_movable(remote, name, str(taken))
        remote.put(ref_path(name), line)


def _check_movable(remote: Remote, name: str, taken: str) -> None:
    """Refuse to move a name that is the last one of a snapshot which is kept there.

    Raises:
        Protected: naming the date.
    """
    records = [found.path.rpartition("/")[2] for found in remote.list("keeps", beginning=f"{taken}-")]
    until_ms = latest(records).get(taken, 0)
    if until_ms and not any(id_there(remote, other) == taken for other in names_there(remote) if other != name):
        refuse_if_kept(until_ms, taken, [name])


@contextmanager
def _naming(remote: Remote, name: str) -> Iterator[None]:
    """Around giving a name in a folder: nobody is making a snapshot of that name there, no other name moves, no gc."""
    if not isinstance(remote, FolderRemote):
        yield
        return
    store, last = Store(Home(remote.path)), time.monotonic() + _CLAIM_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(store.claim(name))
                break
            except NameTaken:  # perhaps another push, which has it for a moment only
                if time.monotonic() > last:
                    raise
                time.sleep(_POLL_S)
        stack.enter_context(store.gate())
        yield


def _is_whole(remote: Remote, snapshot: Snapshot) -> bool:
    """Whether the snapshot is there already, with all objects; they may be others than here."""
    if remote.size(manifest_path(snapshot.id)) is None:
        return False
    try:
        there = storage_there(remote, snapshot.id, snapshot.content)
    except IntegrityError:
        return False
    return not missing_there(remote, {digest: found.size_bytes for digest, found in there.objects.items()})


@contextmanager
def _held(snapshot: Snapshot, remote: Remote) -> Iterator[None]:
    """While it travels, no gc deletes what it needs: neither here, nor in a folder there."""
    # 2. held
    stores = [snapshot.store]
    if isinstance(remote, FolderRemote):
        stores.append(Store(Home(remote.path)))
    with ExitStack() as stack:
        for store in stores:
            with suppress(StoreError):  # of a store that cannot be written nothing can be deleted
                lease = stack.enter_context(store.lease(f"pushing {snapshot.id[:12]}"))
                lease.hold(snapshots=[snapshot.id], objects=snapshot.storage.objects)
        yield
