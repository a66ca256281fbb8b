"""Transactions: record batches and the offsets of a group, visible together or not at all. Encodes nothing.

A producer holds a transactional id; whoever opens it later fences it. One transaction at a time:
1. InitProducerId: the coordinator ends what an earlier producer of this id left open, and gives an id and an epoch
2. Produce: batches carry them, the transactional bit, and sequence numbers counted for each partition
3. TxnOffsetCommit: the group's offsets become part of the transaction
4. EndTxn: all of it becomes visible; at transaction version 2 the answer has the next epoch, and sequences start anew
Whatever fails before 4 leaves a transaction that is never committed. `recover` is InitProducerId with the id and epoch
that this producer had: the coordinator aborts what is open, raises the epoch (so that nothing that is still under way
can be written), and refuses when another producer holds the transactional id. When 4 was not answered, the outcome is
what the group's committed offsets say after `recover`.

A cluster at transaction version 1 (Kafka before 4.0, or not upgraded) wants to be told beforehand which partitions and
group a transaction takes part in (AddPartitionsToTxn, AddOffsetsToTxn), and keeps the epoch.

Sources: KIP-98, KIP-360 (recovery by epoch), KIP-447 (fencing by group), KIP-890 (version 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TypeVar

from kafka import errors
from kafka.protocol.consumer.group import OffsetFetchRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)

from mlstream.broker.client import Client
from mlstream.broker.failures import Patience, converted, is_passing
from mlstream.broker.produce import NEWEST_PRODUCE, STALL_S, Appended, refusal, transmit
from mlstream.broker.transaction_steps import SOON_S, Coordination, Identity, Positions, transaction_version_of
from mlstream.errors import BrokerRefused, BrokerUnavailable, MlstreamError, ProducerFenced, TransactionFailed
from mlstream.wire.stamp import stamp

T = TypeVar("T")

TIMEOUT_MS = 60_000  # after which a coordinator aborts a transaction that nobody ended
# Request → the oldest version that will do.
_NEEDED: dict[type, int] = {
    InitProducerIdRequest: 3,
    AddPartitionsToTxnRequest: 0,
    AddOffsetsToTxnRequest: 0,
    ProduceRequest: 3,
    TxnOffsetCommitRequest: 3,
    EndTxnRequest: 0,
    OffsetFetchRequest: 7,
}
_FENCED = (errors.ProducerFencedError, errors.InvalidProducerIdMappingError, errors.TransactionCoordinatorFencedError)
_STALE_MEMBER = (errors.IllegalGenerationError, errors.UnknownMemberIdError, errors.FencedInstanceIdError)


@dataclass(frozen=True, slots=True)
class Batch:
    """An encoded record batch and where it goes; the producer's identity is put in when it is sent."""

    topic: str
    partition: int
    data: bytes
    records: int


def transaction_version(client: Client) -> int:
    """The cluster's finalized `transaction.version`: 2 with KIP-890; 1 where brokers know no such feature, or less."""
    return client.run("asking what the cluster can do", transaction_version_of, client)


def check_transactions(client: Client) -> None:
    """Refuse a cluster that cannot commit records and offsets together, before anything is made there.

    Raises:
        BrokerRefused: names the requests that its brokers do not know, or only in versions without recovery by epoch
            (KIP-360) or stable offsets (KIP-447): those of Kafka before 2.5.
    """
    lacking = [
        f"{request.__name__.removesuffix('Request')} {version}"
        for request, version in _NEEDED.items()
        if not client.network.supports(request, version)
    ]
    if lacking:
        raise BrokerRefused(
            f"{client.connection.servers}: its brokers cannot write exactly once; "
            f"they do not know the requests {', '.join(lacking)}",
            hint="use a cluster of Kafka 2.5 or newer, with transactions",
            lacking=lacking,
        )


