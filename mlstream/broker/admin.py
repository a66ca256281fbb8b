"""Make, delete and describe topics; delete their oldest records. Each call returns when all brokers agree."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from kafka import errors
from kafka.protocol.admin import (
    CreateTopicsRequest,
    DeleteRecordsRequest,
    DeleteTopicsRequest,
    DescribeConfigsRequest,
)

from mlstream.broker.client import NO_LEADER, Client, TopicInfo, TopicState, metadata_request
from mlstream.broker.failures import Patience, converted, error_of, is_passing
from mlstream.broker.leaders import Parts, ask_leaders
from mlstream.errors import BrokerRefused, ConfigError, OffsetOutOfRange, TopicExists, UnknownTopic, UsageError

_FOREVER = "9223372036854775807"

KEEP_EVERYTHING: Mapping[str, str] = MappingProxyType(
    {
        "cleanup.policy": "delete",
        # Event times may be years old: with a limit on age the broker would delete what was just written.
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "message.timestamp.type": "CreateTime",
        # And event times may be in the future: a scheduled departure. The default refuses more than an hour.
        "message.timestamp.before.max.ms": _FOREVER,
        "message.timestamp.after.max.ms": _FOREVER,
    }
)

_TIMESTAMP_BOUNDS = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")
_OLDER_BROKER = f"Unknown topic config name: {_TIMESTAMP_BOUNDS[0]}"
_TOPIC_RESOURCE = 2


def create_topic(
    client: Client,
    name: str,
    *,
    partitions: int,
    config: Mapping[str, str] | None = None,
    replication: int | None = None,
    exist_ok: bool = False,
) -> TopicInfo:
    """Make a topic and wait until every broker knows it and all partitions have leaders.

    Args:
        partitions: how many.
        config: its settings; the brokers' defaults when None (`KEEP_EVERYTHING` for historic event times).
        replication: copies of each partition; the brokers' default when None.
        exist_ok: a topic that exists already is fine, if it has that many partitions.

    Raises:
        TopicExists: it exists already.
        ConfigError: the brokers do not know a setting or refuse its value.
        BrokerRefused: not allowed, or against a policy.
    """
    if partitions < 1:
        raise UsageError(f"topic {name}: {partitions} partitions", hint="a topic has at least one")
    return client.run(f"topic {name}", _create, client, name, partitions, dict(config or {}), replication, exist_ok)


def delete_topic(client: Client, name: str, *, missing_ok: bool = False) -> None:
    """Delete a topic and wait until no broker knows it any more.

    Raises:
        UnknownTopic: there is none.
    """
    client.run(f"topic {name}", _delete, client, name, missing_ok)


def delete_topic_by_id(client: Client, name: str, topic_id: str) -> bool:
    """Delete a topic if it still is the one with that id; False when it is gone, or was deleted and made again.

    The broker is told the id, not the name: a topic that is made again just now is not touched. (A broker before
    Kafka 2.8 takes names only.)
    """
    return client.run(f"topic {name}", _delete_by_id, client, name, topic_id)


def topic_config(client: Client, name: str) -> dict[str, str]:
    """All settings of a topic with their values in effect, defaults too.

    Raises:
        UnknownTopic: there is none.
    """
    return client.run(f"topic {name}", config_of, client, name)


def topic_settings(client: Client, names: Sequence[str], setting: str) -> dict[str, str | None]:
    """One setting of several topics, with one question; None where reading it is not allowed.

    Raises:
        UnknownTopic: one of them does not exist.
    """
    return client.run(f"topics {', '.join(names)}", _settings_of, client, names, setting) if names else {}


def delete_records(client: Client, topic: str, before: Mapping[int, int]) -> dict[int, int]:
    """Delete the records below an offset.

    Args:
        before: partition → the first offset to keep; -1 keeps nothing.

    Returns:
        partition → its new log start offset.

    Raises:
        OffsetOutOfRange: an offset past the partition's end.
    """

    def make(group: Parts, _states: Mapping[str, TopicState]) -> Any:
        kind = DeleteRecordsRequest.DeleteRecordsTopic
        parts = [kind.DeleteRecordsPartition(partition_index=part, offset=before[part]) for part in group[topic]]
        return DeleteRecordsRequest(
            topics=[kind(name=topic, partitions=parts)], timeout_ms=int(client.timeout_s * 1000)
        )

    def read(response: Any) -> Iterator[tuple[str, int, int, int]]:
        for entry in response.topics:
            for part in entry.partitions:
                yield entry.name, part.partition_index, part.error_code, part.low_watermark

    async def ask() -> dict[int, int]:
        try:
            found = await ask_leaders(client, {topic: list(before)}, make, read)
            return {partition: low for (_, partition), low in found.items()}
        except errors.OffsetOutOfRangeError as exc:
            raise OffsetOutOfRange(f"topic {topic}: cannot delete up to {dict(before)}: past the end") from exc

    return client.run(f"topic {topic}", ask)


async def config_of(client: Client, name: str) -> dict[str, str]:
    """`topic_config`, on the network's loop."""
    await client.refreshed(name)
    (result,) = await _described(client, [name])
    failure = error_of(result.error_code, result.error_message)
    if failure is not None:
        raise failure
    return {entry.name: entry.value for entry in result.configs if entry.value is not None}


