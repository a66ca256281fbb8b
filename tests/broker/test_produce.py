"""Batches are appended once and in order, whatever happens to the answers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pyarrow as pa
import pytest
from kafka import errors
from kafka.protocol.producer import ProduceRequest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.produce import UNKNOWN_OFFSET, Appended, Producer, append
from mlstream.errors import BrokerError, BrokerRefused, BrokerUnavailable, MlstreamError, UnknownPartition, UnknownTopic
from mlstream.wire.encode import encode
from tests.broker.scripted import Cluster, Fault, client_of
from tests.broker.topics import EVENT_MS, columns, consume, make
from tests.proxy import FaultProxy

WAIT_S = 20


def batch(producer: Producer, topic: str, partition: int, values: list[bytes], *, codec: str = "none") -> bytes:
    return encode(
        columns(values),
        codec=codec,
        producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch,
        base_sequence=producer.reserve(topic, partition, len(values)),
    )


def send(producer: Producer, topic: str, partition: int, values: list[bytes]) -> Future[Appended]:
    return producer.send(topic, partition, batch(producer, topic, partition, values), len(values))


def values_of(broker: Connection, topic: str, partition: int = 0) -> list[bytes | None]:
    return [value for _, _, _, value, _ in consume(broker, topic, [partition])[partition]]


# On a real broker


@pytest.mark.broker
def test_batches_get_offsets_in_the_order_of_sending(broker: Connection, client: Client, topic: str) -> None:
    make(client, topic, 2)
    producer = Producer(client)
    rows = [[b"%d-%d" % (n, row) for row in range(3)] for n in range(50)]
    sent = [send(producer, topic, part, each) for each in rows for part in (0, 1)]
    found = [each.result(WAIT_S) for each in sent]
    for part in (0, 1):
        assert [each.base_offset for each in found if each.partition == part] == [3 * n for n in range(50)]
        assert values_of(broker, topic, part) == [row for each in rows for row in each]


@pytest.mark.broker
def test_an_answer_that_is_lost_doubles_nothing(broker: Connection, client: Client, topic: str) -> None:
    make(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker)) as distant:
        producer = Producer(distant)
        assert send(producer, topic, 0, [b"first"]).result(WAIT_S).base_offset == 0
        for number in range(5):
            before = proxy.accepted
            proxy.lose_answer()
            offset = send(producer, topic, 0, [b"%d" % number]).result(WAIT_S).base_offset
            assert offset == 1 + number
            assert proxy.accepted > before, "no connection was cut: the test shows nothing"
    assert values_of(broker, topic) == [b"first", *(b"%d" % number for number in range(5))]


@pytest.mark.broker
def test_without_a_producer_id_a_lost_answer_doubles_records(broker: Connection, client: Client, topic: str) -> None:
    """The control of the test above: it can fail."""
    make(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker)) as distant:
        distant.run("warm up", append, distant, topic, 0, encode(columns([b"first"])))
        proxy.lose_answer()
        distant.run("append", append, distant, topic, 0, encode(columns([b"once"])))
    assert values_of(broker, topic) == [b"first", b"once", b"once"]


@pytest.mark.broker
def test_a_batch_that_was_sent_before_is_known_to_the_broker(broker: Connection, client: Client, topic: str) -> None:
    make(client, topic)
    producer = Producer(client)
    made = [batch(producer, topic, 0, [b"%d" % number]) for number in range(7)]
    for each in made:
        producer.send(topic, 0, each, 1).result(WAIT_S)
    # The broker remembers the last five batches and where they stand.
    for number in (6, 2):
        assert producer.send(topic, 0, made[number], 1).result(WAIT_S).base_offset == number
    with pytest.raises(BrokerError, match="does not follow"):
        producer.send(topic, 0, made[0], 1).result(WAIT_S)
    assert values_of(broker, topic) == [b"%d" % number for number in range(7)]


@pytest.mark.broker
def test_a_batch_that_leaves_some_out_is_refused(broker: Connection, client: Client, topic: str) -> None:
    make(client, topic)
    producer = Producer(client)
    send(producer, topic, 0, [b"a"]).result(WAIT_S)
    producer.reserve(topic, 0, 1)
    with pytest.raises(
        BrokerError, match=rf"{topic}\[0\]: the batch does not follow what the broker has of this producer"
    ):
        send(producer, topic, 0, [b"c"]).result(WAIT_S)
    with pytest.raises(BrokerError, match="does not follow"):
        send(producer, topic, 0, [b"d"]).result(WAIT_S)
    assert values_of(broker, topic) == [b"a"]


@pytest.mark.broker
def test_a_batch_that_is_too_large_names_the_topics_limit(client: Client, topic: str) -> None:
    make(client, topic, **{"max.message.bytes": "5000"})
    producer = Producer(client)
    message = rf"{topic}\[0\]: a batch of 9\d\d\d bytes is larger than the topic's max.message.bytes \(5000\); write f"
    with pytest.raises(BrokerRefused, match=message):
        send(producer, topic, 0, [b"x" * 9000]).result(WAIT_S)


@pytest.mark.broker
def test_records_that_a_topic_does_not_take_are_refused_with_the_reason(client: Client, topic: str) -> None:
    make(client, topic, **{"cleanup.policy": "compact"})
    producer = Producer(client)
    with pytest.raises(BrokerRefused, match=r"takes no such records: .*[kK]ey.*a compacted topic needs a key"):
        send(producer, topic, 0, [b"no key"]).result(WAIT_S)
    strict = f"{topic}-strict"
    make(client, strict, **{"message.timestamp.before.max.ms": "1000"})
    old = encode(
        columns([b"x"], [EVENT_MS]),
        producer_id=producer.producer_id,
        producer_epoch=producer.producer_epoch,
        base_sequence=producer.reserve(strict, 0, 1),
    )
    with pytest.raises(BrokerRefused, match=r"Timestamp .* is out of range.*message.timestamp.before.max.ms"):
        producer.send(strict, 0, old, 1).result(WAIT_S)


@pytest.mark.broker
def test_a_batch_whose_bytes_are_damaged_is_an_error(client: Client, topic: str) -> None:
    make(client, topic)
    producer = Producer(client)
    damaged = bytearray(batch(producer, topic, 0, [b"hello"]))
    damaged[-1] ^= 1
    with pytest.raises(BrokerError, match=r"\[0\]: .*CORRUPT|corrupt"):
        producer.send(topic, 0, bytes(damaged), 1).result(WAIT_S)


@pytest.mark.broker
def test_unknown_topics_and_partitions_are_errors(client: Client, topic: str) -> None:
    make(client, topic)
    producer = Producer(client)
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}-x'"):
        send(producer, f"{topic}-x", 0, [b"a"]).result(WAIT_S)
    with pytest.raises(UnknownPartition, match=rf"topic {topic} has no partition 5"):
        send(producer, topic, 5, [b"a"]).result(WAIT_S)


@pytest.mark.broker
def test_brokers_that_stay_away_are_an_error_that_says_what_is_not_known(
    broker: Connection, topic: str, client: Client
) -> None:
    make(client, topic)
    with FaultProxy() as proxy, Client(proxy.through(broker), timeout_s=3.0) as distant:
        producer = Producer(distant, stall_s=0.8)
        send(producer, topic, 0, [b"a"]).result(WAIT_S)
        proxy.refuse()
        with pytest.raises(BrokerUnavailable, match=r"whether the last batch was written is not known"):
            send(producer, topic, 0, [b"b"]).result(WAIT_S)


# On a played cluster


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(2)


@pytest.fixture
def scripted(cluster: Cluster) -> Iterator[Client]:
    with client_of(cluster) as opened:
        yield opened


def move_leader(cluster: Cluster) -> None:
    cluster.partitions[0].leader, cluster.partitions[0].epoch = 2, 6


PASSING: list[Fault] = [
    errors.NotLeaderForPartitionError.errno,
    errors.LeaderNotAvailableError.errno,
    errors.NotEnoughReplicasError.errno,
    errors.NotEnoughReplicasAfterAppendError.errno,
    errors.RequestTimedOutError.errno,
    errors.UnknownTopicOrPartitionError.errno,
    errors.KafkaStorageError.errno,
    errors.KafkaConnectionError("connection reset"),
    move_leader,
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: getattr(fault, "__name__", str(fault)))
def test_what_passes_makes_the_same_bytes_go_out_again(cluster: Cluster, scripted: Client, fault: Fault) -> None:
    producer = Producer(scripted)
    cluster.faults[ProduceRequest] = [lambda _: None, fault, fault]
    made = [batch(producer, "ticks", 0, [b"%d" % number]) for number in range(3)]
    sent = [producer.send("ticks", 0, each, 1) for each in made]
    assert [each.result(WAIT_S).base_offset for each in sent] == [0, 1, 2]
    tries = [
        bytes(request.topic_data[0].partition_data[0].records)
        for _, request in cluster.asked
        if isinstance(request, ProduceRequest)
    ]
    assert tries == [made[0], *[made[1]] * (2 if fault is move_leader else 3), made[2]]


def test_a_batch_that_the_broker_has_already_is_written(cluster: Cluster, scripted: Client) -> None:
    producer = Producer(scripted)
    cluster.faults[ProduceRequest] = [errors.DuplicateSequenceNumberError.errno]
    assert send(producer, "ticks", 0, [b"a"]).result(WAIT_S) == Appended("ticks", 0, UNKNOWN_OFFSET, 1)
    assert send(producer, "ticks", 0, [b"b"]).result(WAIT_S).base_offset == 0


def test_one_batch_is_under_way_in_each_partition(cluster: Cluster, scripted: Client) -> None:
    producer = Producer(scripted)
    sent = [send(producer, "ticks", number % 2, [b"a"]) for number in range(20)]
    assert all(each.result(WAIT_S) for each in sent)
    assert cluster.most_under_way == 2


@pytest.mark.parametrize("error", [errors.OutOfOrderSequenceNumberError, errors.UnknownProducerIdError])
def test_after_a_failure_nothing_more_goes_to_that_partition(
    cluster: Cluster, scripted: Client, error: type[errors.BrokerResponseError]
) -> None:
    producer = Producer(scripted)
    cluster.faults[ProduceRequest] = [error.errno]
    sent = [send(producer, "ticks", 0, [b"%d" % number]) for number in range(3)]
    for each in sent:
        with pytest.raises(BrokerError, match=f"does not follow what the broker has of this producer .{error.message}"):
            each.result(WAIT_S)
    assert cluster.count(ProduceRequest) == 1
    assert send(producer, "ticks", 1, [b"other"]).result(WAIT_S).base_offset == 0


def test_a_client_that_is_closed_fails_what_waits(cluster: Cluster, scripted: Client) -> None:
    producer = Producer(scripted)
    cluster.faults[ProduceRequest] = [errors.NotLeaderForPartitionError.errno] * 1000
    sent = [send(producer, "ticks", 0, [b"%d" % number]) for number in range(3)]
    scripted.close()
    for each in sent:
        with pytest.raises(BrokerUnavailable, match="the client was closed while it wrote"):
            each.result(WAIT_S)


@pytest.mark.parametrize("code", range(1, 130))
def test_every_error_code_is_an_error_of_ours_or_none(cluster: Cluster, scripted: Client, code: int) -> None:
    producer = Producer(scripted, stall_s=0.0)
    cluster.faults[ProduceRequest] = [code] * 50
    result = send(producer, "ticks", 0, [b"a"])
    if code == errors.DuplicateSequenceNumberError.errno:
        assert result.result(WAIT_S).base_offset == UNKNOWN_OFFSET
    else:
        with pytest.raises(MlstreamError):
            result.result(WAIT_S)


def test_sequence_numbers_start_anew_after_the_largest(scripted: Client) -> None:
    producer = Producer(scripted)
    assert producer.reserve("ticks", 0, 2**31 - 5) == 0
    assert producer.reserve("ticks", 0, 10) == 2**31 - 5
    assert producer.reserve("ticks", 0, 1) == 5
    assert producer.reserve("ticks", 1, 1) == 0


def test_what_is_written_is_what_was_encoded(cluster: Cluster, scripted: Client) -> None:
    producer = Producer(scripted)
    made = encode(
        pa.table({"value": pa.array([b"a", None], pa.binary())}),
        producer_id=producer.producer_id,
        base_sequence=producer.reserve("ticks", 0, 2),
    )
    producer.send("ticks", 0, made, 2).result(WAIT_S)
    assert cluster.produced == [made]
