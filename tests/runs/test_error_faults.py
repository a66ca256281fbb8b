"""Predictions and errors together are the input, exactly, whatever dies when. An independent client counts.

`fault_rounds.py` says how much of it there is; what was found stands in the table of all faults.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.settling import settled_bounds
from tests.broker.topics import consume, make
from tests.fault_table import Faults
from tests.runs.fault_rounds import DEATHS, LONG, ROOT, ROUNDS, ROWS, Found, Round, committed_offset, new_seed
from tests.runs.mortal import Job, offsets_of, words
from tests.runs.mortal_errors import decoding, refused

pytestmark = pytest.mark.broker


@dataclass
class ErrorRound(Round):
    """A round whose input has records that do not decode, and records that are refused."""

    def start(self, **settings: object) -> subprocess.Popen[str]:
        """A worker."""
        lane, servers = asdict(self.lane), list(self.broker.bootstrap_servers)
        job = Job(servers, lane, self.rows, self.seed, control=self.control, **settings)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "tests.runs.mortal_errors", words(job)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def check(self, client: Client) -> Found:
        """Compare what committed readers see in both topics with the input, record by record."""
        beside = f"{self.topic}.errors"
        open_transactions = 0
        for topic in (self.topic, beside):
            settled = settled_bounds(client, topic, timeout_s=30)[0]
            open_transactions += settled.high_watermark - settled.last_stable
        records = consume(self.broker, self.topic, [0])[0]
        predicted = [json.loads(value or b"")["source_offset"] for *_, value, _ in records]
        in_order, kinds = [], {}
        for *_, value, headers in consume(self.broker, beside, [0])[0]:
            ours = dict(headers)
            offset = int(ours["mlstream-source-offset"] or b"")
            in_order.append(offset)
            kinds[offset] = ours["mlstream-error"]
            assert value == b"%d" % offset
            assert headers[0] == ("n", None)

        offsets = offsets_of(self.rows, self.seed)
        decodes = decoding(offsets)
        wanted = set(offsets[decodes & ~refused(offsets)].tolist())
        assert {offset for offset, kind in kinds.items() if kind == b"undecodable"} <= set(offsets[~decodes].tolist())
        counts = Counter(predicted) + Counter(in_order)
        strange = (set(predicted) - wanted) | (set(in_order) - (set(offsets.tolist()) - wanted))
        behind = sum(int(np.count_nonzero(np.diff(seen) <= 0)) for seen in (predicted, in_order) if len(seen) > 1)
        return Found(
            lost=len(set(offsets.tolist()) - set(counts)),
            doubled=sum(count - 1 for count in counts.values()) + len(strange),
            unordered=behind,
            committed=committed_offset(self.broker, self.lane.group, self.topic),
            open_transactions=open_transactions,
        )


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
