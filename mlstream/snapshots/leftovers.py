"""What dead processes left under a store's `tmp/`: staging folders, and pulls that nobody goes on with.

A folder belongs to whoever holds the lock beside it. A staging folder whose lock is free is nobody's; a pull that was
cut off is gone on with by the next one, and so its folder is left for a day.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

INCOMING = "incoming"
_SHARED = ("names", "views", INCOMING, "fetch")  # locks that are waited for, pulls that are gone on with
_STALE_S = 86_400


def leftovers(root: Path) -> list[Path]:
    """Staging folders of dead processes, and pulls of which nothing was heard for a day."""
    return [folder for found in (_staging(root), _pulls(root)) for folder, _ in found]


def remove_leftovers(root: Path) -> None:
    """Remove the staging folders of dead processes."""
    _remove(_staging(root))
    for file in root.glob("*.lock"):
        # Without a folder, but perhaps of a process that is just starting: leave young ones.
        with suppress(FileNotFoundError):
            if not file.with_suffix("").exists() and time.time() - file.stat().st_mtime > _STALE_S:
                file.unlink(missing_ok=True)


def remove_old_pulls(root: Path) -> None:
    """Remove the pulls of which nothing was heard for a day."""
    _remove(_pulls(root))


def _remove(found: Iterator[tuple[Path, FileLock]]) -> None:
    for folder, lock in found:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)


def _staging(root: Path) -> Iterator[tuple[Path, FileLock]]:
    return _free(folder for folder in sorted(root.glob("*")) if folder.name not in _SHARED)


def _pulls(root: Path) -> Iterator[tuple[Path, FileLock]]:
    return _free(folder for folder in sorted((root / INCOMING).glob("*")) if _is_old(folder))


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _STALE_S
    except OSError:
        return False


def _free(folders: Iterator[Path]) -> Iterator[tuple[Path, FileLock]]:
    """Those of these folders that are nobody's, each locked while it is looked at."""
    for folder in folders:
        if not folder.is_dir():
            continue
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # somebody's, or a store that is read-only
            continue
        try:
            if folder.is_dir():
                yield folder, lock
            else:  # its process has just ended: the lock file is new
                Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            lock.release()
