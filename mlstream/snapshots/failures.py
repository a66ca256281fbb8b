"""The operating system's errors as errors of the store, each with the fix."""

from __future__ import annotations

import errno
from pathlib import Path

from mlstream.errors import StoreError

_HINTS = {
    errno.ENOSPC: "free some space, or set MLSTREAM_HOME to a larger disk",
    errno.EDQUOT: "free some of your quota, or set MLSTREAM_HOME to another disk",
    errno.EFBIG: "allow larger files (`ulimit -f`), or set MLSTREAM_HOME to another disk",
    errno.EIO: "check the disk, or set MLSTREAM_HOME to another one",
    errno.EROFS: "set MLSTREAM_HOME to a folder that can be written",
    errno.EACCES: "set MLSTREAM_HOME to a folder that can be written",
    errno.EPERM: "set MLSTREAM_HOME to a folder that can be written",
    errno.ENOTDIR: "set MLSTREAM_HOME to a folder",
    errno.EEXIST: "set MLSTREAM_HOME to a folder",
}

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def store_error(path: Path, exc: Exception) -> StoreError:
    """An operating system's error as one of the store, with the fix."""
    number = exc.errno if isinstance(exc, OSError) else None
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return StoreError(
        f"{path}: the store cannot be used: {reason}", hint=_HINTS.get(number) if number is not None else None
    )


def is_unwritable(error: StoreError) -> bool:
    """Whether a store cannot be written for now, while it may well be read: read-only, or without room."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _UNWRITABLE
