"""Long stretches of records without a prediction take several transactions, none of them larger than it may be.

How large is set low here; the workers are in this process for that. What became visible at once is seen from outside:
each transaction ends with a marker, which takes an offset, so a committed reader sees a gap.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from confluent_kafka import Producer

import mlstream
from mlstream import Connection, Run
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.runs import shard
from mlstream.runs.scoring import Scoring
from mlstream.runs.shard import Shard
from tests.runs.conftest import Shop
from tests.runs.counting import MODELS, plain_means
from tests.runs.in_process import fail_commits, work_here
from tests.runs.readers import Found, read_topic

pytestmark = pytest.mark.broker

ROWS = 200  # of partition 0
STRETCH = 400  # records that do not decode: before its rows, within a batch of them, and after
WITHIN = 100  # so many rows are before the second stretch
BATCH_ROWS = 64
JUNK_BYTES = 100
MOST = 80  # errors in a transaction
MOST_BYTES = MOST * JUNK_BYTES  # less than so many, for their headers count too
AT_ONCE = 16
STATEFUL = '''

class Picky(Means):
    """Keeps state, and refuses some records."""

    def predict(self, frame: pl.DataFrame) -> pl.DataFrame:
        found = super().predict(frame)
        if (frame["n"] % 20 == 7).any():
            raise ValueError("no such order")
        return found
'''
VERSIONS = {
    "plain": {"model": "shop/models.py:Linear"},
    "picky": {"model": "shop/counting.py:Picky", "on_error": "errors"},
}


def value_of(number: int) -> bytes:
    return json.dumps({"x": number * 0.37, "n": number}).encode()


def junk(number: int) -> bytes:
    return (b"\xff%d " % number).ljust(JUNK_BYTES, b".")


def records() -> list[list[bytes]]:
    """The values of each partition; the second one holds errors only, the third none."""
    stretches = [[junk(number) for number in range(STRETCH)] for _ in range(3)]
    rows = [value_of(number) for number in range(ROWS)]
    first = [*stretches[0], *rows[:WITHIN], *stretches[1], *rows[WITHIN:], *stretches[2]]
    return [first, stretches[0], [value_of(number) for number in range(70)]]


@pytest.fixture(scope="module")
def junky(broker: Connection) -> str:
    """A topic with long stretches of records that do not decode."""
    topic = f"junky-{secrets.token_hex(4)}"
    with Client(broker) as client:
        create_topic(client, topic, partitions=3, config=KEEP_EVERYTHING)
    producer = Producer({"bootstrap.servers": broker.servers})
    for partition, values in enumerate(records()):
        for value in values:
            producer.produce(topic, value=value, partition=partition)
    producer.flush()
    return topic


@pytest.fixture(scope="module")
def junk_shop(make_shop: Callable[[str], Shop], junky: str) -> Shop:
    shop = make_shop(junky)
    (shop.root / "shop" / "counting.py").write_text(MODELS + STATEFUL)
    return shop


def run_here(shop: Shop, *versions: str, **settings: object) -> Run:
    decode = {"columns": {"x": "float", "n": "int"}, "on_error": "dead-letter"}
    config = shop.config(
        VERSIONS, input={"topic": shop.topic, "decode": decode}, task="regression", batch_rows=BATCH_ROWS, **settings
    )
    found = mlstream.run(
        config, snapshot=shop.snapshot, versions=versions, connection=shop.connection, home=shop.home, force=True
    )
    found.check()
    return found


def transactions(found: list[Found]) -> list[list[Found]]:
    """The records of a partition in groups: those of a transaction, or of several that left no gap."""
    groups = [[found[0]]]
    for before, after in pairwise(found):
        if after.offset > before.offset + 1:
            groups.append([])
        groups[-1].append(after)
    return groups


def of_partition(found: list[Found], partition: int) -> list[Found]:
    return [record for record in found if record.partition == partition]


def source_offsets(found: list[Found]) -> list[int]:
    return [int(record.headers["mlstream-source-offset"]) for record in found]


@dataclass(frozen=True)
class Done:
    """A run, and what its versions were asked for of partition 0: the first record and the one after the last."""

    run: Run
    asked: set[tuple[int, int]]


def run_noted(shop: Shop, monkeypatch: pytest.MonkeyPatch, *versions: str) -> Done:
    """A run in this process."""
    work_here(monkeypatch)
    asked: set[tuple[int, int]] = set()
    batch = Shard.batch

    def noted(self: Shard, *, ahead: bool = False) -> object:
        found = batch(self, ahead=ahead)
        if found is not None and self.partition == 0:
            first = self.next_row if ahead else self.row
            asked.add((first, first + found.height))
        return found

    monkeypatch.setattr(Shard, "batch", noted)
    return Done(run_here(shop, *versions), asked)


@pytest.fixture(scope="module", params=["little by its bytes", "few", "few, and some fail"])
def limited(request: pytest.FixtureRequest, junk_shop: Shop) -> Done:
    """A run whose transactions hold few errors; and every fifth of them fails, or none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "_ERRORS_AT_ONCE", AT_ONCE)
        if request.param == "little by its bytes":
            patch.setattr(shard, "MOST_ERROR_BYTES", MOST_BYTES)
        else:
            patch.setattr(shard, "MOST_ROWS", MOST)
        if request.param == "few, and some fail":
            failed = fail_commits(patch, 5)
            done = run_noted(junk_shop, patch, *VERSIONS)
            assert failed() > 5
            return done
        return run_noted(junk_shop, patch, "picky")


