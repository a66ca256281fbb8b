"""A version that keeps state goes on exactly where it was, whatever dies when; its state comes and goes with the run.

Its answers depend on all records before, so one that is lost, doubled or out of order shows in all that follow.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pyarrow as pa
import pytest

from mlstream import Connection, Run, open_run, publish, run
from mlstream.broker.admin import delete_topic, topic_config
from mlstream.broker.client import Client
from mlstream.broker.settling import settled_bounds
from mlstream.config import ExperimentConfig
from mlstream.errors import RunError
from mlstream.runs.layout import Encoder
from mlstream.runs.removing import remove_run
from mlstream.runs.shard import Lane, Shard
from mlstream.runs.state import PIECE_BYTES, State, make_state_topic, read_state, state_columns
from mlstream.snapshots.views import Stretches
from mlstream.streams.write import StreamWriter
from tests.broker.topics import consume, make
from tests.runs.conftest import Shop
from tests.runs.counting import MODELS, plain_means
from tests.runs.in_process import fail_commits, work_here
from tests.runs.mortal import POINTS, Job, frame_of, offsets_of, words
from tests.runs.mortal_state import work
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("MLSTREAM_FAULT_SEED", str(random.SystemRandom().randrange(10**6))))
LONG = int(os.environ.get("MLSTREAM_FAULT_ROUNDS", "1")) > 1
SHARD_ROWS = 3_000
SHARD_BATCH_ROWS = 100
BATCH_ROWS = 33_000  # a transaction each
ROWS = 5 * BATCH_ROWS  # four batches in one partition, one in the other
BAD = [30_000, 49_999, 120_001, 160_001]
LATE = 150_001  # a record of the fourth batch: when it comes, the first transaction is committed


# One partition, killed at the points of its protocol.


@pytest.fixture
def lane(client: Client, topic: str) -> Lane:
    """A partition of an output topic, and the topic for its state."""
    make(client, topic)
    make_state_topic(client, topic)
    run_id = hashlib.sha256(topic.encode()).hexdigest()
    stop = int(offsets_of(SHARD_ROWS, SEED)[-1]) + 5
    return Lane(run_id, "v1", topic, "source", 0, stop, SHARD_BATCH_ROWS, SHARD_BATCH_ROWS, stateful=True)


def killed(broker: Connection, lane: Lane, *options: str, point: str, after: int) -> bool:
    """Run a worker until it is killed; whether it was."""
    job = Job(list(broker.bootstrap_servers), asdict(lane), SHARD_ROWS, SEED, point=point, after=after)
    command = [sys.executable, "-m", "tests.runs.mortal_state", words(job), *options]
    return subprocess.run(command, cwd=ROOT, timeout=100, check=False).returncode == -signal.SIGKILL


def answers(broker: Connection, client: Client, topic: str) -> list[tuple[int, float]]:
    """What committed readers see, as librdkafka reads it: offset in the source and prediction."""
    settled_bounds(client, topic, timeout_s=30)
    values = [json.loads(value) for *_, value, _ in consume(broker, topic, [0])[0] if value is not None]
    return [(value["source_offset"], value["prediction"]) for value in values]


def expected(rows: int) -> list[tuple[int, float]]:
    means = plain_means((n / 7, n) for n in range(rows))
    return list(zip(offsets_of(rows, SEED).tolist(), means, strict=True))


def test_a_worker_that_is_killed_at_any_point_goes_on_with_the_state_of_its_last_prediction(
    broker: Connection, client: Client, lane: Lane
) -> None:
    dice = random.Random(SEED)
    for point in dice.sample(POINTS, len(POINTS) if LONG else 3):
        assert killed(broker, lane, point=point, after=dice.randrange(1, 5)), f"seed {SEED}"
    assert work(client, lane, SHARD_ROWS, SEED, forgetful=False) > 0
    assert answers(broker, client, lane.topic) == expected(SHARD_ROWS), f"seed {SEED}"
    state = read_state(client, lane.state_topic, 0)
    assert state is not None
    assert state.position == lane.stop
    assert sum(json.loads(state.data)[1]) == SHARD_ROWS


def test_a_worker_that_goes_on_without_its_state_is_found_out(broker: Connection, client: Client, lane: Lane) -> None:
    """The control: the same deaths, and the answers after the first one are others."""
    assert killed(broker, lane, "forgetful", point="after-offsets", after=4)
    assert work(client, lane, SHARD_ROWS, SEED, forgetful=True) >= 4 * SHARD_BATCH_ROWS
    found = answers(broker, client, lane.topic)
    assert [offset for offset, _ in found] == offsets_of(SHARD_ROWS, SEED).tolist()  # all records are there
    differs = [index for index, pair in enumerate(expected(SHARD_ROWS)) if pair != found[index]]
    assert differs[0] >= 4 * SHARD_BATCH_ROWS
    assert len(differs) > SHARD_ROWS // 2


def test_a_state_that_is_not_that_of_the_last_prediction_is_refused_by_name(client: Client, lane: Lane) -> None:
    offsets = offsets_of(SHARD_ROWS, SEED)
    next_offset = offsets[3 * SHARD_BATCH_ROWS]
    frame = frame_of(lane, SHARD_ROWS, SEED)
    encoder = Encoder(lane.source, run_id=lane.run_id, version=lane.version, batch_rows=SHARD_BATCH_ROWS)
    where = re.escape(f"{lane.state_topic}[0]: ")

    def put(columns: pa.Table) -> None:
        with StreamWriter(client, lane.state_topic) as writer:
            writer.write(0, columns)

    with ThreadPoolExecutor(1) as pool:
        first = Shard(client, lane, Stretches(frame.to_arrow()), pool=pool)
        assert first.state() is None
        for number in range(3):
            batch = frame.slice(first.row, SHARD_BATCH_ROWS)
            first.write(encoder.encode(batch.drop("n"), batch.select(prediction="n")), state=b"after batch %d" % number)
        first.abandon()
        shard = Shard(client, lane, Stretches(frame.to_arrow()), pool=pool)
        assert shard.state() == b"after batch 2"
        put(state_columns(State(int(offsets[7]), b"of somebody else"), run_id=lane.run_id, version="v1"))
        told = rf"{where}its last state is for offset {offsets[7]}, and the predictions go on from offset {next_offset}"
        with pytest.raises(RunError, match=told):
            shard.state()
        put(state_columns(State(int(next_offset), bytes(2 * PIECE_BYTES)), run_id=lane.run_id, version="v1").slice(1))
        with pytest.raises(
            RunError, match=rf"{where}the state for offset {next_offset} is not whole; nothing else may"
        ):
            shard.state()
        put(pa.table({"key": [b"0"], "value": [b"of affairs"]}))
        with pytest.raises(RunError, match=rf"{where}its last record is no state"):
            shard.state()
        delete_topic(client, lane.state_topic)
        make_state_topic(client, lane.topic)
        with pytest.raises(
            RunError, match=rf"{where}its last state is for offset None, and the predictions go on from"
        ):
            shard.state()
        shard.abandon()


def test_a_state_of_any_size_comes_back_and_the_topic_keeps_the_newest(client: Client, lane: Lane) -> None:
    assert read_state(client, lane.state_topic, 0) is None
    dice = random.Random(SEED)
    for position, size in enumerate([0, 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES - 1, 3]):
        state = State(position, dice.randbytes(size))
        with StreamWriter(client, lane.state_topic) as writer:
            writer.write(0, state_columns(state, run_id=lane.run_id, version="v1"))
        assert read_state(client, lane.state_topic, 0) == state
    assert topic_config(client, lane.state_topic)["cleanup.policy"] == "compact"
    keys = [key for _, _, key, _, _ in consume(client.connection, lane.state_topic, [0])[0]]
    assert keys == [b"0", b"0", b"0", b"0", b"1", b"0", b"1", b"2", b"3", b"4", b"0"]


# Whole runs: workers, hosts, records and topics.


@pytest.fixture(scope="module")
def counts(make_shop: Callable[[str], Shop], broker: Connection) -> Shop:
    """A shop with so many orders that a run takes several transactions."""
    topic = f"counts-{secrets.token_hex(4)}"
    n = pl.int_range(ROWS, eager=True)
    rows = pl.DataFrame({"n": n}).select(
        value=pl.struct(x=pl.col("n") * 0.37, n="n").struct.json_encode(), partition=(pl.col("n") % 5 == 4).cast(int)
    )
    publish(topic, rows, partitions=2, connection=broker)
    shop = make_shop(topic)
    (shop.root / "shop" / "counting.py").write_text(MODELS)
    return shop


def config_of(
    shop: Shop, versions: dict[str, tuple[str, dict[str, Any]]], *, errors: tuple[str, ...] = ()
) -> ExperimentConfig:
    each = {
        name: {
            "model": f"shop/counting.py:{model}",
            "parameters": parameters,
            "on_error": "errors" if name in errors else "fail",
        }
        for name, (model, parameters) in versions.items()
    }
    decode = {"columns": {"x": "float", "n": "int"}}
    return shop.config(each, input={"topic": shop.topic, "decode": decode}, task="regression", batch_rows=BATCH_ROWS)


def predictions(done: Run, version: str) -> list[list[float]]:
    """Of each partition, in order."""
    found = done.predictions(version).collect()
    return [found.filter(source_partition=partition)["prediction"].to_list() for partition in (0, 1)]


@pytest.fixture(scope="module")
def plain() -> list[list[float]]:
    """What `Means` answers in each partition."""
    return without([])


def without(bad: Sequence[int]) -> list[list[float]]:
    """What it answers when it never sees some of the records."""
    good = [n for n in range(ROWS) if n not in bad]
    return [plain_means((n * 0.37, n) for n in good if (n % 5 == 4) == partition) for partition in (False, True)]


@pytest.fixture(scope="module")
def mixed(counts: Shop, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of versions that keep state, of which some are killed in their last transaction."""
    folder = tmp_path_factory.mktemp("killed")
    config = config_of(
        counts,
        {
            "killed": ("Killed", {"at": LATE, "file": str(folder / "killed")}),
            "forgetful": ("Forgetful", {"at": LATE, "file": str(folder / "forgetful")}),
            "picky": ("Picky", {"at": LATE, "file": str(folder / "picky"), "bad": BAD}),
            "broken": ("Broken", {}),
        },
        errors=("picky",),
    )
    return run(config, snapshot=counts.snapshot, connection=counts.connection, home=counts.home)


