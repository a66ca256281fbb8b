"""Stop a process with all of its threads, which take a moment to notice. No test."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

_WAIT_S = 10.0


def pause(pid: int) -> None:
    """SIGSTOP, and wait until no thread of the process runs any more."""
    os.kill(pid, signal.SIGSTOP)
    tasks, deadline = Path(f"/proc/{pid}/task"), time.monotonic() + _WAIT_S
    while tasks.is_dir() and not all(_is_stopped(task / "stat") for task in tasks.iterdir()):
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(0.01)


def _is_stopped(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:  # the thread ended
        return True
