"""Rows written in transactions: in order, together with their offsets, once, also after failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import committed
from mlstream.errors import BrokerRefused, ProducerFenced, TransactionFailed, UsageError
from mlstream.streams.transact import TransactionWriter
from tests.broker.topics import columns, consume, make, recover, wait_until_stable
from tests.proxy import FaultProxy

pytestmark = pytest.mark.broker


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def rows(start: int, stop: int, *, size: int = 0) -> pa.Table:
    return columns([b"%0*d" % (size, number) for number in range(start, stop)])


def values_of(broker: Connection, topic: str, partition: int = 0) -> list[bytes | None]:
    return [value for _, _, _, value, _ in consume(broker, topic, [partition])[partition]]


def test_transactions_come_out_in_the_order_of_their_rows(
    broker: Connection, client: Client, topic: str, pool: ThreadPoolExecutor
) -> None:
    make(client, topic, 2)
    with TransactionWriter(client, topic, group=topic, pool=pool, batch_rows=70) as writer:
        for number in range(15):
            writer.write(topic, 0, rows(1000 * number, 1000 * number + 500))
            writer.write(topic, 1, rows(1000 * number, 1000 * number + 10))
            writer.write(topic, 0, rows(1000 * number + 500, 1000 * (number + 1)))
            writer.commit({(topic, 0): number + 1}, metadata={(topic, 0): f"n={number}"})
        writer.flush()
        assert writer.rows == 15 * 1010
    assert committed(client, topic, topic, [0]) == {0: 15}
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(15_000)]
    assert len(values_of(broker, topic, 1)) == 150


def test_what_is_not_committed_is_not_written(
    broker: Connection, client: Client, topic: str, pool: ThreadPoolExecutor
) -> None:
    make(client, topic)
    with TransactionWriter(client, topic, group=topic, pool=pool) as writer:
        writer.write(topic, 0, rows(0, 10))
        writer.commit({(topic, 0): 10})
        writer.write(topic, 0, rows(10, 20))
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(10)]
    assert committed(client, topic, topic, [0]) == {0: 10}


def test_a_transaction_without_offsets_is_refused(client: Client, topic: str, pool: ThreadPoolExecutor) -> None:
    with (
        TransactionWriter(client, topic, group=topic, pool=pool) as writer,
        pytest.raises(UsageError, match="would not say how far it went"),
    ):
        writer.commit({})


def test_after_a_failure_it_recovers_and_goes_on_from_the_committed_offset(
    broker: Connection, client: Client, topic: str, pool: ThreadPoolExecutor
) -> None:
    make(client, topic)
    total, step = 3000, 50
    with FaultProxy() as proxy, Client(proxy.through(broker), timeout_s=5) as distant:
        failures = 0
        with TransactionWriter(distant, topic, group=topic, pool=pool, stall_s=2.0) as writer:
            position = 0
            timer: threading.Timer | None = None
            while position < total:
                try:
                    for start in range(position, total, step):
                        if start % 400 == 200 and failures < 2 and timer is None:
                            timer = threading.Timer(0.0, proxy.refuse)
                            timer.start()
                        writer.write(topic, 0, rows(start, start + step))
                        writer.commit({(topic, 0): start + step})
                    writer.flush()
                    position = total
                except TransactionFailed:
                    failures += 1
                    proxy.accept()
                    timer = None
                    recover(writer)
                    position = committed(distant, topic, topic, [0])[0] or 0
        assert failures >= 2, "nothing failed: the test shows nothing"
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(total)]
    assert committed(client, topic, topic, [0]) == {0: total}


def test_who_opens_the_id_later_fences_this_writer(
    broker: Connection, client: Client, topic: str, pool: ThreadPoolExecutor
) -> None:
    make(client, topic)
    first = TransactionWriter(client, topic, group=topic, pool=pool)
    first.write(topic, 0, rows(0, 5))
    first.commit({(topic, 0): 5})
    first.flush()
    with TransactionWriter(client, topic, group=topic, pool=pool) as second:
        first.write(topic, 0, rows(5, 9))
        first.commit({(topic, 0): 9})
        with pytest.raises((ProducerFenced, TransactionFailed)):
            first.flush()
        with pytest.raises(ProducerFenced):
            first.recover()
        first.close()
        second.write(topic, 0, rows(5, 7))
        second.commit({(topic, 0): 7})
        second.flush()
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(7)]


def test_a_row_that_the_topic_cannot_take_is_named_and_nothing_of_its_transaction_is_visible(
    broker: Connection, client: Client, topic: str, pool: ThreadPoolExecutor
) -> None:
    make(client, topic, **{"max.message.bytes": "2000"})
    with TransactionWriter(client, topic, group=topic, pool=pool, codec="none") as writer:
        writer.write(topic, 0, rows(0, 3))
        writer.write(topic, 0, columns([b"x" * 5000]))
        writer.commit({(topic, 0): 4})
        with pytest.raises(BrokerRefused, match=rf"{topic}\[0\]: a batch of 5\d\d\d bytes is larger than"):
            writer.flush()
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == []
