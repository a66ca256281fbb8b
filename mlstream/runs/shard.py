"""One partition of one version's run: where it stands, its batches, and its transactions. Predicts nothing.

Exactly once, whatever is killed when:
1. open the transactional id of (run, version, topic, partition): whoever had it is fenced, what it left open aborted
2. read how far the group has got, and check it against the last committed output
3. batches from there, on the fixed grid of rows; several make a transaction
4. each transaction commits predictions and progress together; it closes on the grid, so that a batch is never cut
5. after a failed transaction: recover, and go on from 2

A version that keeps state has it committed in the same transactions, to a topic beside its output (`state.py`).

Progress is the committed offset of the group `{run}.{version}`: the position in the source after the last record that
was dealt with, and finally the end of the range. It is committed for the partition of the output topic, which has the
number of its source: the source itself may be gone, or on another cluster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.offsets import committed
from mlstream.broker.settling import settled_bounds
from mlstream.errors import RunError, TransactionFailed
from mlstream.naming import RUN_DIGITS, state_topic
from mlstream.ranges import PartitionRange
from mlstream.runs.state import State, read_state, state_columns
from mlstream.streams.read import read
from mlstream.streams.transact import TransactionWriter

MOST_ROWS = 65_536  # of a transaction
LONGEST_S = 2.0  # a transaction closes at the next batch after so long, so that progress is seen and kept
_LAST_OFFSETS = 64  # where the last record is looked for first
_MOST_FAILURES = 20  # one after another, without a transaction that succeeds


@dataclass(frozen=True, slots=True)
class Lane:
    """What a shard works on.

    Attributes:
        run_id, version: whose predictions.
        topic: the output topic.
        source: the scored topic.
        partition: the number of the partition of both.
        stop: the end of the source's range, which is committed at last.
        batch_rows: the grid.
        transaction_rows: when a transaction closes; whole batches.
        stateful: whether the version keeps state, in the topic beside its output.
    """

    run_id: str
    version: str
    topic: str
    source: str
    partition: int
    stop: int
    batch_rows: int
    transaction_rows: int
    stateful: bool = False

    @property
    def group(self) -> str:
        """The consumer group that holds the version's progress."""
        return group_of(self.run_id, self.version)

    @property
    def state_topic(self) -> str:
        """Where the state of a version that keeps any goes."""
        return state_topic(self.topic)

    @property
    def transactional_id(self) -> str:
        """Independent of how many workers there are: a partition's writer is fenced by the next one."""
        return f"{self.group}.{self.source}.{self.partition}"


def group_of(run_id: str, version: str) -> str:
    """The consumer group whose committed offsets are a version's progress in a run."""
    return f"{run_id[:RUN_DIGITS]}.{version}"


