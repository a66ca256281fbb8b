"""A folder that is filled beside its place and then renamed: whole or not there. Knows nothing of what is in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.errors import UsageError
from mlstream.snapshots.documents import flush_folder


def check_empty(target: Path) -> None:
    """Whether a folder may be written to.

    Raises:
        UsageError: it is not empty, or no folder.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise UsageError(
            f"{target}: it is {'not empty' if target.is_dir() else 'a file'}",
            hint="name a folder that is not there yet",
        )


@contextmanager
def partial_folder(target: Path) -> Iterator[Path]:
    """The folder beside the target that is filled first; removed when it did not become the target.

    Raises:
        UsageError: another process exports to the same target.
    """
    made = target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f"{made.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{target}: another process is exporting to it", hint="choose another folder") from None
    try:
        if made.exists():  # of a process that was killed
            shutil.rmtree(made)
        made.mkdir()
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def publish_folder(made: Path, target: Path) -> None:
    """Rename the filled folder, over an empty one if there is one."""
    for folder in (*(path for path in made.rglob("*") if path.is_dir()), made):
        flush_folder(folder)
    try:
        made.rename(target)
    except OSError:
        check_empty(target)
        raise
    flush_folder(target.parent)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a small file, through to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
