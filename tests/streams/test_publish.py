"""A DataFrame becomes a topic, and nothing is made or written when a part of it is wrong."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

import mlstream
from mlstream.broker.admin import KEEP_EVERYTHING, topic_config
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import BrokerUnavailable, TopicExists, UnknownTopic, UsageError
from mlstream.home import Home
from tests.broker.topics import consume, producer

MOMENT = datetime(2013, 10, 1, 6, 30, tzinfo=UTC)
MOMENT_MS = 1_380_609_000_000


@pytest.mark.broker
def test_each_row_becomes_a_record(client: Client, broker: Connection, topic: str) -> None:
    frame = pl.DataFrame(
        {
            "value": ["a", None, "", "ü"],
            "key": [b"k", None, b"", b"\x00"],
            "timestamp": [MOMENT, None, MOMENT + timedelta(milliseconds=1), MOMENT - timedelta(days=36500)],
            "partition": [1, 0, 1, 1],
            "headers": [[{"key": "h", "value": "1"}, {"key": "h", "value": None}], [], None, []],
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC")},
    )
    done = mlstream.publish(topic, frame, partitions=2, connection=broker)
    assert (done.topic, done.rows, done.partitions) == (topic, 4, 2)
    assert 0 < done.seconds < 60
    assert consume(broker, topic, [0, 1]) == {
        0: [(0, -1, None, None, [])],
        1: [
            (0, MOMENT_MS, b"k", b"a", [("h", b"1"), ("h", None)]),
            (1, MOMENT_MS + 1, b"", b"", []),
            (2, MOMENT_MS - 36500 * 86_400_000, b"\x00", "ü".encode(), []),
        ],
    }
    found = topic_config(client, topic)
    assert {name: found[name] for name in KEEP_EVERYTHING} == dict(KEEP_EVERYTHING)


@pytest.mark.broker
def test_keys_go_where_another_client_puts_them_and_keep_their_order(broker: Connection, topic: str) -> None:
    keys = [f"key-{number % 50}" for number in range(2000)]
    values = [str(number) for number in range(2000)]
    mlstream.publish(topic, pl.DataFrame({"key": keys, "value": values}), partitions=5, connection=broker)
    found = consume(broker, topic, range(5))
    other = producer(broker, partitioner="murmur2")
    for key in sorted(set(keys)):
        other.produce(topic, key=key, value=b"other")
    assert other.flush(20) == 0
    both = consume(broker, topic, range(5))
    for part, records in both.items():
        assert {record[2] for record in records[len(found[part]) :]} <= {record[2] for record in found[part]}
    for part in range(5):
        own = [int(record[3] or b"") for record in found[part]]
        assert own == sorted(own)
    assert sum(map(len, found.values())) == 2000


@pytest.mark.broker
def test_rows_without_a_key_are_spread_evenly(broker: Connection, topic: str) -> None:
    started_ms = int(time.time() * 1000)
    mlstream.publish(topic, pl.DataFrame({"value": [b"x"] * 100}), partitions=4, connection=broker)
    found = consume(broker, topic, range(4))
    assert [len(records) for records in found.values()] == [25] * 4
    assert all(started_ms <= record[1] <= time.time() * 1000 for records in found.values() for record in records)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("moments", "kind"),
    [
        ([datetime(2013, 10, 1, 6, 30)], pl.Datetime("ns")),  # noqa: DTZ001 - without a zone, which is UTC
        ([MOMENT], pl.Datetime("ms", "UTC")),
        ([MOMENT.astimezone(timezone(timedelta(hours=2)))], pl.Datetime("us", "Europe/Berlin")),
    ],
)
def test_times_of_any_unit_and_zone_are_the_same_moment(
    broker: Connection, topic: str, moments: list[datetime], kind: pl.Datetime
) -> None:
    frame = pl.DataFrame({"value": ["a"], "timestamp": pl.Series(moments, dtype=kind)})
    mlstream.publish(topic, frame, partitions=1, connection=broker)
    assert consume(broker, topic, [0])[0][0][1] == MOMENT_MS


@pytest.mark.broker
def test_a_topic_that_exists_is_added_to(broker: Connection, topic: str) -> None:
    for _ in range(2):
        done = mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), partitions=2, connection=broker)
    done = mlstream.publish(topic, pl.DataFrame({"value": ["b"]}), connection=broker)
    assert done.partitions == 2
    assert [record[3] for record in consume(broker, topic, [0])[0]] == [b"a", b"a", b"b"]
    with pytest.raises(TopicExists, match="with 2 partitions instead of 3"):
        mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), partitions=3, connection=broker)


@pytest.mark.broker
def test_a_frame_without_rows_makes_the_topic(client: Client, broker: Connection, topic: str) -> None:
    frame = pl.DataFrame({"value": [], "partition": []}, schema={"value": pl.String, "partition": pl.Int32})
    assert mlstream.publish(topic, frame, partitions=2, connection=broker).rows == 0
    assert client.topic(topic).partitions == (0, 1)


@pytest.mark.broker
def test_a_topic_that_does_not_exist_needs_partitions(client: Client, broker: Connection, topic: str) -> None:
    with pytest.raises(UsageError, match="codec 'zip' is not known; use one of none, gzip, snappy, lz4, zstd"):
        mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), partitions=1, connection=broker, codec="zip")
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}'.*; give partitions= to make it, or"):
        mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), connection=broker)
    assert topic not in client.topics()


@pytest.mark.broker
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"value": [1]}, r"column 'value' is Int64; make it a string or binary"),
        ({"value": ["a"], "key": [1.5]}, r"column 'key' is Float64; make it a string or binary"),
        ({"price": [1]}, r"column 'price' is no part of a record; put it into the value: pl.struct"),
        ({"key": ["a"]}, r"the frame has no column 'value'"),
        ({"value": ["a"], "timestamp": [1]}, r"column 'timestamp' is Int64; make it a datetime"),
        ({"value": ["a"], "partition": [2]}, r"column 'partition' names 2, and topic .* has the partitions 0 to 1"),
        ({"value": ["a"], "partition": [-1]}, r"column 'partition' names -1"),
        ({"value": ["a"], "partition": [None]}, r"column 'partition' is not all integers"),
        ({"value": ["a"], "headers": ["x"]}, r"column 'headers' is String; make it a list of structs"),
    ],
)
def test_a_wrong_frame_is_an_error_and_makes_nothing(
    client: Client, broker: Connection, topic: str, data: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        mlstream.publish(topic, pl.DataFrame(data), partitions=2, connection=broker)
    assert topic not in client.topics()


@pytest.mark.broker
def test_the_configured_cluster_is_used(
    broker: Connection, topic: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTREAM_BOOTSTRAP_SERVERS", broker.servers)
    assert mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), partitions=1, home=home).rows == 1
    monkeypatch.delenv("MLSTREAM_BOOTSTRAP_SERVERS")
    with pytest.raises(BrokerUnavailable, match="mlstream broker up"):
        mlstream.publish(topic, pl.DataFrame({"value": ["a"]}), home=home.path)
