"""Questions to the leaders of partitions, of many topics at once: one request a broker, whatever moves meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from kafka import errors

from mlstream.broker.client import NO_LEADER, Client, TopicState, leader_of
from mlstream.broker.failures import Patience, error_of, is_passing

V = TypeVar("V")

Parts: TypeAlias = Mapping[str, Sequence[int]]  # topic → partitions


async def ask_leaders(
    client: Client,
    wanted: Parts,
    make: Callable[[Parts, Mapping[str, TopicState]], Any],
    read: Callable[[Any], Iterable[tuple[str, int, int, V]]],
) -> dict[tuple[str, int], V]:
    """Ask the leader of each partition, one request a broker; follow the leaders when they move.

    Args:
        make: partitions that one broker leads, and what is known of the topics → a request.
        read: a response → (topic, partition, error code, value) of each.

    Raises:
        UnknownTopic, UnknownPartition: it is not there (any more).
        KafkaError: the last failure when the time is over, or one that another try would not help.
    """
    found: dict[tuple[str, int], V] = {}
    patience = Patience(client.timeout_s)
    while missing := {
        topic: left
        for topic, parts in wanted.items()
        if (left := [part for part in parts if (topic, part) not in found])
    }:
        states = await client.states(list(missing))
        groups, leaderless = _by_leader(missing, states)
        failure: Exception | None = None
        stale = set(leaderless)
        if leaderless:
            failure = errors.LeaderNotAvailableError(f"topic {leaderless[0]} is electing a leader")
        left_s = patience.left_s()
        asked = [
            (group, client.network.start(client.network.send, make(group, states), node, left_s))
            for node, group in groups.items()
        ]
        for group, answer in asked:
            try:
                for topic, partition, code, value in read(await answer):
                    problem = error_of(code)
                    if problem is None:
                        found[topic, partition] = value
                    elif is_passing(problem):
                        failure = problem
                        stale.add(topic)
                    else:
                        raise client.naming(topic, problem, of=wanted)
            except errors.KafkaError as exc:
                if not is_passing(exc):
                    raise
                failure = exc
                stale.update(group)
        if failure is not None:
            for topic in stale:
                client.forget(topic, states[topic])
            await patience.pause(client.network, failure)
    return found


def _missing(wanted: Parts, found: Mapping[tuple[str, int], V]) -> dict[str, list[int]]:
    left = {topic: [part for part in parts if (topic, part) not in found] for topic, parts in wanted.items()}
    return {topic: parts for topic, parts in left.items() if parts}


def _by_leader(wanted: Parts, states: Mapping[str, TopicState]) -> tuple[dict[int, dict[str, list[int]]], list[str]]:
    """Partitions by the broker that leads them, and the topics of which some have no leader now."""
    groups: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for topic, parts in wanted.items():
        for partition in parts:
            groups[leader_of(states[topic], partition).node][topic].append(partition)
    return groups, list(groups.pop(NO_LEADER, {}))