class TransactionalProducer:
    """The producer of a transactional id, from any thread. Transactions run one after another, in the order of calls.

    Args:
        client: whose connections are used; it must outlive the producer.
        transactional_id: whoever opens it next fences this producer.
        timeout_ms: after which the coordinator aborts a transaction that nobody ended.
        stall_s: how long a step may take, while leaders move or brokers restart.
        version: the cluster's transaction version; asked for when None.

    Raises:
        BrokerRefused: the transactional id may not be used, or the timeout is longer than the brokers allow.
        BrokerUnavailable: no coordinator answers in time.
    """

    def __init__(
        self,
        client: Client,
        transactional_id: str,
        *,
        timeout_ms: int = TIMEOUT_MS,
        stall_s: float = STALL_S,
        version: int | None = None,
    ) -> None:
        self._client = client
        self.transactional_id = transactional_id
        self._timeout_ms = timeout_ms
        self._stall_s = stall_s
        self.version = transaction_version(client) if version is None else version
        self._ask = Coordination(client, transactional_id, version=self.version, stall_s=stall_s)
        self._sequences: dict[tuple[str, int], int] = defaultdict(int)  # on the network's loop only, as all below
        self._waiting: list[tuple[Sequence[Batch], Positions | None, Future[tuple[Appended, ...]]]] = []
        self._busy = False
        self._failure: MlstreamError | None = None
        # 1. the id and the epoch
        self._identity = Identity()
        client.run(f"transactional id {transactional_id}", self._initialise)

    def transact(self, batches: Sequence[Batch], positions: Positions | None = None) -> Future[tuple[Appended, ...]]:
        """Write batches and commit positions in one transaction, after those that were asked for before.

        Args:
            batches: in the order in which they are to stand in their partitions; not empty unless positions are given.

        Returns:
            A future of where the batches stand, done when the transaction is committed. After a failure it, and every
            later one until `recover`, has as its exception:
            TransactionFailed: nothing of it is visible (`outcome="aborted"`), or that is not known ("unknown").
            ProducerFenced: another producer took over.
            BrokerRefused: a batch or the positions cannot be written, ever; nothing of it is visible.
        """
        result: Future[tuple[Appended, ...]] = Future()
        if not batches and positions is None:
            result.set_result(())  # an empty transaction cannot be ended
            return result
        if not self._client.network.call(self._enqueue, tuple(batches), positions, result):
            result.set_exception(_closed())
        return result

    def recover(self) -> None:
        """Go on after a failure: what was open is aborted, what is still under way can no more be written.

        Read the group's committed offsets before the next transaction: they say what became visible.

        Raises:
            ProducerFenced: another producer took over.
            BrokerUnavailable: no coordinator answers in time.
        """
        self._client.run(f"transactional id {self.transactional_id}", self._recover)

    def close(self) -> None:
        """Abort what is open, so that readers need not wait for its timeout; a producer that is idle just ends.

        What cannot be reached any more is left to the coordinator's timeout.
        """
        if self._failure is not None and not isinstance(self._failure, ProducerFenced):
            with suppress(MlstreamError):
                self.recover()

    # On the network's loop from here on.

    def _enqueue(
        self, batches: Sequence[Batch], positions: Positions | None, result: Future[tuple[Appended, ...]]
    ) -> None:
        self._waiting.append((batches, positions, result))
        if not self._busy:
            self._busy = True
            self._client.network.start(self._drain)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batches, positions, result = self._waiting.pop(0)
                if self._failure is None:
                    try:
                        found = await self._transact(batches, positions)
                        result.set_result(found)
                        continue
                    except MlstreamError as exc:
                        self._failure = exc
                    except BaseException as exc:
                        self._failure = _closed()
                        self._failure.__cause__ = exc
                        result.set_exception(self._failure)
                        if isinstance(exc, GeneratorExit):
                            raise
                        continue
                result.set_exception(self._failure)
        finally:
            self._busy = False
            for _, _, result in self._waiting:
                result.set_exception(self._failure or _closed())
            self._waiting.clear()

    async def _transact(self, batches: Sequence[Batch], positions: Positions | None) -> tuple[Appended, ...]:
        # 2. produce: partitions side by side, the batches of one in order
        if self.version < 2 and batches:
            places = {(batch.topic, batch.partition) for batch in batches}
            await self._step(self._ask.add_partitions(self._identity, places))
        ordered = sorted(range(len(batches)), key=lambda number: (batches[number].topic, batches[number].partition))
        lanes = [
            list(found)
            for _, found in groupby(ordered, key=lambda number: (batches[number].topic, batches[number].partition))
        ]
        where: dict[int, Appended] = {}
        started = [self._client.network.start(self._produce, batches, lane, where) for lane in lanes]
        failure: BaseException | None = None
        for job in started:  # all of them: none may still be writing when the transaction is given up
            try:
                await job
            except BaseException as exc:
                failure = exc if failure is None else failure
        if failure is not None:
            raise failure
        # 3. the positions
        if positions is not None:
            if self.version < 2:
                await self._step(self._ask.add_group(self._identity, positions.group))
            await self._step(self._ask.commit_positions(self._identity, positions))
        # 4. the end
        self._take(await self._step(self._ask.commit(self._identity), last=True))
        return tuple(where[number] for number in range(len(batches)))

    async def _produce(self, batches: Sequence[Batch], lane: Sequence[int], where: dict[int, Appended]) -> None:
        for number in lane:
            batch = batches[number]
            place = (batch.topic, batch.partition)
            sequence = self._sequences[place]
            self._sequences[place] = (sequence + batch.records) % 2**31
            data = stamp(
                batch.data,
                producer_id=self._identity.producer_id,
                producer_epoch=self._identity.producer_epoch,
                base_sequence=sequence,
                transactional=True,
            )
            try:
                offset = await transmit(
                    self._client,
                    batch.topic,
                    batch.partition,
                    data,
                    transactional_id=self.transactional_id,
                    max_version=NEWEST_PRODUCE if self.version >= 2 else 11,
                    first_pause_s=SOON_S,
                    stall_s=self._stall_s,
                )
            except errors.KafkaError as exc:
                what = f"{batch.topic}[{batch.partition}]"
                if is_passing(exc) or isinstance(exc, _REPAIRABLE):
                    raise self._failed(what, exc) from exc
                if isinstance(exc, _FENCED):
                    raise self._fenced(exc) from exc
                raise await refusal(self._client, batch.topic, batch.partition, len(data), exc) from exc
            where[number] = Appended(batch.topic, batch.partition, offset, batch.records)

    async def _step(self, job: Awaitable[T], *, last: bool = False) -> T:
        """One request and its retries; Kafka's errors come out as ours."""
        try:
            return await job
        except errors.KafkaError as exc:
            about = f"transactional id {self.transactional_id}"
            if isinstance(exc, _FENCED):
                raise self._fenced(exc) from exc
            if isinstance(exc, _STALE_MEMBER):
                raise TransactionFailed(
                    f"{about}: the consumer group has replaced this member ({exc.message})",
                    hint="join the group again and go on from its committed offsets",
                    outcome="aborted",
                ) from exc
            if is_passing(exc) or isinstance(exc, _REPAIRABLE):
                raise self._failed(about, exc, outcome="unknown" if last else "aborted") from exc
            raise converted(exc, about, self._client.connection) from exc

    async def _initialise(self) -> None:
        try:
            identity = await self._ask.initialise(self._identity, self._timeout_ms)
        except (*_FENCED, errors.InvalidProducerEpochError) as exc:
            raise self._fenced(exc) from exc
        except errors.InvalidTransactionTimeoutError as exc:
            raise BrokerRefused(
                f"transactional id {self.transactional_id}: {self._timeout_ms} ms is longer than the brokers allow",
                hint="raise transaction.max.timeout.ms of the brokers, or use a shorter time",
            ) from exc
        self._take(identity)

    async def _recover(self) -> None:
        if isinstance(self._failure, ProducerFenced):
            raise self._failure
        patience = Patience(self._stall_s)
        while self._busy:  # nothing of the failed transaction may still be under way
            await patience.pause(self._client.network, errors.ConcurrentTransactionsError(self.transactional_id))
        try:
            await self._initialise()
        except ProducerFenced as exc:
            self._failure = exc
            raise
        self._failure = None

    def _take(self, identity: Identity) -> None:
        if identity != self._identity:
            self._identity = identity
            self._sequences.clear()

    def _fenced(self, exc: errors.KafkaError) -> ProducerFenced:
        return ProducerFenced(
            f"transactional id {self.transactional_id}: another producer took over ({exc.message})",
            hint="only one may work under it; end this one, the other goes on",
            transactional_id=self.transactional_id,
        )

    def _failed(self, what: str, exc: errors.KafkaError, *, outcome: str = "aborted") -> TransactionFailed:
        reason = converted(exc, what, self._client.connection)
        said = "it is not known whether it was committed" if outcome == "unknown" else "nothing of it is visible"
        return TransactionFailed(
            f"{reason.message}: the transaction failed, {said}",
            hint="recover, and go on from the group's committed offsets",
            outcome=outcome,
            transactional_id=self.transactional_id,
        )


# What a new epoch heals: the coordinator gave the transaction up (its timeout passed), a broker lost its memory of the
# producer, or a batch before this one was lost.
_REPAIRABLE = (
    errors.InvalidProducerEpochError,
    errors.InvalidTxnStateError,
    errors.TransactionAbortableError,
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
)


def _closed() -> BrokerUnavailable:
    return BrokerUnavailable("the client was closed while it wrote", hint="keep it open until all is written")
