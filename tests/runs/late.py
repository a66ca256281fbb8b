"""A worker that is killed, whose child holds its pipe and reports for it, too late. No test is here."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from mlstream.runs.process import Reports, serve
from mlstream.runs.spec import Report, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class LateTask(Task):
    """What it does is in the files of its `root`: how often it was started, and what it waits for."""

    module = "tests.runs.late"
    resumable = True

    @property
    def command(self) -> list[str]:
        """As others are, but with the tests on the path."""
        return [sys.executable, "-m", self.module]


def wait_for(file: Path) -> None:
    """Until it is there."""
    while not file.exists():
        time.sleep(0.01)


def work(task: LateTask, reports: Reports) -> Report:
    """The first process dies and leaves a child, which reports as if it were the process; the second one fails."""
    if task.version == "fails":
        raise ValueError("it did not work")
    root = Path(task.home)
    first = not (root / "first").exists()
    (root / ("first" if first else "second")).touch()
    if first:
        reports.send(Report("rows", rows=10))
        if os.fork() == 0:
            os.setsid()
            wait_for(root / "second")
            reports.send(Report("rows", rows=20))
            reports.send(Report("done", rows=30))
            (root / "said").touch()
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for(root / "said")
    reports.send(Report("rows", rows=11))
    raise ValueError("it did not work")


if __name__ == "__main__":
    serve(LateTask, work)
