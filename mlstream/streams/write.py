"""Arrow columns → a topic: encoding on threads while other batches are under way, in bounded memory. Reads nothing.

Rows of a partition are gathered to batches and appended in the order in which they were written, each exactly once
as long as the writer lives (an idempotent producer session).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, TypeAlias

import pyarrow as pa

from mlstream.broker.admin import topic_config
from mlstream.broker.client import Client
from mlstream.broker.produce import STALL_S, Appended, Producer
from mlstream.errors import BrokerRefused, UnknownPartition, UsageError, WireError
from mlstream.wire.encode import encode, split_rows
from mlstream.wire.layout import CODECS

Columns: TypeAlias = pa.RecordBatch | pa.Table

BUFFER_BYTES = 64 << 20
_DEFAULT_MAX_BATCH_BYTES = 1_048_588  # Kafka's default of max.message.bytes


@dataclass(slots=True)
class _Job:
    """A batch between the caller and the broker."""

    rows: int
    size_bytes: int
    encoded: Future[bytes]


@dataclass(slots=True)
class _Lane:
    """One partition: rows that do not fill a batch yet, and batches that are being encoded, in order."""

    partition: int
    gathered: list[pa.Table] = field(default_factory=list)
    gathered_rows: int = 0
    gathered_bytes: int = 0
    encoding: deque[_Job] = field(default_factory=deque)


class StreamWriter:
    """Writes columns to a topic; a context manager that flushes at its end.

    Args:
        client: whose connections are used; it must outlive the writer.
        topic: where to; it exists.
        codec: none, gzip, snappy, lz4 or zstd.
        batch_rows, batch_bytes: when a batch is full, in rows and in uncompressed bytes; never more than the topic's
            max.message.bytes allows.
        buffer_bytes: how much may be written and not yet acknowledged, before `write` waits.
        threads: how many encode; two, or one for each further processor up to four, when None.
        stall_s: how long a batch may take, while leaders move or brokers restart.

    Raises:
        UsageError: the codec is unknown.
        UnknownTopic: the topic does not exist.
        BrokerRefused: writing idempotently is not allowed.
    """

    def __init__(
        self,
        client: Client,
        topic: str,
        *,
        codec: str = "zstd",
        batch_rows: int = 10_000,
        batch_bytes: int = 900_000,
        buffer_bytes: int = BUFFER_BYTES,
        threads: int | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self.topic = client.topic(topic)
        self._codec = check_codec(codec)
        self._batch_rows = batch_rows
        self._batch_bytes = min(batch_bytes, max_batch_bytes(client, topic))
        self._buffer_bytes = buffer_bytes
        self._producer = Producer(client, stall_s=stall_s)
        self._lanes = {partition: _Lane(partition) for partition in self.topic.partitions}
        workers = min(4, max(2, os.cpu_count() or 2)) if threads is None else threads
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mlstream-encode")
        self._changed = threading.Condition()  # guards what follows, and the order of `send`
        self._pending_bytes = 0
        self._pending_batches = 0
        self._rows = 0
        self._failure: BaseException | None = None
        self._closed = False

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self.close()
        else:
            self._abandon()

    @property
    def rows(self) -> int:
        """How many rows the brokers have acknowledged."""
        with self._changed:
            return self._rows

    def write(self, partition: int, columns: Columns) -> None:
        """Add rows to a partition; waits while too much is not yet acknowledged.

        Args:
            partition: one of the topic's.
            columns: `value`, and where they are there `key`, `timestamp` and `headers`; see `wire.encode`.

        Raises:
            UnknownPartition: the topic has no such partition.
            BrokerError: what went wrong with a batch before.
            UsageError, WireError: the columns cannot be encoded.
        """
        lane = self._lanes.get(partition)
        if lane is None:
            last = len(self.topic.partitions) - 1
            raise UnknownPartition(
                f"topic {self.topic.name} has no partition {partition}",
                hint=f"it has 0 to {last}",
                topic=self.topic.name,
                partition=partition,
            )
        self._check()
        if columns.num_rows == 0:
            return
        lane.gathered.append(pa.Table.from_batches([columns]) if isinstance(columns, pa.RecordBatch) else columns)
        lane.gathered_rows += columns.num_rows
        lane.gathered_bytes += columns.nbytes
        if lane.gathered_rows >= self._batch_rows or lane.gathered_bytes >= self._batch_bytes:
            self._dispatch(lane)

    def flush(self) -> None:
        """Send what is gathered and wait until everything is acknowledged.

        Raises:
            BrokerError: what went wrong with a batch.
        """
        for lane in self._lanes.values():
            self._dispatch(lane)
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._pending_batches == 0)
        self._check()

    def close(self) -> None:
        """Flush and end the threads. Twice is no harm.

        Raises:
            BrokerError: what went wrong with a batch.
        """
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._abandon()

    def _abandon(self) -> None:
        self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise UsageError(f"the writer of topic {self.topic.name} is closed", hint="make a new one")

    def _dispatch(self, lane: _Lane) -> None:
        """Cut what is gathered into batches and have them encoded."""
        if not lane.gathered:
            return
        columns = lane.gathered[0] if len(lane.gathered) == 1 else pa.concat_tables(lane.gathered)
        lane.gathered, lane.gathered_rows, lane.gathered_bytes = [], 0, 0
        for piece in slices(columns, self._batch_bytes, self._batch_rows):
            size_bytes = piece.nbytes
            with self._changed:
                self._changed.wait_for(partial(self._has_room, size_bytes))
                self._check()
                self._pending_bytes += size_bytes
                self._pending_batches += 1
                sequence = self._producer.reserve(self.topic.name, lane.partition, piece.num_rows)
                encoded = self._pool.submit(self._encode, piece, sequence)
                lane.encoding.append(_Job(piece.num_rows, size_bytes, encoded))
            encoded.add_done_callback(lambda _: self._send(lane))

    def _has_room(self, size_bytes: int) -> bool:
        fits = self._pending_bytes + size_bytes <= self._buffer_bytes
        return fits or self._pending_batches == 0 or self._failure is not None

    def _encode(self, piece: pa.Table, sequence: int) -> bytes:
        return encode(
            piece,
            codec=self._codec,
            producer_id=self._producer.producer_id,
            producer_epoch=self._producer.producer_epoch,
            base_sequence=sequence,
        )

    def _send(self, lane: _Lane) -> None:
        """Send the batches that are encoded, up to the first one that is not: their order is that of the rows."""
        with self._changed:
            while self._failure is None and lane.encoding and lane.encoding[0].encoded.done():
                job = lane.encoding.popleft()
                if job.encoded.cancelled():
                    return
                failure = job.encoded.exception()
                if failure is not None:
                    self._failure = failure
                    self._changed.notify_all()
                    return
                sent = self._producer.send(self.topic.name, lane.partition, job.encoded.result(), job.rows)
                sent.add_done_callback(partial(self._acknowledged, job))

    def _acknowledged(self, job: _Job, result: Future[Appended]) -> None:
        with self._changed:
            failure = result.exception()
            if failure is None:
                self._rows += job.rows
            elif self._failure is None:
                self._failure = failure
            self._pending_bytes -= job.size_bytes
            self._pending_batches -= 1
            self._changed.notify_all()


def check_codec(codec: str) -> str:
    """Return `codec` if records can be compressed with it.

    Raises:
        UsageError: when it is unknown.
    """
    if codec not in CODECS:
        raise UsageError(f"codec {codec!r} is not known", hint=f"use one of {', '.join(CODECS)}")
    return codec


def slices(columns: pa.Table, max_bytes: int, max_rows: int) -> Iterator[pa.Table]:
    """Rows as batches. A row that is larger than a batch becomes one of its own: compressed it may well fit."""
    start = 0
    while start < columns.num_rows:
        rest = columns.slice(start)
        large: int | None = None
        try:
            cuts = split_rows(rest, max_bytes=max_bytes, max_rows=max_rows)
        except WireError as exc:
            large = exc.facts.get("row")
            if large is None or "size_bytes" not in exc.facts:
                raise
            cuts = split_rows(rest.slice(0, large), max_bytes=max_bytes, max_rows=max_rows)
            cuts.append((large, large + 1))
        for first, last in cuts:
            yield rest.slice(first, last - first)
        start += cuts[-1][1]


def max_batch_bytes(client: Client, topic: str) -> int:
    """What the topic allows a batch to take; Kafka's default where it may not be described."""
    try:
        settings: dict[str, Any] = topic_config(client, topic)
    except BrokerRefused:  # it may be written to, but not described
        return _DEFAULT_MAX_BATCH_BYTES
    return int(settings.get("max.message.bytes", _DEFAULT_MAX_BATCH_BYTES))