async def _settings_of(client: Client, names: Sequence[str], setting: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for result in await _described(client, names, [setting]):
        failure = error_of(result.error_code, result.error_message)
        if failure is not None:
            error = converted(failure, f"topic {result.resource_name}", client.connection)
            if not isinstance(error, BrokerRefused):
                raise error from failure
        found[result.resource_name] = next((entry.value for entry in result.configs if entry.name == setting), None)
    return found


async def _described(client: Client, names: Sequence[str], settings: list[str] | None = None) -> Any:
    """The answer of DescribeConfigs about topics: one result each."""
    kind = DescribeConfigsRequest.DescribeConfigsResource
    resources = [kind(resource_type=_TOPIC_RESOURCE, resource_name=name, configuration_keys=settings) for name in names]
    response = await client.ask(lambda: DescribeConfigsRequest(resources=resources, include_synonyms=False))
    return response.results


async def _create(
    client: Client, name: str, partitions: int, config: dict[str, str], replication: int | None, exist_ok: bool
) -> TopicInfo:
    kind = CreateTopicsRequest.CreatableTopic
    timeout_ms = int(client.timeout_s * 1000)

    def make(settings: Mapping[str, str]) -> Any:
        topic = kind(
            name=name,
            num_partitions=partitions,
            replication_factor=-1 if replication is None else replication,
            assignments=[],
            configs=[kind.CreatableTopicConfig(name=key, value=str(value)) for key, value in settings.items()],
        )
        return CreateTopicsRequest(topics=[topic], timeout_ms=timeout_ms)

    result = (await _at_controller(client, partial(make, config), lambda found: found.topics[0])).topics[0]
    if _OLDER_BROKER in (result.error_message or ""):
        config = _before_3_6(config)
        result = (await _at_controller(client, partial(make, config), lambda found: found.topics[0])).topics[0]
    failure = error_of(result.error_code, result.error_message)
    if isinstance(failure, errors.TopicAlreadyExistsError):
        if not exist_ok:
            raise failure
        # Somebody may be making it just now: not every broker knows it yet.
        await _agreed(client, name, lambda entry: entry is not None and entry.error_code == 0)
        found = (await client.refreshed(name)).info
        if len(found.partitions) != partitions:
            raise TopicExists(
                f"topic {name} exists already, with {len(found.partitions)} partitions instead of {partitions}",
                hint="choose another name, or delete it first",
                topic=name,
            ) from failure
    elif isinstance(failure, errors.InvalidConfigurationError):
        raise ConfigError(f"topic {name}: {result.error_message}", hint=_near_setting(config), topic=name) from failure
    elif isinstance(failure, errors.InvalidTopicError):
        raise UsageError(f"topic name {name!r}: {result.error_message}", hint="use a-z, 0-9, '-' and '.'") from failure
    elif isinstance(failure, errors.InvalidReplicationFactorError):
        raise BrokerRefused(
            f"topic {name}: {result.error_message}", hint=f"the cluster has {len(client.brokers)} brokers"
        ) from failure
    elif failure is not None:
        raise failure
    await _agreed(client, name, lambda entry: entry is not None and _is_usable(entry, partitions))
    return (await client.refreshed(name)).info


async def _delete(client: Client, name: str, missing_ok: bool) -> None:
    kind = DeleteTopicsRequest.DeleteTopicState
    timeout_ms = int(client.timeout_s * 1000)
    response = await _at_controller(
        client,
        lambda: DeleteTopicsRequest(topics=[kind(name=name)], topic_names=[name], timeout_ms=timeout_ms),
        lambda found: found.responses[0],
    )
    result = response.responses[0]
    failure = error_of(result.error_code, result.error_message)
    client.forget(name)
    if isinstance(failure, errors.UnknownTopicOrPartitionError):
        if not missing_ok:
            await client.refreshed(name)  # raises, and names what is near
    elif failure is not None:
        raise failure
    await _agreed(client, name, lambda entry: entry is None)


async def _delete_by_id(client: Client, name: str, topic_id: str) -> bool:
    try:
        state = await client.refreshed(name)
    except UnknownTopic:
        return False
    if state.info.topic_id != topic_id or state.uuid is None:
        return False
    kind = DeleteTopicsRequest.DeleteTopicState
    timeout_ms = int(client.timeout_s * 1000)
    try:
        response = await _at_controller(
            client,
            lambda: DeleteTopicsRequest(
                topics=[kind(name=None, topic_id=state.uuid)], timeout_ms=timeout_ms, min_version=6
            ),
            lambda found: found.responses[0],
        )
    except errors.UnsupportedVersionError:
        await _delete(client, name, missing_ok=True)
        return True
    except errors.UnknownTopicIdError:  # deleted since
        return False
    result = response.responses[0]
    failure = error_of(result.error_code, result.error_message)
    client.forget(name)
    if failure is not None:
        raise failure
    await _agreed(client, name, lambda entry: entry is None or entry.topic_id != state.uuid)
    return True


async def _at_controller(client: Client, make: Callable[[], Any], result: Callable[[Any], Any]) -> Any:
    """Send to the controller; again while it moves. Before KRaft only the controller itself took such requests."""
    patience = Patience(client.timeout_s)
    while True:
        metadata = await client.ask(lambda: metadata_request([]))
        client.network.learn(metadata)
        node = metadata.controller_id if metadata.controller_id in client.network.nodes() else None
        response = await client.ask(make, node=node)
        failure = error_of(result(response).error_code)
        passing = failure is not None and is_passing(failure)
        if failure is None or not passing or isinstance(failure, errors.UnknownTopicOrPartitionError):
            return response
        await patience.pause(client.network, failure)


async def _agreed(client: Client, name: str, done: Callable[[Any], bool]) -> None:
    """Wait until every broker's answer about a topic (None when it knows no such topic) is as wanted."""
    patience = Patience(client.timeout_s)
    for node in client.brokers:
        while True:
            response = await client.ask(lambda: metadata_request([name]), node=node)
            entry = next((found for found in response.topics if found.name == name), None)
            failure = error_of(3 if entry is None else entry.error_code)
            if done(None if isinstance(failure, errors.UnknownTopicOrPartitionError) else entry):
                break
            await patience.pause(client.network, failure or errors.LeaderNotAvailableError(f"topic {name}"))


def _is_usable(entry: Any, partitions: int) -> bool:
    leaders = [part.leader_id for part in entry.partitions if part.error_code == 0]
    return entry.error_code == 0 and len(leaders) >= partitions and NO_LEADER not in leaders


def _before_3_6(config: Mapping[str, str]) -> dict[str, str]:
    """The same settings for brokers before Kafka 3.6: one bound for old and for future timestamps (KIP-937)."""
    found = {name: value for name, value in config.items() if name not in _TIMESTAMP_BOUNDS}
    if _TIMESTAMP_BOUNDS[0] in config:
        found["message.timestamp.difference.max.ms"] = config[_TIMESTAMP_BOUNDS[0]]
    return found


def _near_setting(config: Mapping[str, str]) -> str:
    near = [
        f"{found[0]!r} instead of {name!r}"
        for name in config
        if name not in _COMMON and (found := difflib.get_close_matches(name, _COMMON, n=1))
    ]
    return f"write {', '.join(near)}" if near else "check the topic's settings"


_COMMON = (*KEEP_EVERYTHING, "compression.type", "max.message.bytes", "min.insync.replicas", "segment.bytes")
