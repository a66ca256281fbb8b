"""wire beside whole clients, on one broker: `python benchmarks/clients.py [--records N] [--codec lz4]`.

Reading: kafka-python's consumer, confluent-kafka's consumer, `streams.read` (fetch and decode), and `wire.decode` alone
over the bytes that were fetched. Writing: the same two clients' producers, `publish`, and `wire.encode` alone. Each in
one process, the broker on the same machine.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import polars as pl
import pyarrow as pa
from confluent_kafka import Consumer, Producer, TopicPartition
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as PythonTopicPartition

from benchmarks.report import Line, Report, show
from benchmarks.ticks import ticks
from mlstream.broker import embedded
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import find_connection
from mlstream.broker.fetch import Fetched, fetch
from mlstream.broker.positions import resolve
from mlstream.home import Home
from mlstream.ranges import TopicSelection
from mlstream.streams.publish import publish
from mlstream.streams.read import read
from mlstream.wire.decode import AbortedTransaction, decode
from mlstream.wire.encode import encode

PARTITIONS = 4
BATCH_ROWS = 10_000


def rate(rows: int, action: Callable[[], object]) -> float:
    """Rows a second of one call."""
    gc.collect()
    start = time.perf_counter()
    action()
    return rows / (time.perf_counter() - start)


def reading(client: Client, servers: str, topic: str, rows: int, *, peers: bool) -> Report:
    """Rates of reading the whole topic, records a second."""
    ranges = resolve(client, [TopicSelection(topic)])

    def kafka_python() -> None:
        consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="none")
        partitions = [PythonTopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        for partition in partitions:
            consumer.seek(partition, 0)
        count = 0
        while count < rows:
            count += sum(map(len, consumer.poll(timeout_ms=1000, max_records=10_000).values()))
        consumer.close()

    def confluent() -> None:
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        count = 0
        while count < rows:
            count += len(consumer.consume(10_000, timeout=1.0))
        consumer.close()

    def streams() -> None:
        if sum(block.columns.num_rows for block in read(client, ranges)) != rows:
            raise RuntimeError("streams.read did not bring every record")

    fetched = list(fetch(client, ranges))

    def wire() -> None:
        if sum(_decode(part).num_rows for part in fetched) != rows:
            raise RuntimeError("wire.decode did not bring every record")

    _decode(fetched[0])  # the kernels are compiled or loaded before the clock starts
    own = rate(rows, wire)
    lines = [Line("mlstream wire.decode, from memory", own, "records/s", 1.0)]
    lines.append(_peer("mlstream streams.read, from the broker", rate(rows, streams), own))
    goals: list[tuple[str, bool]] = []
    if peers:
        consumer = rate(rows, kafka_python)
        lines.append(_peer("confluent-kafka Consumer.consume", rate(rows, confluent), own))
        lines.append(_peer("kafka-python KafkaConsumer.poll", consumer, own))
        goals.append(("decode alone at least 10 x kafka-python's consumer", own >= 10 * consumer))
    return Report(f"reading {rows:,} JSON records in {PARTITIONS} partitions", lines, goals)


def writing(client: Client, servers: str, frame: pl.DataFrame, codec: str, *, peers: bool) -> Report:
    """Rates of writing the frame to new topics, records a second."""
    rows = frame.height
    columns = _columns(frame)
    slices = [columns.slice(start, BATCH_ROWS) for start in range(0, rows, BATCH_ROWS)]
    keys, values = frame["key"].to_list(), frame["value"].to_list()
    few = min(rows, 300_000)

    def kafka_python() -> None:
        producer = KafkaProducer(bootstrap_servers=servers, acks="all", compression_type=codec, linger_ms=50)
        for key, value in zip(keys[:few], values[:few], strict=True):
            producer.send("bench-kafka-python", key=key, value=value)
        producer.flush()
        producer.close()

    def confluent() -> None:
        settings = {"bootstrap.servers": servers, "acks": "all", "compression.type": codec, "linger.ms": 50}
        producer = Producer({**settings, "queue.buffering.max.messages": 2_000_000})
        for key, value in zip(keys, values, strict=True):
            while True:
                try:
                    producer.produce("bench-confluent", key=key, value=value)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.flush()

    def streams() -> None:
        publish("bench-mlstream", frame, connection=client.connection)

    def wire() -> None:
        for part in slices:
            encode(part, codec="zstd")

    for name in ("bench-kafka-python", "bench-confluent", "bench-mlstream"):
        create_topic(client, name, partitions=PARTITIONS, config=KEEP_EVERYTHING)
    encode(slices[0], codec="zstd")
    own = rate(rows, wire)
    lines = [Line("mlstream wire.encode, to memory (zstd)", own, "records/s", 1.0)]
    lines.append(_peer("mlstream publish, to the broker (zstd)", rate(rows, streams), own))
    goals: list[tuple[str, bool]] = []
    if peers:
        lines.append(_peer(f"confluent-kafka Producer ({codec})", rate(rows, confluent), own))
        producer = rate(few, kafka_python)
        lines.append(_peer(f"kafka-python KafkaProducer ({codec})", producer, own))
        goals.append(("encode alone at least 20 x kafka-python's producer", own >= 20 * producer))
    for name in ("bench-kafka-python", "bench-confluent", "bench-mlstream"):
        delete_topic(client, name)
    return Report(f"writing {rows:,} JSON records to {PARTITIONS} partitions", lines, goals)


def _decode(part: Fetched) -> pa.RecordBatch:
    aborted = tuple(AbortedTransaction(*pair) for pair in part.aborted)
    return decode(
        part.data, topic=part.topic, partition=part.partition, start=part.start, stop=part.next_offset, aborted=aborted
    ).columns


def _columns(frame: pl.DataFrame) -> pa.Table:
    table = frame.to_arrow()
    headers = pa.nulls(table.num_rows, pa.list_(pa.struct([("key", pa.binary()), ("value", pa.binary())])))
    return pa.table(
        {
            "timestamp": table["timestamp"],
            "key": table["key"].cast(pa.binary()),
            "value": table["value"].cast(pa.binary()),
            "headers": headers,
        }
    ).combine_chunks()


def _peer(name: str, figure: float, own: float) -> Line:
    return Line(name, figure, "records/s", figure / own)


def main() -> None:
    """Start a broker of its own, fill a topic, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--codec", default="lz4", help="of the topic that is read and of the peers' producers")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    frame = ticks(options.records)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        embedded.up(home, profile="bench", heap_mb=1024)
        try:
            connection = find_connection(home)
            servers = ",".join(connection.bootstrap_servers)
            with Client(connection) as client:
                create_topic(client, "bench-input", partitions=PARTITIONS, config=KEEP_EVERYTHING)
                fill(servers, frame, options.codec)
                show(
                    reading(client, servers, "bench-input", frame.height, peers=not options.no_peers),
                    as_json=options.json,
                )
                show(writing(client, servers, frame, options.codec, peers=not options.no_peers), as_json=options.json)
        finally:
            embedded.down(home)


def fill(servers: str, frame: pl.DataFrame, codec: str) -> None:
    """Write the input as an ordinary producer would: confluent-kafka, 64 KiB batches, its own partitioner."""
    settings = {"bootstrap.servers": servers, "compression.type": codec, "linger.ms": 50, "batch.size": 65_536}
    producer = Producer({**settings, "queue.buffering.max.messages": 2_000_000})
    for number, (key, value) in enumerate(zip(frame["key"].to_list(), frame["value"].to_list(), strict=True)):
        while True:
            try:
                producer.produce("bench-input", key=key, value=value, partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


if __name__ == "__main__":
    main()
