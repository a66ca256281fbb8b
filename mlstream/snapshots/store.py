"""The store's files: names of documents, staging, refs. Knows bytes and digests, not what they mean.

objects/ab/abcdef…     Parquet, named by the SHA-256 of its bytes, read-only
manifests/ID.json      what ID is the SHA-256 of; a snapshot exists when this file does
storage/ID.json        its cells → rows of objects
cuts/ID-….json         one for each freeze that led to ID
refs/NAME              an id
keeps/ID-UNTIL.json    a snapshot that is protected until then
restores/KEY.json      which topic a snapshot was restored to; KEY.parquet: which offset became which
leases/                what processes in progress rely on, so that gc spares it: see leases.py
index/                 derived: which snapshots hold what of a partition, which objects were found damaged
views/                 derived: decoded columns
tmp/                   work in progress, one folder a process; what a killed one left is removed by the next
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from mlstream.errors import IntegrityError, NameTaken, StoreError, UnknownSnapshot
from mlstream.home import Home
from mlstream.naming import is_snapshot_name as is_name
from mlstream.snapshots import damage
from mlstream.snapshots.documents import flush_folder, write_document
from mlstream.snapshots.failures import is_unwritable
from mlstream.snapshots.failures import store_error as store_error
from mlstream.snapshots.leases import Lease, gate, take_lease
from mlstream.snapshots.leftovers import leftovers, remove_leftovers, remove_old_pulls
from mlstream.snapshots.locks import locked
from mlstream.snapshots.remote_home import Mirror
from mlstream.snapshots.transfer import JOBS, in_parallel

_ID = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True)
class Store:
    """The files under a home. Opening it makes nothing; writing makes the folders that it needs.

    Where the home is at a URL, opening it brings this machine's copy of its documents up to date. All paths are those
    of the copy; `obtain` fetches objects into it, and what is written goes to the URL first (remote_home.py).

    Raises:
        StoreError: the store at the URL does not answer.
    """

    home: Home
    mirror: Mirror | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        mirror = None if self.home.url is None else Mirror(self.home)
        object.__setattr__(self, "mirror", mirror)
        if mirror is not None:
            mirror.refresh()

    @property
    def path(self) -> Path:
        """The home's folder."""
        return self.home.path

    @property
    def index(self) -> Path:
        """The folder of the derived index."""
        return self.path / "index"

    @property
    def views(self) -> Path:
        """The folder of derived views."""
        return self.path / "views"

    def object(self, digest: str) -> Path:
        """Where the object of that digest is, or would be."""
        return self.path / "objects" / digest[:2] / digest

    def obtain(self, digest: str) -> Path:
        """The file of an object that must be there.

        Raises:
            IntegrityError: when it is missing.
        """
        path = self.object(digest)
        if not path.is_file():
            if self.mirror is not None:
                self.mirror.obtain(digest, path)
                return path
            raise IntegrityError(
                f"object {digest}: it is missing", hint="run `mlstream snapshot verify`", object=digest
            )
        return path

    def obtain_anew(self, digest: str) -> Path:
        """The file of an object as the store has it now: of a store at a URL it is fetched again, for `verify`.

        Raises:
            IntegrityError: when it is missing, or at the URL is not what its digest says.
        """
        if self.mirror is not None:
            self.mirror.renew(digest, self.object(digest))
        return self.obtain(digest)

    def obtain_all(self, digests: Iterable[str]) -> None:
        """Fetch these objects, several at once, if they are at a URL and not here yet.

        Raises:
            IntegrityError: one is missing.
        """
        if self.mirror is not None:
            missing = [digest for digest in dict.fromkeys(digests) if not self.object(digest).is_file()]
            in_parallel(self.obtain, missing, jobs=JOBS)

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Of these objects (digest → bytes) those that are not there, have another size, or were found damaged."""
        marked = damage.damaged(self.index)
        if self.mirror is not None:
            lacking = marked.union(self.mirror.missing(sizes))
            return [digest for digest in sizes if digest in lacking]
        return [digest for digest, size in sizes.items() if digest in marked or not self._has(digest, size)]

    def holds(self, digest: str, size_bytes: int) -> bool:
        """Whether the object is there, has its size, and was not found damaged. Its bytes are `verify`'s to check."""
        return not self.missing({digest: size_bytes})

    def _has(self, digest: str, size_bytes: int) -> bool:
        try:
            return self.object(digest).stat().st_size == size_bytes
        except OSError:
            return False

    def mark(self, digest: str, *, damaged: bool) -> None:
        """Remember what a look at an object's bytes showed, if the disk lets it; damaged ones count as not there."""
        (damage.mark_damaged if damaged else damage.mark_sound)(self.index, digest)

    def manifest(self, snapshot_id: str) -> Path:
        """Where the manifest of that id is, or would be."""
        return self.path / "manifests" / f"{snapshot_id}.json"

    def storage(self, snapshot_id: str) -> Path:
        """Where the storage map of that id is, or would be."""
        return self.path / "storage" / f"{snapshot_id}.json"

    def cuts(self, snapshot_id: str) -> list[Path]:
        """The cuts of that id, oldest first."""
        return sorted((self.path / "cuts").glob(f"{snapshot_id}-*.json"))

    def last_cuts(self) -> dict[str, Path]:
        """The last cut of every snapshot that has one."""
        return {path.name[:64]: path for path in sorted((self.path / "cuts").glob("*.json"))}

    def ref(self, name: str) -> Path:
        """Where the ref of that name is, or would be."""
        return self.path / "refs" / name

    def read(self, path: Path) -> bytes:
        """A document's bytes.

        Raises:
            IntegrityError: when it is not there.
            StoreError: when it cannot be read.
        """
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise IntegrityError(
                f"{path.relative_to(self.path)}: it is missing",
                hint="restore it from a copy of the store, or freeze again",
            ) from None
        except OSError as exc:
            raise store_error(path, exc) from exc

    def ids(self) -> list[str]:
        """The ids of all snapshots, sorted."""
        folder = self.path / "manifests"
        return sorted(path.stem for path in folder.glob("*.json") if _ID.fullmatch(path.stem))

    def refs(self) -> dict[str, str]:
        """Every name and the id that it stands for, sorted by name."""
        found = {}
        for name in self.names():
            with suppress(UnknownSnapshot):  # removed since it was listed
                found[name] = self.id_of(name)
        return found

    def names(self) -> list[str]:
        """Every name, sorted; what one stands for, and whether it stands for anything, is `id_of`'s to say."""
        return sorted(path.name for path in (self.path / "refs").glob("*") if is_name(path.name) and path.is_file())

    def strays(self) -> list[Path]:
        """What lies among the names and is none, such as a file browser's `.DS_Store`; sorted."""
        found = (self.path / "refs").glob("*")
        return sorted(path for path in found if not is_name(path.name) or not path.is_file())

    def id_of(self, name: str) -> str:
        """The id that a name stands for.

        Raises:
            UnknownSnapshot: when there is no such name.
            IntegrityError: when the ref does not hold an id.
        """
        try:
            text = self.ref(name).read_text(encoding="ascii").strip()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise UnknownSnapshot(f"no snapshot is called {name!r}", name=name) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise store_error(self.ref(name), exc) from exc
        if _ID.fullmatch(text) is None:
            raise IntegrityError(f"refs/{name}: it holds no id", hint="write the snapshot's id into it, or delete it")
        return text

    def set_ref(self, name: str, snapshot_id: str, *, staged: Path, new: bool = False) -> None:
        """Let a name stand for a snapshot, whatever it stood for. The caller holds the name (`claim`).

        Args:
            new: it stood for nothing; a store at a URL that another machine gave the name to meanwhile refuses it.

        Raises:
            NameTaken: it was given to another snapshot meanwhile.
            OSError: when the store cannot be written.
        """
        data = f"{snapshot_id}\n".encode()
        with self.writing():
            if self.mirror is not None:
                self.mirror.give(name, snapshot_id, new=new)
            write_document(self.ref(name), data, staged=staged)

    def drop_ref(self, name: str) -> None:
        """Remove a name, and nothing else. The caller holds the name (`claim`).

        Raises:
            OSError: when the store cannot be written.
        """
        if self.mirror is not None:
            self.mirror.remove(self.ref(name))
        self.ref(name).unlink(missing_ok=True)
        flush_folder(self.ref(name).parent)

    def send(self, *paths: Path) -> None:
        """Send documents that were just written here to the home's URL, if it has one.

        Raises:
            StoreError: the store at the URL cannot be used.
        """
        if self.mirror is not None and paths:
            self.mirror.send(paths)

    def bring(self, folder: Path) -> None:
        """Fetch the files of a folder of the index, if the home is at a URL."""
        if self.mirror is not None:
            self.mirror.bring(folder)

    def writing(self) -> AbstractContextManager[None]:
        """Around writing documents here that are at the home's URL already, or will be at the end."""
        return nullcontext() if self.mirror is None else self.mirror.writing()

    def find(self, name_or_id: str) -> tuple[str, str | None]:
        """A name, an id or the beginning of one (8 digits or more) → (id, the name when it was one).

        Raises:
            UnknownSnapshot: when nothing or more than one snapshot fits; near names are in the hint.
        """
        if is_name(name_or_id) and self.ref(name_or_id).is_file():
            return self.id_of(name_or_id), name_or_id
        ids = self.ids()
        if _PREFIX.fullmatch(name_or_id):
            fitting = [found for found in ids if found.startswith(name_or_id)]
            if len(fitting) == 1:
                return fitting[0], None
            if fitting:
                raise UnknownSnapshot(f"{name_or_id}: {len(fitting)} snapshots begin so", hint="give more digits")
        raise UnknownSnapshot(
            f"no snapshot is called {name_or_id!r}, and no id begins so (8 digits at least)",
            hint=_near(name_or_id, list(self.refs())),
            name=name_or_id,
        )

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Hold a name while its snapshot is made, against other processes; a process that dies lets go of it.

        Raises:
            NameTaken: when another process is making a snapshot of that name.
            StoreError: when the store cannot be written.
        """
        busy = NameTaken(
            f"snapshot {name!r} is being made by another process", hint="wait for it, or choose another name"
        )
        with locked(self.path / "tmp" / "names" / f"{name}.lock", busy=busy):
            yield

    @contextmanager
    def lease(self, purpose: str) -> Iterator[Lease]:
        """A lease of this process: `hold` what is relied on, then look whether it is there. leases.py says why.

        Args:
            purpose: what for, in a few words; gc shows it.

        Raises:
            StoreError: when the store cannot be written.
        """
        with take_lease(self.path, purpose) as lease:
            yield lease

    @contextmanager
    def in_use(self, snapshot_id: str, purpose: str, *, damaged_ok: bool = False) -> Iterator[None]:
        """While a snapshot is read for long, or until a record refers to it: gc spares it, whatever its names.

        In a store that this process may not write, or that has no room, nothing is held: it can be read all the same.

        Args:
            damaged_ok: hold what is there of it, also without a manifest.

        Raises:
            UnknownSnapshot: it was deleted before it could be held.
            StoreError: when another process does not let go of the store.
        """
        if not os.access(self.path, os.W_OK):
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(self.lease(purpose)).hold(snapshots=[snapshot_id])
            except StoreError as exc:
                if not is_unwritable(exc):
                    raise
            if not damaged_ok and not self.manifest(snapshot_id).exists():
                raise UnknownSnapshot(f"snapshot {snapshot_id[:12]} was deleted just now", hint="freeze it again")
            yield

    @contextmanager
    def gate(self) -> Iterator[None]:
        """While it is held, no lease is entered, no name moved or removed and nothing deleted by another process.

        Raises:
            StoreError: when the store cannot be written, or another process does not let go.
        """
        with gate(self.path):
            yield

    def leftovers(self) -> list[Path]:
        """Folders of work in progress that dead processes left, and of pulls that nobody goes on with."""
        return leftovers(self.path / "tmp")

    def clear_leftovers(self) -> None:
        """Remove them."""
        remove_leftovers(self.path / "tmp")
        remove_old_pulls(self.path / "tmp")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this process for work in progress, removed at the end; first removes what dead processes left.

        Raises:
            StoreError: when the store cannot be written.
        """
        root = self.path / "tmp"
        folder = root / secrets.token_hex(8)
        lock = FileLock(root / f"{folder.name}.lock")
        try:
            root.mkdir(parents=True, exist_ok=True)
            remove_leftovers(root)
            # The lock comes before the folder: a folder whose lock can be had belongs to nobody.
            lock.acquire(timeout=0)
            folder.mkdir()
        except OSError as exc:
            raise store_error(root, exc) from exc
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
            with suppress(OSError):  # a disk that fails just now: it is removed with the next one's leftovers
                (root / f"{folder.name}.lock").unlink(missing_ok=True)


def _near(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(names[:8])}" if names else "make one with `mlstream snapshot create`"
