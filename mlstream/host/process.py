"""Start a model's process and end it, with all that it started. Asks it nothing.

Three pipes lead to it: one for what it is asked, one for its answers, and the lifeline, which tells it by closing that
the worker is gone. It leads a process group of its own, so that what a model leaves behind can be ended with it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import mlstream
from mlstream.errors import VersionLoadError
from mlstream.host.environment import clean_environment
from mlstream.host.messages import enlarge
from mlstream.host.watching import peak_bytes

BOOTSTRAP = Path(mlstream.__file__).resolve().parent / "host" / "bootstrap.py"
_POLL_S = 0.01


class ModelProcess:
    """The process of one model.

    Args:
        root: the project's root, where it runs.
        log: the file that its output is added to; None adds it to this process's output.
        python: the interpreter of its environment; None takes this process's.
        variables: the environment's variables, of which it gets some.
        where: the version, for messages.

    Raises:
        VersionLoadError: it cannot be started.
    """

    def __init__(
        self, root: Path, *, log: Path | None, python: Path | None, variables: Mapping[str, str], where: str
    ) -> None:
        self._open = ExitStack()
        self._over = False
        self._pipes: set[int] = set()
        self.memory_bytes = 0
        try:
            self._start(root, log, python, variables, where)
        except BaseException:
            self._open.close()
            raise

    @property
    def pid(self) -> int:
        """Its number, which is its process group's too."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it; None until it was ended."""
        return self._process.returncode

    def has_ended(self) -> bool:
        """Whether it runs no more. It stays a zombie until `end`, so that its number is nobody else's."""
        if self._over:
            return True
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        return self._process.poll() is not None

    def wait(self, within_s: float) -> bool:
        """Wait so long for it to end; whether it has."""
        deadline = time.monotonic() + within_s
        while not self.has_ended():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def poll_for(self, descriptor: int, event: int) -> select.poll:
        """A poll for that event, and for the end of the process."""
        poll = select.poll()
        poll.register(descriptor, event)
        if self.ended is not None:
            poll.register(self.ended, select.POLLIN)
        return poll

    def note_memory(self) -> None:
        """Keep the most memory that it has had in `memory_bytes`, which cannot be had when it has ended."""
        self.memory_bytes = max(self.memory_bytes, peak_bytes(self.pid))

    def ask_for_stack(self) -> None:
        """Have it write where its Python stands to `stacks`, even when it lets no other thread run."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def say(self, text: str) -> None:
        """Add lines to its log."""
        with suppress(OSError):
            os.write(self._log, text.encode())

    def end(self) -> None:
        """End it, and what it started, by force."""
        if not self._over:
            self._over = True
            self.note_memory()
            with suppress(ProcessLookupError, PermissionError):  # it has ended
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End it and let go of its pipes."""
        self.end()
        self._open.close()

    def _start(
        self, root: Path, log: Path | None, python: Path | None, variables: Mapping[str, str], where: str
    ) -> None:
        asks, self.requests = self._pipe()
        self.replies, answers = self._pipe()
        lifeline, _ = self._pipe()
        self.stacks, name = tempfile.mkstemp(prefix="mlstream-stack-")
        self._open.callback(os.close, self.stacks)
        Path(name).unlink()
        self._log = 2
        if log is not None:
            self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._open.callback(os.close, self._log)
        theirs = (asks, answers, lifeline)
        passed = (*theirs, self.stacks)
        interpreter = sys.executable if python is None else str(python)
        try:
            self._process = subprocess.Popen(
                # -P: the project's folders come to the path when the version is loaded
                [interpreter, "-P", "-X", "faulthandler", str(BOOTSTRAP), *map(str, passed)],
                stdin=subprocess.DEVNULL,
                stdout=None if log is None else self._log,
                stderr=None if log is None else self._log,
                pass_fds=passed,
                cwd=root,
                env=clean_environment(variables, same_python=interpreter == sys.executable),
                process_group=0,
            )
        except OSError as exc:
            raise VersionLoadError(
                f"{where}: its process cannot be started: {exc}", hint="is its environment's Python there?", where=where
            ) from exc
        self._open.callback(self.end)
        for descriptor in theirs:
            self._close(descriptor)
        for descriptor in (self.requests, self.replies):
            os.set_blocking(descriptor, False)
        enlarge(self.requests)
        self.ended = self._watch_end()

    def _pipe(self) -> tuple[int, int]:
        reading, writing = os.pipe()
        for descriptor in (reading, writing):
            self._pipes.add(descriptor)
            self._open.callback(self._close, descriptor)
        return reading, writing

    def _close(self, descriptor: int) -> None:
        if descriptor in self._pipes:
            self._pipes.remove(descriptor)
            os.close(descriptor)

    def _watch_end(self) -> int | None:
        """A descriptor that becomes readable when the process ends, where the system has such.

        The end of the pipe does not tell: processes that the model forked may hold it open.
        """
        if sys.platform != "linux":
            return None
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:  # an old kernel
            return None
        self._open.callback(os.close, descriptor)
        return descriptor