def test_every_record_is_there_once_and_no_transaction_holds_more_errors_than_it_may(
    junk_shop: Shop, limited: Done
) -> None:
    for name, outcome in limited.run.versions.items():
        errors = read_topic(junk_shop.connection, str(outcome.errors_topic))
        predictions = read_topic(junk_shop.connection, str(outcome.topic))
        for partition, values in enumerate(records()):
            bad = [
                offset
                for offset, value in enumerate(values)
                if not value.startswith(b"{") or (name == "picky" and json.loads(value)["n"] % 20 == 7)
            ]
            found = of_partition(errors, partition)
            assert source_offsets(found) == bad, (name, partition)
            assert [record.value for record in found] == [values[offset] for offset in bad]
            answered = [record.json["source_offset"] for record in of_partition(predictions, partition)]
            assert answered == sorted(set(range(len(values))) - set(bad)), (name, partition)
            groups = transactions(found) if found else []
            # Between two looks at it so many come to it, and the refused of a batch.
            most = MOST + AT_ONCE + BATCH_ROWS // 20 + 1
            assert max(map(len, groups), default=0) <= most, (name, partition)


def test_a_version_that_keeps_state_answers_as_if_the_errors_were_not_there(limited: Done) -> None:
    found = limited.run.predictions("picky").collect().filter(source_partition=0)
    expected = plain_means((n * 0.37, n) for n in range(ROWS) if n % 20 != 7)
    assert found["prediction"].to_list() == expected


def test_a_batch_ends_before_a_stretch_of_errors_that_is_too_large_for_a_transaction(limited: Done) -> None:
    assert sorted(limited.asked) == [(0, 64), (64, 100), (100, 164), (164, 200)]


def test_a_partition_is_let_go_of_when_no_other_is_written_to(junk_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written may tell of the errors topic, for which the records of all partitions are counted."""
    finish, close = Shard.finish, Scoring._close
    working, together = 0, []

    def counted(self: Shard) -> None:
        nonlocal working
        working += 1
        time.sleep(0.05)
        finish(self)
        working -= 1

    def late(self: Scoring, found: Shard) -> None:
        time.sleep(0.02)  # so that the next job has begun, if it is there
        together.append(working)
        close(self, found)

    monkeypatch.setattr(Shard, "finish", counted)
    monkeypatch.setattr(Scoring, "_close", late)
    done = run_noted(junk_shop, monkeypatch, "plain")
    assert together == [0, 0, 0]
    assert done.run.versions["plain"].errors == 4 * STRETCH
    assert sorted(done.asked) == [(0, 64), (64, 128), (128, 192), (192, 200)]  # there is room for all of it
