"""A run that is interrupted, ended or killed, again and again, and gone on with: each record is there once, in order.

Whole runs on the command line, with their own limits, of a version that keeps state and refuses some records, over an
input of which some does not decode. An independent client (librdkafka) reads both topics and counts.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import polars as pl
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from mlstream import Connection, open_run, publish
from tests.runs.conftest import Shop
from tests.runs.counting import MODELS, plain_means
from tests.runs.readers import read_topic

pytestmark = pytest.mark.broker

BATCH_ROWS = 33_000  # a transaction each
ROWS = 3 * BATCH_ROWS
OTHERS = 3_000  # of these, the ones in partition 1
STRETCH_AT = 50_000  # before this record of partition 0 so many do not decode, more than a transaction holds
STRETCH = 70_000
STOPS = (40_000, 60_000, 90_000)  # records in whose batches the model waits: once in each
BAD = (100, 39_999, 60_001, 90_001, ROWS - 1)
WAITING = '''

class Waits(Means):
    """Keeps state, refuses some records, and waits at others, each of them once."""

    def __init__(self, folder: str, stops: list[int], bad: list[int]) -> None:
        super().__init__()
        self.folder, self.stops, self.bad = Path(folder), stops, bad

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        for stop in self.stops:
            if frame["n"].eq(stop).any() and not (self.folder / f"at-{stop}").exists():
                (self.folder / f"at-{stop}").touch()
                while not (self.folder / f"go-{stop}").exists():
                    time.sleep(0.02)
        found = super().predict(frame)
        if frame["n"].is_in(self.bad).any():
            raise ValueError("no such order")
        return found
'''


def frame() -> pl.DataFrame:
    """The input, in the order in which it is written."""
    n = pl.int_range(ROWS, eager=True)
    rows = pl.DataFrame({"n": n}).select(
        "n",
        value=pl.struct(x=pl.col("n") * 0.37, n="n").struct.json_encode(),
        partition=(pl.col("n") >= ROWS - OTHERS).cast(pl.Int64),
    )
    some = rows.with_columns(value=pl.when(pl.col("n") % 1000 == 3).then(pl.format("junk {}", "n")).otherwise("value"))
    junk = pl.DataFrame({"n": [-1] * STRETCH, "value": ["junk"] * STRETCH, "partition": [0] * STRETCH})
    return pl.concat([some[:STRETCH_AT], junk, some[STRETCH_AT:]])


@pytest.fixture(scope="module")
def long_shop(make_shop: Callable[[str], Shop], broker: Connection) -> Shop:
    """A shop whose runs take several transactions, some of them of errors only."""
    topic = f"long-{secrets.token_hex(4)}"
    publish(topic, frame().select("value", "partition"), partitions=2, connection=broker)
    shop = make_shop(topic)
    (shop.root / "shop" / "counting.py").write_text(MODELS + WAITING)
    return shop


@dataclass(frozen=True)
class Count:
    """What is wrong with what a run wrote."""

    lost: int
    doubled: int
    unordered: int


def count(shop: Shop, topic: str) -> Count:
    """Compare both topics with the input, record by record, as committed readers see them."""
    wanted = Counter(
        (partition, offset)
        for partition, rows in enumerate((ROWS - OTHERS + STRETCH, OTHERS))
        for offset in range(rows)
    )
    predictions = [(found.partition, found.json["source_offset"]) for found in read_topic(shop.connection, topic)]
    errors = [
        (found.partition, int(found.headers["mlstream-source-offset"]))
        for found in read_topic(shop.connection, f"{topic}.errors")
    ]
    seen = Counter(predictions) + Counter(errors)
    behind = sum(after <= before for places in (predictions, errors) for before, after in pairwise(places))
    return Count(lost=(wanted - seen).total(), doubled=(seen - wanted).total(), unordered=behind)


class Calls:
    """Calls of one command, each in a process of its own."""

    def __init__(self, shop: Shop, config: Path) -> None:
        servers = shop.connection.servers
        self._variables = {
            **os.environ,
            "MLSTREAM_HOME": str(shop.home.path),
            "MLSTREAM_BOOTSTRAP_SERVERS": servers,
        }
        self._command = [sys.executable, "-m", "mlstream.cli.main", "run", str(config), "--snapshot", shop.snapshot]
        self._started: list[psutil.Process] = []

    def start(self) -> subprocess.Popen[str]:
        """Start it."""
        process = subprocess.Popen(
            self._command, env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._started.append(psutil.Process(process.pid))
        return process

    def end(self, process: subprocess.Popen[str], number: signal.Signals) -> str:
        """Send it a signal and wait until it and all that it started is gone; what it said."""
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 2, "a worker and a model"
        self._started += started
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        _, alive = psutil.wait_procs(started, timeout=15)
        assert not alive, "it has left processes behind"
        return said

    def clear(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        for process in self._started:
            if process.is_running():
                process.kill()


@pytest.fixture
def calls(long_shop: Shop, tmp_path: Path) -> Iterator[Calls]:
    decode = {"columns": {"x": "float", "n": "int"}, "on_error": "dead-letter"}
    parameters = {"folder": str(tmp_path), "stops": list(STOPS), "bad": list(BAD)}
    version = {"model": "shop/counting.py:Waits", "parameters": parameters, "on_error": "errors"}
    config = long_shop.config(
        {"v1": version},
        input={"topic": long_shop.topic, "decode": decode},
        task="regression",
        batch_rows=BATCH_ROWS,
    )
    made = Calls(long_shop, config.path)
    yield made
    made.clear()


def wait_for(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ends_of(shop: Shop, topic: str) -> list[tuple[int, int]]:
    """Of each partition that is written to, how far committed and other readers may read: the same, or one waits."""
    found = []
    for isolation in ("read_committed", "read_uncommitted"):
        consumer = Consumer(
            {"bootstrap.servers": shop.connection.servers, "group.id": "tests", "isolation.level": isolation}
        )
        found.append([consumer.get_watermark_offsets(TopicPartition(topic, part), timeout=10)[1] for part in (0, 1)])
        consumer.close()
    return list(zip(*found, strict=True))


def is_settled(shop: Shop, topic: str, before: int) -> bool:
    """Whether partition 0 has grown and no transaction is open."""
    (committed, end), (_, other) = ends_of(shop, topic)
    return end > before and committed == end and other > 0


def test_whatever_interrupts_a_run_the_same_command_goes_on_and_each_record_is_there_once(
    long_shop: Shop, calls: Calls, tmp_path: Path
) -> None:
    committed = 0
    for stop, number in zip(STOPS, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL), strict=True):
        process = calls.start()
        wait_for((tmp_path / f"at-{stop}").exists, process)
        topic = str(open_run(home=long_shop.home).versions["v1"].topic)
        # While the model thinks, no transaction is open, however long it takes: none can run into its timeout.
        wait_for(partial(is_settled, long_shop, topic, committed), process)
        committed = ends_of(long_shop, topic)[0][1]
        said = calls.end(process, number)
        if number == signal.SIGINT:
            assert process.returncode == 130
            assert said.splitlines()[-1] == "interrupted: the same command goes on where it stopped"
        else:
            assert process.returncode == -number
        assert open_run(home=long_shop.home).status == "incomplete"
    found = count(long_shop, topic)
    assert found.lost > 0  # the counter can tell
    assert (found.doubled, found.unordered) == (0, 0)

    process = calls.start()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    run = open_run(home=long_shop.home)
    outcome = run.versions["v1"]
    assert (run.status, run.attempt, outcome.topic) == ("complete", 1, topic)
    assert outcome.resumed > STOPS[-1] - BATCH_ROWS + STRETCH
    assert outcome.undecodable == STRETCH + sum(n % 1000 == 3 for n in range(ROWS))
    assert outcome.refused == len(BAD)
    assert count(long_shop, topic) == Count(0, 0, 0)
    good = [n for n in range(ROWS) if n not in BAD and n % 1000 != 3]
    for partition, numbers in enumerate(
        ([n for n in good if n < ROWS - OTHERS], [n for n in good if n >= ROWS - OTHERS])
    ):
        answers = run.predictions("v1").filter(pl.col("source_partition") == partition).collect()["prediction"]
        assert answers.to_list() == plain_means((n * 0.37, n) for n in numbers)

    # The control: a record that is there twice is counted.
    producer = Producer({"bootstrap.servers": long_shop.connection.servers})
    producer.produce(topic, value=read_topic(long_shop.connection, topic)[0].value, partition=0)
    producer.flush()
    assert count(long_shop, topic) == Count(0, 1, 1)
