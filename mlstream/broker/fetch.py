"""Ranges of partitions → raw record batches as the brokers keep them, with backpressure. Decodes nothing.

Each partition is followed by a coroutine of its own on the network's loop, with one request under way: the next one
is sent as soon as an answer is there, while the caller still works on that answer. What is under way or waits for the
caller is bounded in bytes, whatever the number of partitions.

A range is done when its position reaches `stop`, never when some record was seen: transaction markers, aborted
records and compaction leave gaps, also at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from kafka import errors
from kafka.protocol.consumer import FetchRequest, IsolationLevel, ListOffsetsRequest, OffsetSpec

from mlstream.broker._kafka import MAX_FRAME_BYTES
from mlstream.broker.budget import Budget, Pace
from mlstream.broker.client import NO_LEADER, Client, TopicState, leader_of
from mlstream.broker.failures import Patience, converted, error_of, is_passing
from mlstream.broker.identity import Identities
from mlstream.broker.offsets import bounds_of, offsets_at
from mlstream.errors import BrokerError, BrokerUnavailable, CorruptBatch, OffsetOutOfRange, UnknownTopic
from mlstream.ranges import PartitionRange
from mlstream.wire.decode import AbortedTransaction
from mlstream.wire.layout import next_offset

PARTITION_MAX_BYTES = 8 << 20
BUFFER_BYTES = 64 << 20
STALL_S = 30.0

_BY_NAME, _BY_ID = 12, 13  # the last version of Fetch that names topics, and the first that tells their ids
_TIERED = 8  # the first version of ListOffsets that tells what a broker keeps on its own disks
_WAIT_MS = 500
# An answer without records below the stable offset means that nothing follows there. A broker may also answer so once
# while it loads older records from elsewhere; so it is asked this often before it is believed.
_EMPTY_ANSWERS = 3
# A request that is not answered in time asks for less the next time, down to this: the line may be slow.
_LEAST_BYTES = 64 << 10
# With a limit on the rate, what is under way at once is what may come in this time.
_PACED_S = 0.5


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer of a broker: record batches of one partition.

    Attributes:
        topic, partition: where they are from.
        start: the offset that was asked for; the first batch may begin before it.
        data: batches of the wire format, the last one possibly cut off; empty when nothing follows before `stop`.
        next_offset: where reading goes on; `[start, next_offset)` is settled by this answer. Never past the range.
        aborted: the aborted transactions among them.
        log_start, last_stable: the partition's bounds at the time.
    """

    topic: str
    partition: int
    start: int
    data: bytes
    next_offset: int
    aborted: tuple[AbortedTransaction, ...]
    log_start: int
    last_stable: int


def fetch(
    client: Client,
    ranges: Sequence[PartitionRange],
    *,
    partition_max_bytes: int = PARTITION_MAX_BYTES,
    buffer_bytes: int = BUFFER_BYTES,
    stall_s: float = STALL_S,
    topic_ids: Mapping[str, str] | None = None,
    max_bytes_s: float | None = None,
) -> Iterator[Fetched]:
    """Read ranges; answers of one partition come in the order of offsets, those of different ones as they arrive.

    Only records of committed transactions and of none are meant to be read: aborted ones are among the batches and
    are listed.

    Args:
        ranges: what to read, at most the last stable offset of each partition; empty ones give nothing.
        partition_max_bytes: how much to ask for at once; a batch that is larger still comes, as one answer.
        buffer_bytes: bound of what is under way and of what waits for the caller, all partitions together.
        stall_s: how long a partition may give no answer, while its leader moves or its broker restarts.
        topic_ids: topic → the id that it must have; the one that it has now when None.
        max_bytes_s: the most to fetch, bytes a second as they are on the wire, all partitions together and on average
            over a few seconds; no limit when None.

    Raises:
        TopicChanged: a topic was deleted or made anew.
        OffsetOutOfRange: records of the range were deleted before they were read, or the log ends before `stop`.
        BrokerUnavailable: no answer for `stall_s`.
        CorruptBatch: the answer is no sequence of batches.
        UnsupportedFormat: batches of a message format that is not read.
    """
    asked = [found for found in ranges if len(found)]
    if not asked:
        return
    next_offset(b"", 0)  # has its kernels compiled here, not on the network's loop
    if max_bytes_s is not None:  # small questions, and few at once: what is under way cannot be taken back
        partition_max_bytes = min(partition_max_bytes, max(int(max_bytes_s * _PACED_S / 4), _LEAST_BYTES))
        buffer_bytes = min(buffer_bytes, max(int(max_bytes_s * _PACED_S), partition_max_bytes))
    reading = _Reading(client, partition_max_bytes, buffer_bytes, stall_s, Pace(client.network, max_bytes_s))
    topics = sorted({found.topic for found in asked})
    client.run(f"topic {topics[0]}", reading.identities.note, topics, {} if topic_ids is None else dict(topic_ids))
    try:
        for found in asked:
            if not client.network.call(reading.start, found):
                raise _closed()
        left = len(asked)
        while left:
            item = reading.items.get()
            if isinstance(item, Fetched):
                yield item
                reading.budget.give_soon(len(item.data))
            elif isinstance(item, BaseException):
                raise item
            else:
                left -= 1
        for topic in topics:
            client.run(f"topic {topic}", reading.identities.check, topic)
    finally:
        client.network.call(reading.close)


