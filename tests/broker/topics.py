"""Topics for tests, filled and read by an independent client (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.errors import BrokerUnavailable
from mlstream.streams.write import StreamWriter

EVENT_MS = 1_380_585_600_000  # 2013-10-01, far from the clock's time

Headers = list[tuple[str, bytes | None]]
Record = tuple[int, int, bytes | None, bytes | None, Headers]  # offset, timestamp, key, value, headers


def make(client: Client, topic: str, partitions: int = 1, **config: str) -> None:
    """A topic that keeps everything."""
    create_topic(client, topic, partitions=partitions, config={**KEEP_EVERYTHING, **config})


def fill(client: Client, topic: str, counts: Sequence[int], *, step_ms: int = 1000, batch_rows: int = 10_000) -> None:
    """A topic with so many records in its partitions: value and time count up from 0 and from EVENT_MS."""
    make(client, topic, len(counts))
    with StreamWriter(client, topic, batch_rows=batch_rows) as writer:
        for partition, count in enumerate(counts):
            times = [EVENT_MS + step_ms * row for row in range(count)]
            writer.write(partition, columns([b"%d" % row for row in range(count)], times))


def columns(values: Sequence[bytes | None], times_ms: Sequence[int | None] | None = None) -> pa.Table:
    """Rows to write: values, and their times where they are given."""
    found = {"value": pa.array(values, pa.binary())}
    if times_ms is not None:
        found["timestamp"] = pa.array(times_ms, pa.timestamp("ms", "UTC"))
    return pa.table(found)


def wait_until_stable(client: Client, topic: str) -> None:
    """The marker of a transaction's end is written a moment after the producer was told that it ended."""
    deadline = time.monotonic() + 10
    while any(found.last_stable < found.high_watermark for found in bounds(client, topic).values()):
        assert time.monotonic() < deadline, f"{topic} has an open transaction"
        time.sleep(0.01)


class Recovering(Protocol):
    """What writes in transactions."""

    def recover(self) -> None:
        """Go on after a failed transaction."""


def recover(writer: Recovering, *, within_s: float = 30) -> None:
    """Recover one that waits for less long than the markers of a transaction may take."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return writer.recover()
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise


def producer(broker: Connection, **settings: Any) -> Producer:
    """librdkafka's producer."""
    return Producer({"bootstrap.servers": broker.servers, "linger.ms": 5, **settings})


def consume(
    broker: Connection, topic: str, partitions: Iterable[int], *, isolation: str = "read_committed"
) -> dict[int, list[Record]]:
    """All records of a topic as librdkafka's consumer gives them."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.servers,
            "group.id": f"reader-of-{topic}",
            "isolation.level": isolation,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 50,
        }
    )
    try:
        found: dict[int, list[Record]] = {partition: [] for partition in partitions}
        consumer.assign([TopicPartition(topic, partition, 0) for partition in found])
        waiting = set(found)
        deadline = time.monotonic() + 20
        while waiting:
            assert time.monotonic() < deadline, f"no end of {topic} {waiting}"
            for message in consumer.consume(1000, timeout=0.05):
                if message.error() is not None:
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    waiting.discard(message.partition())
                    continue
                headers = [(name, value) for name, value in message.headers() or []]
                found[message.partition()].append(
                    (message.offset(), message.timestamp()[1], message.key(), message.value(), headers)
                )
        return found
    finally:
        consumer.close()


def records(block: pa.RecordBatch) -> list[Record]:
    """Columns as the records that `consume` gives; a record without a time has -1."""
    rows = []
    for row in block.to_pylist():
        time = row["timestamp"]
        stamp = -1 if time is None else round(time.timestamp() * 1000)
        headers = [(header["key"].decode(), header["value"]) for header in row["headers"]]
        rows.append((row["offset"], stamp, row["key"], row["value"], headers))
    return rows
