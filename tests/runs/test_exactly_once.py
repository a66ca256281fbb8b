"""No prediction is lost or doubled, whatever dies when: real workers are killed, stopped and cut off on a real broker.

An independent client (librdkafka) counts. MLSTREAM_FAULT_ROUNDS sets how many rounds of each there are (1 here; the
long form is `make test-faults`); a round that fails prints its seed, and MLSTREAM_FAULT_SEED repeats it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.embedded import down, read_state, up
from mlstream.broker.settling import settled_bounds
from mlstream.home import Home
from mlstream.runs.shard import Lane
from tests.broker.topics import consume, make
from tests.guard import guarded
from tests.proxy import FaultProxy
from tests.runs.mortal import FENCED, POINTS, Job, offsets_of, words

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("MLSTREAM_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("MLSTREAM_FAULT_SEED", str(random.SystemRandom().randrange(10**6))))
ROWS = 33_000
BATCH_ROWS = 150  # one transaction each: 220 in a round


@dataclass
class Tally:
    """What all rounds of this session came to; printed at the end."""

    faults: Counter[str] = field(default_factory=Counter)
    records: int = 0
    lost: int = 0
    doubled: int = 0


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    found = Tally()
    yield found
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.faults.items()))
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    assert reporter is not None
    reporter.write_line(
        f"\nfaults of runs: {sum(found.faults.values())} injected ({kinds}); "
        f"{found.records:,} records checked, {found.lost} lost, {found.doubled} doubled"
    )


@dataclass(frozen=True)
class Found:
    """What is wrong with an output topic."""

    lost: int
    doubled: int
    unordered: int
    committed: int
    open_transactions: int

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.unordered or self.open_transactions)


@dataclass
class Round:
    """A topic of one partition, and workers that write to it."""

    broker: Connection
    topic: str
    seed: int
    control: bool = False
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        offsets = offsets_of(ROWS, self.seed)
        self.lane = Lane(
            hashlib.sha256(self.topic.encode()).hexdigest(),
            "v1",
            self.topic,
            "source",
            0,
            int(offsets[-1]) + 5,
            batch_rows=BATCH_ROWS,
            transaction_rows=BATCH_ROWS,
        )

    def start(self, **settings: object) -> subprocess.Popen[str]:
        job = Job(
            list(self.broker.bootstrap_servers), asdict(self.lane), ROWS, self.seed, control=self.control, **settings  # type: ignore[arg-type]
        )  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "tests.runs.mortal", words(job)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )

    def work(self, **settings: object) -> int:
        """Run a worker to its end; its exit code."""
        process = self.start(**settings)
        process.communicate(timeout=200)
        return process.returncode

    def check(self, client: Client) -> Found:
        """Compare what committed readers see with the input, record by record."""
        settled = settled_bounds(client, self.topic, timeout_s=30)[0]
        values = [json.loads(value) for *_, value, _ in consume(self.broker, self.topic, [0])[0] if value is not None]
        seen = [found["source_offset"] for found in values]
        wanted = offsets_of(ROWS, self.seed).tolist()
        assert {(found["source_topic"], found["source_partition"]) for found in values} <= {("source", 0)}
        counts = Counter(seen)
        extra = sum(count - 1 for count in counts.values()) + len(set(seen) - set(wanted))
        return Found(
            lost=len(set(wanted) - set(seen)),
            doubled=extra,
            unordered=int(np.count_nonzero(np.diff(seen) <= 0)) if len(seen) > 1 else 0,
            committed=committed_offset(self.broker, self.lane.group, self.topic),
            open_transactions=settled.high_watermark - settled.last_stable,
        )


def committed_offset(broker: Connection, group: str, topic: str) -> int:
    """As librdkafka reads it."""
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group, "enable.auto.commit": False})
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)
    finally:
        consumer.close()


@pytest.fixture(params=[SEED + number for number in range(ROUNDS)], ids="MLSTREAM_FAULT_SEED={}".format)
def seed(request: pytest.FixtureRequest) -> int:
    """Of this round; it is in the test's name."""
    found: int = request.param
    return found


@pytest.fixture
def a_round(broker: Connection, client: Client, topic: str, seed: int) -> Callable[..., Round]:
    def start(**settings: bool) -> Round:
        make(client, topic)
        return Round(broker, topic, seed, **settings)

    return start


def end(process: subprocess.Popen[str]) -> None:
    """Leave nothing of it behind, whatever the test came to."""
    process.kill()
    process.communicate()


def settle(tally: Tally, found: Found, lane: Lane) -> None:
    """Enter what was found, and fail when it is not right."""
    tally.records += ROWS
    tally.lost += found.lost
    tally.doubled += found.doubled
    assert found.is_right, found
    assert found.committed == lane.stop


def test_a_worker_that_is_killed_at_any_point_loses_and_doubles_nothing(
    a_round: Callable[..., Round], client: Client, tally: Tally, seed: int
) -> None:
    now = a_round()
    dice = random.Random(seed)
    points = list(POINTS)
    dice.shuffle(points)
    for point in points:
        assert now.work(point=point, after=dice.randrange(0, 40)) == -signal.SIGKILL, "it was not killed"
        tally.faults[f"kill {point}"] += 1
    assert now.work() == 0
    settle(tally, now.check(client), now.lane)


