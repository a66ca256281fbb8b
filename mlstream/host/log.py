"""A version's log: what the model printed, and our words among it. Starts nothing."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from mlstream.errors import MlstreamError

LOG_MARK = "mlstream: "  # what a version's log says in our words, beside what the model printed
_LAST_LINES = 3
_LAST_BYTES = 8192


def log_exception(exc: BaseException) -> None:
    """Write the traceback of what the model's code raised to standard error, which is the log.

    An error of ours is a sentence and needs no traceback (it gets one with MLSTREAM_DEBUG=1).
    """
    with suppress(OSError, ValueError):  # the model closed it
        sys.stdout.flush()
    if not isinstance(exc, MlstreamError) or os.environ.get("MLSTREAM_DEBUG"):
        traceback.print_exception(exc)
    elif exc.__cause__ is not None:
        traceback.print_exception(exc.__cause__)


def say(text: str) -> None:
    """Add a line of ours to the log; it is lost where the log cannot be written, whose disk may be full."""
    with suppress(OSError):
        print(f"{LOG_MARK}{text}", file=sys.stderr, flush=True)


def tail_of(log: Path, lines: int = _LAST_LINES) -> tuple[str, ...]:
    """The last lines of a log that are not blank and not ours."""
    try:
        size = log.stat().st_size
        with log.open("rb") as file:
            file.seek(max(0, size - _LAST_BYTES))
            text = file.read(_LAST_BYTES).decode(errors="replace")
    except OSError:
        return ()
    theirs = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith(LOG_MARK)]
    return tuple(theirs[-lines:])
