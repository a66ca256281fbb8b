"""Start a run's processes, listen to them, notice how each ends, stop them when asked. Knows no Kafka."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from mlstream.home import is_url
from mlstream.host.environment import training_environment
from mlstream.host.log import LOG_MARK, tail_of
from mlstream.runs.machine import limited_environment
from mlstream.runs.spec import Cause, Report, Task, TrainTask

_STOP_S = 5.0  # how long a worker may take to end before it is killed
_DRAIN_S = 2.0  # how long a report may still be in the pipe of a process that has ended
_POLL_S = 0.2
_RESTARTS = 2  # of a process that was killed without having got further than the one before it


Name: TypeAlias = tuple[str, int]  # a version, and which of its workers
# Whose report, and of which of its processes, counted by restarts; None when that process reports no more.
Heard: TypeAlias = "tuple[Name, int, Report | None]"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker ended: with a report that says `done`, or with an error and its log's last lines.

    `cause`: of the error, as its report has it.
    """

    name: Name
    report: Report | None
    error: str | None
    hint: str | None = None
    log_tail: tuple[str, ...] = ()
    restarts: int = 0
    cause: Cause = "version"


@dataclass(slots=True)
class _Worker:
    """A process, and what is known of those before it that were killed.

    `is_heard`: its pipe has come to its end, and all that was in it is dealt with.
    """

    spec: Task
    name: Name
    process: subprocess.Popen[bytes]
    log: Path
    restarts: int
    last: Report | None = None
    is_heard: bool = False
    ended_at: float | None = None
    in_vain: int = 0
    reached: int = -1


def run_workers(
    specs: Sequence[Task], *, logs: Mapping[Name, Path], on_report: Callable[[Name, Report], None]
) -> dict[Name, Ended]:
    """Run all specs at once and wait for them.

    Whatever ends this call (an interrupt, an error of `on_report`) ends the workers too. A process that was killed by
    a signal is started again, where its task can be gone on with, as long as each gets further than the one before.

    Args:
        specs: one a process; `reports` in them is set here.
        logs: name → where its standard output and error go.
        on_report: called in this thread with each report.

    Returns:
        name → how it ended, in the order in which they ended. When one worker of a version fails, the others of that
        version are ended too.
    """
    heard: queue.Queue[Heard] = queue.Queue()
    workers: dict[Name, _Worker] = {}
    ended: dict[Name, Ended] = {}
    try:
        for spec in specs:
            workers[spec.name] = _start(spec, logs[spec.name], heard)
        while len(ended) < len(workers):
            for name, restarts, report in _all_of(heard):
                worker = workers[name]
                if restarts != worker.restarts:
                    continue  # of a process that is dead: it says nothing about the one in its place
                if report is None:
                    worker.is_heard = True
                    continue
                worker.last = report
                on_report(name, report)
            for worker in list(workers.values()):
                if worker.name not in ended and _is_over(worker):
                    if _may_restart(worker):
                        workers[worker.name] = _restart(worker, logs[worker.name], heard)
                        continue
                    ended[worker.name] = _how(worker)
                    if ended[worker.name].report is None:
                        rest = [other for other in workers.values() if other.name not in ended]
                        _stop([other for other in rest if other.name[0] == worker.name[0]])
    finally:
        _stop([worker for worker in workers.values() if worker.name not in ended])
    return ended


def _all_of(heard: queue.Queue[Heard]) -> Iterator[Heard]:
    """What was heard by now; waits a moment for the first of it."""
    with suppress(queue.Empty):
        yield heard.get(timeout=_POLL_S)
        for _ in range(heard.qsize()):
            yield heard.get_nowait()


def _start(spec: Task, log: Path, heard: queue.Queue[Heard], restarts: int = 0) -> _Worker:
    reading, writing = os.pipe()
    try:
        with log.open("ab") as file:  # the workers of a version share it, and a resumed run goes on in it
            process = subprocess.Popen(
                spec.command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=[writing],
                cwd=spec.root,
                env=_variables(spec),
                # A group of its own: an interrupt in the terminal reaches the parent, which ends its workers in order.
                start_new_session=True,
            )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    listener = threading.Thread(
        target=_listen,
        args=(spec.name, restarts, reading, heard),
        name=f"mlstream-{spec.version}-{spec.worker}",
        daemon=True,
    )
    listener.start()
    worker = _Worker(spec, spec.name, process, log, restarts)
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # it ended at once; its exit code tells
            process.stdin.write(replace(spec, reports=writing).to_line())
            process.stdin.flush()
    return worker


def _variables(spec: Task) -> dict[str, str]:
    """The environment of a process."""
    found = limited_environment(spec.threads, spec.seed)
    if isinstance(spec, TrainTask):  # it runs the project's code: what opens the broker and MLflow is not for it
        same = spec.command[0] == sys.executable
        return training_environment(found, same_python=same, remote=is_url(spec.home))
    return found


def _may_restart(worker: _Worker) -> bool:
    """Whether a process that has ended was killed, and a new one may get further."""
    code, last = worker.process.returncode, worker.last
    told = last is not None and last.event in ("done", "failed")
    if told or code is None or code >= 0 or not worker.spec.resumable:
        return False
    rows = -1 if last is None else last.rows
    worker.in_vain = 0 if rows > worker.reached else worker.in_vain + 1
    worker.reached = max(worker.reached, rows)
    return worker.in_vain < _RESTARTS


def _restart(worker: _Worker, log: Path, heard: queue.Queue[Heard]) -> _Worker:
    _close(worker.process)
    with suppress(OSError), log.open("ab") as file:
        file.write(f"{LOG_MARK}ended by {_signal_name(-worker.process.returncode)}, started again\n".encode())
    again = _start(worker.spec, log, heard, worker.restarts + 1)
    again.in_vain, again.reached = worker.in_vain, worker.reached
    return again


def _listen(name: Name, restarts: int, reading: int, heard: queue.Queue[Heard]) -> None:
    with os.fdopen(reading, "rb") as pipe:
        for line in pipe:
            with suppress(ValueError, TypeError, KeyError):  # half a line: it died while it wrote
                heard.put((name, restarts, Report.from_line(line)))
    heard.put((name, restarts, None))


def _is_over(worker: _Worker) -> bool:
    """Whether the process has ended and all that it said was heard. Its children may still hold its pipe open."""
    if worker.process.poll() is None:
        return False
    if worker.ended_at is None:
        worker.ended_at = time.monotonic()
    return worker.is_heard or time.monotonic() - worker.ended_at > _DRAIN_S


def _how(worker: _Worker) -> Ended:
    _close(worker.process)
    code, last = worker.process.returncode, worker.last
    if last is not None and last.event == "done":
        return Ended(worker.name, last, None, restarts=worker.restarts)
    tail = tail_of(worker.log)
    if last is not None and last.event == "failed":
        return Ended(worker.name, None, last.error, last.hint, tail, cause=last.cause)
    where = f" after {last.rows:,} records" if last is not None and last.rows else ""
    if code is not None and code < 0:
        hint = "perhaps the machine had no memory left" if -code == signal.SIGKILL else None
        return Ended(worker.name, None, f"its process was ended by {_signal_name(-code)}{where}", hint, tail)
    return Ended(worker.name, None, f"its process ended by itself with exit code {code}{where}", None, tail)


def _stop(workers: Sequence[_Worker]) -> None:
    """End what is still running: politely, with all that it started, then by force."""
    for worker in workers:
        _signal(worker.process, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_S
    for worker in workers:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(worker.process, signal.SIGKILL)
            worker.process.wait()
        _close(worker.process)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