def test_positions_that_are_committed_outside_of_the_transaction_are_found_out(
    a_round: Callable[..., Round], client: Client, seed: int
) -> None:
    """The control: the same deaths, and the checker sees records that are lost."""
    now = a_round(control=True)
    for after in (3, 7):
        assert now.work(point="before-produce", after=after) == -signal.SIGKILL
    assert now.work() == 0
    found = now.check(client)
    assert found.lost >= BATCH_ROWS
    assert not found.is_right


def test_a_worker_that_was_stopped_past_the_transaction_s_timeout_goes_on_and_its_old_writes_never_show(
    a_round: Callable[..., Round], client: Client, tally: Tally, seed: int
) -> None:
    now = a_round()
    dice = random.Random(seed)
    process = now.start(
        point=dice.choice(POINTS[1:3]), after=dice.randrange(5, 60), number=signal.SIGSTOP, timeout_ms=1000
    )
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        # The coordinator looks for transactions whose time is over every ten seconds, and aborts them.
        settled_bounds(client, now.topic, timeout_s=40)
        tally.faults["stop past the timeout"] += 1
        os.kill(process.pid, signal.SIGCONT)
        printed, _ = process.communicate(timeout=200)
    finally:
        end(process)
    assert process.returncode == 0
    assert json.loads(printed)["failures"] >= 1
    settle(tally, now.check(client), now.lane)


def test_of_two_workers_with_one_transactional_id_the_first_is_fenced(
    a_round: Callable[..., Round], client: Client, tally: Tally
) -> None:
    now = a_round()
    first = now.start(slow_s=0.2)
    try:
        deadline = time.monotonic() + 60
        while settled_bounds(client, now.topic)[0].high_watermark < 5 * BATCH_ROWS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert now.work() == 0
        first.communicate(timeout=100)
    finally:
        end(first)
    tally.faults["second worker"] += 1
    assert first.returncode == FENCED
    settle(tally, now.check(client), now.lane)


def test_answers_that_are_lost_or_late_lose_and_double_nothing(
    a_round: Callable[..., Round], client: Client, tally: Tally, seed: int
) -> None:
    now = a_round()
    dice = random.Random(seed)
    with FaultProxy() as proxy:
        process = now.start(proxy=proxy.url, stall_s=5.0)
        ended = threading.Event()

        def disturb() -> None:
            while not ended.wait(dice.uniform(0.05, 0.3)):
                kind = dice.choice(["drop", "lose", "late"])
                tally.faults[f"answers {kind}"] += 1
                if kind == "drop":
                    proxy.drop()
                elif kind == "lose":
                    proxy.cut_after(dice.randrange(200))
                else:
                    proxy.delay_s = dice.choice([0.0, 0.02, 0.1])

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            printed, _ = process.communicate(timeout=250)
        finally:
            ended.set()
            thread.join()
            end(process)
    assert process.returncode == 0, printed
    settle(tally, now.check(client), now.lane)


def test_a_broker_that_is_killed_and_started_again_loses_and_doubles_nothing(
    tmp_path: Path, topic: str, tally: Tally, seed: int
) -> None:
    home = Home(tmp_path / "own")
    started = up(home, timeout_s=120)
    try:
        connection = Connection(bootstrap_servers=started.bootstrap_servers, settings={})
        with Client(connection) as client:
            make(client, topic)
        now = Round(connection, topic, seed)
        process = now.start(slow_s=0.01)
        try:
            with Client(connection) as client:
                while settled_bounds(client, topic)[0].high_watermark < 3 * BATCH_ROWS:
                    time.sleep(0.05)
            state = read_state(home)
            assert state is not None
            dying = [psutil.Process(node.pid) for node in state.nodes]
            for node in dying:
                node.kill()
            psutil.wait_procs(dying, timeout=30)
            tally.faults["broker killed"] += 1
            again = up(home, port=_port(started.bootstrap_servers[0]), timeout_s=120)
            with guarded(again.pid, str(read_state(home).nodes[0].token)):  # type: ignore[union-attr]
                process.communicate(timeout=200)
                assert process.returncode == 0
                with Client(connection) as client:
                    settle(tally, now.check(client), now.lane)
        finally:
            end(process)
    finally:
        down(home)


def test_more_or_fewer_workers_may_go_on_where_others_ended(
    broker: Connection, client: Client, topic: str, tally: Tally, seed: int
) -> None:
    """A partition's transactional id does not depend on who works on it: any worker may follow any other."""
    make(client, topic)
    now = Round(broker, topic, seed)
    assert now.work(point="after-produce", after=20) == -signal.SIGKILL
    assert now.work(point="during-end", after=30) == -signal.SIGKILL
    assert now.work() == 0
    assert now.work() == 0  # there is nothing left to do
    tally.faults["kill after-produce"] += 1
    tally.faults["kill during-end"] += 1
    settle(tally, now.check(client), now.lane)


def test_a_group_whose_offsets_are_gone_is_rebuilt_from_the_outputs(
    a_round: Callable[..., Round], broker: Connection, client: Client, tally: Tally
) -> None:
    now = a_round()
    assert now.work(point="after-offsets", after=50) == -signal.SIGKILL
    admin = AdminClient({"bootstrap.servers": broker.servers})
    deadline = time.monotonic() + 60
    while True:  # the transaction that was open holds the group until its end
        try:
            admin.delete_consumer_groups([now.lane.group], request_timeout=20)[now.lane.group].result(20)
            break
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(1)
    tally.faults["offsets expired"] += 1
    assert now.work() == 0
    settle(tally, now.check(client), now.lane)


def _port(server: str) -> int:
    return int(server.rsplit(":", 1)[1])
