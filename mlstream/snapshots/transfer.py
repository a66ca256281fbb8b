"""What a push and a pull have in common: finding a snapshot in a remote store, reading its documents, counting bytes.

A remote store has the layout of a local one, and whatever it holds may have been put there by anybody. What is read
here is checked for what its names and digests say; `arrival.py` checks the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from mlstream.errors import IntegrityError, NameTaken, UnknownSnapshot
from mlstream.naming import is_snapshot_name
from mlstream.snapshots.manifest import Content, parse_content
from mlstream.snapshots.remote import Remote, manifest_path, object_path, ref_path, storage_path
from mlstream.snapshots.storage import Storage, check_storage, parse_storage

T = TypeVar("T")

JOBS = 8
ASKING = 32  # questions that cost a round trip and nothing else
MOST_MANIFEST_BYTES = 256 << 20
MOST_STORAGE_BYTES = 512 << 20
MOST_CUT_BYTES = 64 << 20
_MOST_REF_BYTES = 1024
_ID = re.compile(r"[0-9a-f]{64}")
_BEGINNING = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Moved:
    """What a push or a pull came to.

    Attributes:
        snapshot_id, name: what is there now; None: it has no name there.
        objects, size_bytes: what travelled.
        there: objects that were there already.
    """

    snapshot_id: str
    name: str | None
    objects: int
    size_bytes: int
    there: int


def find_there(remote: Remote, name_or_id: str) -> tuple[str, str | None]:
    """A name, an id or the beginning of one (8 digits or more) → (id, the name when it was one).

    Raises:
        UnknownSnapshot: when nothing or more than one snapshot fits.
        IntegrityError: the name's file holds no id.
        StoreError: the store cannot be asked.
    """
    if is_snapshot_name(name_or_id):
        snapshot_id = id_there(remote, name_or_id)
        if snapshot_id is not None:
            return snapshot_id, name_or_id
    if _ID.fullmatch(name_or_id):
        if remote.size(manifest_path(name_or_id)) is not None:
            return name_or_id, None
    elif _BEGINNING.fullmatch(name_or_id):
        fitting = ids_there(remote, beginning=name_or_id)
        if len(fitting) == 1:
            return fitting[0], None
        if fitting:
            raise UnknownSnapshot(f"{name_or_id}: {len(fitting)} snapshots begin so", hint="give more digits")
    raise UnknownSnapshot(
        f"{remote.url}: no snapshot is called {name_or_id!r}, and no id begins so (8 digits at least)",
        hint="`mlstream --home URL snapshot ls` lists what a store holds",
        name=name_or_id,
    )


def id_there(remote: Remote, name: str) -> str | None:
    """The id that a name stands for in a remote store; None when it has no such name.

    Raises:
        IntegrityError: the name's file holds no id.
    """
    try:
        text = remote.read(ref_path(name), most_bytes=_MOST_REF_BYTES).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    if _ID.fullmatch(text) is None:
        raise IntegrityError(f"{remote.url}/{ref_path(name)}: it holds no id", hint="remove the file there")
    return text


def ids_there(remote: Remote, *, beginning: str = "") -> list[str]:
    """The ids of all snapshots of a remote store, or of those that begin so, sorted."""
    found = remote.list("manifests", beginning=beginning)
    stems = [each.path.removeprefix("manifests/").removesuffix(".json") for each in found]
    return sorted(stem for stem in stems if _ID.fullmatch(stem))


def names_there(remote: Remote) -> list[str]:
    """The names of a remote store, sorted; files that cannot be names are left out."""
    found = [found.path.removeprefix("refs/") for found in remote.list("refs")]
    return sorted(name for name in found if "/" not in name and is_snapshot_name(name))


def content_there(remote: Remote, snapshot_id: str) -> Content:
    """The content of a snapshot of a remote store, checked against its id.

    Raises:
        IntegrityError: its manifest is missing, or is not what the id says.
    """
    return parse_content(_read(remote, manifest_path(snapshot_id), MOST_MANIFEST_BYTES), snapshot_id)


def storage_there(remote: Remote, snapshot_id: str, content: Content) -> Storage:
    """The storage map of a snapshot of a remote store, checked against its content.

    Raises:
        IntegrityError: it is missing, or is not what the content's digests cover.
    """
    storage = parse_storage(_read(remote, storage_path(snapshot_id), MOST_STORAGE_BYTES), snapshot_id)
    check_storage(storage, content, snapshot_id)
    return storage


def missing_there(remote: Remote, sizes: Mapping[str, int]) -> list[str]:
    """Of these objects those that a remote store lacks, or has with another size. `verify` checks their bytes."""
    digests = list(sizes)
    found = in_parallel(lambda digest: remote.size(object_path(digest)), digests, jobs=ASKING)
    return [digest for digest, size in zip(digests, found, strict=True) if size != sizes[digest]]


def in_parallel(work: Callable[[str], T], items: Iterable[str], *, jobs: int) -> list[T]:
    """`work` on every item by several threads, results in order. The first error stops what has not begun."""
    with ThreadPoolExecutor(jobs, thread_name_prefix="transfer") as pool:
        futures = [pool.submit(work, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = next((each for each in futures if each.done() and each.exception() is not None), None)
        if failed is not None:
            pool.shutdown(wait=True, cancel_futures=True)
            failed.result()
        return [each.result() for each in futures]


def name_taken(where: str, name: str, snapshot_id: str) -> NameTaken:
    """The error for a name that stands for something else where it should go."""
    return NameTaken(
        f"{where}: {name!r} stands for another snapshot there (id {snapshot_id[:12]})",
        hint="--force moves the name; what it stood for stays, under its id",
        name=name,
        snapshot_id=snapshot_id,
    )


def _read(remote: Remote, path: str, most_bytes: int) -> bytes:
    try:
        return remote.read(path, most_bytes=most_bytes)
    except FileNotFoundError:
        raise IntegrityError(f"{remote.url}/{path}: it is missing", hint="push the snapshot there again") from None