class Shard:
    """One partition's records on their way through a model and into the output topic, exactly once.

    Args:
        client: whose connections are used; it must outlive the shard.
        lane: what it works on.
        frame: the partition's decoded rows.
        pool: threads that encode.

    Raises:
        RunError: the group's progress and the committed outputs disagree.
        BrokerError: the cluster cannot be used.
    """

    def __init__(self, client: Client, lane: Lane, frame: pl.DataFrame, *, pool: Executor) -> None:
        self.lane = lane
        self._client = client
        self._frame = frame
        self._offsets = np.asarray(frame["_offset"].to_numpy(), np.int64)
        self._failures = 0
        self._committed_before = 0
        # 1. the transactional id
        self._writer = TransactionWriter(
            client, lane.transactional_id, group=lane.group, pool=pool, batch_rows=_written_at_once(lane.batch_rows)
        )
        # 2. how far it got
        self.row = self.resumed = self._find_row()
        self._begin()

    @property
    def partition(self) -> int:
        """The number of its partition."""
        return self.lane.partition

    def batch(self) -> pl.DataFrame | None:
        """The next batch of the grid; None when there is none left."""
        if self.row >= self._frame.height:
            return None
        # 3. on the grid
        return self._frame.slice(self.row, self.lane.batch_rows)

    def closes(self) -> bool:
        """Whether the transaction is due to close with the batch that `batch` gives."""
        row = self._next_row()
        due = row - self._closed_at >= self.lane.transaction_rows or time.monotonic() - self._opened > LONGEST_S
        return due or row == self._frame.height

    def write(self, columns: pa.Table, *, state: bytes | None = None) -> None:
        """Take the predictions of the batch that `batch` gave; closes the transaction when it is due.

        Args:
            state: the version's after that batch: of one that keeps state, when `closes` says so, which closes it.

        Raises:
            TransactionFailed: a transaction before was not committed; `recover`.
        """
        closes = self.closes() if not self.lane.stateful else state is not None
        self._writer.write(self.lane.topic, self.partition, columns)
        self.row = self._next_row()
        if state is not None:
            self._keep(state)
        if closes:
            self._commit()

    def state(self) -> bytes | None:
        """The state that the version goes on from; None when it has seen nothing.

        Raises:
            RunError: the state that was committed is not as old as the predictions, or it is damaged.
            BrokerError: the topic cannot be read.
        """
        found = read_state(self._client, self.lane.state_topic, self.partition)
        row = 0 if found is None else self._row_of(found.position)
        if row != self.row:
            position = None if found is None else found.position
            raise RunError(
                f"{self.lane.state_topic}[{self.partition}]: its last state is for offset {position}, "
                f"and the predictions go on from offset {self._position(self.row)}",
                hint="something else wrote there, or deleted from it; compute it anew with --force",
                topic=self.lane.state_topic,
                partition=self.partition,
            )
        return None if found is None else found.data

    def finish(self) -> None:
        """Commit what is left and wait for it.

        Raises:
            TransactionFailed: a transaction was not committed; `recover`.
        """
        if not self._ended:
            self._commit()
        self._writer.flush()
        self._writer.close()

    def recover(self, failure: TransactionFailed) -> None:
        """Go on after a failed transaction, from what is committed.

        Raises:
            TransactionFailed: it goes on failing.
            ProducerFenced: another worker took over the partition.
        """
        # 5. recover, and from 2
        progress = self._writer.rows
        self._failures = 1 if progress > self._committed_before else self._failures + 1
        self._committed_before = progress
        if self._failures > _MOST_FAILURES:
            raise failure
        self._writer.recover()
        self.row = self._find_row()
        self._begin()

    def abandon(self) -> None:
        """Leave it as it is committed, for whoever comes next; what is open is aborted."""
        self._writer.close()

    def _begin(self) -> None:
        self._closed_at = self.row
        self._opened = time.monotonic()
        self._ended = False

    def _commit(self) -> None:
        # 4. predictions and progress together
        self._writer.commit({(self.lane.topic, self.partition): self._position(self.row)})
        self._closed_at = self.row
        self._opened = time.monotonic()
        self._ended = self.row == self._frame.height

    def _keep(self, data: bytes) -> None:
        state = State(self._position(self.row), data)
        columns = state_columns(state, run_id=self.lane.run_id, version=self.lane.version)
        self._writer.write(self.lane.state_topic, self.partition, columns)

    def _next_row(self) -> int:
        return min(self.row + self.lane.batch_rows, self._frame.height)

    def _position(self, row: int) -> int:
        return self.lane.stop if row >= len(self._offsets) else int(self._offsets[row])

    def _row_of(self, position: int) -> int:
        return int(np.searchsorted(self._offsets, position, side="left"))

    def _find_row(self) -> int:
        """The row to go on from: where the group stands, which must be where the outputs end."""
        lane = self.lane
        position = committed(self._client, lane.group, lane.topic, [lane.partition])[lane.partition]
        last = last_source_offset(self._client, lane.topic, lane.partition)
        written = 0 if last is None else int(np.searchsorted(self._offsets, last, side="right"))
        # A group's offsets expire after a week without a commit; the outputs say the same.
        row = written if position is None else self._row_of(position)
        whole = row % lane.batch_rows == 0 or row == self._frame.height
        if row != written or not whole:
            raise RunError(
                f"{lane.topic}[{lane.partition}]: its last prediction is for offset {last}, "
                f"and group {lane.group} has got to {position}",
                hint="something else wrote there; compute it anew with --force",
                topic=lane.topic,
                partition=lane.partition,
            )
        return row


def last_source_offset(client: Client, topic: str, partition: int) -> int | None:
    """The source offset of the last committed prediction in a partition; None when there is none.

    Raises:
        RunError: the last record is no prediction.
        BrokerUnavailable: an open transaction of somebody else hides the end.
    """
    found = settled_bounds(client, topic, [partition])[partition]
    for value in _values_from_the_end(client, topic, partition, found.log_start, found.last_stable):
        try:
            return int(json.loads(value)["source_offset"])
        except (ValueError, KeyError, TypeError) as exc:
            raise RunError(
                f"{topic}[{partition}]: its last record is no prediction",
                hint="nothing else may write to a run's topic; run again with --force",
                topic=topic,
                partition=partition,
            ) from exc
    return None


def _values_from_the_end(client: Client, topic: str, partition: int, start: int, stop: int) -> Iterator[bytes]:
    """The value of the last record; looked for in ever longer stretches, as markers and aborted records are none."""
    length = _LAST_OFFSETS
    while start < stop:
        first = max(start, stop - length)
        last: bytes | None = None
        for block in read(client, [PartitionRange(topic, partition, first, stop)], threads=1):
            values = block.columns.column("value")
            if len(values):
                last = values[len(values) - 1].as_py()
        if last is not None:
            yield last
            return
        stop, length = first, length * 8


def transaction_rows(batch_rows: int) -> int:
    """When a transaction closes: whole batches, about `MOST_ROWS` rows."""
    return batch_rows * max(1, MOST_ROWS // batch_rows)


def _written_at_once(batch_rows: int, about: int = 8192) -> int:
    """Rows of a record batch: whole batches of the grid, uncut."""
    return batch_rows * max(1, about // batch_rows)
