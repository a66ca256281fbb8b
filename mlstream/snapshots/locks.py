"""Hold something against other processes by a lock file; a process that dies lets go of it. Knows no store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.errors import MlstreamError
from mlstream.snapshots.failures import store_error


@contextmanager
def locked(file: Path, *, busy: MlstreamError | None) -> Iterator[None]:
    """Hold `file`, which stays when it is let go of: one that waits for it would hold another.

    Args:
        busy: raised when another process holds it; None waits for that to end.

    Raises:
        StoreError: when the lock cannot be made.
    """
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=-1 if busy is None else 0)
    except Timeout:
        if busy is None:
            raise
        raise busy from None
    except OSError as exc:
        raise store_error(file.parent, exc) from exc
    try:
        yield
    finally:
        lock.release()
