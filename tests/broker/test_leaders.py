"""Questions that several brokers answer, while partitions change hands; on a played cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import errors
from kafka.protocol.admin import CreateTopicsRequest
from kafka.protocol.consumer import ListOffsetsRequest
from kafka.protocol.metadata import MetadataRequest

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import NO_LEADER, Client
from mlstream.broker.offsets import Bounds, bounds
from mlstream.broker.positions import resolve
from mlstream.errors import BrokerRefused, BrokerUnavailable, ConfigError, UnknownTopic
from mlstream.ranges import PartitionRange, TopicSelection
from tests.broker.scripted import Cluster, Fault, client_of


@pytest.fixture
def cluster() -> Cluster:
    """Four partitions, led in turn by brokers 1 and 2, with 10, 20, 30 and 40 records."""
    made = Cluster(4)
    for number, part in made.partitions.items():
        part.leader = 1 + number % 2
        part.append([b"x"] * (10 * (number + 1)))
    return made


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    with client_of(cluster) as opened:
        yield opened


EXPECTED = {number: Bounds(0, 10 * (number + 1), 10 * (number + 1)) for number in range(4)}


def asked_of(cluster: Cluster) -> list[tuple[int, list[int]]]:
    """Which broker was asked for the offsets of which partitions."""
    return [
        (node, [part.partition_index for part in request.topics[0].partitions])
        for node, request in cluster.asked
        if isinstance(request, ListOffsetsRequest)
    ]


def test_each_broker_is_asked_once_for_all_that_it_leads(cluster: Cluster, client: Client) -> None:
    assert bounds(client, "ticks") == EXPECTED
    assert sorted(asked_of(cluster)[:2]) == [(1, [0, 2]), (2, [1, 3])]
    assert len(asked_of(cluster)) == 6  # log start, stable offset, high watermark
    assert resolve(client, [TopicSelection("ticks", (1,))]) == [PartitionRange("ticks", 1, 0, 20)]


@pytest.mark.parametrize(
    "fault",
    [
        errors.KafkaConnectionError("reset"),
        errors.NodeNotReadyError("too early"),
        lambda made: setattr(made.partitions[0], "leader", 2),
        lambda made: setattr(made.partitions[2], "epoch", 6),
    ],
    ids=["connection", "backoff", "moved", "newer"],
)
def test_only_what_is_missing_is_asked_for_again(cluster: Cluster, client: Client, fault: Fault) -> None:
    assert bounds(client, "ticks") == EXPECTED
    cluster.asked.clear()
    cluster.faults[ListOffsetsRequest] = [fault]
    assert bounds(client, "ticks", [0, 1, 2, 3]) == EXPECTED
    again = [parts for _, parts in asked_of(cluster)[2:3]]
    assert again in ([[0, 2]], [[0]], [[2]], [[1, 3]])


def test_a_partition_without_a_leader_is_waited_for_but_not_for_ever(cluster: Cluster, client: Client) -> None:
    cluster.partitions[3].leader = NO_LEADER
    with pytest.raises(BrokerUnavailable, match=r"topic ticks: no answer from .*electing a leader"):
        bounds(client, "ticks")

    def elect(made: Cluster) -> None:
        made.partitions[3].leader = 1

    cluster.faults[MetadataRequest] = [lambda _: None, elect]
    assert bounds(client, "ticks") == EXPECTED


def test_a_broker_that_dies_is_left(cluster: Cluster, client: Client) -> None:
    assert client.topic("ticks").partitions == (0, 1, 2, 3)

    def die(made: Cluster) -> Exception:
        made.nodes.discard(2)
        for part in made.partitions.values():
            part.leader = 1
        return errors.KafkaConnectionError("gone")

    cluster.faults[ListOffsetsRequest] = [lambda _: None, die]
    assert bounds(client, "ticks") == EXPECTED


def test_an_error_that_does_not_pass_is_raised_at_once(cluster: Cluster, client: Client) -> None:
    cluster.faults[ListOffsetsRequest] = [errors.TopicAuthorizationFailedError("no")]
    with pytest.raises(BrokerRefused, match=r"topic ticks: not allowed \(TOPIC_AUTHORIZATION_FAILED\)"):
        bounds(client, "ticks")


def test_a_topic_that_goes_away_while_it_is_asked_for_is_unknown(cluster: Cluster, client: Client) -> None:
    def delete(made: Cluster) -> Exception:
        made.exists = False
        return errors.UnknownTopicOrPartitionError()

    cluster.faults[ListOffsetsRequest] = [delete]
    with pytest.raises(UnknownTopic, match="there is no topic 'ticks'"):
        bounds(client, "ticks")


def test_a_broker_before_kafka_3_6_gets_the_bound_of_timestamps_that_it_knows(cluster: Cluster, client: Client) -> None:
    cluster.exists = False
    cluster.unknown_settings = {"message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}
    create_topic(client, "ticks", partitions=4, config=KEEP_EVERYTHING)
    asked = [request for _, request in cluster.asked if isinstance(request, CreateTopicsRequest)]
    sent = {entry.name: entry.value for entry in asked[-1].topics[0].configs}
    assert len(asked) == 2
    assert sent["message.timestamp.difference.max.ms"] == str(2**63 - 1)
    assert sent["retention.ms"] == "-1"
    assert cluster.unknown_settings.isdisjoint(sent)


def test_a_setting_that_is_unknown_to_the_broker_is_an_error(cluster: Cluster, client: Client) -> None:
    cluster.unknown_settings = {"retention.msec"}
    with pytest.raises(ConfigError, match=r"Unknown topic config name: retention.msec; write 'retention.ms'"):
        create_topic(client, "ticks", partitions=4, config={"retention.msec": "1"})


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(BrokerUnavailable, match="the client is closed; open a new one"):
        client.topic("ticks")