class _Reading:
    """The state of one call of `fetch`. Except for `items`, used on the network's loop only."""

    def __init__(self, client: Client, partition_max_bytes: int, buffer_bytes: int, stall_s: float, pace: Pace) -> None:
        self.items: SimpleQueue[Fetched | BaseException | None] = SimpleQueue()  # None: a range is done
        self.budget = Budget(client.network, buffer_bytes)
        self.identities = Identities(client)
        self._client = client
        self._pace = pace
        self._partition_max_bytes = partition_max_bytes
        self._stall_s = stall_s
        self._closed = False

    def start(self, asked: PartitionRange) -> None:
        """Begin to follow a partition."""
        self._client.network.start(self._run, asked)

    def close(self) -> None:
        """Stop to ask; answers that are under way are dropped."""
        self._closed = True
        self._pace.close()
        self.budget.close()

    async def _run(self, asked: PartitionRange) -> None:
        try:
            await self._follow(asked)
        except errors.KafkaError as exc:
            failure = converted(exc, f"{asked.topic}[{asked.partition}]", self._client.connection)
            failure.__cause__ = exc
            self.items.put(failure)
        except GeneratorExit:
            self.items.put(_closed())
            raise
        except BaseException as exc:
            self.items.put(exc)
        else:
            self.items.put(None)

    async def _follow(self, asked: PartitionRange) -> None:
        """Ask for one answer after the other until the position reaches the range's stop."""
        at = _Place(asked, asked.start, self._partition_max_bytes, self._partition_max_bytes)
        patience = Patience(self._stall_s)
        while at.position < asked.stop:
            taken = at.size
            await self.budget.take(taken)
            patience.pardon(await self._pace.turn())
            if self._closed:
                return
            try:
                failure, given_later = await self._step(at)
                taken -= given_later
            finally:
                self.budget.give(taken)
            if failure is None:
                patience.renew()
            else:
                await patience.pause(self._client.network, failure)

    async def _step(self, at: _Place) -> tuple[Exception | None, int]:
        """One answer.

        Returns:
            What stands in the way of progress, if anything does and it may pass; and the bytes that the caller of
            `fetch` gives back.
        """
        asked = at.asked
        try:
            answer = await self._ask(at)
            data: bytes = answer.records or b""
            self._pace.spend(len(data))
            if data:
                return self._take(at, data, answer)
            if answer.last_stable_offset < asked.stop:
                # A leader that was just elected may not know yet how far its followers are.
                return _ends_early(asked, answer.last_stable_offset), 0
            at.empty += 1
            if at.empty < _EMPTY_ANSWERS or await self._is_elsewhere(asked, at.position):
                return errors.KafkaTimeoutError("answers without records"), 0
            self.items.put(_fetched(at, b"", asked.stop, answer))
            at.position = asked.stop
        except errors.OffsetOutOfRangeError as exc:
            return await self._out_of_range(at, exc), 0
        except _Throttled as exc:
            await self._client.network.sleep(exc.seconds)
        except errors.KafkaError as exc:
            if not is_passing(exc):
                raise
            if isinstance(exc, errors.RequestTimedOutError):
                at.limit = at.size = max(at.limit // 4, min(at.limit, _LEAST_BYTES))
            self._client.forget(asked.topic, at.state)
            await self.identities.check_if_known(asked.topic)
            return exc, 0
        return None, 0

    def _take(self, at: _Place, data: bytes, answer: Any) -> tuple[Exception | None, int]:
        """Hand an answer on and move on; or ask for more at once when not even one batch is whole."""
        asked = at.asked
        if answer.log_start_offset > at.position and _first_offset(data) > at.position:
            raise _deleted(asked, at.position, answer.log_start_offset)
        reached = next_offset(data, at.position, stop=asked.stop, topic=asked.topic, partition=asked.partition)
        reached = min(asked.stop, reached)
        if reached <= at.position:
            at.size = max(2 * at.size, _batch_bytes(data))
            if at.size > MAX_FRAME_BYTES:
                raise CorruptBatch(
                    f"{asked.topic}[{asked.partition}] at offset {at.position}: a batch of more than {MAX_FRAME_BYTES} "
                    "bytes, or none",
                    hint="start after it",
                    topic=asked.topic,
                    partition=asked.partition,
                    offset=at.position,
                )
            return None, 0
        self.items.put(_fetched(at, data, reached, answer))
        at.position, at.empty, at.size = reached, 0, at.limit
        return None, len(data)

    async def _ask(self, at: _Place) -> Any:
        """One Fetch to the partition's leader; the partition's part of the answer."""
        asked = at.asked
        try:
            at.state = state = await self._client.state(asked.topic)
        except UnknownTopic as exc:
            await self.identities.check(asked.topic)  # says so when it was deleted; else that broker had just started
            raise errors.LeaderNotAvailableError(f"{asked.topic} was not known for a moment") from exc
        leader = leader_of(state, asked.partition)
        if leader.node == NO_LEADER:
            raise errors.LeaderNotAvailableError(f"{asked.topic}[{asked.partition}] is electing a leader")
        uuid = self.identities.uuid(asked.topic)
        kind = FetchRequest.FetchTopic
        part = kind.FetchPartition(
            partition=asked.partition,
            current_leader_epoch=leader.epoch,
            fetch_offset=at.position,
            last_fetched_epoch=-1,
            log_start_offset=-1,
            partition_max_bytes=at.size,
        )
        request = FetchRequest(
            max_wait_ms=_WAIT_MS,
            min_bytes=1,
            max_bytes=at.size,
            isolation_level=int(IsolationLevel.READ_COMMITTED),
            session_id=0,
            session_epoch=-1,
            topics=[kind(topic=asked.topic, topic_id=uuid, partitions=[part])],
            forgotten_topics_data=[],
            min_version=4,
            max_version=_BY_NAME if uuid is None else _BY_ID,
        )
        response = await self._client.network.send(request, leader.node, self._stall_s)
        failure = error_of(response.error_code)
        if failure is not None:
            raise failure
        for entry in response.responses:
            for found in entry.partitions:
                if found.partition_index == asked.partition:
                    failure = error_of(found.error_code)
                    if failure is not None:
                        raise failure
                    return found
        # A quota is used up: the answer has no partitions, and its data comes later.
        raise _Throttled(max(response.throttle_time_ms, 10) / 1000)

    async def _out_of_range(self, at: _Place, exc: Exception) -> Exception:
        """Why an offset is out of range: raise what is final, return what may pass."""
        asked = at.asked
        await self.identities.check_if_known(asked.topic)
        try:
            kept = (await bounds_of(self._client, asked.topic, [asked.partition]))[asked.partition]
        except errors.KafkaError as problem:
            if not is_passing(problem):
                raise
            return exc
        if at.position < kept.log_start:
            raise _deleted(asked, at.position, kept.log_start) from exc
        return _ends_early(asked, kept.last_stable)

    async def _is_elsewhere(self, asked: PartitionRange, position: int) -> bool:
        """Whether that offset may lie on remote storage, whose records come late (KIP-405)."""
        if not self._client.network.supports(ListOffsetsRequest, _TIERED):
            return False
        local = await offsets_at(
            self._client, asked.topic, [asked.partition], OffsetSpec.EARLIEST_LOCAL, min_version=_TIERED
        )
        return position < local[asked.partition]


@dataclass(slots=True)
class _Place:
    """How far a range is read: the next offset, how much to ask for next and usually, how often nothing came."""

    asked: PartitionRange
    position: int
    size: int
    limit: int
    empty: int = 0
    state: TopicState | None = None  # the leaders that the last question went by


class _Throttled(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def _fetched(at: _Place, data: bytes, reached: int, answer: Any) -> Fetched:
    aborted = tuple(
        AbortedTransaction(found.producer_id, found.first_offset) for found in answer.aborted_transactions or ()
    )
    return Fetched(
        at.asked.topic,
        at.asked.partition,
        at.position,
        data,
        reached,
        aborted,
        answer.log_start_offset,
        answer.last_stable_offset,
    )


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the client was closed while it read", hint="keep it open until all is read")


def _first_offset(data: bytes) -> int:
    return int.from_bytes(data[:8], "big", signed=True)


def _batch_bytes(data: bytes) -> int:
    """The size of the batch that `data` begins with: its length is at 8, and does not count what is before it."""
    return 12 + int.from_bytes(data[8:12], "big") if len(data) >= 12 else 0


def _deleted(asked: PartitionRange, position: int, log_start: int) -> BrokerError:
    return OffsetOutOfRange(
        f"{asked.topic}[{asked.partition}]: asked from {position}, the broker keeps {log_start} onward: the records "
        "before were deleted",
        hint=f"use --from {log_start}, or --from earliest; and set the topic's retention.ms longer",
        topic=asked.topic,
        partition=asked.partition,
        start=position,
        log_start=log_start,
    )


def _ends_early(asked: PartitionRange, last_stable: int) -> BrokerError:
    return OffsetOutOfRange(
        f"{asked.topic}[{asked.partition}]: asked up to {asked.stop}, the stream ends at {last_stable}",
        hint=f"use --to {last_stable}, or --to latest",
        topic=asked.topic,
        partition=asked.partition,
        stop=asked.stop,
        last_stable=last_stable,
    )
