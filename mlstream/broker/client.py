"""A client of one cluster: topics, leaders, coordinators, and requests that are tried again while brokers move.

What goes over the wire is kafka-python's protocol classes; what is sent where, and what an error means, is decided
here and in `failures`. Fetching and producing are `fetch` and `produce`.
"""

from __future__ import annotations

import base64
import difflib
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from kafka import errors
from kafka.protocol.metadata import CoordinatorType, FindCoordinatorRequest, MetadataRequest

from mlstream.broker.connection import Connection
from mlstream.broker.failures import Patience, converted, error_of, is_passing
from mlstream.broker.network import Event, Network
from mlstream.errors import BrokerUnavailable, UnknownPartition, UnknownTopic

T = TypeVar("T")

NO_LEADER = -1


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the cluster knows it now.

    Attributes:
        name: its name.
        topic_id: its id, in Kafka's notation (22 characters); another after it was deleted and made again. Empty when
            the broker is too old to have ids (before Kafka 2.8).
        partitions: the numbers of its partitions, in order.
    """

    name: str
    topic_id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Leader:
    """The broker that leads a partition (`NO_LEADER` during an election), and the epoch of its leadership."""

    node: int
    epoch: int


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic and where its partitions are led."""

    info: TopicInfo
    uuid: uuid.UUID | None
    leaders: Mapping[int, Leader]


