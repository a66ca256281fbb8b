"""An object of a remote store ↔ a file: no more bytes than announced, resumable, proven by its digest."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlstream.errors import IntegrityError, StoreError
from mlstream.snapshots.remote import Remote, object_path, unusable

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is: objects and bytes that travelled, of those that have to."""

    objects_done: int
    objects_total: int
    bytes_done: int
    bytes_total: int


class Counter:
    """Bytes of a transfer, counted by several threads and told on."""

    def __init__(self, sizes: Mapping[str, int], tell: Callable[[Progress], None] | None) -> None:
        self._total = len(sizes), sum(sizes.values())
        self._tell = tell
        self._lock = threading.Lock()
        self._objects = 0
        self._bytes = 0

    def add(self, size_bytes: int, *, objects: int = 0) -> None:
        """So much more has travelled."""
        with self._lock:
            self._bytes += size_bytes
            self._objects += objects
            if self._tell is not None:
                self._tell(Progress(self._objects, self._total[0], self._bytes, self._total[1]))


def fetch_object(remote: Remote, digest: str, size_bytes: int, target: Path, counter: Counter | None = None) -> None:
    """An object of a remote store into a file; goes on where an earlier try ended, and proves what came.

    Args:
        size_bytes: how many bytes it must have; no more are fetched.

    Raises:
        IntegrityError: it is missing there, has another size, or its bytes are not those of its digest.
        StoreError: the store or the disk cannot be used.
    """
    part = target.with_name(f"{digest}.part")
    found = hashlib.sha256()
    try:
        if target.exists():  # fetched by a try that ended later
            if target.stat().st_size == size_bytes and sha256_of(target) == digest:
                if counter is not None:
                    counter.add(size_bytes, objects=1)
                return
            target.unlink()
        with part.open("a+b") as file:
            file.truncate(min(file.seek(0, os.SEEK_END), size_bytes))
            file.seek(0)
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
                if counter is not None:
                    counter.add(len(block))
            while (at := file.tell()) < size_bytes:
                wanted = min(_BLOCK_BYTES, size_bytes - at)
                block = remote.read_range(object_path(digest), at, wanted)
                if not block:
                    break
                if len(block) > wanted:
                    raise unusable(remote.url, object_path(digest), "asked for a part of it, it sends more")
                found.update(block)
                file.write(block)
                if counter is not None:
                    counter.add(len(block))
            file.flush()
            os.fsync(file.fileno())
            came = file.tell()
    except FileNotFoundError:
        raise IntegrityError(
            f"{remote.url}/{object_path(digest)}: it is missing", hint="push the snapshot there again", object=digest
        ) from None
    except OSError as exc:
        raise StoreError(f"{target}: it cannot be written: {exc.strerror or exc}", hint="free some space") from exc
    if came != size_bytes or found.hexdigest() != digest:
        part.unlink(missing_ok=True)
        wrong = "its bytes are not those of its name" if came == size_bytes else f"{came} bytes instead of {size_bytes}"
        raise IntegrityError(
            f"{remote.url}/{object_path(digest)}: {wrong}",
            hint="it was damaged or changed there; push the snapshot there again",
            object=digest,
        )
    part.replace(target)
    if counter is not None:
        counter.add(0, objects=1)


def upload_object(remote: Remote, digest: str, file: Path) -> int:
    """A file into a remote store, as an object; its size, which is that of what came.

    Raises:
        StoreError: the store cannot be used, or has something else than was sent.
    """
    size_bytes = file.stat().st_size
    remote.upload(object_path(digest), file)
    arrived = remote.size(object_path(digest))
    if arrived != size_bytes:
        raise unusable(remote.url, object_path(digest), f"it has {arrived} bytes there after {size_bytes} were sent")
    return size_bytes


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
