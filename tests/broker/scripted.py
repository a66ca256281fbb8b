"""A cluster that is played at the transport's boundary: real requests in, real answers out, no sockets.

`ScriptedNetwork` runs the client's own event loop; each request is encoded and decoded in the version that a broker
would get it, answered by `Cluster`, and the answer goes the same way back. What goes wrong is put into `faults`.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from kafka import errors
from kafka.protocol.admin import (
    CreateTopicsRequest,
    CreateTopicsResponse,
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)
from kafka.protocol.consumer import FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetSpec
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.protocol.producer import InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.network import Network
from mlstream.wire.decode import decode
from mlstream.wire.encode import encode

VERSIONS: dict[type, int] = {
    MetadataRequest: 12,
    FetchRequest: 13,
    ListOffsetsRequest: 9,
    ProduceRequest: 12,
    InitProducerIdRequest: 5,
    CreateTopicsRequest: 7,
    DescribeConfigsRequest: 4,
}
RESPONSES = {
    MetadataRequest: MetadataResponse,
    FetchRequest: FetchResponse,
    ListOffsetsRequest: ListOffsetsResponse,
    ProduceRequest: ProduceResponse,
    InitProducerIdRequest: InitProducerIdResponse,
    CreateTopicsRequest: CreateTopicsResponse,
    DescribeConfigsRequest: DescribeConfigsResponse,
}

# An error code in the partition's answer, an error of the connection, or a call that may do something and give either.
Fault = int | Exception | Callable[["Cluster"], "int | Exception | None"]
THROTTLED = -1000  # instead of a code: an answer without partitions, as a broker gives over its quota


@dataclass
class Partition:
    """A partition's log: batches with the offset of their first record and the one after their last."""

    leader: int = 1
    epoch: int = 5
    log_start: int = 0
    last_stable: int = 0
    batches: list[tuple[int, int, bytes]] = field(default_factory=list)

    def append(self, values: Iterable[bytes], *, gap: int = 0) -> None:
        """One batch after a gap of `gap` offsets."""
        rows = list(values)
        batch = bytearray(encode(pa.table({"value": pa.array(rows, pa.binary())}), codec="none"))
        base = self.last_stable + gap
        batch[0:8] = base.to_bytes(8, "big")
        self.last_stable = base + len(rows)
        self.batches.append((base, self.last_stable, bytes(batch)))


