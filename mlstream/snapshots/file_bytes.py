"""The bytes of listed files: digested, and copied to objects where the store lacks them. Publishes nothing.

A file is read twice, once for its digest and once for the copy, so that a name that is taken is refused before
anything is copied, and a file that the store has is not written again. Each time it must be as it was listed, before
and after it is read.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

from mlstream.errors import FileChanged
from mlstream.snapshots.content import FileContent
from mlstream.snapshots.files import ListedFile, state_of, unreadable
from mlstream.snapshots.store import Store, store_error

T = TypeVar("T")
V = TypeVar("V")

_BLOCK_BYTES = 1 << 20
# The clock by which a file system notes changes ticks every 1 to 10 ms: what changed in the last tick may change
# again without a trace.
_TICK_NS = 20_000_000


def digest_files(
    listed: Sequence[ListedFile], *, progress: Callable[[int], None] | None = None
) -> tuple[FileContent, ...]:
    """Read every file once: what the snapshot says of it.

    Args:
        progress: called with the bytes of each file that is done.

    Raises:
        FileChanged: one is not as it was listed.
        UnknownFile: one cannot be read.
    """

    def digest(file: ListedFile) -> FileContent:
        found = FileContent(file.path, file.size_bytes, _read(file, None))
        if progress is not None:
            progress(file.size_bytes)
        return found

    return tuple(_side_by_side(digest, listed))


def copy_files(
    listed: Sequence[ListedFile], contents: Sequence[FileContent], *, store: Store, staged: Path
) -> dict[str, Path]:
    """Copy the files that the store lacks into the staging folder, flushed, each named by its digest; same bytes once.

    Raises:
        FileChanged: one is not as it was listed.
        UnknownFile, StoreError: one cannot be read, or not be written.
    """
    wanted = {
        content.sha256: file
        for file, content in zip(listed, contents, strict=True)
        if not store.holds(content.sha256, content.size_bytes)
    }
    copies = _side_by_side(lambda item: _copy(item[1], item[0], staged), list(wanted.items()))
    return dict(zip(wanted, copies, strict=True))


def _copy(file: ListedFile, digest: str, staged: Path) -> Path:
    """Copy a file into the staging folder, flushed; what is copied must have the digest that was read first."""
    target = staged / digest
    try:
        copy = target.open("xb", buffering=0)
    except OSError as exc:
        raise store_error(staged, exc) from exc
    with copy:
        if _read(file, copy) != digest:
            raise _changed(file, "it changed")
        try:
            os.fsync(copy.fileno())
        except OSError as exc:
            raise store_error(staged, exc) from exc
    return target


def _read(file: ListedFile, target: IO[bytes] | None) -> str:
    """Read a file to its end, and write it to the target if there is one; the digest of its bytes."""
    _let_settle(file.state)
    digest = hashlib.sha256()
    size = 0
    try:
        with open(file.source, "rb", buffering=0, opener=_opened) as source:
            before = state_of(os.fstat(source.fileno()))
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                size += len(block)
                if target is not None:
                    _write(target, block)
            after = state_of(os.fstat(source.fileno()))
    except FileNotFoundError:
        raise _changed(file, "it was deleted") from None
    except OSError as exc:
        raise unreadable(file.source, exc) from exc
    if not before == after == file.state or size != file.size_bytes:
        raise _changed(file, "it changed")
    return digest.hexdigest()


def _opened(path: str, flags: int) -> int:
    # Opening what has become a pipe in the meantime would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _write(target: IO[bytes], block: bytes) -> None:
    left = memoryview(block)
    try:
        while left:
            left = left[target.write(left) :]
    except OSError as exc:
        raise store_error(Path(target.name).parent, exc) from exc


def _let_settle(state: tuple[int, ...]) -> None:
    """Wait until a further change would show in the file's times."""
    young_ns = _TICK_NS - (time.time_ns() - state[-1])
    if 0 < young_ns <= _TICK_NS:
        time.sleep(young_ns / 1e9)


def _changed(file: ListedFile, what: str) -> FileChanged:
    return FileChanged(
        f"{file.source}: {what} while it was copied",
        hint="nothing was kept; freeze again when nobody writes to it",
        path=str(file.source),
    )


def _side_by_side(job: Callable[[T], V], items: Sequence[T]) -> list[V]:
    """Do a job for each item, on threads; the results in order. The first error ends it."""
    with ThreadPoolExecutor(max(2, min(os.cpu_count() or 2, 8)), thread_name_prefix="mlstream-files") as pool:
        return list(pool.map(job, items))
