"""Arrow columns → transactions: rows of one are encoded on threads while the one before is committed. Reads nothing.

    with TransactionWriter(client, "run.v1.ticks.0", group="run.v1", pool=pool) as writer:
        writer.write("run.v1", 0, predictions)
        writer.commit({("ticks", 0): 8192})     # both become visible, together

The protocol is `broker.transactions`; here rows become batches, and not more than a few transactions are under way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from types import TracebackType

import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.produce import STALL_S, Appended
from mlstream.broker.transaction_steps import Member, Positions
from mlstream.broker.transactions import TIMEOUT_MS, Batch, TransactionalProducer
from mlstream.errors import UsageError
from mlstream.streams.write import Columns, check_codec, max_batch_bytes, slices
from mlstream.wire.encode import encode

AHEAD = 2  # transactions under way beside the one that is being filled


@dataclass(slots=True)
class _Piece:
    """A batch that is being encoded."""

    topic: str
    partition: int
    rows: int
    encoded: Future[bytes]


@dataclass(slots=True)
class _Transaction:
    """Rows that become visible together; `positions` is set when it is closed."""

    pieces: list[_Piece] = field(default_factory=list)
    positions: Positions | None = None


class TransactionWriter:
    """Writes one transaction after another under a transactional id; a context manager that commits nothing by itself.

    For one thread, except `rows`. After a TransactionFailed, `recover`, read the group's committed offsets, and go on
    from there: nothing that was not yet committed is kept.

    Args:
        client: whose connections are used; it must outlive the writer.
        transactional_id: whoever opens it next fences this writer.
        group: the consumer group whose offsets are committed with the rows.
        pool: threads that encode; shared with other writers.
        codec: none, gzip, snappy, lz4 or zstd.
        batch_rows, batch_bytes: when a batch is full, in rows and in uncompressed bytes; never more than the topic's
            max.message.bytes allows.
        timeout_ms: after which the coordinator aborts a transaction that nobody ended.
        stall_s: how long a step may take, while leaders move or brokers restart.

    Raises:
        UsageError: the codec is unknown.
        BrokerRefused: the transactional id may not be used.
    """

    def __init__(
        self,
        client: Client,
        transactional_id: str,
        *,
        group: str,
        pool: Executor,
        codec: str = "zstd",
        batch_rows: int = 10_000,
        batch_bytes: int = 900_000,
        timeout_ms: int = TIMEOUT_MS,
        stall_s: float = STALL_S,
        version: int | None = None,
    ) -> None:
        self.group = group
        self._client = client
        self._pool = pool
        self._codec = check_codec(codec)
        self._batch_rows = batch_rows
        self._batch_bytes = batch_bytes
        self._limits: dict[str, int] = {}  # topic → bytes of a batch
        self._producer = TransactionalProducer(
            client, transactional_id, timeout_ms=timeout_ms, stall_s=stall_s, version=version
        )
        self._filling = _Transaction()
        self._changed = threading.Condition()  # guards what follows
        self._closed: deque[_Transaction] = deque()  # not yet sent: they wait for their batches to be encoded
        self._pending = 0  # closed, and not yet committed
        self._rows = 0
        self._failure: BaseException | None = None
        self._round = 0  # counts recoveries: what belongs to an earlier one is forgotten

    def __enter__(self) -> TransactionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def rows(self) -> int:
        """How many rows are committed."""
        with self._changed:
            return self._rows

    def write(self, topic: str, partition: int, columns: Columns) -> None:
        """Add rows to the transaction that is being filled.

        Args:
            columns: `value`, and where they are there `key`, `timestamp` and `headers`; see `wire.encode`.

        Raises:
            BrokerError: what went wrong with a transaction before.
            UsageError, WireError: the columns cannot be encoded.
        """
        self._check()
        if columns.num_rows == 0:
            return
        table = pa.Table.from_batches([columns]) if isinstance(columns, pa.RecordBatch) else columns
        limit = self._limits.get(topic)
        if limit is None:
            limit = self._limits[topic] = min(self._batch_bytes, max_batch_bytes(self._client, topic))
        for piece in slices(table, limit, self._batch_rows):
            encoded = self._pool.submit(encode, piece, codec=self._codec)
            self._filling.pieces.append(_Piece(topic, partition, piece.num_rows, encoded))

    def commit(
        self,
        offsets: Mapping[tuple[str, int], int],
        *,
        metadata: Mapping[tuple[str, int], str] | None = None,
        member: Member | None = None,
    ) -> None:
        """Close the transaction: its rows and these offsets of the group become visible together, soon.

        Waits while more than a few transactions are under way.

        Args:
            offsets: (topic, partition) → the next offset to read; not empty.
            metadata: a short text for each, read back with the offsets.
            member: who commits, where a group decides who may.

        Raises:
            TransactionFailed, ProducerFenced, BrokerError: what went wrong with a transaction before.
        """
        if not offsets:
            raise UsageError("a transaction without offsets would not say how far it went")
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._pending <= AHEAD - 1)
            self._check()
            closed, self._filling = self._filling, _Transaction()
            closed.positions = Positions(self.group, dict(offsets), metadata=metadata, member=member)
            self._closed.append(closed)
            self._pending += 1
            now = self._round
        for piece in closed.pieces:
            piece.encoded.add_done_callback(lambda _: self._send(now))
        self._send(now)

    def flush(self) -> None:
        """Wait until every closed transaction is committed.

        Raises:
            TransactionFailed, ProducerFenced, BrokerError: what went wrong with one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._pending == 0)
        self._check()

    def recover(self) -> None:
        """Go on after a TransactionFailed: all that is not committed is forgotten, here and by the brokers.

        Raises:
            ProducerFenced: another writer took over.
            BrokerUnavailable: no coordinator answers in time.
        """
        with self._changed:
            self._round += 1
            self._filling = _Transaction()
            self._closed.clear()
        self._producer.recover()
        with self._changed:
            self._pending = 0
            self._failure = None

    def close(self) -> None:
        """Forget what is being filled; what failed is aborted, so that readers need not wait. Twice is no harm."""
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or self._pending == 0)
            self._filling = _Transaction()
        self._producer.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _send(self, now: int) -> None:
        """Hand over the closed transactions whose batches are encoded, up to the first one that is not ready."""
        with self._changed:
            while now == self._round and self._failure is None and self._closed:
                head = self._closed[0]
                if not all(piece.encoded.done() for piece in head.pieces):
                    return
                self._closed.popleft()
                failure = next((found for piece in head.pieces if (found := piece.encoded.exception())), None)
                if failure is not None:
                    self._fail(failure)
                    return
                batches = [
                    Batch(piece.topic, piece.partition, piece.encoded.result(), piece.rows) for piece in head.pieces
                ]
                rows = sum(piece.rows for piece in head.pieces)
                sent = self._producer.transact(batches, head.positions)
                sent.add_done_callback(lambda result, rows=rows: self._ended(result, rows, now))  # type: ignore[misc]

    def _ended(self, result: Future[tuple[Appended, ...]], rows: int, now: int) -> None:
        with self._changed:
            failure = result.exception()
            if failure is None:
                self._rows += rows
            if now != self._round:
                return
            self._pending -= 1
            if failure is not None:
                self._fail(failure)
            self._changed.notify_all()

    def _fail(self, failure: BaseException) -> None:
        if self._failure is None:
            self._failure = failure
        self._changed.notify_all()
