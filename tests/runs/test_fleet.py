"""What a worker's process says is taken for what that process did, and for nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlstream.errors import (
    BrokerUnavailable,
    PredictError,
    ProducerFenced,
    StoreError,
    TransactionFailed,
    UnknownTopic,
)
from mlstream.runs.fleet import run_workers
from mlstream.runs.process import log_failure
from mlstream.runs.spec import Report
from tests.runs.late import LateTask


def task_of(version: str, home: Path) -> LateTask:
    return LateTask(
        config={}, path="", root=os.getcwd(), version=version, home=str(home), snapshot_id="", seed=1, threads=1
    )


def test_what_a_dead_worker_s_child_says_late_is_not_taken_for_its_successor_s_word(tmp_path: Path) -> None:
    """The child says `done` for a process that was killed; nobody has done anything."""
    heard: list[Report] = []
    ended = run_workers(
        [task_of("v1", tmp_path)],
        logs={("v1", 0): tmp_path / "v1.log"},
        on_report=lambda _, report: heard.append(report),
    )["v1", 0]
    assert (tmp_path / "said").exists()
    assert [(report.event, report.rows) for report in heard] == [("rows", 10), ("rows", 11), ("failed", 0)]
    assert ended.report is None
    assert ended.error == "ValueError: it did not work"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
def test_a_worker_whose_log_is_on_a_full_disk_says_what_went_wrong_all_the_same(tmp_path: Path) -> None:
    logs = {("fails", 0): Path("/dev/full")}
    ended = run_workers([task_of("fails", tmp_path)], logs=logs, on_report=lambda _, _report: None)["fails", 0]
    assert ended.error == "ValueError: it did not work"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PredictError("predict raised"), "version"),
        (UnknownTopic("no such topic"), "version"),
        (LookupError("of the model"), "version"),
        (BrokerUnavailable("nobody answers"), "surroundings"),
        (TransactionFailed("it goes on failing"), "surroundings"),
        (StoreError("the disk is full"), "surroundings"),
        (ProducerFenced("another one took over"), "taken over"),
    ],
)
def test_a_worker_tells_whether_the_version_is_at_fault(error: Exception, cause: str) -> None:
    """What is not is gone on with; of what is the topics are taken away."""
    assert Report.from_line(log_failure(error).to_line()).cause == cause
