"""A store in a folder of this machine, or one that is mounted. Follows no symbolic link when it reads.

An object that was found damaged there (damage.py) has no size, so that it is replaced.

What is read may come from somebody else: a link in it could lead to any file of this machine.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from mlstream.errors import IntegrityError, StoreError
from mlstream.snapshots.damage import is_damaged, mark_sound
from mlstream.snapshots.documents import flush_folder
from mlstream.snapshots.remote import Found, too_large, unusable

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_ARRIVING = ".arriving"
_STALE_S = 86_400
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class FolderRemote:
    """The files of a store under `root`."""

    conditional = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self.url = str(root)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._root

    def list(self, folder: str, *, beginning: str = "") -> list[Found]:
        found = []
        with self._asking(folder):
            self._check_links(folder)
            for parent, folders, names in os.walk(self._root / folder, onerror=_raise):
                for name in (*folders, *names):
                    if (path := Path(parent, name)).is_symlink():
                        raise self._is_link(path.relative_to(self._root).as_posix())
                for name in names:
                    path = Path(parent, name)
                    place = path.relative_to(self._root).as_posix()
                    if place.startswith(f"{folder}/{beginning}"):
                        known = path.lstat()
                        tag = f"{known.st_mtime_ns}-{known.st_size}-{known.st_ino}"
                        found.append(Found(place, known.st_size, tag))
        return found

    def size(self, path: str) -> int | None:
        with self._asking(path):
            try:
                self._check_links(path)
                known = (self._root / path).lstat()
            except _NOT_THERE:
                return None
            if path.startswith("objects/") and is_damaged(self._root / "index", path.rpartition("/")[2]):
                return None
            return known.st_size if stat.S_ISREG(known.st_mode) else None

    def read(self, path: str, *, most_bytes: int) -> bytes:
        with self._asking(path), self._opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= most_bytes:
                return file.read(size)
        raise too_large(self.url, path, size, most_bytes)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        with self._asking(path), self._opened(path) as file:
            file.seek(start)
            return file.read(length)

    def put(self, path: str, data: bytes) -> None:
        with self._asking(path), self._written(path, data) as temporary:
            temporary.replace(self._root / path)

    def put_new(self, path: str, data: bytes) -> bool:
        with self._asking(path), self._written(path, data) as temporary:
            try:
                os.link(temporary, self._root / path)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                    raise
                # A file system without hard links: nearly as good, and nobody shares a store on one.
                if (self._root / path).exists():
                    return False
                temporary.replace(self._root / path)
        return True

    def upload(self, path: str, file: Path) -> None:
        target = self._root / path
        with self._asking(path), self._temporary() as temporary:
            with file.open("rb") as source, temporary.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.chmod(0o444)
            temporary.replace(target)
            flush_folder(target.parent)
            mark_sound(self._root / "index", path.rpartition("/")[2])

    def delete(self, path: str) -> None:
        with self._asking(path):
            (self._root / path).unlink(missing_ok=True)

    @contextmanager
    def _opened(self, path: str) -> Iterator[IO[bytes]]:
        self._check_links(path)
        descriptor = os.open(self._root / path, os.O_RDONLY | _NO_LINKS)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise IntegrityError(
                    f"{self.url}/{path}: it is no ordinary file", hint="it was not made by mlstream; do not use it"
                )
            yield file

    def _check_links(self, path: str) -> None:
        """Refuse a link anywhere between the root and a path; the root itself is the user's choice."""
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            if (self._root / "/".join(parts[:depth])).is_symlink():
                raise self._is_link("/".join(parts[:depth]))

    def _is_link(self, path: str) -> IntegrityError:
        return IntegrityError(
            f"{self.url}/{path}: it is a symbolic link, and what a store holds are files",
            hint="it was not made by mlstream; do not use it, or copy what it leads to in its place",
            path=path,
        )

    @contextmanager
    def _written(self, path: str, data: bytes) -> Iterator[Path]:
        """A flushed file with the data, gone or renamed at the end; the folder that it will go to is there."""
        target = self._root / path
        with self._temporary() as temporary:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush_folder(target.parent)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        folder = self._root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{_ARRIVING}"):  # by a process that was killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _STALE_S:
                    left.unlink()
        temporary = folder / f"{secrets.token_hex(8)}{_ARRIVING}"
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _asking(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except NotADirectoryError as exc:
            raise FileNotFoundError(path) from exc
        except OSError as exc:
            raise self._error(path, exc) from exc

    def _error(self, path: str, exc: OSError) -> StoreError | IntegrityError:
        if exc.errno == errno.ELOOP:
            return self._is_link(path)
        hint = {errno.ENOSPC: "free some space there"}.get(exc.errno or 0)
        return unusable(self.url, path, exc.strerror or str(exc), hint=hint)


def _raise(exc: OSError) -> None:
    if not isinstance(exc, _NOT_THERE):
        raise exc
