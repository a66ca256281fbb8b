"""The workers of a run in the test's own process, so that their broker and their limits can be disturbed. No test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import pytest
from kafka.errors import TransactionAbortableError

from mlstream.broker.transaction_steps import Coordination, Identity
from mlstream.runs import attempt, worker
from mlstream.runs.fleet import Ended
from mlstream.runs.process import Reports
from mlstream.runs.spec import Report, Spec, Task


class Heard(Reports):
    """Reports of a worker that is in this process."""

    def __init__(self, tell: Callable[[Report], None]) -> None:
        super().__init__(os.open(os.devnull, os.O_WRONLY))
        self._tell = tell

    def send(self, report: Report) -> None:
        self._tell(report)


def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers of runs work in this process, one after the other; the models are in their own."""

    def here(
        specs: Sequence[Task], *, logs: object, on_report: Callable[[tuple[str, int], Report], None]
    ) -> dict[tuple[str, int], Ended]:
        ended = {}
        for spec in specs:
            assert isinstance(spec, Spec)
            report = worker.work(spec, Heard(lambda report, name=spec.name: on_report(name, report)))  # type: ignore[misc]
            ended[spec.name] = Ended(spec.name, report, None)
        return ended

    monkeypatch.setattr(attempt, "run_workers", here)


def fail_commits(monkeypatch: pytest.MonkeyPatch, every: int) -> Callable[[], int]:
    """Every so manieth transaction fails at its end; how many did, once it is asked."""
    asked, commit = 0, Coordination.commit

    async def at_times(self: Coordination, identity: Identity) -> Identity:
        nonlocal asked
        asked += 1
        if asked % every == every - 1:
            raise TransactionAbortableError("as a broker may answer")
        return await commit(self, identity)

    monkeypatch.setattr(Coordination, "commit", at_times)
    return lambda: (asked + 1) // every
