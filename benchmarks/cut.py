"""How long the cut of many topics takes: `python benchmarks/cut.py [--topics N] [--partitions N] [--json]`.

The cut is what a snapshot fixes before anything is copied: each partition's first, last stable and last offset. Beside
it, for the same answers: confluent-kafka's batched `list_offsets`, its `get_watermark_offsets` partition by partition,
and kafka-python's `beginning_offsets` and `end_offsets`. The last line adds files and a table of PostgreSQL.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonTopicPartition

from benchmarks.report import Line, Report, show
from mlstream.broker import embedded
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.positions import locate
from mlstream.databases import parse_table
from mlstream.home import Home
from mlstream.ranges import TopicSelection
from mlstream.snapshots.capture import freeze
from mlstream.snapshots.files import FilePattern
from mlstream.snapshots.store import Store
from mlstream.snapshots.wanted import Wanted
from tests.databases.postgres_server import fresh_database, running_postgres

GOAL_MS = 1000.0
FILES = 100
ROWS = 10_000


def median_ms(action: Callable[[], object], rounds: int) -> float:
    """The median of some calls, after one that loads what it needs."""
    action()
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        action()
        found.append((time.perf_counter() - began) * 1000)
    return statistics.median(found)


def peers(servers: str, topics: list[str], partitions: int) -> dict[str, Callable[[], object]]:
    """Other ways to the same answers; connections are open already, as mlstream's are."""
    places = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
    admin = AdminClient({"bootstrap.servers": servers})
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bench-cut", "enable.auto.commit": False})
    python = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="none")
    python_places = [PythonTopicPartition(place.topic, place.partition) for place in places]

    first, last = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]

    def listed() -> None:
        admin.list_topics()
        for spec, isolation in (
            (first, IsolationLevel.READ_COMMITTED),
            (last, IsolationLevel.READ_COMMITTED),
            (last, IsolationLevel.READ_UNCOMMITTED),
        ):
            asked = admin.list_offsets(dict.fromkeys(places, spec), isolation_level=isolation)
            for answer in asked.values():
                answer.result()

    def watermarks() -> None:
        for place in places:
            consumer.get_watermark_offsets(place, cached=False)

    def ends() -> None:
        python.beginning_offsets(python_places)
        python.end_offsets(python_places)

    return {
        "confluent-kafka list_offsets, batched": listed,
        "confluent-kafka get_watermark_offsets, each": watermarks,
        "kafka-python beginning_offsets, end_offsets": ends,
    }


def with_files_and_tables(client: Client, topics: list[str], folder: Path, rounds: int) -> float:
    """`cut_ms` of whole freezes with files and a table: the median."""
    (folder / "files").mkdir()
    for number in range(FILES):
        (folder / "files" / f"{number}.csv").write_text(str(number))
    with running_postgres() as url, fresh_database(url) as database:
        database.run("CREATE TABLE t (n int PRIMARY KEY)", f"INSERT INTO t SELECT n FROM generate_series(1, {ROWS}) n")
        wanted = Wanted(
            tuple(TopicSelection(topic) for topic in topics),
            (FilePattern("files", folder),),
            (parse_table(f"{database.url}#t"),),
        )
        store = Store(Home(folder / "home"))
        found = [freeze(client, store, "x", wanted).cut.cut_ms for _ in range(rounds + 1)]
    return statistics.median(found[1:])


def fill(connection: Connection, topics: list[str], partitions: int) -> None:
    """Make the topics, a record in each partition."""
    with Client(connection) as client:
        for topic in topics:
            create_topic(client, topic, partitions=partitions, config=KEEP_EVERYTHING)
    producer = Producer({"bootstrap.servers": ",".join(connection.bootstrap_servers)})
    for topic in topics:
        for number in range(partitions):
            producer.produce(topic, b"x", partition=number)
        producer.poll(0)
    producer.flush()


def measure(connection: Connection, topics: list[str], partitions: int, folder: Path, rounds: int) -> Report:
    """mlstream and the other ways."""
    with Client(connection) as client:
        selections = [TopicSelection(topic) for topic in topics]
        own = median_ms(lambda: locate(client, selections), rounds)
        lines = [Line("mlstream, ranges and ids", own, "ms", 1.0)]
        for name, action in peers(",".join(connection.bootstrap_servers), topics, partitions).items():
            took = median_ms(action, rounds)
            lines.append(Line(name, took, "ms", took / own))
        whole = with_files_and_tables(client, topics, folder, rounds)
    lines.append(Line(f"mlstream, with {FILES} files and a table", whole, "ms", whole / own, "cut_ms of a freeze"))
    goals = [(f"under {GOAL_MS:,.0f} ms", own < GOAL_MS), ("with files and a table, too", whole < GOAL_MS)]
    return Report(f"the cut of {len(topics)} topics with {partitions} partitions each", lines, goals)


def main() -> None:
    """Start a broker of its own, make the topics, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "kafka")
        embedded.up(home, profile="bench", heap_mb=1024)
        try:
            connection = find_connection(home)
            topics = [f"bench-cut-{number:03}" for number in range(options.topics)]
            fill(connection, topics, options.partitions)
            report = measure(connection, topics, options.partitions, Path(folder), options.rounds)
            show(report, as_json=options.json)
        finally:
            embedded.down(home)


if __name__ == "__main__":
    main()