class Cluster:
    """Brokers 1 and 2 with the topic `ticks`."""

    def __init__(self, partitions: int = 1) -> None:
        self.nodes = {1, 2}
        self.topic_id = uuid.uuid4()
        self.partitions = {number: Partition() for number in range(partitions)}
        self.exists = True
        self.unknown_settings: set[str] = set()
        self.local_start = 0  # offsets below lie on remote storage
        self.whole_batches = True  # a batch comes whole even if it is larger than was asked for
        self.faults: dict[type, list[Fault]] = defaultdict(list)  # for the next requests of that kind
        self.asked: list[tuple[int, Any]] = []
        self.produced: list[bytes] = []
        self.under_way = 0
        self.most_under_way = 0
        self.gather = 0  # the first answers wait until so many fetches are under way, a few seconds at most
        self.most_bytes = 0
        self._bytes = 0

    def count(self, kind: type) -> int:
        """How many requests of a kind were sent."""
        return sum(isinstance(request, kind) for _, request in self.asked)

    def answer(self, node: int, request: Any) -> Any:
        """The answer of a broker; raises what goes wrong with the connection."""
        self.asked.append((node, request))
        if node not in self.nodes:
            raise errors.KafkaConnectionError(f"broker {node} is down")
        waiting = self.faults[type(request)]
        fault = waiting.pop(0) if waiting else None
        code = fault(self) if callable(fault) else fault
        if isinstance(code, Exception):
            raise code
        if isinstance(request, MetadataRequest):
            return self._metadata(request)
        if isinstance(request, ListOffsetsRequest):
            return self._list_offsets(node, request)
        if isinstance(request, FetchRequest):
            return self._fetch(node, request, code)
        if isinstance(request, ProduceRequest):
            return self._produce(node, request, code)
        if isinstance(request, CreateTopicsRequest):
            return self._create(request)
        if isinstance(request, DescribeConfigsRequest):
            return self._describe(request)
        return InitProducerIdResponse(throttle_time_ms=0, error_code=0, producer_id=7, producer_epoch=0)

    def _metadata(self, request: Any) -> Any:
        broker, topic = MetadataResponse.MetadataResponseBroker, MetadataResponse.MetadataResponseTopic
        topics = []
        if request.topics is None or any(entry.name == "ticks" for entry in request.topics):
            known = self.exists
            parts = [
                topic.MetadataResponsePartition(
                    error_code=0, partition_index=number, leader_id=part.leader, leader_epoch=part.epoch,
                    replica_nodes=[1, 2], isr_nodes=[1, 2], offline_replicas=[],
                )
                for number, part in self.partitions.items()
            ]  # fmt: skip
            topics.append(
                topic(
                    error_code=0 if known else 3, name="ticks", topic_id=self.topic_id, is_internal=False,
                    partitions=parts if known else [],
                )
            )  # fmt: skip
        brokers = [broker(node_id=node, host="127.0.0.1", port=node, rack=None) for node in sorted(self.nodes)]
        return MetadataResponse(
            throttle_time_ms=0, brokers=brokers, cluster_id="scripted", controller_id=1, topics=topics
        )

    def _create(self, request: Any) -> Any:
        asked = request.topics[0]
        unknown = [entry.name for entry in asked.configs if entry.name in self.unknown_settings]
        self.exists = not unknown
        result = CreateTopicsResponse.CreatableTopicResult(
            name=asked.name, topic_id=self.topic_id, error_code=40 if unknown else 0,
            error_message=f"Unknown topic config name: {unknown[0]}" if unknown else None,
            num_partitions=1, replication_factor=1, configs=[],
        )  # fmt: skip
        return CreateTopicsResponse(throttle_time_ms=0, topics=[result])

    def _describe(self, request: Any) -> Any:
        kind = DescribeConfigsResponse.DescribeConfigsResult
        entry = kind.DescribeConfigsResourceResult(
            name="cleanup.policy", value="delete", read_only=False, config_source=5, is_sensitive=False, synonyms=[],
            config_type=7, documentation=None,
        )  # fmt: skip
        found = [
            kind(error_code=0, error_message=None, resource_type=2, resource_name=asked.resource_name, configs=[entry])
            for asked in request.resources
        ]
        return DescribeConfigsResponse(throttle_time_ms=0, results=found)

    def _refusal(self, node: int, number: int, epoch: int) -> int:
        part = self.partitions[number]
        if part.leader != node:
            return errors.NotLeaderForPartitionError.errno
        if epoch not in (-1, part.epoch):
            older = epoch < part.epoch
            return (errors.FencedLeaderEpochError if older else errors.UnknownLeaderEpochError).errno
        return 0

    def _list_offsets(self, node: int, request: Any) -> Any:
        topic = ListOffsetsResponse.ListOffsetsTopicResponse
        found = []
        for entry in request.topics[0].partitions:
            part = self.partitions[entry.partition_index]
            at = {OffsetSpec.EARLIEST: part.log_start, OffsetSpec.EARLIEST_LOCAL: self.local_start}
            found.append(
                topic.ListOffsetsPartitionResponse(
                    partition_index=entry.partition_index,
                    error_code=self._refusal(node, entry.partition_index, entry.current_leader_epoch),
                    timestamp=-1,
                    offset=at.get(entry.timestamp, part.last_stable),
                    leader_epoch=part.epoch,
                )
            )
        return ListOffsetsResponse(throttle_time_ms=0, topics=[topic(name="ticks", partitions=found)])

    def _fetch(self, node: int, request: Any, code: int | None) -> Any:
        topic = FetchResponse.FetchableTopicResponse
        asked = request.topics[0]
        entry = asked.partitions[0]
        part = self.partitions[entry.partition]
        if code == THROTTLED:
            return FetchResponse(throttle_time_ms=10, error_code=0, session_id=0, responses=[])
        if code is None and (not self.exists or asked.topic_id != self.topic_id):
            code = errors.UnknownTopicIdError.errno
        code = self._refusal(node, entry.partition, entry.current_leader_epoch) if code is None else code
        if code == 0 and not part.log_start <= entry.fetch_offset <= part.last_stable:
            code = errors.OffsetOutOfRangeError.errno
        data = b""
        if code == 0:
            rest = [batch for _, stop, batch in part.batches if stop > entry.fetch_offset]
            data = b"".join(rest)[: entry.partition_max_bytes]
            if rest and len(data) < len(rest[0]) and self.whole_batches:
                data = rest[0]
        found = topic.PartitionData(
            partition_index=entry.partition, error_code=code, high_watermark=part.last_stable,
            last_stable_offset=part.last_stable, log_start_offset=part.log_start, aborted_transactions=[],
            preferred_read_replica=-1, records=data,
        )  # fmt: skip
        return FetchResponse(
            throttle_time_ms=0, error_code=0, session_id=0,
            responses=[topic(topic=asked.topic, topic_id=asked.topic_id, partitions=[found])],
        )  # fmt: skip

    def _produce(self, node: int, request: Any, code: int | None) -> Any:
        topic = ProduceResponse.TopicProduceResponse
        entry = request.topic_data[0].partition_data[0]
        part = self.partitions[entry.index]
        code = self._refusal(node, entry.index, -1) if code is None else code
        base = part.last_stable
        self.produced.append(bytes(entry.records))
        if code == 0:
            rows = decode(entry.records, topic="ticks", partition=entry.index, start=0).columns
            part.append(rows["value"].to_pylist())
        found = topic.PartitionProduceResponse(
            index=entry.index, error_code=code, base_offset=base, log_append_time_ms=-1, log_start_offset=0,
            record_errors=[], error_message=None,
        )  # fmt: skip
        return ProduceResponse(responses=[topic(name="ticks", partition_responses=[found])], throttle_time_ms=0)