def test_a_model_that_is_killed_gives_the_answers_of_one_that_is_not(mixed: Run, plain: list[list[float]]) -> None:
    found = mixed.versions["killed"]
    assert found.restarts == 1
    assert found.resumed in [BATCH_ROWS * batches for batches in (1, 2, 3, 4)]
    assert predictions(mixed, "killed") == plain


def test_a_model_that_does_not_take_its_state_back_is_found_out(mixed: Run, plain: list[list[float]]) -> None:
    """The control."""
    assert mixed.versions["forgetful"].restarts == 1
    found = predictions(mixed, "forgetful")
    assert [len(part) for part in found] == [len(part) for part in plain]
    assert found != plain


def test_records_that_a_killed_model_refuses_leave_no_trace_in_its_answers_to_others(mixed: Run) -> None:
    found = mixed.versions["picky"]
    assert (found.restarts, found.errors) == (1, len(BAD))
    assert predictions(mixed, "picky") == without(BAD)


def test_a_model_whose_state_cannot_be_had_fails_and_leaves_no_topic(mixed: Run, counts: Shop) -> None:
    broken = mixed.versions["broken"]
    assert (mixed.status, broken.status, broken.topic, broken.state_topic) == ("partial", "failed", None, None)
    assert str(broken.error).startswith("version broken, partition 0: state() raised LookupError: the window is lost")
    assert not [topic for topic in topics(counts.connection) if ".broken." in topic]


