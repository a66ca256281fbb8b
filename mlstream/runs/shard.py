"""One partition of one version's run: where it stands, its batches, and its transactions. Predicts nothing.

Exactly once, whatever is killed when:
1. open the transactional id of (run, version, topic, partition): whoever had it is fenced, what it left open aborted
2. read how far the group has got, and check it against the last committed output
3. batches from there, on the fixed grid of rows (`grid.py`); several make a transaction
4. each transaction commits predictions, errors and progress together; it closes on the grid, so that a batch is never
   cut; errors after a batch's last record, and before the next one's first, may take transactions of their own
5. after a failed transaction: recover, and go on from 2

A version that keeps state has it committed in the same transactions, to a topic beside its output (`state.py`).

Records that get no prediction (they did not decode, or the version refuses them) go to a topic beside its output
(`errors.py`) in the transaction whose positions cover them. Both topics together hold every record once, in order.

Progress is the committed offset of the group `{run}.{version}`: the position in the source after the last record that
was dealt with, and finally the end of the range. It is committed for the partition of the output topic, which has the
number of its source: the source itself may be gone, or on another cluster.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.offsets import committed
from mlstream.errors import RunError, TransactionFailed
from mlstream.naming import RUN_DIGITS, errors_topic, state_topic
from mlstream.runs.ends import last_error_offset, last_source_offset
from mlstream.runs.errors import NO_FAULTS, NONE_DEAD, ErrorRecords, Faults
from mlstream.runs.grid import Grid
from mlstream.runs.state import State, read_state, state_columns
from mlstream.snapshots.views import Stretches
from mlstream.streams.transact import TransactionWriter

MOST_ROWS = 65_536  # of a transaction
MOST_ERROR_BYTES = 64 << 20  # of a transaction, where it may be cut
_ERRORS_AT_ONCE = 1024  # between two looks at how many bytes they have
LONGEST_S = 2.0  # a transaction closes at the next batch after so long, so that progress is seen and kept
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
    def errors_topic(self) -> str:
        """Where the records go that get no prediction."""
        return errors_topic(self.topic)

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
        rows: the partition's decoded rows.
        pool: threads that encode.
        errors: makes records of those that get no prediction; None when every record gets one.

    Raises:
        RunError: the group's progress and the committed outputs disagree.
        BrokerError: the cluster cannot be used.
    """

    def __init__(
        self, client: Client, lane: Lane, rows: Stretches, *, pool: Executor, errors: ErrorRecords | None = None
    ) -> None:
        self.lane = lane
        self._client = client
        self._rows = rows
        self._offsets = rows.offsets
        self._errors = errors
        dead = NONE_DEAD if errors is None else errors.dead
        self._dead, self._dead_bytes = dead.offsets, dead.bytes_before
        self._grid = Grid(
            self._offsets,
            self._dead,
            self._dead_bytes,
            rows=lane.batch_rows,
            most_dead=max(MOST_ROWS, lane.batch_rows),
            most_bytes=MOST_ERROR_BYTES,
        )
        self._refused: list[tuple[int, int]] = []  # first row of a batch → how many were refused up to its end
        self._failures = 0
        self._committed_before = 0
        self._finished = False
        # 1. the transactional id
        self._writer = TransactionWriter(
            client, lane.transactional_id, group=lane.group, pool=pool, batch_rows=_written_at_once(lane.batch_rows)
        )
        # 2. how far it got
        self.row, self._dead_at = self._find_place()
        self.resumed = self.dealt
        self._begin()

    @property
    def partition(self) -> int:
        """The number of its partition."""
        return self.lane.partition

    @property
    def dealt(self) -> int:
        """Records that were dealt with so far, by it and those before it: predicted, refused and undecodable."""
        return self.row + self._dead_at

    @property
    def faults(self) -> int:
        """Of these, the ones that got no prediction; without those that were refused before it began."""
        return self._dead_at + self.refused

    @property
    def refused(self) -> int:
        """Of the records that it dealt with itself, those that were refused."""
        return self._refused[-1][1] if self._refused else 0

    @property
    def is_finished(self) -> bool:
        """Whether `finish` has done all."""
        return self._finished

    @property
    def next_row(self) -> int:
        """The first row of the batch after the one that `batch` gives."""
        return self._grid.after(self.row)

    def batch(self, *, ahead: bool = False) -> pl.DataFrame | None:
        """The next batch of the grid, or with `ahead` the one after it; None when there is none left."""
        row = self.next_row if ahead else self.row
        if row >= self._rows.height:
            return None
        # 3. on the grid
        return self._rows.slice(row, self._grid.after(row) - row)

    def closes(self) -> bool:
        """Whether the transaction is due to close with the batch that `batch` gives."""
        row = self.next_row
        due = row - self._closed_at >= self.lane.transaction_rows or time.monotonic() - self._opened > LONGEST_S
        return due or row == self._rows.height or self._are_many(self._dead_before(self._position(row)))

    def write(self, columns: pa.Table, *, refused: Faults = NO_FAULTS, state: bytes | None = None) -> None:
        """Take the predictions of the batch that `batch` gave; closes the transaction when it is due.

        Args:
            columns: of the records that are not refused.
            refused: the others.
            state: the version's after that batch: of one that keeps state, when `closes` says so, which closes it.

        Raises:
            TransactionFailed: a transaction before was not committed; `recover`.
        """
        self._write_dead(closes=True)  # before the first record: those after a batch are written with it
        closes = self.closes() if not self.lane.stateful else state is not None
        self._writer.write(self.lane.topic, self.partition, columns)
        if len(refused):
            self._refused.append((self.row, self.refused + len(refused)))
        self.row = self.next_row
        if state is not None:
            self._keep(state)
        self._write_errors(refused, closes=closes)
        if closes:
            self._commit(self._position(self.row))

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
            self._write_errors(NO_FAULTS, closes=True)
            self._commit(self.lane.stop)
        self._writer.flush()
        self._writer.close()
        self._finished = True

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
        self.row, self._dead_at = self._find_place()
        while self._refused and self._refused[-1][0] >= self.row:
            self._refused.pop()
        self._begin()

    def abandon(self) -> None:
        """Leave it as it is committed, for whoever comes next; what is open is aborted."""
        self._writer.close()

    def _begin(self) -> None:
        self._closed_at, self._closed_dead = self.row, self._dead_at
        self._error_bytes = 0
        self._opened = time.monotonic()
        self._ended = False

    def _commit(self, position: int) -> None:
        # 4. predictions, errors and progress together
        self._writer.commit({(self.lane.topic, self.partition): position})
        self._begin()
        self._ended = position == self.lane.stop

    def _write_errors(self, refused: Faults, *, closes: bool) -> None:
        """Those up to the record that is next.

        Args:
            closes: whether the transaction closes with them.
        """
        if self._errors is not None:
            last = int(self._offsets[self.row - 1]) if self.row else -1
            self._write_stretch(self._errors, max(self._dead_at, self._dead_before(last)), refused)
            self._write_dead(closes=closes)

    def _write_dead(self, *, closes: bool) -> None:
        """The dead letters before the record that is next; where they are many, transactions close between them.

        Args:
            closes: whether one may, of a version that keeps state: its state is then written. Of others it always may.
        """
        if self._errors is None:
            return
        stop = self._dead_before(self._position(self.row))
        while self._dead_at < stop:
            if self._are_many(self._dead_at) and (closes or not self.lane.stateful):
                self._commit(int(self._dead[self._dead_at]))
            fit = self._dead_before_bytes(int(self._dead_bytes[self._dead_at]) + MOST_ERROR_BYTES)
            few = min(stop, self._dead_at + _ERRORS_AT_ONCE, max(fit, self._dead_at + 1))
            self._write_stretch(self._errors, few, NO_FAULTS)

    def _are_many(self, stop: int) -> bool:
        """Whether the errors of this transaction, with the dead letters up to number `stop`, are enough to close it."""
        ahead = int(self._dead_bytes[stop] - self._dead_bytes[self._dead_at])
        return stop - self._closed_dead >= MOST_ROWS or self._error_bytes + ahead >= MOST_ERROR_BYTES

    def _write_stretch(self, errors: ErrorRecords, stop: int, refused: Faults) -> None:
        """The refused records, and the dead letters up to number `stop`."""
        for columns in errors.columns((self._dead_at, stop), refused):
            self._writer.write(self.lane.errors_topic, self.partition, columns)
            self._error_bytes += columns.nbytes
        self._dead_at = stop

    def _keep(self, data: bytes) -> None:
        state = State(self._position(self.row), data)
        columns = state_columns(state, run_id=self.lane.run_id, version=self.lane.version)
        self._writer.write(self.lane.state_topic, self.partition, columns)

    def _position(self, row: int) -> int:
        return self.lane.stop if row >= len(self._offsets) else int(self._offsets[row])

    def _row_of(self, position: int) -> int:
        return int(np.searchsorted(self._offsets, position, side="left"))

    def _dead_before(self, position: int) -> int:
        return int(np.searchsorted(self._dead, position, side="left"))

    def _dead_before_bytes(self, size_bytes: int) -> int:
        return int(np.searchsorted(self._dead_bytes, size_bytes, side="right")) - 1

    def _find_place(self) -> tuple[int, int]:
        """The row and the dead letter to go on from: where the group stands, which must be where the outputs end."""
        lane = self.lane
        position = committed(self._client, lane.group, lane.topic, [lane.partition])[lane.partition]
        last = last_source_offset(self._client, lane.topic, lane.partition)
        if self._errors is not None:
            of_errors = last_error_offset(self._client, lane.errors_topic, lane.partition)
            last = max((found for found in (last, of_errors) if found is not None), default=None)
        after = 0 if last is None else last + 1
        written = self._row_of(after), self._dead_before(after)
        # A group's offsets expire after a week without a commit; the outputs say the same.
        found = written if position is None else (self._row_of(position), self._dead_before(position))
        if found != written or not self._grid.is_between(found[0]):
            raise RunError(
                f"{lane.topic}[{lane.partition}]: its last prediction or error is for offset {last}, "
                f"and group {lane.group} has got to {position}",
                hint="something else wrote there; compute it anew with --force",
                topic=lane.topic,
                partition=lane.partition,
            )
        return found


def transaction_rows(batch_rows: int) -> int:
    """When a transaction closes: whole batches, about `MOST_ROWS` rows."""
    return batch_rows * max(1, MOST_ROWS // batch_rows)


def _written_at_once(batch_rows: int, about: int = 8192) -> int:
    """Rows of a record batch: whole batches of the grid, uncut."""
    return batch_rows * max(1, about // batch_rows)
