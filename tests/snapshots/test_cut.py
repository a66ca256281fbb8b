"""The cut: tables and topics that are written to all the time are frozen as they were together, with few questions."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.broker.positions import locate
from mlstream.databases import open_database
from mlstream.errors import DatabaseError, NameTaken, UnknownTable, UnknownTopic, UsageError
from mlstream.home import Home
from mlstream.ranges import TopicSelection, parse_topic
from mlstream.snapshots.copying import Progress
from mlstream.snapshots.fixing import fix
from mlstream.snapshots.snapshot import Snapshot
from tests.databases.postgres_server import Postgres
from tests.snapshots.kafka import Sent, produce, servers
from tests.snapshots.making import left

ACCOUNTS = (
    "CREATE TABLE checking (id int PRIMARY KEY, balance int NOT NULL)",
    "CREATE TABLE saving (id int PRIMARY KEY, balance int NOT NULL)",
    "CREATE TABLE transfers (n int PRIMARY KEY)",
    "INSERT INTO checking SELECT n, 100 FROM generate_series(1, 20) n",
    "INSERT INTO saving SELECT n, 100 FROM generate_series(1, 20) n",
)
TOTAL = 2 * 20 * 100
TABLES = ("checking", "saving", "transfers")


@dataclass
class Bank:
    """Moves money between two tables all the time: each transfer goes to a topic, and when it is there, to the tables.

    So whatever the tables show is in the topic, as long as the topic is looked at after the tables.
    """

    broker: Connection
    topic: str
    database: Postgres
    transfers: int = 0
    stopped: bool = False

    def work(self) -> None:
        producer = Producer({"bootstrap.servers": servers(self.broker), "linger.ms": 0, "acks": "all"})
        with psycopg.connect(self.database.url) as connection:
            while not self.stopped:
                n = self.transfers + 1
                producer.produce(self.topic, b"%d" % n, partition=n % 2)
                assert producer.flush(30) == 0
                with connection.transaction():
                    account = (n % 20 + 1, n % 7)
                    connection.execute("UPDATE checking SET balance = balance - %s WHERE id = %s", account[::-1])
                    connection.execute("INSERT INTO transfers VALUES (%s)", (n,))
                    connection.execute("UPDATE saving SET balance = balance + %s WHERE id = %s", account[::-1])
                self.transfers = n

    @contextmanager
    def open(self) -> Iterator[None]:
        worker = threading.Thread(target=self.work)
        worker.start()
        try:
            while self.transfers < 20:
                assert worker.is_alive()
                time.sleep(0.01)
            yield
        finally:
            self.stopped = True
            worker.join()


@pytest.fixture
def bank(broker: Connection, client: Client, topic: str, postgres: Postgres) -> Bank:
    create_topic(client, topic, partitions=2, config=KEEP_EVERYTHING)
    postgres.run(*ACCOUNTS)
    return Bank(broker, topic, postgres)


def balance(found: Snapshot) -> int:
    return sum(int(found.table(name).collect()["balance"].sum()) for name in ("checking", "saving"))


def published(values: list[bytes]) -> int:
    return max(map(int, values), default=0)


@pytest.mark.broker
def test_every_snapshot_of_two_tables_and_a_topic_that_are_written_to_is_one_moment(bank: Bank, home: Home) -> None:
    tables = [f"{bank.database.url}#{name}" for name in TABLES]
    taken: list[Snapshot] = []
    with bank.open():
        for n in range(8):
            taken.append(
                mlstream.snapshot(f"moment-{n}", topics=[bank.topic], tables=tables, connection=bank.broker, home=home)
            )
    counts = []
    for found in taken:
        # What holds in every state that was committed holds in every snapshot.
        assert balance(found) == TOTAL
        transfers = sorted(found.table("transfers").collect()["n"].to_list())
        assert transfers == list(range(1, len(transfers) + 1))
        moved = sum(n % 7 for n in transfers)
        assert found.table("saving").collect()["balance"].sum() == TOTAL // 2 + moved
        # The tables were fixed before the ends of the topic: it holds every transfer that they show.
        assert published(found.scan(bank.topic).collect()["value"].to_list()) >= len(transfers)
        counts.append(len(transfers))
        (cut,) = found.cuts()
        (database,) = cut.databases
        assert database.tables == TABLES
        assert {"lsn", "snapshot", "server_version"} <= set(database.mark)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]  # it was written to meanwhile


@pytest.mark.broker
def test_the_checks_notice_tables_of_two_moments_and_a_topic_that_was_looked_at_first(
    bank: Bank, client: Client
) -> None:
    def read(database: psycopg.Connection[Any], table: str) -> int:
        row = database.execute(f"SELECT sum(balance) FROM {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])

    torn = late = False
    with bank.open(), psycopg.connect(bank.database.url, autocommit=True) as database:
        deadline = time.monotonic() + 20
        while not (torn and late) and time.monotonic() < deadline:
            # Two statements without a transaction around them.
            first = read(database, "checking")
            time.sleep(0.02)
            torn = torn or first + read(database, "saving") != TOTAL
            # Ends first, tables after.
            stop = sum(part.stop for part in fix(client, [TopicSelection(bank.topic)]).ranges)
            time.sleep(0.02)
            row = database.execute("SELECT max(n) FROM transfers").fetchone()
            late = late or (row is not None and row[0] > stop)
    assert (torn, late) == (True, True)


@pytest.mark.broker
def test_the_transaction_ends_before_the_topics_are_copied(bank: Bank, home: Home) -> None:
    produce(bank.broker, bank.topic, [Sent(b"1")])
    seen: dict[str, int] = {}

    def look(progress: Progress) -> None:
        waiting = "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        seen[progress.doing or "copying records"] = len(bank.database.rows(waiting))

    tables = [f"{bank.database.url}#saving"]
    mlstream.snapshot("x", topics=[bank.topic], tables=tables, connection=bank.broker, home=home, progress=look)
    assert seen == {"reading table saving": 1, "copying records": 0}


# --- what follows needs no broker ---


def test_tables_alone_need_no_broker_and_one_database_is_opened_once_however_it_is_named(
    postgres: Postgres, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.run(*ACCOUNTS)
    monkeypatch.setenv("BANK", postgres.url)
    opened: list[str] = []

    def count(url: str, **options: Any) -> Any:
        opened.append(url)
        return open_database(url, **options)

    monkeypatch.setattr("mlstream.snapshots.gather.open_database", count)
    found = mlstream.snapshot(
        "bank",
        tables=[f"{postgres.url}#saving", "${BANK}#checking"],
        queries=["${BANK}#rich=SELECT id FROM saving WHERE id > 15;"],
        home=home,
    )
    assert opened == [postgres.url]
    assert [(table.name, table.query, table.rows) for table in found.tables] == [
        ("checking", None, 20),
        ("rich", "SELECT id FROM saving WHERE id > 15", 5),
        ("saving", None, 20),
    ]
    assert found.table("saving").collect().rows() == postgres.rows("SELECT * FROM saving ORDER BY id")
    assert (found.topics, found.rows) == ((), 0)
    again = mlstream.snapshot(
        "bank",
        tables=["${BANK}#checking", "${BANK}#saving"],
        queries=["${BANK}#rich=SELECT id FROM saving WHERE id > 15"],
        home=home,
    )
    assert again == found
    (database,) = found.cuts()[0].databases
    assert "secret" not in database.source


def test_a_name_that_stands_for_another_table_is_refused_and_nothing_is_written(postgres: Postgres, home: Home) -> None:
    postgres.run(*ACCOUNTS)
    url = postgres.url
    mlstream.snapshot("bank", tables=[f"{url}#saving"], home=home)
    before = left(home)
    for tables, queries in (
        ([f"{url}#checking"], []),
        ([f"{url}#saving", f"{url}#checking"], []),
        ([], [f"{url}#saving=SELECT * FROM saving"]),
    ):
        with pytest.raises(NameTaken, match="'bank' exists already and holds something else"):
            mlstream.snapshot("bank", tables=tables, queries=queries, home=home)
    postgres.run("UPDATE saving SET balance = 1 WHERE id = 7")
    with pytest.raises(NameTaken, match="'bank' exists already"):
        mlstream.snapshot("bank", tables=[f"{url}#saving"], home=home)
    assert left(home) == before


def test_what_cannot_be_read_is_named_and_leaves_nothing(postgres: Postgres, home: Home) -> None:
    postgres.run(*ACCOUNTS)
    url = postgres.url
    for tables, queries, error, message in (
        ([f"{url}#savings"], [], UnknownTable, "savings"),
        ([], [f"{url}#x=SELECT nothing FROM saving"], DatabaseError, "nothing"),
        (["postgresql://nobody@127.0.0.1:1/x#t"], [], DatabaseError, "cannot connect"),
        ([f"{url}#saving", f"{url}#saving"], [], UsageError, "two tables would be called 'saving'"),
        (["nonsense"], [], UsageError, "write URL#TABLE"),
    ):
        with pytest.raises(error, match=message):
            mlstream.snapshot("x", tables=tables, queries=queries, home=home)
    assert left(home) == []


# --- many topics ---


@pytest.fixture
def many(client: Client, broker: Connection, topic: str) -> list[str]:
    """Twelve topics of three partitions; each has records of its own."""
    names = [f"{topic}-{n}" for n in range(12)]
    for number, name in enumerate(names):
        create_topic(client, name, partitions=3, config=KEEP_EVERYTHING)
        produce(broker, name, [Sent(b"x", partition=n % 3, timestamp=1_000_000 + n) for n in range(number + 3)])
    return names


def counted(client: Client, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What is sent from here on, by the kind of request."""
    sent: Counter[str] = Counter()
    send: Callable[..., Any] = client.network.send

    async def count(request: Any, *args: Any) -> Any:
        sent[type(request).__name__] += 1
        return await send(request, *args)

    monkeypatch.setattr(client.network, "send", count)
    return sent


