"""Topics are made, described and deleted; each call returns when the cluster has done it."""

from __future__ import annotations

import pytest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_records, delete_topic, topic_config
from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds, bounds
from mlstream.errors import (
    BrokerRefused,
    ConfigError,
    OffsetOutOfRange,
    TopicExists,
    UnknownPartition,
    UnknownTopic,
    UsageError,
)
from tests.broker.topics import fill

pytestmark = pytest.mark.broker


def test_a_topic_that_was_made_can_be_used_at_once(client: Client, topic: str) -> None:
    for _ in range(5):
        made = create_topic(client, topic, partitions=5)
        assert made == client.topic(topic)
        assert bounds(client, topic) == dict.fromkeys(range(5), Bounds(0, 0, 0))
        delete_topic(client, topic)


def test_a_topic_that_keeps_everything_says_so(client: Client, topic: str) -> None:
    create_topic(client, topic, partitions=1, config=KEEP_EVERYTHING)
    found = topic_config(client, topic)
    assert {name: found[name] for name in KEEP_EVERYTHING} == dict(KEEP_EVERYTHING)
    assert found["retention.ms"] == "-1"
    assert found["max.message.bytes"].isdigit()


def test_a_topic_that_exists_is_an_error_unless_that_is_fine(client: Client, topic: str) -> None:
    made = create_topic(client, topic, partitions=2)
    with pytest.raises(TopicExists, match=rf"topic {topic}: the topic exists already; choose another name, or delete"):
        create_topic(client, topic, partitions=2)
    assert create_topic(client, topic, partitions=2, exist_ok=True) == made
    with pytest.raises(TopicExists, match=rf"topic {topic} exists already, with 2 partitions instead of 3"):
        create_topic(client, topic, partitions=3, exist_ok=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"retention.msec": "1"}, "Unknown topic config name: retention.msec; write 'retention.ms' instead of"),
        ({"retention.ms": "soon"}, "Invalid value soon for configuration retention.ms"),
    ],
)
def test_a_wrong_setting_is_named(client: Client, topic: str, config: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_topic(client, topic, partitions=1, config=config)
    assert topic not in client.topics()


def test_a_topic_that_cannot_be_is_refused(client: Client, topic: str) -> None:
    with pytest.raises(UsageError, match=r"topic .*: 0 partitions; a topic has at least one"):
        create_topic(client, topic, partitions=0)
    with pytest.raises(UsageError, match=r"topic name 'a/b': .*; use a-z, 0-9"):
        create_topic(client, "a/b", partitions=1)
    with pytest.raises(BrokerRefused, match=r"Unable to replicate the partition 99 time.*the cluster has \d+ brokers"):
        create_topic(client, topic, partitions=1, replication=99)


def test_deleting_what_is_not_there_is_an_error_unless_that_is_fine(client: Client, topic: str) -> None:
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}'"):
        delete_topic(client, topic)
    delete_topic(client, topic, missing_ok=True)
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}'"):
        topic_config(client, topic)


def test_the_oldest_records_are_deleted(client: Client, topic: str) -> None:
    fill(client, topic, [10, 20, 5])
    assert delete_records(client, topic, {0: 4, 1: -1}) == {0: 4, 1: 20}
    assert {part: found.log_start for part, found in bounds(client, topic).items()} == {0: 4, 1: 20, 2: 0}
    with pytest.raises(OffsetOutOfRange, match=r"cannot delete up to \{0: 11\}: past the end"):
        delete_records(client, topic, {0: 11})
    with pytest.raises(UnknownPartition, match="has no partition 7"):
        delete_records(client, topic, {7: 1})
