"""Append encoded batches to partitions: idempotently, in order, one under way in each partition. Encodes nothing.

The protocol (KIP-98):
1. the session gets a producer id and epoch from any broker (InitProducerId without a transactional id);
2. each batch carries them and the sequence number of its first record, counted for each partition;
3. an answer that is lost, or an error that may pass, makes the same bytes go out again: the broker knows the sequence
   number of what it has already and answers with where it stands, so nothing is doubled;
4. the next batch of a partition goes out when the one before it is acknowledged by all replicas in sync.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from kafka import errors
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest

from mlstream.broker.admin import config_of
from mlstream.broker.client import NO_LEADER, Client, leader_of
from mlstream.broker.failures import Patience, converted, error_of, is_passing
from mlstream.errors import BrokerError, BrokerRefused, BrokerUnavailable, MlstreamError

STALL_S = 30.0
UNKNOWN_OFFSET = -1
NEWEST_PRODUCE = 12  # from 13 on topics go by id

_SEQUENCES = 2**31  # sequence numbers are int32 and start anew at 0
_ALL_IN_SYNC = -1


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a batch stands: its records have the offsets from `base_offset` on.

    `base_offset` is `UNKNOWN_OFFSET` where the broker only says that it had the batch already.
    """

    topic: str
    partition: int
    base_offset: int
    records: int


@dataclass(slots=True)
class _Item:
    batch: bytes
    records: int
    result: Future[Appended]


@dataclass(slots=True)
class _Lane:
    """The batches of one partition that wait for their turn; the first one is under way."""

    topic: str
    partition: int
    waiting: deque[_Item] = field(default_factory=deque)
    failure: BaseException | None = None


class Producer:
    """An idempotent producer session. Safe to use from several threads, each partition from one.

    Args:
        client: whose connections are used; it must outlive the session.
        stall_s: how long a batch may take, while leaders move or brokers restart.

    Raises:
        BrokerRefused: idempotent writing is not allowed.
    """

    def __init__(self, client: Client, *, stall_s: float = STALL_S) -> None:
        self._client = client
        self._stall_s = stall_s
        self._lanes: dict[tuple[str, int], _Lane] = {}  # on the network's loop only
        self._sequences: dict[tuple[str, int], int] = {}
        # 1. producer id and epoch
        self.producer_id, self.producer_epoch = client.run("opening a producer", init_producer_id, client)

    def reserve(self, topic: str, partition: int, records: int) -> int:
        """The base sequence of the next batch of a partition, which will hold `records` records.

        Batches must then be sent in the order of these calls.
        """
        key = (topic, partition)
        # 2. the sequence number of the batch's first record
        sequence = self._sequences.get(key, 0)
        self._sequences[key] = (sequence + records) % _SEQUENCES
        return sequence

    def send(self, topic: str, partition: int, batch: bytes, records: int) -> Future[Appended]:
        """Append a batch that was encoded with the session's id, epoch and the reserved sequence.

        Returns:
            A future; its exception is a BrokerError. After a failure all later batches of the partition fail too.
        """
        item = _Item(batch, records, Future())
        if not self._client.network.call(self._enqueue, topic, partition, item):
            item.result.set_exception(_closed())
        return item.result

    def _enqueue(self, topic: str, partition: int, item: _Item) -> None:
        lane = self._lanes.setdefault((topic, partition), _Lane(topic, partition))
        lane.waiting.append(item)
        if len(lane.waiting) == 1:
            self._client.network.start(self._drain, lane)

    async def _drain(self, lane: _Lane) -> None:
        while lane.waiting:
            item = lane.waiting[0]
            if lane.failure is None:
                try:
                    offset = await append(self._client, lane.topic, lane.partition, item.batch, stall_s=self._stall_s)
                except MlstreamError as exc:
                    lane.failure = exc
                except BaseException as exc:
                    lane.failure = _closed()
                    self._fail(lane)
                    if isinstance(exc, GeneratorExit):
                        raise
                    lane.failure.__cause__ = exc
            # 4. the next one goes out when this one is acknowledged
            lane.waiting.popleft()
            if lane.failure is None:
                item.result.set_result(Appended(lane.topic, lane.partition, offset, item.records))
            else:
                item.result.set_exception(lane.failure)

    def _fail(self, lane: _Lane) -> None:
        while lane.waiting:
            lane.waiting.popleft().result.set_exception(lane.failure)


async def init_producer_id(client: Client) -> tuple[int, int]:
    """A producer id and its epoch, from any broker."""
    patience = Patience(client.timeout_s)
    while True:
        response = await client.ask(
            lambda: InitProducerIdRequest(
                transactional_id=None, transaction_timeout_ms=-1, producer_id=-1, producer_epoch=-1, max_version=5
            )
        )
        failure = error_of(response.error_code)
        if failure is None:
            return response.producer_id, response.producer_epoch
        if not is_passing(failure):
            raise failure
        await patience.pause(client.network, failure)


