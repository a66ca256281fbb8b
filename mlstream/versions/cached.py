"""Folders of this machine's cache that are made once, whole, by one process at a time. Knows not what they hold.

KEY/            a folder, complete since it has that name
KEY.lock        held while it is made
.KEY-…/         where it is made, before it gets its name
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.errors import VersionLoadError


@contextmanager
def alone(folder: Path, *, within_s: float, doing: str, where: str) -> Iterator[None]:
    """Hold a folder's lock, so that no other process makes it; it may have been made while this one waited.

    Args:
        folder: the folder, which need not be there.
        within_s: how long to wait for another process.
        doing: what such a process is doing, for the message ("building the environment").
        where: the key in the configuration, for the message.

    Raises:
        VersionLoadError: another process holds it for too long.
        OSError: the cache cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_of(folder))
    try:
        lock.acquire(timeout=within_s)
    except Timeout:
        raise VersionLoadError(
            f"{where}: another process has been {doing} at {folder} for too long",
            hint=f"end the process that holds {lock.lock_file}",
            where=where,
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def made_aside(folder: Path) -> Iterator[Path]:
    """A new folder beside one whose lock is held, to be renamed to it when it is whole; what is left of it is removed,
    and what processes that were killed left behind.
    """
    _sweep(folder)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what was left behind of this folder, whose lock is held here, and of those that nobody goes on with."""
    for left in folder.parent.glob(".*-*"):
        key = left.name[1:].partition("-")[0]
        if key == folder.name:
            shutil.rmtree(left, ignore_errors=True)
            continue
        with suppress(Timeout), FileLock(_lock_of(folder.with_name(key)), timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
