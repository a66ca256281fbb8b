"""A round of the runs' fault tests: a topic, workers that write to it and may die, and a count of what came of it.

MLSTREAM_FAULT_ROUNDS says how much of it there is (a round for each 100, at least one), MLSTREAM_FAULT_SEED repeats one
that failed. No test is here.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.settling import settled_bounds
from mlstream.runs.shard import Lane
from tests.broker.topics import consume
from tests.fault_table import Entry, Faults
from tests.runs.mortal import POINTS, Job, offsets_of, words

ROOT = Path(__file__).parents[2]
LONG = int(os.environ.get("MLSTREAM_FAULT_ROUNDS", "1"))
ROUNDS = max(1, LONG // 100)
ROWS = 33_000
BATCH_ROWS = 150  # one transaction each: 220 in a round
_KILLS = 8  # at a point, in the long form
# The short form dies once at each point in one round; the long form has a round for each point.
DEATHS: Sequence[tuple[str, tuple[str, ...]]] = (
    [("any point", POINTS)] if LONG < 100 else [(point, (point,) * _KILLS) for point in POINTS]
)


def new_seed(number: int) -> int:
    """The seed of a round, which is printed: pytest shows it when the test fails."""
    given = os.environ.get("MLSTREAM_FAULT_SEED")
    seed = random.SystemRandom().randrange(10**6) if given is None else int(given) + number
    print(f"to repeat it: MLSTREAM_FAULT_SEED={seed}")
    return seed


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
    rows: int = ROWS
    lane: Lane = field(init=False)

    def __post_init__(self) -> None:
        offsets = offsets_of(self.rows, self.seed)
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

    @property
    def transactions(self) -> int:
        """How many the rows make."""
        return -(-self.rows // BATCH_ROWS)

    def start(self, **settings: object) -> subprocess.Popen[str]:
        """A worker."""
        lane, servers = asdict(self.lane), list(self.broker.bootstrap_servers)
        job = Job(servers, lane, self.rows, self.seed, control=self.control, **settings)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "tests.runs.mortal", words(job)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

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
        wanted = offsets_of(self.rows, self.seed).tolist()
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

    def settle(self, client: Client, faults: Faults, fault: str, injected: int = 1) -> None:
        """Check it, enter what was found, and fail when it is not right."""
        found = self.check(client)
        faults.enter(Entry(fault, injected, self.transactions, self.rows, found.lost, found.doubled))
        assert found.is_right, found
        assert found.committed == self.lane.stop


def committed_offset(broker: Connection, group: str, topic: str) -> int:
    """As librdkafka reads it."""
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group, "enable.auto.commit": False})
    try:
        return int(consumer.committed([TopicPartition(topic, 0)], timeout=20)[0].offset)
    finally:
        consumer.close()


def end(process: subprocess.Popen[str]) -> None:
    """Leave nothing of it behind, whatever the test came to."""
    process.kill()
    process.communicate()
