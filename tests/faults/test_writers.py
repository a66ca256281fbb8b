"""Producers that write while a freeze runs, of every kind and all at once: nothing is lost, doubled or unfinished."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import EmptyRange
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from mlstream.streams import read as reading
from tests.broker.topics import wait_until_stable
from tests.faults.java_producer import run_java_producers
from tests.faults.ledger import Ledger, Verdict
from tests.faults.writers import CODECS, Plain, Transactional, Writer
from tests.snapshots import oracle
from tests.snapshots.kafka import consume

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]

PARTITIONS = 3
Freeze = Callable[..., Snapshot]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def written(client: Client, broker: Connection, topic: str, ledger: Ledger, dice: random.Random) -> str:
    """A topic with transactions of two producers, some of them aborted."""
    create_topic(client, topic, partitions=PARTITIONS, config=KEEP_EVERYTHING)
    writers = [
        Transactional(broker, f"t{n}", topic, ledger, dice, partitions=PARTITIONS, turns=10, abort_share=0.5)
        for n in range(2)
    ]
    with writers[0], writers[1]:
        for writer in writers:
            writer.wait()
    return topic


def crowd(broker: Connection, topic: str, ledger: Ledger, dice: random.Random) -> list[Writer]:
    """A producer of each kind; every codec is among them."""
    plain = [
        Plain(broker, f"plain-{codec}", topic, ledger, dice, partitions=PARTITIONS, codec=codec, idempotent=n % 2 == 0)
        for n, codec in enumerate(CODECS)
    ]
    return plain + [
        Transactional(broker, f"t{n}", topic, ledger, dice, partitions=PARTITIONS, codec=codec)
        for n, codec in enumerate(("none", "lz4", "gzip"))
    ]


def test_every_snapshot_that_is_taken_while_producers_of_all_kinds_write_holds_what_was_committed(
    client: Client,
    broker: Connection,
    topic: str,
    freeze: Freeze,
    home: Home,
    tmp_path: Path,
    ledger: Ledger,
    dice: random.Random,
    rounds: int,
) -> None:
    create_topic(client, topic, partitions=PARTITIONS, config=KEEP_EVERYTHING)
    writers = crowd(broker, topic, ledger, dice)
    taken: list[Snapshot] = []
    with contextlib.ExitStack() as stack:
        for writer in writers:
            stack.enter_context(writer)
        while len(taken) < 4 or min(writer.done for writer in writers) < rounds:
            taken.append(freeze(f"moving-{len(taken)}", topic))
    taken.append(freeze("still", topic))
    assert len({found.id for found in taken}) == len(taken)
    for found in taken:
        assert ledger.judge(found, topic) == Verdict()
        assert [part.gaps.other for part in found.cuts()[0].streams[0].partitions] == [0] * PARTITIONS
    whole = taken[-1]
    # Frozen bit by bit, from objects that earlier ones had, it is the same as frozen at once.
    at_once = freeze("at-once", topic, home=Home(tmp_path / "elsewhere"))
    assert at_once.id == whole.id == oracle.recomputed_id(home.path, whole.id)
    gaps = [part.gaps for part in at_once.cuts()[0].streams[0].partitions]
    assert ledger.gaps(whole, topic) == (sum(gap.aborted for gap in gaps), sum(gap.control for gap in gaps))
    assert whole.rows == sum(entry.fate == "committed" for entry in ledger.entries)
    whole.verify(deep=True)


def test_transactions_that_are_left_open_hide_what_comes_after_them_until_they_end(
    client: Client, broker: Connection, topic: str, freeze: Freeze, ledger: Ledger, dice: random.Random
) -> None:
    create_topic(client, topic, partitions=PARTITIONS, config=KEEP_EVERYTHING)
    with Transactional(broker, "before", topic, ledger, dice, partitions=PARTITIONS, turns=3) as before:
        before.wait()
    producer = Transactional(broker, "open", topic, ledger, dice, partitions=1).producer
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    assert producer.flush(30) == 0
    with Plain(broker, "after", topic, ledger, dice, partitions=1, turns=3) as after:
        after.wait()
    held = freeze("held", topic)
    words = held.scan(topic).collect()["value"].to_list()
    assert not [word for word in words if word.startswith((b"open", b"after"))]
    (cut,) = held.cuts()
    assert cut.streams[0].partitions[0].high_watermark - cut.streams[0].partitions[0].last_stable == after.sent + 1
    producer.abort_transaction(30)
    wait_until_stable(client, topic)
    assert ledger.judge(freeze("freed", topic), topic) == Verdict()


def test_what_javas_producers_write_in_all_codecs_and_interleaved_transactions_is_frozen_as_another_client_reads_it(
    client: Client,
    broker: Connection,
    topic: str,
    freeze: Freeze,
    ledger: Ledger,
    dice: random.Random,
    rounds: int,
) -> None:
    create_topic(client, topic, partitions=PARTITIONS, config=KEEP_EVERYTHING)
    taken: list[Snapshot] = []
    with ThreadPoolExecutor(1) as pool:
        java = pool.submit(
            run_java_producers, broker, topic, ledger, partitions=PARTITIONS, turns=rounds, seed=str(dice.random())
        )
        while not java.done():
            with contextlib.suppress(EmptyRange):  # before its first record
                taken.append(freeze(f"moving-{len(taken)}", topic))
        java.result()
    wait_until_stable(client, topic)
    taken.append(freeze("still", topic))
    for found in taken:
        assert ledger.judge(found, topic) == Verdict()
    whole = taken[-1]
    frame = whole.scan(topic).collect()
    for part in whole.streams[0].partitions:
        rows = frame.filter(frame["partition"] == part.partition)
        assert list(oracle.rows_of(rows.to_arrow())) == consume(broker, topic, part.partition, 0, part.stop)
    # Of those that a freeze took from an earlier one, the earlier one's cut knows the cause.
    assert sum(ledger.gaps(found, topic)[0] for found in taken) > 0
    assert oracle.recomputed_id(whole.store.path, whole.id) == whole.id


def test_the_ledger_notices_what_is_lost_doubled_moved_or_strange(written: str, freeze: Freeze, ledger: Ledger) -> None:
    found = freeze("whole", written)
    rows = found.scan(written).collect()
    assert ledger.judge(found, written, rows) == Verdict()
    assert len(ledger.judge(found, written, rows[1:]).lost) == 1
    assert len(ledger.judge(found, written, pl.concat([rows, rows[:1]])).doubled) == 1
    assert len(ledger.judge(found, written, rows.with_columns(pl.col("offset") + 1)).moved) == len(rows)
    assert len(ledger.judge(found, written, rows.with_columns(value=pl.lit(b"who?"))).strange) == 1


def test_the_ledger_notices_a_reader_that_takes_aborted_records(
    written: str, freeze: Freeze, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = reading.decode_parts

    def credulous(data: bytes, **options: Any) -> Any:
        return real(data, **{**options, "aborted": ()})

    monkeypatch.setattr(reading, "decode_parts", credulous)
    found = freeze("credulous", written)
    aborted, _ = ledger.gaps(found, written)
    assert len(ledger.judge(found, written).aborted) == aborted > 0
