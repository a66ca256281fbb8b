"""A version that fails fails alone; a run that is cut off is seen, and the next one goes on with it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil
import pytest
from confluent_kafka import Producer

from mlstream import Connection, Run, open_run, publish, run
from mlstream.broker.admin import delete_topic
from mlstream.broker.client import Client
from mlstream.errors import RunError, RunIncomplete
from mlstream.runs.run import list_runs
from tests.runs.conftest import ROWS, Shop
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker
HOWS = ("raise", "short", "nan", "over", "exit", "kill")


@pytest.fixture(scope="module")
def mixed(make_shop: Callable[[str], Shop], orders: str) -> tuple[Shop, Run]:
    """A shop after a run of one good version among bad ones."""
    shop = make_shop(orders)
    bad = {how: {"model": "shop/models.py:Bad", "parameters": {"how": how}} for how in HOWS}
    early = {"unloaded": {"model": "shop/models.py:Bad", "parameters": {"hwo": "raise"}}}
    config = shop.config({**bad, **early, "good": {"model": "shop/models.py:Linear"}})
    return shop, run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)


def test_the_good_version_finishes_whatever_becomes_of_the_others(mixed: tuple[Shop, Run]) -> None:
    shop, done = mixed
    assert done.status == "partial"
    assert {name for name, found in done.versions.items() if found.status == "complete"} == {"good"}
    assert done.predictions("good").collect().height == ROWS
    assert len(read_topic(shop.connection, str(done.versions["good"].topic))) == ROWS


RAISED = "RuntimeError: the model has had enough"


@pytest.mark.parametrize(
    ("how", "error", "last_line"),
    [
        (
            "raise",
            rf"batch that starts at orders-\w+\[2\]@0: predict raised {RAISED} \(at shop/models\.py:\d+\)",
            RAISED,
        ),
        (
            "short",
            r"batch that starts at orders-\w+\[2\]@0: predict returned 7 rows for 8 records",
            "to go wrong: short",
        ),
        ("nan", r"batch that starts at orders-\w+\[2\]@0: score is nan in row 4 of the batch", "to go wrong: nan"),
        ("over", r"batch that starts at orders-\w+\[2\]@0: score is 1\.5 in row 4 of the batch", "to go wrong: over"),
        ("exit", r"its process ended by itself with exit code 7", "about to go wrong: exit"),
        ("kill", r"its process was ended by SIGKILL", "about to go wrong: kill"),
        ("unloaded", r"Bad\(how.* cannot be called with the parameters hwo", None),
    ],
)
def test_a_failure_names_what_happened_and_its_log(
    mixed: tuple[Shop, Run], how: str, error: str, last_line: str | None
) -> None:
    _, done = mixed
    found = done.versions[how]
    assert found.status == "failed"
    assert found.error is not None
    assert re.search(error, found.error)
    if last_line is not None:
        assert found.log_tail[-1].endswith(last_line)
        assert last_line in found.log.read_text()
    if how not in ("exit", "kill"):
        assert found.log.read_text().rstrip().splitlines()[-1].startswith(f"mlstream: {found.error}")
    assert found.measured is None
    with pytest.raises(RunIncomplete, match=rf"version {how} failed: "):
        done.predictions(how)


def test_a_traceback_in_a_log_is_of_the_model_s_own_code(mixed: tuple[Shop, Run]) -> None:
    shop, done = mixed
    log = done.versions["raise"].log.read_text()
    assert f'File "{shop.root}/shop/models.py", line ' in log
    assert log.count("Traceback (most recent call last)") == 1
    assert "Traceback" not in done.versions["short"].log.read_text()


def test_the_error_of_the_run_names_every_failed_version_and_its_log(mixed: tuple[Shop, Run]) -> None:
    _, done = mixed
    with pytest.raises(RunError, match=r"7 of 8 versions failed") as caught:
        done.check()
    for how in (*HOWS, "unloaded"):
        assert f"version {how} failed: " in caught.value.message
        assert str(done.versions[how].log) in caught.value.message
    assert "version good" not in caught.value.message


def test_the_topics_of_failed_versions_are_gone(mixed: tuple[Shop, Run]) -> None:
    shop, done = mixed
    there = topics(shop.connection)
    assert not [name for name in there if name.endswith(done.id[:12]) and ".good." not in name]
    assert all(found.topic is None for found in done.versions.values() if found.status == "failed")


def test_a_failed_run_is_not_taken_for_the_answer(shop: Shop) -> None:
    config = shop.config({"v1": {"model": "shop/models.py:Bad", "parameters": {"how": "raise"}}})

    def once() -> Run:
        return run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)

    first, second = once(), once()
    assert (first.status, second.status) == ("failed", "failed")
    assert (first.attempt, second.attempt) == (1, 2)


def test_records_that_were_aborted_are_neither_scored_nor_missed(
    make_shop: Callable[[str], Shop], broker: Connection, topic: str
) -> None:
    publish(topic, pl.DataFrame({"value": ['{"x": 0.5, "n": 1, "s": "a"}'] * 10}), partitions=1, connection=broker)
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(10)
    for number, end in enumerate(["abort", "commit", "abort", "commit", "abort"]):
        producer.begin_transaction()
        for _ in range(7):
            producer.produce(topic, json.dumps({"x": number / 3, "n": number, "s": end}), partition=0)
        producer.flush(10)
        (producer.abort_transaction if end == "abort" else producer.commit_transaction)(10)
    shop = make_shop(topic)
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, batch_rows=4)
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    expected = [*range(10), *range(18, 25), *range(34, 41)]  # a marker follows each transaction
    records = read_topic(shop.connection, str(done.versions["v1"].topic))
    assert [record.json["source_offset"] for record in records] == expected
    assert done.predictions("v1").collect()["source_offset"].to_list() == expected
    assert done.input.ranges[0].stop == 50


@pytest.fixture
def started(shop: Shop, tmp_path: Path) -> tuple[Shop, subprocess.Popen[str], Path]:
    """A run on the command line whose second version waits for a file, once it has begun to score."""
    gate = tmp_path / "gate"
    shop.config(
        {
            "v1": {"model": "shop/models.py:Linear"},
            "v2": {"model": "shop/models.py:Waits", "parameters": {"file": str(gate)}},
        }
    )
    config = shop.root / "configs" / "shop.yaml"
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstream.cli.main", "run", str(config), "--snapshot", shop.snapshot],
        env={**os.environ, "MLSTREAM_HOME": str(shop.home.path), "MLSTREAM_BOOTSTRAP_SERVERS": shop.connection.servers},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    most = 0
    while time.monotonic() < deadline:
        now = len(parent.children())
        most = max(most, now)
        if most == 2 and now == 1:  # v1 has ended, so v2 has all it needs and is on its way or waiting
            return shop, process, gate
        time.sleep(0.05)
    raise AssertionError("v1 did not end")


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def cut_off(shop: Shop, process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    """Send the run a signal; give what it printed once its workers are gone too."""
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert workers
    process.send_signal(number)
    printed = process.communicate(timeout=30)
    assert gone(workers, within_s=10)
    assert open_run(home=shop.home).status == "incomplete"
    return printed


def test_an_interrupted_run_is_incomplete_and_the_next_one_goes_on_with_it(
    started: tuple[Shop, subprocess.Popen[str], Path],
) -> None:
    shop, process, gate = started
    out, err = cut_off(shop, process, signal.SIGINT)
    assert (process.returncode, out) == (130, "")
    assert err.endswith("interrupted: the same command goes on where it stopped\n")
    first = open_run(home=shop.home)
    with pytest.raises(RunIncomplete, match=r"was cut off; run it again"):
        first.check()
    with pytest.raises(RunIncomplete, match=r"version v1 was cut off; run it again"):
        first.predictions("v1")

    gate.touch()
    second = run(first.config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, workers=2)
    assert (second.status, second.id, second.attempt) == ("complete", first.id, 1)
    assert [found.status for found in list_runs(shop.home)] == ["complete"]
    one, two = second.versions["v1"], second.versions["v2"]
    assert (one.rows, one.resumed, one.rows_per_second) == (ROWS, ROWS, None)
    assert (two.rows, two.topic) == (ROWS, first.versions["v2"].topic)
    for found in (one, two):  # nothing lost, nothing doubled, in order
        records = read_topic(shop.connection, str(found.topic))
        seen = [(record.partition, record.json["source_offset"]) for record in records]
        assert sorted(seen) == sorted(set(seen))
        assert len(seen) == ROWS
    frames = [second.predictions(name).select("source_partition", "source_offset").collect() for name in ("v1", "v2")]
    assert frames[0].equals(frames[1])


def test_an_interrupted_run_is_computed_anew_when_that_is_forced_and_cleared_up(
    started: tuple[Shop, subprocess.Popen[str], Path],
) -> None:
    shop, process, gate = started
    cut_off(shop, process, signal.SIGINT)
    first = open_run(home=shop.home)
    left = {str(found.topic) for found in first.versions.values()}
    assert left <= topics(shop.connection)
    gate.touch()
    second = run(first.config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home, force=True)
    assert (second.status, second.key, second.attempt) == ("complete", first.key, 2)
    assert left.isdisjoint(topics(shop.connection))
    assert [found.status for found in list_runs(shop.home)] == ["complete", "incomplete"]


def test_an_interrupted_run_whose_topics_are_gone_is_computed_anew(
    started: tuple[Shop, subprocess.Popen[str], Path],
) -> None:
    shop, process, gate = started
    cut_off(shop, process, signal.SIGINT)
    first = open_run(home=shop.home)
    with Client(shop.connection) as client:
        delete_topic(client, str(first.versions["v1"].topic))
    gate.touch()
    second = run(first.config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert (second.status, second.attempt) == ("complete", 2)
    assert [found.resumed for found in second.versions.values()] == [0, 0]


def test_a_run_is_computed_by_one_process_at_a_time_and_its_workers_end_with_it(
    started: tuple[Shop, subprocess.Popen[str], Path],
) -> None:
    shop, process, _ = started
    config = open_run(home=shop.home).config
    with pytest.raises(RunError, match=r"the same run is being computed by another process; wait for it"):
        run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    cut_off(shop, process, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