def test_the_run_s_record_names_the_topic_of_the_state(mixed: Run, counts: Shop, client: Client) -> None:
    found = open_run(mixed.id, home=counts.home).versions["killed"]
    assert found.state_topic == f"{found.topic}.state"
    assert found.state_topic_id == client.topic(str(found.state_topic)).topic_id
    records = read_topic(counts.connection, str(found.state_topic))
    assert {record.headers["mlstream-run"].decode() for record in records} == {mixed.id}
    assert {record.headers["mlstream-position"].decode() for record in records} == {
        str(BATCH_ROWS * batches) for batches in (1, 2, 3, 4)
    }


def test_two_workers_give_the_answers_of_one_and_their_state_is_removed_with_the_run(
    counts: Shop, plain: list[list[float]]
) -> None:
    config = config_of(counts, {"means": ("Means", {})})
    again = run(config, snapshot=counts.snapshot, connection=counts.connection, home=counts.home, workers=2)
    assert predictions(again, "means") == plain
    # As if it had been killed before it was noted whose the topic for the state is: it goes with the run all the same.
    made = again.versions["means"]
    unnoted = replace(again, versions={"means": replace(made, state_topic=None, state_topic_id=None)})
    (removed,) = remove_run(unnoted, connection=counts.connection)
    assert set(removed.topics) == {made.topic, made.state_topic}
    assert topics(counts.connection).isdisjoint(removed.topics)


