"""Messages between a worker and its model's process, over pipes. Knows not what they say.

    magic `mlsh` | u32 length of the header | u64 length of the payload | header: JSON | payload: an Arrow IPC stream

All numbers are little-endian. One side asks, the other answers, in turn: nothing is ever sent while the other side may
be sending too, so that two full pipes cannot wait for each other.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"mlsh"
_MOST_HEADER = 64 << 20
_MOST_PAYLOAD = 4 << 30
_PIPE_BYTES = 1 << 20


class NoMessage(Exception):
    """What came through the pipe is no message: somebody else writes to it."""


def send(
    descriptor: int,
    header: dict[str, Any],
    payload: bytes | memoryview = b"",
    *,
    wait: Callable[[], None] | None = None,
) -> None:
    """Write one message.

    Args:
        wait: called before each write; for a descriptor that does not block, it returns when there is room.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    text = json.dumps(header).encode()
    for part in (_PREFIX.pack(_MAGIC, len(text), len(payload)) + text, payload):
        rest = memoryview(part)
        while rest:
            if wait is not None:
                wait()
            with suppress(BlockingIOError):
                rest = rest[os.write(descriptor, rest) :]


def receive(descriptor: int, *, wait: Callable[[], None] | None = None) -> tuple[dict[str, Any], bytearray] | None:
    """Read one message; None when the other side has ended, also in the middle of one.

    Args:
        wait: called before each read; for a descriptor that does not block, it returns when there are bytes.

    Raises:
        NoMessage: what came is none.
    """
    prefix = _read(descriptor, _PREFIX.size, wait)
    if prefix is None:
        return None
    magic, header_size, payload_size = _PREFIX.unpack(prefix)
    if magic != _MAGIC or header_size > _MOST_HEADER or payload_size > _MOST_PAYLOAD:
        raise NoMessage
    text = _read(descriptor, header_size, wait)
    payload = None if text is None else _read(descriptor, payload_size, wait)
    if text is None or payload is None:
        return None
    try:
        header = json.loads(text)
    except ValueError:
        raise NoMessage from None
    if not isinstance(header, dict):
        raise NoMessage
    return header, payload


def enlarge(descriptor: int) -> None:
    """Let a pipe hold a whole batch where the system can, so that neither side waits for the other's copying."""
    import fcntl  # there is none on Windows

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # above the limit of an unprivileged user
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _read(descriptor: int, size: int, wait: Callable[[], None] | None) -> bytearray | None:
    found = bytearray(size)
    view, got = memoryview(found), 0
    while got < size:
        if wait is not None:
            wait()
        with suppress(BlockingIOError):
            read = os.readv(descriptor, [view[got:]])
            if not read:
                return None
            got += read
    return found
