"""What every worker process does around its work: take the task, report, log, end. Knows no model and no Kafka.

What the version prints, and the traceback of what it raised, go to standard error, which the parent made its log.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import NoReturn, TypeVar

from mlstream.config import ExperimentConfig
from mlstream.errors import BrokerUnavailable, MlstreamError, ProducerFenced, StoreError, TransactionFailed
from mlstream.host.log import log_exception, say
from mlstream.runs.spec import Cause, Figures, Report, Task

REPORT_EVERY_S = 0.1
FIGURES_EVERY_S = 1.0  # they take some milliseconds
# The version is not at fault, and what it has committed is good: it can be gone on with.
SURROUNDINGS = (BrokerUnavailable, StoreError, TransactionFailed)
T = TypeVar("T", bound=Task)


class Reports:
    """The pipe to the parent. It may be gone: then nobody listens, and the lifeline ends the process."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # processes that the model starts must not hold it open
        self._descriptor = descriptor
        self._last = 0.0
        self._last_figures = 0.0

    def send(self, report: Report) -> None:
        """Write one report."""
        try:
            os.write(self._descriptor, report.to_line())
        except BrokenPipeError:
            return

    def rows(
        self, rows: int, resumed: int = 0, figures: Callable[[], Figures] | None = None, *, errors: int = 0
    ) -> None:
        """Report progress, at most so often, and less often what `figures` gives."""
        now = time.monotonic()
        if now - self._last < REPORT_EVERY_S:
            return
        self._last = now
        if figures is None or now - self._last_figures < FIGURES_EVERY_S:
            self.send(Report("rows", rows=rows, resumed=resumed, errors=errors))
        else:
            self._last_figures = now
            self.send(Report("rows", rows=rows, resumed=resumed, errors=errors, figures=figures()))


def serve(kind: type[T], work: Callable[[T, Reports], Report]) -> NoReturn:
    """Take the task from standard input, do it, report how it ended, and end the process: 0 only when it is done."""
    task = kind.from_line(_take_lifeline())
    reports = Reports(task.reports)
    code = 0
    try:
        reports.send(work(task, reports))
    except BaseException as exc:  # what a model may raise has no bounds: all of it goes to the log and the parent
        code = 1
        reports.send(log_failure(exc))
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    # All is written and reported: a thread that the model left running, or a crash while it is torn down, is no matter.
    os._exit(code)


def log_failure(exc: BaseException) -> Report:
    """Write what went wrong to the log, for whoever wrote the model: the traceback of what their code raised.

    An error of ours is a sentence and needs no traceback (it gets one with MLSTREAM_DEBUG=1).
    """
    with suppress(OSError):  # the disk of the log is full: the parent must hear of it all the same
        log_exception(exc)
    if not isinstance(exc, MlstreamError):
        return Report("failed", error=f"{type(exc).__name__}: {exc}")
    say(str(exc))
    hint = None if isinstance(exc, TransactionFailed) else exc.hint  # that one is for who writes transactions
    return Report("failed", error=exc.message, hint=hint, cause=_cause(exc))


def _cause(exc: MlstreamError) -> Cause:
    if isinstance(exc, ProducerFenced):
        return "taken over"
    return "surroundings" if isinstance(exc, SURROUNDINGS) else "version"


def config_of(task: Task) -> ExperimentConfig:
    """The task's experiment, knowing where it is."""
    config = ExperimentConfig.model_validate(task.config)
    return config.located(Path(task.path or "experiment.yaml"), Path(task.root))


def _take_lifeline() -> bytes:
    """The first line of standard input; after it the pipe only tells, by closing, that the parent is gone."""
    lifeline = FileIO(os.dup(0), "rb")
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = lifeline.read(65_536)
        if not chunk:
            raise SystemExit("no task on standard input: `mlstream run` and `mlstream train` start this module")
        line += chunk
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # what the model reads from standard input is empty
    os.close(nothing)
    threading.Thread(target=_wait_for_end, args=(lifeline,), name="mlstream-lifeline", daemon=True).start()
    return bytes(line)


def _wait_for_end(lifeline: FileIO) -> None:
    while lifeline.read(1024):
        pass
    os._exit(1)