async def append(client: Client, topic: str, partition: int, batch: bytes, *, stall_s: float = STALL_S) -> int:
    """Append one batch to a partition; on the network's loop.

    Returns:
        The offset of its first record, or `UNKNOWN_OFFSET`.

    Raises:
        BrokerRefused: the batch is too large, or the topic takes no such records.
        BrokerUnavailable: no answer for `stall_s`; whether the batch was written is not known.
        BrokerError: its sequence number does not follow what the broker has.
    """
    try:
        return await transmit(client, topic, partition, batch, stall_s=stall_s)
    except errors.KafkaError as exc:
        if is_passing(exc):
            raise _unknown_outcome(client, topic, partition, exc) from exc
        raise await refusal(client, topic, partition, len(batch), exc) from exc


async def transmit(
    client: Client,
    topic: str,
    partition: int,
    batch: bytes,
    *,
    transactional_id: str | None = None,
    max_version: int = NEWEST_PRODUCE,
    first_pause_s: float = 0.05,
    stall_s: float = STALL_S,
) -> int:
    """`append` with Kafka's own errors, also for a batch of a transaction; on the network's loop.

    Raises:
        KafkaError: a passing one when there was no answer for `stall_s`, so that the outcome is not known.
    """
    patience = Patience(stall_s, first_pause_s=first_pause_s)
    while True:
        state = None
        try:
            state = await client.state(topic)
            leader = leader_of(state, partition)
            if leader.node == NO_LEADER:
                raise errors.LeaderNotAvailableError(f"{topic}[{partition}] is electing a leader")
            request = _request(topic, partition, batch, transactional_id, int(stall_s * 1000), max_version)
            response = await client.network.send(request, leader.node, patience.left_s())
            found = response.responses[0].partition_responses[0]
            failure = error_of(found.error_code, _detail(found))
            if failure is None:
                offset: int = found.base_offset
                return offset
            raise failure
        except errors.DuplicateSequenceNumberError:
            return UNKNOWN_OFFSET
        except errors.KafkaError as exc:
            if not is_passing(exc):
                raise
            client.forget(topic, state)
            # 3. the same bytes again
            await patience.pause(client.network, exc)


def _request(
    topic: str, partition: int, batch: bytes, transactional_id: str | None, timeout_ms: int, max_version: int
) -> Any:
    kind = ProduceRequest.TopicProduceData
    part = kind.PartitionProduceData(index=partition, records=batch)
    return ProduceRequest(
        transactional_id=transactional_id,
        acks=_ALL_IN_SYNC,
        timeout_ms=timeout_ms,
        topic_data=[kind(name=topic, partition_data=[part])],
        min_version=3,
        max_version=max_version,
    )


def _detail(found: Any) -> str | None:
    """What the broker says of the batch and of its first record that is at fault."""
    said = [found.error_message, *(entry.batch_index_error_message for entry in found.record_errors or ())]
    words = [word for word in said[:2] if word]
    return ": ".join(words) if words else None


async def refusal(client: Client, topic: str, partition: int, size_bytes: int, exc: errors.KafkaError) -> MlstreamError:
    """What a broker's refusal of a batch means for its user."""
    where = f"{topic}[{partition}]"
    if isinstance(exc, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        try:
            allowed = (await config_of(client, topic)).get("max.message.bytes", "?")
        except (MlstreamError, errors.KafkaError):
            allowed = "?"
        return BrokerRefused(
            f"{where}: a batch of {size_bytes} bytes is larger than the topic's max.message.bytes ({allowed})",
            hint="write fewer rows at once, or raise max.message.bytes of the topic",
            topic=topic,
            partition=partition,
            size_bytes=size_bytes,
        )
    if isinstance(exc, errors.InvalidRecordError | errors.InvalidTimestampError):
        return BrokerRefused(
            f"{where}: the topic takes no such records: {exc.args[0] if exc.args else exc.description}",
            hint="a compacted topic needs a key in every record; message.timestamp.before.max.ms and "
            "message.timestamp.after.max.ms say how old and how far ahead a timestamp may be",
            topic=topic,
            partition=partition,
        )
    if isinstance(exc, errors.OutOfOrderSequenceNumberError | errors.UnknownProducerIdError):
        return BrokerError(
            f"{where}: the batch does not follow what the broker has of this producer ({exc.message})",
            hint="start again with a new producer, after a look at the end of the topic: records may be missing",
            topic=topic,
            partition=partition,
        )
    return converted(exc, where, client.connection)


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the client was closed while it wrote", hint="keep it open until all is written")


def _unknown_outcome(client: Client, topic: str, partition: int, exc: errors.KafkaError) -> BrokerUnavailable:
    reason = converted(exc, f"{topic}[{partition}]", client.connection)
    return BrokerUnavailable(
        f"{reason.message}; whether the last batch was written is not known",
        hint=client.connection.fix,
        topic=topic,
        partition=partition,
    )
