"""Make the topic for a version's records without a prediction. Writes none of them."""

from __future__ import annotations

from collections.abc import Callable

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, topic_config
from mlstream.broker.client import Client
from mlstream.errors import UnknownTopic
from mlstream.naming import errors_topic
from mlstream.runs.errors import HEADER_ROOM_BYTES

DEFAULT_MESSAGE_BYTES = 1_048_588  # Kafka's default of max.message.bytes


def make_errors_topic(client: Client, output: str, *, source: str, largest: Callable[[], int]) -> str:
    """Make the errors topic beside an output topic, unless it is there; its id.

    A record that fits into the source fits into it with our headers.

    Args:
        output: the output topic.
        source: the scored topic, which the cluster may not have.
        largest: how many bytes a message of the source may take; asked when the cluster does not have it.

    Raises:
        TopicExists: one with another number of partitions is there.
        BrokerRefused: making it is not allowed.
    """
    try:
        most = int(topic_config(client, source).get("max.message.bytes", DEFAULT_MESSAGE_BYTES))
    except UnknownTopic:
        most = largest()
    config = {**KEEP_EVERYTHING, "max.message.bytes": str(max(most, DEFAULT_MESSAGE_BYTES) + HEADER_ROOM_BYTES)}
    partitions = len(client.topic(output).partitions)
    return create_topic(client, errors_topic(output), partitions=partitions, config=config, exist_ok=True).topic_id