def test_a_transaction_that_fails_takes_each_model_back_to_the_state_before_it(
    counts: Shop, plain: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    work_here(monkeypatch)
    failed = fail_commits(monkeypatch, 3)
    config = config_of(counts, {"here": ("Means", {})})
    done = run(config, snapshot=counts.snapshot, connection=counts.connection, home=counts.home)
    assert failed() >= 2
    assert predictions(done, "here") == plain


@pytest.fixture
def cut_off(counts: Shop, tmp_path: Path) -> tuple[ExperimentConfig, Path]:
    """A run that was killed in its last transaction, with all of its processes; and the file that it waits for."""
    gate = tmp_path / "gate"
    config = config_of(counts, {"gated": ("Gated", {"at": LATE, "file": str(gate)})})
    command = [sys.executable, "-m", "mlstream.cli.main", "run", str(config.path), "--snapshot", counts.snapshot]
    servers = counts.connection.servers
    variables = {**os.environ, "MLSTREAM_HOME": str(counts.home.path), "MLSTREAM_BOOTSTRAP_SERVERS": servers}
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while not _has_state(counts):
            assert time.monotonic() < deadline, "no state was written"
            time.sleep(0.1)
        workers = psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.wait(10)
    psutil.wait_procs(workers, timeout=20)
    return config, gate


def _has_state(shop: Shop) -> bool:
    for topic in topics(shop.connection):
        if ".gated." in topic and topic.endswith(".state"):
            return len(read_topic(shop.connection, topic)) == 8  # two pieces of each transaction but the last
    return False


def test_a_run_that_was_killed_goes_on_with_the_state_of_each_partition(
    counts: Shop, cut_off: tuple[ExperimentConfig, Path], plain: list[list[float]]
) -> None:
    config, gate = cut_off
    before = open_run(home=counts.home)
    assert before.status == "incomplete"
    assert before.versions["gated"].state_topic_id
    gate.touch()
    done = run(config, snapshot=counts.snapshot, connection=counts.connection, home=counts.home)
    assert (done.status, done.id) == ("complete", before.id)
    assert done.versions["gated"].resumed == 4 * BATCH_ROWS
    assert predictions(done, "gated") == plain
