"""An independent reader of what a run wrote: librdkafka, record by record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, TopicPartition

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection


@dataclass(frozen=True)
class Found:
    """A record as librdkafka sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]

    @property
    def json(self) -> dict[str, Any]:
        parsed = json.loads(self.value)
        assert isinstance(parsed, dict)
        return parsed


def read_topic(connection: Connection, topic: str) -> list[Found]:
    """Every committed record of a topic, partition by partition, in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": connection.servers,
            "group.id": "tests",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found: list[Found] = []
    ended: set[int] = set()
    while len(ended) < len(partitions):
        for message in consumer.consume(1000, timeout=1.0):
            if message.error() is not None:
                assert message.error().code() == -191, message.error()  # the end of a partition
                ended.add(message.partition())
                continue
            found.append(
                Found(
                    message.partition(),
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    dict(message.headers() or []),
                )
            )
    consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))


def topics(connection: Connection) -> set[str]:
    """The names of all topics."""
    consumer = Consumer({"bootstrap.servers": connection.servers, "group.id": "tests"})
    try:
        return set(consumer.list_topics(timeout=10).topics)
    finally:
        consumer.close()
