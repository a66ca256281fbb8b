"""No prediction is lost or doubled, whatever dies when: real workers are killed, stopped and cut off on a real broker.

An independent client (librdkafka) counts. `fault_rounds.py` says how much of it there is; the long form is
`make test-faults`. What was found is printed as a table at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.embedded import down, read_state, up
from mlstream.broker.settling import settled_bounds
from mlstream.home import Home
from tests.broker.topics import make
from tests.fault_table import Faults
from tests.guard import guarded
from tests.proxy import FaultProxy
from tests.runs.fault_rounds import BATCH_ROWS, DEATHS, ROUNDS, Round, end, new_seed
from tests.runs.mortal import FENCED, POINTS

pytestmark = pytest.mark.broker


@pytest.fixture(params=range(ROUNDS))
def seed(request: pytest.FixtureRequest) -> int:
    """Of this round."""
    return new_seed(request.param)


@pytest.fixture
def a_round(broker: Connection, client: Client, topic: str, seed: int) -> Callable[..., Round]:
    def start(**settings: bool) -> Round:
        make(client, topic)
        return Round(broker, topic, seed, **settings)

    return start


@pytest.mark.parametrize(("where", "points"), DEATHS, ids=[name for name, _ in DEATHS])
def test_a_worker_that_is_killed_at_any_point_loses_and_doubles_nothing(
    a_round: Callable[..., Round], client: Client, faults: Faults, seed: int, where: str, points: tuple[str, ...]
) -> None:
    now = a_round()
    dice = random.Random(seed)
    most = 200 // len(points)  # of the round's 220 transactions
    for point in dice.sample(points, len(points)):
        assert now.work(point=point, after=dice.randrange(0, most)) == -signal.SIGKILL, "it was not killed"
    assert now.work() == 0
    now.settle(client, faults, f"worker killed, {where}", len(points))


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
    a_round: Callable[..., Round], client: Client, faults: Faults, seed: int
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
        os.kill(process.pid, signal.SIGCONT)
        printed, _ = process.communicate(timeout=200)
    finally:
        end(process)
    assert process.returncode == 0
    assert json.loads(printed)["failures"] >= 1
    now.settle(client, faults, "worker stopped past the timeout")


def test_of_two_workers_with_one_transactional_id_the_first_is_fenced(
    a_round: Callable[..., Round], client: Client, faults: Faults
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
    assert first.returncode == FENCED
    now.settle(client, faults, "second worker with the same id")


def test_answers_that_are_lost_or_late_lose_and_double_nothing(
    a_round: Callable[..., Round], client: Client, faults: Faults, seed: int
) -> None:
    now = a_round()
    dice = random.Random(seed)
    with FaultProxy() as proxy:
        process = now.start(proxy=proxy.url, stall_s=5.0)
        ended = threading.Event()
        disturbed = 0

        def disturb() -> None:
            nonlocal disturbed
            while not ended.wait(dice.uniform(0.05, 0.3)):
                kind = dice.choice(["drop", "lose", "late"])
                disturbed += 1
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
    now.settle(client, faults, "answers dropped, lost or late", disturbed)


def test_a_broker_that_is_killed_and_started_again_loses_and_doubles_nothing(
    tmp_path: Path, topic: str, faults: Faults, seed: int
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
            again = up(home, port=_port(started.bootstrap_servers[0]), timeout_s=120)
            with guarded(again.pid, str(read_state(home).nodes[0].token)):  # type: ignore[union-attr]
                process.communicate(timeout=200)
                assert process.returncode == 0
                with Client(connection) as client:
                    now.settle(client, faults, "broker killed and started again")
        finally:
            end(process)
    finally:
        down(home)


def test_more_or_fewer_workers_may_go_on_where_others_ended(
    broker: Connection, client: Client, topic: str, faults: Faults, seed: int
) -> None:
    """A partition's transactional id does not depend on who works on it: any worker may follow any other."""
    make(client, topic)
    now = Round(broker, topic, seed)
    assert now.work(point="after-produce", after=20) == -signal.SIGKILL
    assert now.work(point="during-end", after=30) == -signal.SIGKILL
    assert now.work() == 0
    assert now.work() == 0  # there is nothing left to do
    now.settle(client, faults, "worker killed, others go on", 2)


def test_a_group_whose_offsets_are_gone_is_rebuilt_from_the_outputs(
    a_round: Callable[..., Round], broker: Connection, client: Client, faults: Faults
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
    assert now.work() == 0
    now.settle(client, faults, "offsets of the group expired")


def _port(server: str) -> int:
    return int(server.rsplit(":", 1)[1])
