"""Start, recognise and stop a node's process. Knows no Kafka.

A process is recognised by a random token on its command line, not by its pid alone: pids are used again, and start
times move when the clock is set.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from mlstream.errors import BrokerError

PAUSE_S = 0.05
EXEC_S = 2.0
# The name of the JVM property that holds the token.
MARK = "mlstream.token"


def spawn(command: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str] | None = None) -> int:
    """Start `command` in `folder` as a process that outlives this one and its terminal; return its pid.

    Its output goes to `log`, which is emptied first. A thread waits for the process, so that it is no zombie when it
    ends before this one.

    Raises:
        BrokerError: when it cannot be started.
    """
    try:
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as exc:
        raise BrokerError(f"{command[0]}: cannot be started: {exc.strerror}", hint="check JAVA_HOME") from exc
    threading.Thread(target=child.wait, name=f"wait-{child.pid}", daemon=True).start()
    return child.pid


def is_alive(pid: int | None, token: str | None) -> bool:
    """Whether the process `pid` runs and is the one that was started with `token`."""
    if pid is None or token is None:
        return False
    deadline = time.monotonic() + EXEC_S
    try:
        found = psutil.Process(pid)
        while found.status() != psutil.STATUS_ZOMBIE:
            command = found.cmdline()
            # For a moment after exec, and again at its end, a process has no command line.
            if command or time.monotonic() > deadline:
                return _carries(command, token)
            time.sleep(EXEC_S / 1000)
    except psutil.Error:
        pass
    return False


def find_pid(token: str) -> int | None:
    """The pid of the process that was started with `token`, when its starter died before it could write it down."""
    for found in psutil.process_iter():
        with suppress(psutil.Error):
            if _carries(found.cmdline(), token) and is_alive(found.pid, token):
                return found.pid
    return None


def started_at(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; None when it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def stop(pid: int, token: str, *, timeout_s: float) -> bool:
    """End the process and wait until it is gone; True when it had to be killed.

    Raises:
        BrokerError: when it may not be ended.
    """
    for sign, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 10.0)):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return False
        except PermissionError as exc:
            raise BrokerError(
                f"process {pid}: not allowed to end it", hint="end it as the user who started it"
            ) from exc
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not is_alive(pid, token):
                return sign == signal.SIGKILL
            time.sleep(PAUSE_S)
    raise BrokerError(f"process {pid}: does not end, not even when killed", hint="look at it with `ps`", pid=pid)


def _carries(command: Sequence[str], token: str) -> bool:
    return any(token in word for word in command)