@pytest.mark.broker
def test_the_cut_of_many_topics_asks_a_broker_as_much_as_that_of_one(
    client: Client, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    want = {(name, part): found for name in many for part, found in bounds(client, name).items()}
    sent = counted(client, monkeypatch)
    fixed = fix(client, [TopicSelection(name) for name in many])
    assert fixed.kept == want
    assert [(r.topic, r.partition, r.start, r.stop) for r in fixed.ranges] == [
        (name, part, found.log_start, found.last_stable) for (name, part), found in sorted(want.items())
    ]
    brokers = len(client.brokers)
    assert sent == {"MetadataRequest": 1, "ListOffsetsRequest": 3 * brokers, "DescribeConfigsRequest": 1}


@pytest.mark.broker
def test_times_of_many_topics_are_looked_up_together(
    client: Client, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = counted(client, monkeypatch)
    text = "1970-01-01T00:16:40.003..latest"
    located = locate(client, [parse_topic(f"{name}@{text}") for name in many[1:]])
    starts = {(r.topic, r.partition): r.start for r in located.ranges}
    for number, name in enumerate(many[1:], 1):
        for part in range(3):
            times = [n for n in range(number + 3) if n % 3 == part]
            assert starts[name, part] == sum(n < 3 for n in times)
    assert sent["ListOffsetsRequest"] == 4 * len(client.brokers)


@pytest.mark.broker
def test_a_topic_that_is_missing_among_many_is_named(client: Client, many: list[str]) -> None:
    with pytest.raises(UnknownTopic, match=f"there is no topic '{many[3]}x'"):
        locate(client, [TopicSelection(name) for name in (*many[:3], f"{many[3]}x", *many[4:])])