class ScriptedNetwork(Network):
    """The client's loop over a played cluster."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(["127.0.0.1:1"], {})
        self.cluster = cluster

    def open(self, timeout_s: float) -> None:
        self._net.start()

    def nodes(self) -> tuple[int, ...]:
        return tuple(sorted(self.cluster.nodes))

    def any_node(self) -> int | None:
        return min(self.cluster.nodes, default=None)

    def supports(self, request: type, version: int) -> bool:
        return VERSIONS[request] >= version

    async def send(self, request: Any, node: int, timeout_s: float) -> Any:
        kind = type(request)
        version = min(VERSIONS[kind], VERSIONS[kind] if request._max_version is None else request._max_version)
        received = kind.decode(request.encode(version=version), version=version)
        size = received.max_bytes if kind is FetchRequest else 0
        self.cluster.under_way += 1
        self.cluster._bytes += size
        self.cluster.most_under_way = max(self.cluster.most_under_way, self.cluster.under_way)
        self.cluster.most_bytes = max(self.cluster.most_bytes, self.cluster._bytes)
        try:
            await self.sleep(0.001)
            if kind is FetchRequest:
                await self._gather()
            answer = self.cluster.answer(node, received)
        finally:
            self.cluster.under_way -= 1
            self.cluster._bytes -= size
        return RESPONSES[kind].decode(answer.encode(version=version), version=version)

    async def _gather(self) -> None:
        deadline = time.monotonic() + 5.0
        while self.cluster.under_way < self.cluster.gather and time.monotonic() < deadline:
            await self.sleep(0.001)
        self.cluster.gather = 0


def client_of(cluster: Cluster) -> Client:
    """A client of a played cluster."""
    return Client(Connection(("127.0.0.1:1",)), timeout_s=2.0, network=ScriptedNetwork(cluster))
