"""A program that runs mlstream's commands in forked children, and lets them die or fail at a step of their own writing.

A *step* is anything that changes a file system below the home: a file opened to be written, a flush, a rename, a folder
made, something removed, a mode changed. They are counted by an audit hook (PEP 578) and a wrapper of `os.fsync`, so the
code under test knows nothing of it. A job is one line of JSON on stdin, its outcome one line on stdout.

Forking makes it quick: all imports and compiled kernels are there already. The program itself has no threads then.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import json
import os
import resource
import signal
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"os.mkdir": "mkdir", "os.remove": "remove", "os.rmdir": "rmdir", "os.chmod": "chmod"}
_NEEDS_ROOM = {"open", "mkdir", "sync", "flush"}


class Steps:
    """Counts a child's steps, and does at the n-th what the job says.

    A step is logged as what, path, and for a rename what it was called before, below the home: open, sync (of a file),
    flush (of a folder), rename, mkdir, remove, rmdir, chmod.

    Kinds of faults: `kill`: SIGKILL before the step. `torn`: the same at a sync, after half of the file was taken away
    again. `error`: the step fails with an error number, once. `full`: from that step on, everything that needs room
    fails with ENOSPC.
    """

    def __init__(self, home: Path, fault: dict[str, Any] | None) -> None:
        self.log: list[tuple[str, str, str]] = []
        self._home = str(home)
        self._kind = None if fault is None else str(fault["kind"])
        self._at = -1 if fault is None else int(fault["step"])
        self._number = errno.EIO if fault is None else int(fault.get("errno", errno.EIO))
        self._lock = threading.Lock()

    def watch(self) -> None:
        """Begin; there is no way back, which is why it is done in a child."""
        sys.addaudithook(self._audit)
        real = os.fsync

        def fsync(file: Any) -> None:
            descriptor = file if isinstance(file, int) else file.fileno()
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            self._step(
                "sync" if is_file else "flush", os.readlink(f"/proc/self/fd/{descriptor}"), descriptor=descriptor
            )
            real(file)

        os.fsync = fsync

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | os.PathLike) and isinstance(flags, int) and flags & _WRITING:
                self._step("open", os.fspath(path))
        elif event == "os.rename":
            self._step("rename", os.fspath(args[1]), source=os.fspath(args[0]))
        elif event in _EVENTS:
            path = os.fspath(args[0])
            if event == "os.mkdir" and os.path.isdir(path):
                return  # `exist_ok`: nothing changes
            beside = isinstance(args[-1], int) and args[-1] >= 0  # named by an open folder and a name in it
            self._step(_EVENTS[event], os.path.join(self._home, "…", path) if beside else path)

    def _step(self, what: str, path: str, *, source: str = "", descriptor: int = -1) -> None:
        if not path.startswith(self._home):
            return
        with self._lock:
            number = len(self.log)
            self.log.append((what, os.path.relpath(path, self._home), source and os.path.relpath(source, self._home)))
            if number == self._at and self._kind in ("kill", "torn"):
                if self._kind == "torn" and what == "sync":
                    os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            if number == self._at and self._kind == "error":
                raise OSError(self._number, os.strerror(self._number), path)
            if number >= self._at >= 0 and self._kind == "full" and what in _NEEDS_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def name_first() -> None:
    """A store that publishes wrongly, to see that this is noticed: the name comes before what it stands for."""
    from mlstream.snapshots import capture, documents

    real = capture.publish

    def publish(opened: Any, publication: Any, *, staged: Path, **options: Any) -> None:
        documents.write_document(opened.ref(publication.name), f"{publication.snapshot_id}\n".encode(), staged=staged)
        real(opened, publication, staged=staged, **options)

    capture.publish = publish


def in_place() -> None:
    """Another wrong one: files are written where they belong instead of renamed to there."""
    from mlstream.snapshots import documents

    def move(file: Path, target: Path, *, mode: int) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        data = file.read_bytes()
        with target.open("wb") as written:
            written.write(data)
            written.flush()
            os.fsync(written.fileno())
        target.chmod(mode)

    documents.move_into_place = move


SABOTAGE: dict[str, Callable[[], None]] = {"name-first": name_first, "in-place": in_place}


def heed_permissions() -> None:
    """Let permission bits bind root, too: without the capabilities to pass them over (capabilities(7)).

    Another user would do, but for him Python itself may not be readable.
    """
    if os.geteuid() != 0:
        return
    passes_over = 1 << 1 | 1 << 2 | 1 << 3  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    version_3 = 0x20080522
    libc = ctypes.CDLL(None, use_errno=True)
    head, data = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(head, data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    data[0] &= ~passes_over  # effective
    data[1] &= ~passes_over  # permitted, by which access(2) goes
    if libc.capset(head, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One command, in a child; what came of it."""
    from mlstream.cli import main

    home = Path(job["home"])
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    if job.get("folder"):
        os.chdir(job["folder"])
    os.environ["MLSTREAM_HOME"] = str(home)
    os.environ["MLSTREAM_BOOTSTRAP_SERVERS"] = job["servers"]
    if job.get("sabotage"):
        SABOTAGE[job["sabotage"]]()
    if job.get("file_size") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], most))
    if job.get("mortal"):
        heed_permissions()
    steps = Steps(home, job.get("fault"))
    out, err = io.StringIO(), io.StringIO()
    steps.watch()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(job["args"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return {"exit_code": code, "stdout": out.getvalue(), "stderr": err.getvalue(), "steps": steps.log}


def main() -> None:
    """Warm up, then serve jobs."""
    with tempfile.TemporaryDirectory() as folder:
        _warm_up(Path(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as report:
            child = os.fork()
            if child == 0:
                try:
                    found = run(json.loads(line))
                except BaseException:
                    found = {"exit_code": 70, "stderr": traceback.format_exc()}
                os.write(report.fileno(), json.dumps(found).encode())
                os._exit(0)
            _, status = os.waitpid(child, 0)
            report.seek(0)
            text = report.read().decode()
        outcome = json.loads(text) if text else {}
        outcome["signal"] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        print(json.dumps(outcome), flush=True)


def _warm_up(folder: Path) -> None:
    """Import and compile what a freeze needs, by making a small snapshot without a broker."""
    import pyarrow as pa

    import mlstream.cli.snapshots.create
    import mlstream.snapshots.capture  # noqa: F401
    from mlstream.home import Home
    from mlstream.wire.decode import decode
    from mlstream.wire.encode import encode
    from tests.snapshots.making import make_snapshot, plain

    batch = encode(pa.table({"value": pa.array([b"x"], pa.binary())}), codec="none")
    decode(batch, topic="t", partition=0, start=0)
    make_snapshot(Home(folder), "warm", {"t": {0: plain(10)}}).verify(deep=True)


if __name__ == "__main__":
    main()
