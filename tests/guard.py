"""End a background process when the tests end, however they end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Reads until the pipe from the tests' process closes, which it does even when that process is killed.
_WATCH = """
import sys
sys.stdin.read()
from mlstream.broker.embedded import process
pid, token = int(sys.argv[1]), sys.argv[2]
if process.is_alive(pid, token):
    process.stop(pid, token, timeout_s=10)
"""


@contextmanager
def guarded(pid: int, token: str) -> Iterator[None]:
    """While this lasts, a second process waits to end `pid` (the one that was started with `token`) in our place."""
    with subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(pid), token],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield
