"""Transactions: all of one is visible or nothing, whatever is lost, and only to the producer that holds the id."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds, committed
from mlstream.broker.transaction_steps import Member, Positions
from mlstream.broker.transactions import Batch, TransactionalProducer, transaction_version
from mlstream.errors import BrokerError, BrokerRefused, ProducerFenced, TransactionFailed
from mlstream.wire.encode import encode
from tests.broker.topics import columns, consume, make, recover, wait_until_stable
from tests.proxy import FaultProxy

pytestmark = pytest.mark.broker

WAIT_S = 30
VERSIONS = pytest.mark.parametrize("version", [1, 2])  # brokers of version 2 serve clients of version 1, too


def batch(topic: str, partition: int, values: Sequence[bytes]) -> Batch:
    return Batch(topic, partition, encode(columns(list(values)), codec="zstd"), len(values))


def at(group: str, topic: str, offset: int, partition: int = 0) -> Positions:
    return Positions(group, {(topic, partition): offset})


def values_of(broker: Connection, topic: str, partition: int = 0) -> list[bytes | None]:
    return [value for _, _, _, value, _ in consume(broker, topic, [partition])[partition]]


def test_the_cluster_says_which_transactions_it_knows(client: Client) -> None:
    assert transaction_version(client) == 2


@VERSIONS
def test_batches_and_positions_become_visible_together_transaction_after_transaction(
    broker: Connection, client: Client, topic: str, version: int
) -> None:
    make(client, topic, 3)
    producer = TransactionalProducer(client, topic, version=version)
    sent = []
    for number in range(20):
        batches = [batch(topic, part, [b"%d-%d-%d" % (part, number, n) for n in range(5)]) for part in (2, 0, 0, 1)]
        sent.append(producer.transact(batches, at(topic, topic, 10 * (number + 1))))
    found = [each.result(WAIT_S) for each in sent]
    # The results are in the order of the batches; each transaction of a partition ends with one marker.
    assert [[(each.partition, each.base_offset) for each in one] for one in found] == [
        [(2, 6 * number), (0, 11 * number), (0, 11 * number + 5), (1, 6 * number)] for number in range(20)
    ]
    assert committed(client, topic, topic, [0, 1]) == {0: 200, 1: None}
    wait_until_stable(client, topic)
    for part, times in ((0, 2), (1, 1), (2, 1)):
        each = [[b"%d-%d-%d" % (part, number, n) for n in range(5)] * times for number in range(20)]
        assert values_of(broker, topic, part) == [value for one in each for value in one]


@VERSIONS
def test_a_transaction_of_positions_only_moves_the_group(client: Client, topic: str, version: int) -> None:
    make(client, topic)
    producer = TransactionalProducer(client, topic, version=version)
    producer.transact([], at(topic, topic, 7)).result(WAIT_S)
    producer.transact([], at(topic, topic, 9)).result(WAIT_S)
    assert committed(client, topic, topic, [0]) == {0: 9}


def test_an_empty_transaction_is_none(client: Client, topic: str) -> None:
    assert TransactionalProducer(client, topic).transact([]).result(WAIT_S) == ()


@VERSIONS
def test_what_cannot_be_committed_is_never_visible_and_stops_the_later_ones(
    broker: Connection, client: Client, topic: str, version: int
) -> None:
    make(client, topic)
    producer = TransactionalProducer(client, topic, version=version)
    producer.transact([batch(topic, 0, [b"before"])], at(topic, topic, 1)).result(WAIT_S)
    unfit = Positions(topic, {(topic, 0): 2}, metadata={(topic, 0): "x" * 10_000})
    failed = producer.transact([batch(topic, 0, [b"never"])], unfit)
    later = producer.transact([batch(topic, 0, [b"neither"])], at(topic, topic, 3))
    with pytest.raises(BrokerError, match=r"(?i)metadata"):
        failed.result(WAIT_S)
    with pytest.raises(BrokerError, match=r"(?i)metadata"):
        later.result(WAIT_S)
    # Written, and hidden: readers wait for its end.
    found = bounds(client, topic)[0]
    assert found.last_stable < found.high_watermark
    producer.recover()
    producer.transact([batch(topic, 0, [b"after"])], at(topic, topic, 4)).result(WAIT_S)
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"before", b"after"]
    assert committed(client, topic, topic, [0]) == {0: 4}
    hidden = consume(broker, topic, [0], isolation="read_uncommitted")[0]
    assert [value for *_, value, _ in hidden] == [b"before", b"never", b"after"], "the test shows nothing"


@VERSIONS
def test_a_batch_that_the_topic_refuses_takes_the_others_of_its_transaction_along(
    broker: Connection, client: Client, topic: str, version: int
) -> None:
    make(client, topic, 2, **{"max.message.bytes": "2000"})
    producer = TransactionalProducer(client, topic, version=version)
    large = Batch(topic, 1, encode(columns([b"x" * 5000]), codec="none"), 1)
    message = rf"{topic}\[1\]: a batch of 5\d\d\d bytes is larger than the topic's max.message.bytes \(2000\)"
    with pytest.raises(BrokerRefused, match=message):
        producer.transact([batch(topic, 0, [b"small"]), large], at(topic, topic, 5)).result(WAIT_S)
    producer.close()
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == []
    assert committed(client, topic, topic, [0]) == {0: None}


@VERSIONS
def test_who_opens_the_id_later_fences_who_had_it(broker: Connection, client: Client, topic: str, version: int) -> None:
    make(client, topic)
    first = TransactionalProducer(client, topic, version=version)
    first.transact([batch(topic, 0, [b"first"])], at(topic, topic, 1)).result(WAIT_S)
    second = TransactionalProducer(client, topic, version=version)
    with pytest.raises((ProducerFenced, TransactionFailed)):
        first.transact([batch(topic, 0, [b"zombie"])], at(topic, topic, 2)).result(WAIT_S)
    with pytest.raises(ProducerFenced, match="another producer took over"):
        first.recover()
    with pytest.raises(ProducerFenced, match="only one may work under it"):
        first.transact([batch(topic, 0, [b"zombie"])], at(topic, topic, 2)).result(WAIT_S)
    second.transact([batch(topic, 0, [b"second"])], at(topic, topic, 3)).result(WAIT_S)
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"first", b"second"]
    assert committed(client, topic, topic, [0]) == {0: 3}


def test_taking_over_aborts_what_was_open(broker: Connection, client: Client, topic: str) -> None:
    make(client, topic)
    first = TransactionalProducer(client, topic)
    unfit = Positions(topic, {(topic, 0): 2}, metadata={(topic, 0): "x" * 10_000})
    with pytest.raises(BrokerError, match=r"(?i)metadata"):
        first.transact([batch(topic, 0, [b"open"])], unfit).result(WAIT_S)
    assert bounds(client, topic)[0].last_stable == 0
    TransactionalProducer(client, topic)
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == []


def test_positions_of_a_member_that_the_group_does_not_know_fail_the_transaction(
    broker: Connection, client: Client, topic: str
) -> None:
    make(client, topic)
    producer = TransactionalProducer(client, topic)
    stranger = Positions(topic, {(topic, 0): 2}, member=Member("nobody", 3))
    with pytest.raises(TransactionFailed, match="the consumer group has replaced this member"):
        producer.transact([batch(topic, 0, [b"zombie"])], stranger).result(WAIT_S)
    producer.recover()
    producer.transact([batch(topic, 0, [b"good"])], at(topic, topic, 1)).result(WAIT_S)
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"good"]


@VERSIONS
def test_answers_that_are_lost_double_and_lose_nothing(
    broker: Connection, client: Client, topic: str, version: int
) -> None:
    make(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker)) as distant:
        producer = TransactionalProducer(distant, topic, version=version)
        cuts = 0
        for number in range(24):
            before = proxy.accepted
            if number % 2:
                proxy.cut_after(number * 20)  # in the answer to a batch, to the positions, or to the end
            sent = producer.transact([batch(topic, 0, [b"%d" % number])], at(topic, topic, number + 1))
            sent.result(WAIT_S)
            cuts += proxy.accepted > before
        assert cuts >= 8, "few connections were cut: the test shows little"
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(24)]
    assert committed(client, topic, topic, [0]) == {0: 24}


def test_an_end_that_is_never_answered_is_settled_by_the_committed_offset(
    broker: Connection, client: Client, topic: str
) -> None:
    make(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker), timeout_s=2) as distant:
        producer = TransactionalProducer(distant, topic, stall_s=1.5)
        producer.transact([batch(topic, 0, [b"0"])], at(topic, topic, 1)).result(WAIT_S)
        outcomes = set()
        done = 1
        for number in range(1, 7):
            proxy.delay_s = 0.02
            sent = producer.transact([batch(topic, 0, [b"%d" % number])], at(topic, topic, number + 1))
            proxy.cut_after(60 * (number % 4))
            proxy.refuse()
            try:
                sent.result(WAIT_S)
                outcomes.add("committed")
            except TransactionFailed as exc:
                outcomes.add(exc.outcome)
            proxy.accept()
            proxy.delay_s = 0.0
            recover(producer)
            position = committed(distant, topic, topic, [0])[0]
            assert position in (number, number + 1)
            if position == number:  # not committed: again
                producer.transact([batch(topic, 0, [b"%d" % number])], at(topic, topic, number + 1)).result(WAIT_S)
            done += 1
        assert outcomes - {"committed"}, "nothing failed: the test shows nothing"
    wait_until_stable(client, topic)
    assert values_of(broker, topic) == [b"%d" % number for number in range(done)]


def test_a_timeout_that_the_brokers_do_not_allow_is_refused_by_name(client: Client, topic: str) -> None:
    with pytest.raises(BrokerRefused, match=r"is longer than the brokers allow; raise transaction\.max\.timeout\.ms"):
        TransactionalProducer(client, topic, timeout_ms=2_000_000_000)


def test_positions_committed_outside_of_the_transaction_would_lose_records(client: Client, topic: str) -> None:
    """The control: with offsets that move on their own, an aborted transaction's records are skipped."""
    make(client, topic)
    producer = TransactionalProducer(client, topic)
    TransactionalProducer(client, f"{topic}-apart").transact([], at(topic, topic, 2)).result(WAIT_S)
    unfit = Positions(topic, {(topic, 0): 2}, metadata={(topic, 0): "x" * 10_000})
    with pytest.raises(BrokerError):
        producer.transact([batch(topic, 0, [b"lost"])], unfit).result(WAIT_S)
    producer.recover()
    assert committed(client, topic, topic, [0]) == {0: 2}
    wait_until_stable(client, topic)
    assert bounds(client, topic)[0].high_watermark >= 1
