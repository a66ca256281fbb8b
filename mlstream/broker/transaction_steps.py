"""The requests of a transaction, each to its coordinator and again while that moves. Decides nothing, orders nothing.

What follows what, and what an error means, is in transactions.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import errors
from kafka.protocol.metadata import ApiVersionsRequest, CoordinatorType
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    TxnOffsetCommitRequest,
)

from mlstream.broker.client import Client
from mlstream.broker.failures import Patience, error_of, is_passing

SOON_S = 0.005  # markers of the transaction before are usually written within milliseconds


@dataclass(frozen=True, slots=True)
class Identity:
    """A producer id and its epoch; -1 and -1 before there is one."""

    producer_id: int = -1
    producer_epoch: int = -1


@dataclass(frozen=True, slots=True)
class Member:
    """A consumer group's member, so that the coordinator refuses offsets of one that was replaced (KIP-447)."""

    member_id: str
    generation: int
    instance_id: str | None = None


@dataclass(frozen=True, slots=True)
class Positions:
    """The offsets that a group commits with a transaction: (topic, partition) → the next offset to read.

    `metadata` may carry a short text for each (at most 4,096 bytes by Kafka's default).
    """

    group: str
    offsets: Mapping[tuple[str, int], int]
    metadata: Mapping[tuple[str, int], str] | None = None
    member: Member | None = None


class Coordination:
    """Requests of one transactional id; on the network's loop. All raise KafkaError.

    Args:
        version: the cluster's transaction version, which decides the requests' versions.
        stall_s: how long to try while coordinators move, load, or finish the transaction before.
    """

    def __init__(self, client: Client, transactional_id: str, *, version: int, stall_s: float) -> None:
        self._client = client
        self._id = transactional_id
        self._new = version >= 2
        self._stall_s = stall_s
        self._coordinators: dict[tuple[str, CoordinatorType], int] = {}

    async def initialise(self, before: Identity, timeout_ms: int) -> Identity:
        """The id and epoch to go on with; what an earlier producer, or this one, left open is aborted.

        Args:
            before: what this producer had: refused when another one took over since; or none, which takes over.
        """

        def make() -> Any:
            return InitProducerIdRequest(
                transactional_id=self._id,
                transaction_timeout_ms=timeout_ms,
                producer_id=before.producer_id,
                producer_epoch=before.producer_epoch,
                min_version=3,
                max_version=5 if self._new else 4,
            )

        response = await self._ask(CoordinatorType.TRANSACTION, self._id, make, _one_code)
        return Identity(response.producer_id, response.producer_epoch)

    async def add_partitions(self, identity: Identity, found: Iterable[tuple[str, int]]) -> None:
        """Tell which partitions are written to; only below transaction version 2."""
        kind = AddPartitionsToTxnRequest.AddPartitionsToTxnTopic
        places: dict[str, set[int]] = defaultdict(set)
        for topic, partition in found:
            places[topic].add(partition)

        def make() -> Any:
            return AddPartitionsToTxnRequest(
                v3_and_below_transactional_id=self._id,
                v3_and_below_producer_id=identity.producer_id,
                v3_and_below_producer_epoch=identity.producer_epoch,
                v3_and_below_topics=[kind(name=name, partitions=sorted(parts)) for name, parts in places.items()],
                max_version=3,
            )

        def codes(response: Any) -> list[int]:
            topics = response.results_by_topic_v3_and_below
            return [part.partition_error_code for topic in topics for part in topic.results_by_partition]

        await self._ask(CoordinatorType.TRANSACTION, self._id, make, codes)

    async def add_group(self, identity: Identity, group: str) -> None:
        """Tell which group's offsets are committed; only below transaction version 2."""

        def make() -> Any:
            return AddOffsetsToTxnRequest(
                transactional_id=self._id,
                producer_id=identity.producer_id,
                producer_epoch=identity.producer_epoch,
                group_id=group,
                max_version=3,
            )

        await self._ask(CoordinatorType.TRANSACTION, self._id, make, _one_code)

    async def commit_positions(self, identity: Identity, positions: Positions) -> None:
        """Make a group's offsets part of the transaction."""
        kind = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic
        member = Member("", -1) if positions.member is None else positions.member
        notes = {} if positions.metadata is None else positions.metadata
        places: dict[str, list[Any]] = defaultdict(list)
        for (topic, partition), offset in positions.offsets.items():
            places[topic].append(
                kind.TxnOffsetCommitRequestPartition(
                    partition_index=partition,
                    committed_offset=offset,
                    committed_leader_epoch=-1,
                    committed_metadata=notes.get((topic, partition), ""),
                )
            )

        def make() -> Any:
            return TxnOffsetCommitRequest(
                transactional_id=self._id,
                group_id=positions.group,
                producer_id=identity.producer_id,
                producer_epoch=identity.producer_epoch,
                generation_id=member.generation,
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                topics=[kind(name=name, partitions=parts) for name, parts in places.items()],
                min_version=3,
                max_version=5 if self._new else 3,
            )

        def codes(response: Any) -> list[int]:
            return [part.error_code for topic in response.topics for part in topic.partitions]

        await self._ask(CoordinatorType.GROUP, positions.group, make, codes)

    async def commit(self, identity: Identity) -> Identity:
        """End the transaction; the identity of the next one.

        Asked again after a lost answer, the coordinator says what became of it (KIP-890).
        """

        def make() -> Any:
            return EndTxnRequest(
                transactional_id=self._id,
                producer_id=identity.producer_id,
                producer_epoch=identity.producer_epoch,
                committed=True,
                max_version=5 if self._new else 3,
            )

        response = await self._ask(CoordinatorType.TRANSACTION, self._id, make, _one_code)
        return Identity(response.producer_id, response.producer_epoch) if self._new else identity

    async def _ask(
        self,
        kind: CoordinatorType,
        key: str,
        make: Callable[[], Any],
        codes: Callable[[Any], Sequence[int]],
    ) -> Any:
        """Ask a coordinator, again while it moves, loads, or is busy with the transaction before.

        Raises:
            KafkaError: the first error that another try would not help, or the last when the time is over.
        """
        patience = Patience(self._stall_s, first_pause_s=SOON_S)
        while True:
            try:
                node = self._coordinators.get((key, kind))
                if node is None:
                    node = self._coordinators[key, kind] = await self._client.coordinator(key, kind)
                response = await self._client.network.send(make(), node, patience.left_s())
                failures = [found for found in map(error_of, codes(response)) if found is not None]
                if not failures:
                    return response
                raise next((found for found in failures if not is_passing(found)), failures[0])
            except errors.KafkaError as exc:
                if not is_passing(exc):
                    raise
                if not isinstance(exc, errors.ConcurrentTransactionsError):
                    self._coordinators.pop((key, kind), None)
                await patience.pause(self._client.network, exc)


def _one_code(response: Any) -> list[int]:
    return [response.error_code]


async def transaction_version_of(client: Client) -> int:
    """The cluster's finalized `transaction.version`; 1 where the brokers know no such feature."""
    response = await client.ask(
        lambda: ApiVersionsRequest(
            client_software_name="mlstream", client_software_version="0", min_version=0, max_version=4
        )
    )
    failure = error_of(response.error_code)
    if failure is not None:
        raise failure
    levels = {
        feature.name: feature.max_version_level for feature in getattr(response, "finalized_features", None) or ()
    }
    return int(levels.get("transaction.version", 1))
