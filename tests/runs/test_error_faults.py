"""Predictions and errors together are the input, exactly, whatever dies when. An independent client counts.

`fault_rounds.py` says how much of it there is; what was found stands in the table of all faults.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from tests.broker.topics import make
from tests.fault_table import Faults
from tests.runs.error_rounds import ErrorRound
from tests.runs.fault_rounds import DEATHS, LONG, ROUNDS, ROWS, new_seed

pytestmark = pytest.mark.broker


@pytest.fixture(params=range(ROUNDS))
def seed(request: pytest.FixtureRequest) -> int:
    """Of this round."""
    return new_seed(request.param)


@pytest.fixture
def a_round(broker: Connection, client: Client, topic: str, seed: int) -> Callable[..., ErrorRound]:
    def start(**settings: bool) -> ErrorRound:
        make(client, topic)
        return ErrorRound(broker, topic, seed, rows=ROWS if LONG >= 100 else 12_000, **settings)

    return start


@pytest.mark.parametrize(("where", "points"), DEATHS, ids=[name for name, _ in DEATHS])
def test_a_worker_that_is_killed_at_any_point_loses_and_doubles_neither_predictions_nor_errors(
    a_round: Callable[..., ErrorRound], client: Client, faults: Faults, seed: int, where: str, points: tuple[str, ...]
) -> None:
    now = a_round()
    dice = random.Random(seed)
    most = now.transactions * 4 // 5 // len(points)
    for point in dice.sample(points, len(points)):
        assert now.work(point=point, after=dice.randrange(0, most)) == -signal.SIGKILL, "it was not killed"
    assert now.work() == 0
    now.settle(client, faults, f"worker with errors killed, {where}", len(points))


def test_errors_whose_positions_are_committed_outside_of_the_transaction_are_found_out(
    a_round: Callable[..., ErrorRound], client: Client
) -> None:
    """The control: the first transactions hold errors only, and are lost."""
    now = a_round(control=True)
    assert now.work(point="before-produce", after=1) == -signal.SIGKILL
    assert now.work() == 0
    found = now.check(client)
    assert found.lost > 0
    assert not found.is_right


def test_a_group_whose_offsets_are_gone_is_rebuilt_from_predictions_and_errors(
    a_round: Callable[..., ErrorRound], broker: Connection, client: Client, faults: Faults, seed: int
) -> None:
    now = a_round()
    # Among the errors of the first stretch, or somewhere behind them.
    after = random.Random(seed).choice([2, 40])
    assert now.work(point="after-end", after=after) == -signal.SIGKILL
    admin = AdminClient({"bootstrap.servers": broker.servers})
    deadline = time.monotonic() + 60
    while True:
        try:
            admin.delete_consumer_groups([now.lane.group], request_timeout=20)[now.lane.group].result(20)
            break
        except KafkaException:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert now.work() == 0
    now.settle(client, faults, "offsets of the group expired, with errors")
