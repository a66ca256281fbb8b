"""Pull a snapshot from another store, which may be anybody's: nothing of it is kept until all of it is proven.

1. find it there; claim the name here, refuse one that stands for something else
2. the manifest, the storage map, the cuts: small files, of bounded size, checked before anything else is fetched
3. hold what the store here has of it against gc, then look what that is, by the bytes: what is damaged here is
   fetched anew
4. fetch the other objects into a small store of their own, several at once: no more bytes than announced, each with
   the digest that is its name
5. check that store as `verify --deep` does, down to every row
6. publish: objects, storage map, cuts, manifest, name

    tmp/incoming/ID/        the small store; objects that are here already are linked into it
    tmp/incoming/ID.lock    held while it is filled

A pull that is killed, or that the network lets down, leaves the small store, and the next one goes on in it, in the
middle of an object. One that finds a lie removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.errors import IntegrityError, StoreError
from mlstream.home import Home, find_home
from mlstream.snapshots.arrival import check_cut, check_documents, check_parquet, check_room
from mlstream.snapshots.forms import forms_of
from mlstream.snapshots.manifest import Content, parse_content
from mlstream.snapshots.names import tag
from mlstream.snapshots.publishing import Publication, publish
from mlstream.snapshots.remote import Remote
from mlstream.snapshots.remote_fetch import Counter, Progress, fetch_object, sha256_of
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.reuse import objects_are_there
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.storage import Storage, check_storage, parse_storage
from mlstream.snapshots.store import Store, store_error
from mlstream.snapshots.transfer import (
    ASKING,
    JOBS,
    MOST_CUT_BYTES,
    Moved,
    content_there,
    find_there,
    in_parallel,
    name_taken,
    storage_there,
)

_MOST_CUTS = 1000
_STALE_S = 7 * 86_400
_CUT = re.compile(r"cuts/[0-9a-f]{64}-[0-9A-Za-z-]{1,64}\.json")


@dataclass(frozen=True, slots=True)
class _Arriving:
    """The documents of a snapshot that is being pulled, checked; cuts by file name."""

    snapshot_id: str
    content: Content
    storage: Storage
    cuts: Mapping[str, bytes]


def pull(
    name_or_id: str,
    remote: Remote,
    *,
    home: Home,
    force: bool = False,
    jobs: int = JOBS,
    progress: Callable[[Progress], None] | None = None,
) -> Moved:
    """Copy a snapshot from another store.

    Args:
        name_or_id: a name there, an id, or the beginning of one. A name is kept here, an id comes without one.
        home: where it goes.
        force: a name that stands for something else here is moved.
        jobs: objects that travel at the same time.
        progress: called as bytes travel.

    Raises:
        UnknownSnapshot: there is none there.
        NameTaken: the name stands for another snapshot here.
        IntegrityError: what is there is not what it says to be; nothing of it is kept.
        StoreError: one of the stores cannot be used; another pull goes on where this one ended.
    """
    store = Store(home)
    # 1. find it
    snapshot_id, name = find_there(remote, name_or_id)
    with store.lease(f"pulling {snapshot_id[:12]}") as lease:
        # 1. claim the name
        with nullcontext() if name is None else store.claim(name):
            taken = None if name is None else store.refs().get(name)
            moves = name is not None and taken not in (None, snapshot_id)
            if moves and not force:
                raise name_taken(home.address, str(name), str(taken))
            # 2. the documents
            arriving = _documents(remote, snapshot_id)
            # 3. hold, then look
            lease.hold(snapshots=[snapshot_id], objects=arriving.storage.objects)
            moved = _bring(remote, arriving, store, name=None if moves else name, jobs=jobs, progress=progress)
        if moves:
            tag(store, snapshot_id, str(name), force=True)
    return replace(moved, name=name)


def pull_snapshot(
    name_or_id: str, url: str | Path, *, home: Home | str | Path | None = None, force: bool = False
) -> Snapshot:
    """Copy a snapshot from the store at a folder's path or a URL (`s3://bucket/store`); only what is missing travels.

    Nothing is kept that is not proven down to every row, so the store may be anybody's.

    Args:
        name_or_id: a name there, an id, or the beginning of one. A name is kept here, an id comes without one.
        home: where it goes; found as `find_home` says when None.
        force: a name that stands for something else here is moved.

    Raises:
        UnknownSnapshot: there is none there.
        NameTaken: the name stands for another snapshot here.
        IntegrityError: what is there is not what it says to be; nothing of it is kept.
        StoreError: one of the stores cannot be used; another pull goes on where this one ended.
    """
    home = home if isinstance(home, Home) else find_home(home)
    moved = pull(name_or_id, open_remote(url), home=home, force=force)
    return open_snapshot(moved.snapshot_id if moved.name is None else moved.name, home=home)


def _bring(
    remote: Remote,
    arriving: _Arriving,
    store: Store,
    *,
    name: str | None,
    jobs: int,
    progress: Callable[[Progress], None] | None,
) -> Moved:
    """Steps 4 to 6."""
    here = _whole_here(store, arriving)
    if here is not None:
        with store.staging() as staged:
            publish(store, _publication(arriving, name, here, {}), staged=staged)
        return Moved(arriving.snapshot_id, name, 0, 0, len(here.objects))
    sizes = {digest: found.size_bytes for digest, found in arriving.storage.objects.items()}
    with _incoming(store, arriving.snapshot_id) as small:
        # 4. fetch
        fetched = _fetch(remote, arriving, store, small, jobs=jobs, progress=progress)
        # 5. every row
        _prove(arriving, small, where=remote.url)
        # 6. publish
        staged = small.path / "staged"
        staged.mkdir(exist_ok=True)
        publish(store, _publication(arriving, name, arriving.storage, fetched), staged=staged)
    travelled = sum(sizes[digest] for digest in fetched)
    return Moved(arriving.snapshot_id, name, len(fetched), travelled, len(sizes) - len(fetched))


def _documents(remote: Remote, snapshot_id: str) -> _Arriving:
    content = content_there(remote, snapshot_id)
    storage = storage_there(remote, snapshot_id, content)
    check_documents(content, storage, where=f"{remote.url}: snapshot {snapshot_id[:12]}")
    cuts = {}
    paths = sorted(found.path for found in remote.list("cuts", beginning=f"{snapshot_id}-"))
    for path in [path for path in paths if _CUT.fullmatch(path)][-_MOST_CUTS:]:
        data = remote.read(path, most_bytes=MOST_CUT_BYTES)
        check_cut(data, where=f"{remote.url}/{path}")
        cuts[path.removeprefix("cuts/")] = data
    return _Arriving(snapshot_id, content, storage, cuts)


def _whole_here(store: Store, arriving: _Arriving) -> Storage | None:
    """The storage map of a snapshot that the store has already, with all its objects."""
    snapshot_id = arriving.snapshot_id
    try:
        parse_content(store.read(store.manifest(snapshot_id)), snapshot_id)
        here = parse_storage(store.read(store.storage(snapshot_id)), snapshot_id)
        check_storage(here, arriving.content, snapshot_id)
    except IntegrityError:
        return None
    sound = objects_are_there(store, here) and all(_are_sound(store, here.objects))
    return here if sound else None


def _fetch(
    remote: Remote,
    arriving: _Arriving,
    store: Store,
    small: Store,
    *,
    jobs: int,
    progress: Callable[[Progress], None] | None,
) -> dict[str, Path]:
    """All objects into the small store: linked when they are here, else fetched; the fetched ones, and where."""
    sizes = {digest: found.size_bytes for digest, found in arriving.storage.objects.items()}
    lacking = set(store.missing(sizes))
    here = [digest for digest in sizes if digest not in lacking]
    lacking.update(digest for digest, sound in zip(here, _are_sound(store, here), strict=True) if not sound)
    missing = {digest: size for digest, size in sizes.items() if digest in lacking}
    check_room(missing, store.path, where=remote.url)
    for folder in {small.object(digest).parent for digest in sizes}:
        folder.mkdir(parents=True, exist_ok=True)
    in_parallel(
        lambda digest: _link(store.obtain(digest), small.object(digest)),
        [digest for digest in sizes if digest not in missing],
        jobs=ASKING,
    )
    counter = Counter(missing, progress)
    forms = forms_of(arriving.content, arriving.storage)

    def fetch(digest: str) -> None:
        fetch_object(remote, digest, sizes[digest], small.object(digest), counter)
        known = arriving.storage.objects[digest]
        check_parquet(small.object(digest), known, forms=forms.get(digest, ()), where=remote.url)

    in_parallel(fetch, missing, jobs=jobs)
    return {digest: small.object(digest) for digest in missing}


def _are_sound(store: Store, digests: Iterable[str]) -> list[bool]:
    """Whether objects here have the bytes of their names; those that have not are marked, so that they are replaced."""

    def is_sound(digest: str) -> bool:
        try:
            sound = sha256_of(store.obtain(digest)) == digest
            if not sound and store.mirror is not None:  # the copy is damaged, and the store perhaps is not
                sound = sha256_of(store.obtain_anew(digest)) == digest
        except (OSError, IntegrityError):
            sound = False
        if not sound:
            store.mark(digest, damaged=True)
        return sound

    return in_parallel(is_sound, digests, jobs=JOBS)


def _link(path: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # what a pull before this one linked may be damaged
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, target)


def _prove(arriving: _Arriving, small: Store, *, where: str) -> None:
    """Check the small store as a snapshot of its own, down to every row.

    Raises:
        IntegrityError: what came is not what it says to be.
    """
    snapshot_id = arriving.snapshot_id
    documents = {small.path / "cuts" / name: data for name, data in arriving.cuts.items()}
    documents[small.storage(snapshot_id)] = arriving.storage.to_bytes(snapshot_id)
    documents[small.manifest(snapshot_id)] = arriving.content.to_bytes()
    for path, data in documents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        open_snapshot(snapshot_id, home=small.home).verify(deep=True)
    except IntegrityError as exc:
        raise IntegrityError(f"{where}: {exc.message}", hint="nothing of it was kept", **exc.facts) from exc


def _publication(arriving: _Arriving, name: str | None, storage: Storage, objects: Mapping[str, Path]) -> Publication:
    snapshot_id = arriving.snapshot_id
    return Publication(
        snapshot_id=snapshot_id,
        name=name,
        objects=objects,
        sizes={digest: found.size_bytes for digest, found in storage.objects.items()},
        manifest=arriving.content.to_bytes(),
        storage=storage.to_bytes(snapshot_id),
        cuts=arriving.cuts,
    )


@contextmanager
def _incoming(store: Store, snapshot_id: str) -> Iterator[Store]:
    """The small store of a pull. It stays when the pull is cut off or the network fails; a lie removes it."""
    root = store.path / "tmp" / "incoming"
    folder = root / snapshot_id
    lock = FileLock(root / f"{snapshot_id}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_stale(root)
        lock.acquire(timeout=0)
        folder.mkdir(exist_ok=True)
        os.utime(folder)
    except Timeout:
        raise StoreError(
            f"snapshot {snapshot_id[:12]} is being pulled by another process", hint="wait for it"
        ) from None
    except OSError as exc:
        raise store_error(root, exc) from exc
    try:
        yield Store(Home(folder))
        shutil.rmtree(folder, ignore_errors=True)
    except IntegrityError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def _remove_stale(root: Path) -> None:
    """Remove what pulls left that nobody went on with for a week."""
    for folder in root.iterdir():
        with suppress(OSError, Timeout):
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _STALE_S:
                with FileLock(root / f"{folder.name}.lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
