"""A home at a URL: the store is there, and this machine has a copy of what it needs of it.

    mirror.json      which documents were fetched, and by what tag; what could not be sent yet
    mirror.lock      held while documents are compared with the store's
    tmp/fetch/       locks of objects that are being fetched

Documents (names, manifests, storage maps, cuts, protections, records of runs and comparisons) are small: whenever the
store is opened, those that changed there are fetched, those that are gone there are removed here. Objects are fetched
when they are read, proven by their digest, and stay. Everything that is written goes to the store first. So the copy
may be deleted at any time, and two machines see each other's snapshots as soon as they open the store.

The store decides who is first: a name is given if there is none (`put_new`), and a store that does not write under
conditions is refused before anything is written.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from mlstream.errors import IntegrityError, NameTaken, StoreError, shown_url
from mlstream.home import Home
from mlstream.snapshots.failures import store_error
from mlstream.snapshots.remote import Found, Remote, manifest_path, object_path, ref_path, storage_path
from mlstream.snapshots.remote_fetch import fetch_object, upload_object
from mlstream.snapshots.remote_objects import SCHEMES, ObjectsRemote
from mlstream.snapshots.transfer import ASKING, JOBS, id_there, in_parallel, missing_there

DOCUMENTS = ("refs", "manifests", "storage", "cuts", "keeps", "restores", "runs", "comparisons")
_RECORDS = ("runs", "comparisons")  # written here before they are sent
_DOCUMENT = re.compile(r"[a-z]+/[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MOST_DOCUMENT_BYTES = 1 << 30
_FORMAT = 1
_LOCK_S = 600.0  # a first refresh may fetch thousands of documents; longer means that something is stuck


@dataclass(slots=True)
class _State:
    """What is known of the copy.

    Attributes:
        probed: the store writes under conditions.
        tags: path → tag of what was fetched.
        unsent: paths of documents that the store may not have yet.
    """

    probed: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    unsent: set[str] = field(default_factory=set)


class Mirror:
    """The copy of one store. May be used from several threads; several processes may have the same copy."""

    def __init__(self, home: Home) -> None:
        self._path = home.path
        self.url = str(home.url)
        scheme = self.url.split("://", 1)[0]
        if scheme not in SCHEMES:
            raise StoreError(
                f"home {shown_url(self.url)}: a home must be a store that writes under conditions, "
                f"and {scheme}:// does not say",
                hint="use a folder, or a URL that begins with s3://, gs:// or abfs://; any URL can be pushed to",
                url=self.url,
            )
        self._lock = FileLock(home.path / "mirror.lock")
        self._brought: set[str] = set()

    @cached_property
    def remote(self) -> Remote:
        """The store."""
        return ObjectsRemote(self.url)

    def refresh(self) -> None:
        """Bring the documents of the copy up to date.

        Raises:
            StoreError: the store does not answer, or the copy cannot be written.
        """
        with self._locked() as state:
            listed = in_parallel(self.remote.list, DOCUMENTS, jobs=len(DOCUMENTS))
            there = {each.path: each for found in listed for each in found if _DOCUMENT.fullmatch(each.path)}
            here = set(self._here())
            # 1. what could not be sent is sent now
            unsent = {path for path in here - set(there) - set(state.tags) if path.startswith(_RECORDS)}
            unsent |= state.unsent & here
            in_parallel(lambda path: self.remote.put(path, (self._path / path).read_bytes()), unsent, jobs=JOBS)
            # 2. what is gone there goes here
            for path in here - set(there) - unsent:
                (self._path / path).unlink(missing_ok=True)
            # 3. what is new there comes here
            wanted = [
                path
                for path, found in there.items()
                if path not in unsent and (path not in here or state.tags.get(path) != found.tag)
            ]
            came = in_parallel(lambda path: self._fetch(there[path]), wanted, jobs=ASKING)
            gone = {path for path, whole in zip(wanted, came, strict=True) if not whole}
            state.tags = {path: found.tag for path, found in there.items() if path not in gone | unsent}
            state.unsent = set()

    def _here(self) -> Iterator[str]:
        for folder in DOCUMENTS:
            for path in (self._path / folder).glob("*"):
                if path.is_file() and _DOCUMENT.fullmatch(f"{folder}/{path.name}"):
                    yield f"{folder}/{path.name}"

    def _fetch(self, found: Found) -> bool:
        """A document into the copy; False when it was removed since it was listed."""
        try:
            data = self.remote.read(found.path, most_bytes=_MOST_DOCUMENT_BYTES)
        except FileNotFoundError:
            return False
        self._write(self._path / found.path, data)
        os.utime(self._path / found.path, (found.modified_s, found.modified_s))  # records are listed by age
        return True

    def bring(self, folder: Path) -> None:
        """Fetch the files of a folder of the index that the copy lacks, once; they never change."""
        name = self._name(folder)
        if name in self._brought:
            return
        found = self.remote.list(name)
        missing = [each.path for each in found if not (self._path / each.path).exists() and ".." not in each.path]
        in_parallel(lambda path: self._fetch(Found(path, 0, "", 0.0)), missing, jobs=ASKING)
        self._brought.add(name)

    def obtain(self, digest: str, target: Path) -> None:
        """Fetch an object into the copy, unless it is there.

        Raises:
            IntegrityError: it is missing there, or is not what its digest says.
            StoreError: the store or the disk cannot be used.
        """
        with self._fetching(digest) as folder:
            if not target.is_file():
                self._fetch_object(digest, folder, target)

    def renew(self, digest: str, target: Path) -> None:
        """Fetch an object as it is in the store now. When that is damaged, what the copy has stays.

        Raises:
            IntegrityError, StoreError: as `obtain`.
        """
        with self._fetching(digest) as folder:
            self._fetch_object(digest, folder, target)

    @contextmanager
    def _fetching(self, digest: str) -> Iterator[Path]:
        folder = self._path / "tmp" / "fetch"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{digest[:2]}.lock"):
                yield folder
        except OSError as exc:
            raise store_error(folder, exc) from exc

    def _fetch_object(self, digest: str, folder: Path, target: Path) -> None:
        size = self.remote.size(object_path(digest))
        if size is None:
            raise IntegrityError(
                f"object {digest}: it is missing in {self.url}",
                hint="push the snapshot there from a store that has it, or freeze again",
                object=digest,
            )
        fetch_object(self.remote, digest, size, folder / digest)
        (folder / digest).chmod(0o444)
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / digest).replace(target)

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Of these objects those that the store lacks, or has with another size."""
        return missing_there(self.remote, sizes)

    def publish(
        self,
        snapshot_id: str,
        *,
        name: str | None,
        objects: Mapping[str, Path],
        documents: Mapping[str, bytes],
        anew: Collection[str] = (),
    ) -> None:
        """Make a snapshot visible in the store, its parts first and its name last.

        Args:
            objects: digest → file; those that are there already are not sent.
            documents: path → bytes: the storage map, the cuts, the manifest.
            anew: objects that are sent although they are there: they are damaged.

        Raises:
            NameTaken: somebody gave the name to another snapshot meanwhile.
            StoreError: the store cannot be used.
        """
        self._check_conditions()
        # 1. the objects
        sizes = {digest: file.stat().st_size for digest, file in objects.items() if digest not in anew}
        new = [*missing_there(self.remote, sizes), *(digest for digest in objects if digest in anew)]
        in_parallel(lambda digest: upload_object(self.remote, digest, objects[digest]), new, jobs=JOBS)
        # 2. where they are, and how they came about; 3. the manifest
        last = manifest_path(snapshot_id)
        for path in sorted(documents, key=lambda path: (path == last, path)):
            if path == storage_path(snapshot_id):
                self.remote.put(path, documents[path])
            elif not self.remote.put_new(path, documents[path]) and path == last:
                self._mend(path, documents[path])
        # 4. its name
        if name is not None:
            self.give(name, snapshot_id, new=True)

    def give(self, name: str, snapshot_id: str, *, new: bool) -> None:
        """Let a name stand for a snapshot.

        Args:
            new: only if it stands for nothing else in the store.

        Raises:
            NameTaken: somebody gave it to another snapshot meanwhile.
            StoreError: the store cannot be used.
        """
        self._check_conditions()
        line = f"{snapshot_id}\n".encode()
        if not new:
            self.remote.put(ref_path(name), line)
        elif not self.remote.put_new(ref_path(name), line):
            taken = id_there(self.remote, name)
            if taken != snapshot_id:
                raise NameTaken(
                    f"{name!r} was given to another snapshot meanwhile (id {str(taken)[:12]})",
                    hint=f"choose another name; the snapshot is there as {snapshot_id[:12]}",
                    name=name,
                    snapshot_id=taken,
                )

    def _mend(self, path: str, data: bytes) -> None:
        """Put a manifest in the place of one that is damaged."""
        if self.remote.read(path, most_bytes=_MOST_DOCUMENT_BYTES) != data:
            self.remote.put(path, data)

    def send(self, paths: Iterable[Path]) -> None:
        """Send documents that were written into the copy, in place of what the store has.

        If that fails, the next `refresh` sends those that are records of runs and comparisons.

        Raises:
            StoreError: the store cannot be used.
        """
        self._check_conditions()
        names = [self._name(path) for path in paths]
        with self._locked() as state:
            state.unsent |= {name for name in names if name.startswith(_RECORDS)}
            self._save(state)
            in_parallel(lambda name: self.remote.put(name, (self._path / name).read_bytes()), names, jobs=ASKING)
            state.unsent -= set(names)

    def remove(self, path: Path) -> None:
        """Remove a document from the store."""
        self._check_conditions()
        self.remote.delete(self._name(path))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """While documents that the store has already are written into the copy: no refresh takes them for old ones."""
        with self._locked():
            yield

    def _check_conditions(self) -> None:
        """Refuse a store that does not write under conditions, before anything is written to it."""
        with self._locked() as state:
            if state.probed:
                return
            probe = f"tmp/probe-{secrets.token_hex(8)}"
            first, second = self.remote.put_new(probe, b"first"), self.remote.put_new(probe, b"second")
            whole = self.remote.read(probe, most_bytes=16) == b"first"
            self.remote.delete(probe)
            if not (first and whole and not second):
                raise StoreError(
                    f"home {self.url}: the store overwrites what is only to be written when it is new, so two machines "
                    "would overwrite each other's names",
                    hint="use a storage that heeds If-None-Match, or a folder; any can be pushed to",
                    url=self.url,
                )
            state.probed = True

    def _name(self, path: Path) -> str:
        return path.relative_to(self._path).as_posix()

    def _write(self, target: Path, data: bytes) -> None:
        temporary = self._path / "tmp" / f"{secrets.token_hex(8)}.arriving"
        try:
            for folder in (temporary.parent, target.parent):
                folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(target)
        except OSError as exc:
            raise store_error(target, exc) from exc

    @contextmanager
    def _locked(self) -> Iterator[_State]:
        """Alone with the copy, in all processes; what becomes of the state is kept, also after an error."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=_LOCK_S)
        except OSError as exc:
            raise store_error(self._path, exc) from exc
        try:
            state = self._load()
            before = (state.probed, dict(state.tags), set(state.unsent))
            yield state
            if before != (state.probed, state.tags, state.unsent):
                self._save(state)
        finally:
            self._lock.release()

    def _load(self) -> _State:
        try:
            found = json.loads((self._path / "mirror.json").read_bytes())
            if found["format"] == _FORMAT and found["url"] == self.url:
                return _State(found["probed"], dict(found["tags"]), set(found["unsent"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # derived: what is not known is fetched again
        return _State()

    def _save(self, state: _State) -> None:
        document = {
            "format": _FORMAT,
            "url": self.url,
            "probed": state.probed,
            "tags": state.tags,
            "unsent": sorted(state.unsent),
        }
        self._write(self._path / "mirror.json", json.dumps(document, sort_keys=True).encode())


def refresh(home: Home) -> None:
    """Bring this machine's copy of a home's documents up to date; nothing where the home is a folder.

    Raises:
        StoreError: the store does not answer.
    """
    if home.url is not None:
        Mirror(home).refresh()


def send(home: Home, path: Path) -> None:
    """Send a document that was just written under a home to its URL; nothing where the home is a folder.

    Raises:
        StoreError: the store cannot be used; the next `refresh` tries again.
    """
    if home.url is not None:
        Mirror(home).send([path])


def remove(home: Home, path: Path) -> None:
    """Remove a document from a home's URL, before it is removed here; nothing where the home is a folder.

    Raises:
        StoreError: the store cannot be used.
    """
    if home.url is not None:
        Mirror(home).remove(path)