class Client:
    """Connections to a cluster; a context manager, and safe to use from several threads.

    Args:
        connection: which cluster.
        timeout_s: how long one question goes on without an answer.
        network: other connections than those of `connection`; for tests.

    Raises:
        BrokerUnavailable: no server answers in time.
        BrokerRefused: the credentials are refused.
    """

    def __init__(self, connection: Connection, *, timeout_s: float = 10.0, network: Network | None = None) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.network = Network(connection.bootstrap_servers, connection.settings) if network is None else network
        self._topics: dict[str, TopicState] = {}  # both are used on the network's loop only
        self._asking: dict[str, Event] = {}
        try:
            self.network.open(timeout_s - 0.5)
        except BaseException as exc:
            self.network.close()
            if isinstance(exc, errors.KafkaError):
                raise converted(exc, connection.servers, connection) from exc
            if isinstance(exc, TimeoutError):
                raise BrokerUnavailable(f"{connection.servers}: {exc}", hint=connection.fix) from exc
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Twice is no harm."""
        self.network.close()

    @property
    def cluster_id(self) -> str:
        """The cluster's id; empty when the brokers do not tell one."""
        return self.network.cluster_id or ""

    @property
    def brokers(self) -> tuple[int, ...]:
        """The ids of the brokers that are up."""
        return self.network.nodes()

    def topic(self, name: str) -> TopicInfo:
        """What the cluster knows of a topic now.

        Raises:
            UnknownTopic: there is none; names that are near are in the hint.
        """
        return self.run(f"topic {name}", self.refreshed, name).info

    def describe(self, names: Sequence[str]) -> dict[str, TopicInfo]:
        """What the cluster knows of several topics now, with one question.

        Raises:
            UnknownTopic: one of them does not exist.
        """
        found = self.run(f"topics {', '.join(names)}", self.refreshed_all, names)
        return {name: state.info for name, state in found.items()}

    def topics(self) -> list[str]:
        """The names of all topics except Kafka's own, sorted."""
        return self.run("listing topics", self._names)

    def run(self, what: str, job: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function on the network's loop; kafka's errors come out as mlstream's.

        Args:
            what: what it is about, the start of an error's message.
        """
        try:
            return self.network.run(job, *args)
        except errors.KafkaError as exc:
            raise converted(exc, what, self.connection) from exc

    async def ask(self, make: Callable[[], Any], *, node: int | None = None) -> Any:
        """Send a request to a broker, any when `node` is None; again while connections fail.

        Args:
            make: makes the request, anew for each try: a sent one is bound to its version.

        Raises:
            KafkaError: the last failure when the time is over, or one that another try would not help.
        """
        patience = Patience(self.timeout_s)
        while True:
            target = self.network.any_node() if node is None else node
            try:
                if target is None:
                    raise errors.NodeNotReadyError("all brokers failed just now")
                return await self.network.send(make(), target, patience.left_s())
            except errors.KafkaError as exc:
                if not is_passing(exc):
                    raise
                await patience.pause(self.network, exc)

    async def state(self, topic: str) -> TopicState:
        """The topic's leaders as last heard; asked for when they are not known, once for all that wait for it."""
        known = self._topics.get(topic)
        if known is not None:
            return known
        asking = self._asking.get(topic)
        if asking is None:
            asking = self._asking[topic] = Event()
            try:
                return await self.refreshed(topic)
            finally:
                del self._asking[topic]
                asking.set()
        await asking.wait()
        known = self._topics.get(topic)
        return await self.refreshed(topic) if known is None else known

    async def states(self, topics: Sequence[str]) -> dict[str, TopicState]:
        """`state` of several topics; those that are not known are asked for together."""
        known = {topic: self._topics[topic] for topic in topics if topic in self._topics}
        unknown = [topic for topic in topics if topic not in known]
        if len(unknown) == 1:  # somebody else may be asking for it already
            known[unknown[0]] = await self.state(unknown[0])
        elif unknown:
            known.update(await self.refreshed_all(unknown))
        return known

    def forget(self, topic: str, seen: TopicState | None = None) -> None:
        """The leaders known of a topic turned out to be wrong: ask again next time. On the loop only.

        Args:
            seen: what was wrong; what was heard since then is kept.
        """
        if seen is None or self._topics.get(topic) is seen:
            self._topics.pop(topic, None)

    async def refreshed(self, topic: str) -> TopicState:
        """Ask for a topic, its partitions and their leaders.

        Raises:
            UnknownTopic: there is none.
        """
        return (await self.refreshed_all([topic]))[topic]

    async def refreshed_all(self, topics: Sequence[str]) -> dict[str, TopicState]:
        """`refreshed` for several topics, with one question.

        Raises:
            UnknownTopic: one of them does not exist.
        """
        found: dict[str, TopicState] = {}
        patience = Patience(self.timeout_s)
        while missing := [topic for topic in topics if topic not in found]:
            response = await self.ask(partial(metadata_request, missing))
            self.network.learn(response)
            entries = {entry.name: entry for entry in response.topics}
            passing: errors.KafkaError | None = None
            for topic in missing:
                entry = entries.get(topic)
                failure = error_of(3 if entry is None else entry.error_code)
                if entry is not None and failure is None:
                    found[topic] = self._topics[topic] = _state(entry)
                    continue
                self.forget(topic)
                if isinstance(failure, errors.UnknownTopicOrPartitionError | errors.InvalidTopicError):
                    raise await self._unknown(topic) from failure
                if failure is None or not is_passing(failure):
                    raise self.naming(topic, failure or errors.UnknownError(topic), of=topics)
                passing = failure
            if passing is not None:
                await patience.pause(self.network, passing)
        return found

    def naming(self, topic: str, failure: errors.KafkaError, *, of: Collection[str]) -> Exception:
        """A failure of one topic among others: with several asked for, the error must say which one it is about."""
        return failure if len(of) == 1 else converted(failure, f"topic {topic}", self.connection)

    async def coordinator(self, key: str, kind: CoordinatorType = CoordinatorType.GROUP) -> int:
        """The broker that looks after a consumer group or a transactional id; waits while it is being chosen."""
        patience = Patience(self.timeout_s)
        while True:
            response = await self.ask(
                lambda: FindCoordinatorRequest(key=key, key_type=int(kind), max_version=3, min_version=1)
            )
            failure = error_of(response.error_code, response.error_message)
            if failure is None:
                node: int = response.node_id
                if node not in self.network.nodes():
                    self.network.learn(await self.ask(lambda: metadata_request([])))
                return node
            if not is_passing(failure):
                raise failure
            await patience.pause(self.network, failure)

    async def _names(self) -> list[str]:
        response = await self.ask(lambda: metadata_request(None))
        return sorted(entry.name for entry in response.topics if not entry.is_internal)

    async def _unknown(self, topic: str) -> UnknownTopic:
        names = await self._names()
        near = difflib.get_close_matches(topic, names, n=2, cutoff=0.7)
        if near:
            hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
        elif names:
            hint = f"there are: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        else:
            hint = "the cluster has no topics yet"
        return UnknownTopic(f"there is no topic {topic!r} on {self.connection.servers}", hint=hint, topic=topic)


def metadata_request(topics: Sequence[str] | None) -> Any:
    """Ask for topics by name, for none, or for all (None). Never makes one."""
    names = None if topics is None else [MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
    return MetadataRequest(
        topics=names,
        allow_auto_topic_creation=False,
        include_cluster_authorized_operations=False,
        include_topic_authorized_operations=False,
    )


def leader_of(state: TopicState, partition: int) -> Leader:
    """The leader of a partition.

    Raises:
        UnknownPartition: the topic has no such partition.
    """
    leader = state.leaders.get(partition)
    if leader is None:
        last = len(state.info.partitions) - 1
        raise UnknownPartition(
            f"topic {state.info.name} has no partition {partition}",
            hint=f"it has 0 to {last}" if last > 0 else "it has only partition 0",
            topic=state.info.name,
            partition=partition,
        )
    return leader


def _state(entry: Any) -> TopicState:
    leaders = {part.partition_index: Leader(part.leader_id, part.leader_epoch) for part in entry.partitions}
    name = "" if entry.topic_id is None else base64.urlsafe_b64encode(entry.topic_id.bytes).decode().rstrip("=")
    return TopicState(TopicInfo(entry.name, name, tuple(sorted(leaders))), entry.topic_id, leaders)
