"""A folder of a store, wherever it is: what can be asked of it. Knows bytes and paths, not what they mean.

The layout is that of a local store (store.py), so a folder that was pushed to is a store. One class for each kind of
place: `remote_folder` (a path), `remote_objects` (S3, Google, Azure), `remote_fsspec` (every other URL that fsspec
knows). All raise FileNotFoundError for what is not there, and StoreError for everything else that goes wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlstream.errors import IntegrityError, StoreError


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a remote store.

    Attributes:
        path: from the store's root, with `/`.
        tag: changes when the bytes do; empty when the store tells none.
        modified_s: when it was written, seconds since 1970; 0 when the store does not say.
    """

    path: str
    size_bytes: int
    tag: str
    modified_s: float = 0.0


class Remote(Protocol):
    """A store's files. May be used from several threads at once."""

    @property
    def url(self) -> str:
        """For messages."""

    @property
    def conditional(self) -> bool:
        """Whether `put_new` is decided by the store, so that of several machines exactly one succeeds."""

    def list(self, folder: str, *, beginning: str = "") -> list[Found]:
        """The files under a folder, however deep, whose paths in it begin so; none when there is no such folder."""

    def size(self, path: str) -> int | None:
        """A file's size; None when it is not there."""

    def read(self, path: str, *, most_bytes: int) -> bytes:
        """A whole small file.

        Raises:
            FileNotFoundError: it is not there.
            IntegrityError: it is larger than `most_bytes`.
        """

    def read_range(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on; fewer at the end of the file."""

    def put(self, path: str, data: bytes) -> None:
        """Write a small file in place of what is there: readers see the old bytes or the new ones."""

    def put_new(self, path: str, data: bytes) -> bool:
        """Write a small file if there is none; False when there is one, which stays as it is."""

    def upload(self, path: str, file: Path) -> None:
        """Write a file of any size: it is there when this returns, whole; a process that is killed leaves no half."""

    def delete(self, path: str) -> None:
        """Remove a file, if it is there."""


def object_path(digest: str) -> str:
    """Where the object of that digest is, or would be."""
    return f"objects/{digest[:2]}/{digest}"


def manifest_path(snapshot_id: str) -> str:
    """Where the manifest of that id is, or would be."""
    return f"manifests/{snapshot_id}.json"


def storage_path(snapshot_id: str) -> str:
    """Where the storage map of that id is, or would be."""
    return f"storage/{snapshot_id}.json"


def ref_path(name: str) -> str:
    """Where the ref of that name is, or would be."""
    return f"refs/{name}"


def too_large(url: str, path: str, size_bytes: int, most_bytes: int) -> IntegrityError:
    """The error for a document of a size that none has."""
    return IntegrityError(
        f"{url}/{path}: {size_bytes:,} bytes, and no such document has more than {most_bytes:,}",
        hint="it was not made by mlstream; do not use it",
        path=path,
    )


def unusable(url: str, path: str, reason: str, *, hint: str | None = None) -> StoreError:
    """The error for a store that does not do what is asked of it."""
    where = f"{url}/{path}" if path else url
    return StoreError(f"{where}: the store cannot be used: {reason}", hint=hint, url=url)
