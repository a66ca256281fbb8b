"""The model's process: load the version, answer what is asked, until the worker is gone. Decides nothing.

    asked                                                           answered
    {"do": "load"}        the spec in `spec`                        {"kind": "loaded", "classes": …, "stateful": …}
    {"do": "predict"}     columns in the payload                    {"kind": "answer", "seconds": …} and the predictions
    {"do": "rows"}        `file`, `start`, `rows` of a view         the same
    {"do": "state"}       `partition`                               {"kind": "state"} and its state
    {"do": "load_state"}  `partition`, `kept`, a state or nothing   {"kind": "begun"}
    {"do": "forget"}      `partition`                               {"kind": "forgotten"}
    {"do": "finish"}                                                {"kind": "finished"}

A version that keeps state has an instance for each partition: `first`, the record that a batch begins with, says which
one answers; `load_state` begins a new one, from a state when `kept`; `forget` ends it.

With `most_refused` in what is asked, records may be refused, so many at most: the answer then says which in `refused`,
as [row, error, reason], and the predictions are those for the others.

Whatever goes wrong is answered with {"kind": "failed", "error": …, "message": …, "hint": …}. Standard output and error
are the version's log; what the model prints there is no message. Standard input is empty.
"""

from __future__ import annotations

import faulthandler
import io
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import polars as pl

from mlstream.errors import MlstreamError
from mlstream.host.instances import Instances
from mlstream.host.log import log_exception
from mlstream.host.messages import enlarge, receive, send
from mlstream.host.spec import HostSpec
from mlstream.host.view_rows import ViewRows
from mlstream.versions.importing import Account
from mlstream.versions.predictor import Record, Scored


def main(descriptors: Sequence[int]) -> NoReturn:
    """Serve on the descriptors for requests, replies, the lifeline and stacks, then end the process."""
    requests, replies, lifeline, stacks = descriptors
    del sys.argv[1:]  # the model's
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # processes that the model starts must not hold them open
    _end_with_worker(lifeline)
    if sys.platform != "win32":
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=False)  # where it is when it hangs
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # the log of a process that crashes ends where it crashed
    enlarge(replies)
    serving = _Serving()
    with suppress(BrokenPipeError):  # the worker is gone, and the lifeline tells so too
        while (message := receive(requests)) is not None:
            header, payload = message
            try:
                answer, columns = serving.answer(header, payload)
            except BaseException as exc:  # what a model may raise has no bounds
                answer, columns = _failure(exc), b""
            send(replies, answer, columns)
            if answer["kind"] == "finished":
                break
    with suppress(OSError, ValueError):  # the model closed them
        sys.stdout.flush()
        sys.stderr.flush()
    # A thread that the model left running, or a crash while it is torn down, is no matter any more.
    os._exit(0)


class _Serving:
    """A version, once it is loaded."""

    def __init__(self) -> None:
        self._spec: HostSpec | None = None
        self._loaded: tuple[Instances, Account] | None = None
        self._rows = ViewRows()
        self._has_raised = False

    def answer(self, asked: dict[str, Any], payload: bytearray) -> tuple[dict[str, Any], bytes]:
        """The reply and its payload."""
        what = asked["do"]
        if what == "load":
            self._spec = HostSpec.from_json(asked["spec"])
            seed_all(self._spec.seed)
            predictor, account = self._spec.load.load()
            self._loaded = Instances(predictor, where=self._spec.load.where), account
            classes = None if predictor.classes is None else list(predictor.classes)
            return {"kind": "loaded", "classes": classes, "stateful": predictor.kept is not None}, b""
        if self._spec is None or self._loaded is None:
            raise RuntimeError(f"asked to {what} before a version was loaded")
        instances, account = self._loaded
        if what == "finish":
            self._spec.load.check(account)
            return {"kind": "finished"}, b""
        if what == "state":
            return {"kind": "state"}, instances.state(asked["partition"])
        if what == "load_state":
            instances.begin(asked["partition"], bytes(payload) if asked["kept"] else None)
            return {"kind": "begun"}, b""
        if what == "forget":
            instances.forget(asked["partition"])
            return {"kind": "forgotten"}, b""
        if what == "rows":
            frame = self._rows.read(asked["file"], asked["start"], asked["rows"])
            frame = frame.drop(self._spec.leave_out)
        else:
            frame = pl.read_ipc_stream(io.BytesIO(payload))
        place = asked["first"]
        first = None if place is None else Record(*place)
        predictor = instances.of(first)
        began = time.perf_counter()
        most = asked.get("most_refused")
        if most is None:
            found = Scored(predictor.predict(frame, first=first))
        else:
            found = predictor.score(frame, most=most, first=first)
        seconds = time.perf_counter() - began
        self._log_first(found)
        columns = io.BytesIO()
        found.predictions.write_ipc_stream(columns)
        refused = [[each.row, each.error, each.reason] for each in found.refused]
        return {"kind": "answer", "seconds": seconds, "refused": refused}, columns.getvalue()

    def _log_first(self, found: Scored) -> None:
        """The traceback of the first record that predict raised for; the others' reasons are with the records."""
        if found.raised is not None and not self._has_raised:
            self._has_raised = True
            log_exception(found.raised)


def seed_all(seed: int) -> None:
    """Seed what models use that take no generator of their own."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _failure(exc: BaseException) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        log_exception(exc)
    if isinstance(exc, MlstreamError):
        return {"kind": "failed", "error": type(exc).__name__, "message": exc.message, "hint": exc.hint}
    return {"kind": "failed", "error": None, "message": f"{type(exc).__name__}: {exc}", "hint": None}


def _end_with_worker(lifeline: int) -> None:
    """End this process, and those that the model started, when the worker lets go of the other end of a pipe."""
    if sys.platform == "linux":
        import fcntl

        # The kernel does it, so that code which never lets another thread run cannot outlive its worker.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # And where it does not, or the worker was gone before:
    threading.Thread(target=_wait_for_end, args=(lifeline,), name="mlstream-lifeline", daemon=True).start()


def _wait_for_end(lifeline: int) -> None:
    with suppress(OSError):
        while os.read(lifeline, 1024):
            pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
