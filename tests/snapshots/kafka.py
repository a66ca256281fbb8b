"""An independent producer and consumer (confluent-kafka) for the tests with a broker. No test is here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, Producer, TopicPartition

from mlstream.broker.connection import Connection
from tests.snapshots import oracle


@dataclass(frozen=True)
class Sent:
    """A record to send."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    timestamp: int = 1_700_000_000_000
    headers: Sequence[tuple[str, bytes | None]] = ()


def servers(broker: Connection) -> str:
    return ",".join(broker.bootstrap_servers)


def produce(broker: Connection, topic: str, records: Iterable[Sent], *, codec: str = "lz4") -> None:
    """Send records outside of transactions, and wait until they are there."""
    producer = Producer(
        {
            "bootstrap.servers": servers(broker),
            "compression.type": codec,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for record in records:
        _send(producer, topic, record)
    assert producer.flush(30) == 0


class Transactions:
    """A transactional producer: one transaction a call."""

    def __init__(self, broker: Connection, name: str) -> None:
        self._producer = Producer({"bootstrap.servers": servers(broker), "transactional.id": name, "linger.ms": 0})
        self._producer.init_transactions(30)

    def send(self, topic: str, records: Iterable[Sent], *, commit: bool | None = True) -> None:
        """Commit, abort (False), or leave it open (None)."""
        self._producer.begin_transaction()
        for record in records:
            _send(self._producer, topic, record)
        assert self._producer.flush(30) == 0
        if commit is None:
            return
        if commit:
            self._producer.commit_transaction(30)
        else:
            self._producer.abort_transaction(30)

    def abort(self) -> None:
        """End the transaction that was left open."""
        self._producer.abort_transaction(30)


def _send(producer: Producer, topic: str, record: Sent) -> None:
    producer.produce(
        topic,
        record.value,
        record.key,
        record.partition,
        timestamp=record.timestamp,
        headers=list(record.headers),
    )


def consume(broker: Connection, topic: str, partition: int, start: int, stop: int) -> list[oracle.Record]:
    """The committed records of a range, by librdkafka."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers(broker),
            "group.id": "oracle",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    found: list[oracle.Record] = []
    try:
        consumer.assign([TopicPartition(topic, partition, start)])
        while True:
            message = consumer.poll(20)
            assert message is not None, "the oracle got no answer"
            if message.error() is not None or message.offset() >= stop:
                return found
            kind, timestamp = message.timestamp()
            found.append(
                (
                    message.offset(),
                    timestamp if timestamp >= 0 else None,
                    int(kind == TIMESTAMP_LOG_APPEND_TIME),
                    message.key(),
                    message.value(),
                    [(name.encode(), content) for name, content in message.headers() or []],
                )
            )
    finally:
        consumer.close()
