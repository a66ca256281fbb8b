"""Exactly once on a cluster of transaction version 1, as Kafka before 4.0 is: the same deaths, on a real broker.

The broker is a new one whose data folder was formatted at that version, so that its coordinators work as the old ones:
told beforehand what a transaction takes part in, one epoch for all of them. What cannot even do that is refused.
"""

from __future__ import annotations

import random
import signal
import struct
import time
from collections.abc import Callable, Iterator

import pytest

import mlstream
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.settling import settled_bounds
from mlstream.broker.transactions import transaction_version
from mlstream.errors import BrokerRefused
from mlstream.home import Home
from mlstream.runs.preview import preview as preview_run
from tests.broker.own_broker import running_own_broker
from tests.broker.topics import make
from tests.fault_table import Faults
from tests.proxy import FaultProxy
from tests.runs.conftest import ROWS as SHOP_ROWS
from tests.runs.conftest import Shop, frame, write_project
from tests.runs.error_rounds import ErrorRound
from tests.runs.fault_rounds import BATCH_ROWS, DEATHS, LONG, ROUNDS, ROWS, Round, end, new_seed
from tests.runs.mortal import FENCED
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker

FEW = ROWS if LONG >= 100 else 40 * BATCH_ROWS
TXN_OFFSET_COMMIT = 28  # the number of the request in Kafka's protocol


@pytest.fixture(scope="module")
def old_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A running Kafka at transaction version 1."""
    folder = tmp_path_factory.mktemp("old-kafka") / "kafka"
    with running_own_broker(folder, "old-cluster-for-tests", features=["transaction.version=1"]) as connection:
        yield connection


@pytest.fixture(scope="module")
def old_client(old_broker: Connection) -> Iterator[Client]:
    with Client(old_broker) as opened:
        yield opened


@pytest.fixture(params=range(ROUNDS))
def seed(request: pytest.FixtureRequest) -> int:
    """Of this round."""
    return new_seed(request.param)


@pytest.fixture
def a_round(old_broker: Connection, old_client: Client, topic: str, seed: int) -> Callable[..., Round]:
    def start(**settings: bool) -> Round:
        make(old_client, topic)
        return Round(old_broker, topic, seed, rows=FEW, **settings)

    return start


def test_the_cluster_has_transactions_of_the_first_version(old_client: Client) -> None:
    assert transaction_version(old_client) == 1


@pytest.mark.parametrize(("where", "points"), DEATHS, ids=[name for name, _ in DEATHS])
def test_a_worker_that_is_killed_at_any_point_loses_and_doubles_nothing(
    a_round: Callable[..., Round], old_client: Client, faults: Faults, seed: int, where: str, points: tuple[str, ...]
) -> None:
    now = a_round()
    dice = random.Random(seed)
    most = (now.transactions - 10) // len(points)
    for point in dice.sample(points, len(points)):
        assert now.work(point=point, after=dice.randrange(0, most)) == -signal.SIGKILL, "it was not killed"
    assert now.work() == 0
    now.settle(old_client, faults, f"old cluster: worker killed, {where}", len(points))


def test_predictions_and_errors_of_a_worker_that_is_killed_are_together_the_input(
    old_broker: Connection, old_client: Client, topic: str, faults: Faults, seed: int
) -> None:
    make(old_client, topic)
    now = ErrorRound(old_broker, topic, seed, rows=FEW)
    dice = random.Random(seed)
    for point in ("after-produce", "after-offsets"):
        assert now.work(point=point, after=dice.randrange(0, 12)) == -signal.SIGKILL, "it was not killed"
    assert now.work() == 0
    now.settle(old_client, faults, "old cluster: worker with errors killed", 2)


def test_of_two_workers_with_one_transactional_id_the_first_is_fenced(
    a_round: Callable[..., Round], old_client: Client, faults: Faults
) -> None:
    now = a_round()
    first = now.start(slow_s=0.2)
    try:
        deadline = time.monotonic() + 60
        while settled_bounds(old_client, now.topic)[0].high_watermark < 3 * BATCH_ROWS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert now.work() == 0
        first.communicate(timeout=100)
    finally:
        end(first)
    assert first.returncode == FENCED
    now.settle(old_client, faults, "old cluster: second worker with the same id")


def test_positions_that_are_committed_outside_of_the_transaction_are_found_out(
    a_round: Callable[..., Round], old_client: Client
) -> None:
    """The control: a death, and the checker sees records that are lost."""
    now = a_round(control=True)
    assert now.work(point="before-produce", after=3) == -signal.SIGKILL
    assert now.work() == 0
    found = now.check(old_client)
    assert found.lost >= BATCH_ROWS
    assert not found.is_right


def test_a_whole_run_answers_every_record_once(
    old_broker: Connection, topic: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("old-shop")
    shop = Shop(write_project(folder / "project"), Home(folder / "home"), old_broker, topic)
    mlstream.publish(topic, frame(), partitions=3, connection=old_broker)
    mlstream.snapshot(shop.snapshot, topics=[topic], connection=old_broker, home=shop.home)
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, task="regression")
    done = mlstream.run(config, snapshot=shop.snapshot, connection=old_broker, home=shop.home)
    assert done.status == "complete"
    places = [
        (found.partition, found.json["source_offset"])
        for found in read_topic(old_broker, str(done.outcome("v1").topic))
    ]
    counts = {partition: sum(place[0] == partition for place in places) for partition in range(3)}
    assert places == [(partition, offset) for partition, count in counts.items() for offset in range(count)]
    assert len(places) == SHOP_ROWS


@pytest.mark.parametrize("preview", [True, False])
def test_a_cluster_without_such_transactions_is_refused_before_anything_is_made(shop: Shop, preview: bool) -> None:
    """The session's broker, with answers that say that it is one of Kafka 2.4."""
    there = own_topics(shop.connection)
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, task="regression")
    with FaultProxy() as proxy:
        proxy.edit = without_stable_offsets
        given = proxy.through(shop.connection)
        with pytest.raises(BrokerRefused, match=r"cannot write exactly once; .*TxnOffsetCommit 3") as refused:
            (preview_run if preview else mlstream.run)(config, snapshot=shop.snapshot, connection=given, home=shop.home)
    assert refused.value.hint is not None
    assert "Kafka 2.5" in refused.value.hint
    assert own_topics(shop.connection) == there
    assert not list((shop.home.path / "runs").glob("*.json"))


def own_topics(connection: Connection) -> set[str]:
    """Without Kafka's own, which the reader that asks may have made."""
    return {name for name in topics(connection) if not name.startswith("__")}


def without_stable_offsets(answer: bytes) -> bytes:
    """An answer that lists the broker's requests, with a lower newest version of one."""
    for newest in (4, 5):
        known = struct.pack(">hhh", TXN_OFFSET_COMMIT, 0, newest)
        answer = answer.replace(known, struct.pack(">hhh", TXN_OFFSET_COMMIT, 0, 2))
    return answer
