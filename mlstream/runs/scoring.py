"""A worker's partitions through the model and into the output topic, while the model hardly waits. Starts no process.

A few partitions take turns. While the model answers a batch, the answer before it is encoded and written on a thread of
its own, and transactions before that are committed: `shard.py` has the protocol. One turn:
1. the model's answer to the batch that it was asked for
2. what was answered before is encoded and handed over by now; after a failed transaction its partition goes back
3. the model is asked for the next batch: of the next partition, or of the same one, which is not yet that far
4. the answer of 1 is given to the thread
What each partition gets is the same as if all were done one after the other, and in the same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mlstream.broker.client import Client
from mlstream.config import ExperimentConfig
from mlstream.errors import MlstreamError, PredictError, TransactionFailed
from mlstream.home import find_home
from mlstream.host.host import Answer, Asked, Host
from mlstream.runs.aside import LOOKED_AT, Aside, answered_of
from mlstream.runs.latency import Recorder
from mlstream.runs.layout import RECORD_COLUMNS, Encoder, kinds_of
from mlstream.runs.machine import family_usage
from mlstream.runs.process import Reports
from mlstream.runs.shard import Lane, Shard, transaction_rows
from mlstream.runs.spec import Figures, Report, Spec
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.versions import Record

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

AT_ONCE = 4  # partitions that take turns; what waits to be committed takes memory


@dataclass(frozen=True, slots=True)
class _Turn:
    """A batch that the model is asked for."""

    shard: Shard
    row: int
    batch: pl.DataFrame
    first: Record
    asked: Asked


class Scoring:
    """Deals with every record of a worker's partitions.

    Args:
        client: whose connections are used.
        spec, config: what to do.
        host: the model, loaded.
        view: the decoded input.
        reports: where progress is told.

    Attributes:
        recorder: how long the model took.
        columns: of the predictions, and their types; None until there was a batch.
        resumed: records that were dealt with by a process before this one.
    """

    def __init__(
        self, client: Client, spec: Spec, config: ExperimentConfig, host: Host, view: View, reports: Reports
    ) -> None:
        self._client = client
        self._spec = spec
        self._topic = config.input.topic
        self._batch_rows = config.batch_rows
        self._host = host
        self._view = view
        self._reports = reports
        snapshot = open_snapshot(spec.snapshot_id, home=find_home(spec.home))
        self._stops = stops_of(snapshot, self._topic)
        self._aside = Aside(client, spec, config, view, snapshot, on_topic=self._tell_of)
        self._faults_before = self._refused_before = 0
        self._encoder = Encoder(self._topic, run_id=spec.run_id, version=spec.version, batch_rows=config.batch_rows)
        self._done_rows = 0
        self._active: deque[Shard] = deque()
        self._writing: list[tuple[Shard, Future[None]]] = []  # what the thread does, or has done since it was asked
        self.recorder = Recorder()
        self.columns: dict[str, str] | None = None
        self.resumed = 0

    @property
    def rows(self) -> int:
        """Records that were dealt with, by this process and one before it."""
        return self._done_rows + sum(shard.dealt for shard in self._active)

    @property
    def faults(self) -> int:
        """Of these, the ones that got no prediction."""
        return self._faults_before + sum(shard.faults for shard in self._active)

    @property
    def _refused(self) -> int:
        return self._refused_before + sum(shard.refused for shard in self._active)

    def run(self) -> None:
        """Deal with every record.

        Raises:
            PredictError: the model answered wrongly.
            HostFailed: its process crashed, hung or took too much memory.
            ProducerFenced: another worker took over one of the partitions.
            BrokerError: the predictions cannot be written.
        """
        waiting = deque(self._spec.partitions)
        with (
            ThreadPoolExecutor(self._spec.threads, thread_name_prefix="mlstream-encode") as pool,
            ThreadPoolExecutor(1, thread_name_prefix="mlstream-write") as thread,
        ):
            try:
                turn: _Turn | None = None
                while True:
                    # 1. the answer
                    answer = None if turn is None else self._host.answer(turn.asked)
                    # 2. what was answered before
                    back = self._written()
                    if turn is not None and turn.shard in back:
                        turn = answer = None  # its rows are asked for again
                    self._open_more(waiting, pool)
                    self._reports.rows(self.rows, self.resumed, self._figures, errors=self.faults)
                    if not self._active:
                        break
                    state = None
                    if turn is not None and answer is not None:
                        self.recorder.add(answer.seconds, turn.batch.height)
                        # Before the model is asked again: what it keeps is then as old as these predictions.
                        if self._host.stateful and turn.shard.closes():
                            state = self._host.state(turn.shard.partition)
                    # 3. the next question
                    following = self._ask_next(turn, answer)
                    # 4. this answer
                    for shard, job in self._jobs(turn, following, crowded=bool(waiting)):
                        if job is None:
                            self._writing.append((shard, thread.submit(shard.finish)))
                        elif answer is not None:
                            self._writing.append((shard, thread.submit(self._write, job, answer, state)))
                    turn = following
                if self.columns is None:  # all of it was there already
                    self._look()
            finally:
                wait([job for _, job in self._writing])
                for shard in self._active:
                    with suppress(MlstreamError):  # the first failure is the one to tell
                        shard.abandon()

    def _open_more(self, waiting: deque[int], pool: ThreadPoolExecutor) -> None:
        """Open partitions that wait, as long as not too many are open."""
        while waiting and len(self._active) < AT_ONCE:
            self._active.append(self._open(waiting.popleft(), pool))
            # Where it begins: a restart got so far.
            self._reports.send(Report("rows", rows=self.rows, resumed=self.resumed, errors=self.faults))

    def _open(self, partition: int, pool: ThreadPoolExecutor) -> Shard:
        spec = self._spec
        lane = Lane(
            run_id=spec.run_id,
            version=spec.version,
            topic=spec.topic,
            source=self._topic,
            partition=partition,
            stop=self._stops[partition],
            batch_rows=self._batch_rows,
            transaction_rows=transaction_rows(self._batch_rows),
            stateful=self._host.stateful,
        )
        rows = self._view.stretches(partition, RECORD_COLUMNS)
        shard = Shard(self._client, lane, rows, pool=pool, errors=self._aside.records(partition))
        self.resumed += shard.resumed
        self._begin(shard)
        return shard

    def _begin(self, shard: Shard) -> None:
        """Give the partition an instance that stands where its predictions end, if the model keeps state."""
        if self._host.stateful:
            state = shard.state()
            if shard.batch() is not None:
                self._host.begin(shard.partition, state)

    def _written(self) -> list[Shard]:
        """Wait for what the thread does. Partitions whose transaction failed go back to what is committed.

        Returns:
            Those partitions.
        """
        back = []
        wait([job for _, job in self._writing])  # all of it: what follows changes what the thread looks at
        done, self._writing = self._writing, []
        for shard, job in done:
            try:
                job.result()
            except TransactionFailed as exc:
                shard.recover(exc)
                self._begin(shard)
                back.append(shard)
                continue
            if shard.is_finished:
                self._close(shard)
        return back

    def _close(self, shard: Shard) -> None:
        """Let go of a partition whose records are all committed."""
        self._active.remove(shard)
        self._done_rows += shard.dealt
        self._faults_before += shard.faults
        self._refused_before += shard.refused
        if self._host.stateful:
            self._host.forget(shard.partition)

    def _ask_next(self, turn: _Turn | None, answer: Answer | None) -> _Turn | None:
        """Ask the model for a batch of the next partition that has one; None when all of them are asked for.

        Args:
            turn, answer: what is answered, and not yet written.
        """
        for shard in list(self._active):
            self._active.rotate(-1)
            ahead = turn is not None and turn.shard is shard
            batch = shard.batch(ahead=ahead)
            if batch is not None:
                row = shard.next_row if ahead else shard.row
                first = Record(self._topic, shard.partition, int(batch["_offset"][0]))
                refused = self._refused + (0 if answer is None else len(answer.refused))
                return _Turn(shard, row, batch, first, self._ask(shard.partition, row, batch, first, refused))
        return None

    def _ask(self, partition: int, row: int, batch: pl.DataFrame, first: Record, refused: int) -> Asked:
        most = self._aside.most_refused(refused)
        return self._host.ask_rows(self._view.file(partition), row, batch.height, first=first, most_refused=most)

    def _jobs(
        self, turn: _Turn | None, following: _Turn | None, *, crowded: bool
    ) -> Iterator[tuple[Shard, _Turn | None]]:
        """What the thread does next: write what is answered, and finish partitions (None) that have nothing left.

        Those wait until the model has nothing to do or others wait for their place: their commits are then long done.
        """
        if turn is not None:
            yield turn.shard, turn
        if following is None or crowded:
            for shard in self._active:
                if (turn is None or shard is not turn.shard) and shard.batch() is None:
                    yield shard, None

    def _write(self, turn: _Turn, answer: Answer, state: bytes | None) -> None:
        """Encode an answer and hand it over."""
        refused = self._aside.faults(turn.batch, answer, turn.shard.partition)
        if answer.predictions.height:
            self.columns = _pinned(self.columns, kinds_of(answer.predictions), self._spec.version, turn.first)
        answered = answered_of(turn.batch, answer)
        turn.shard.write(self._encoder.encode(answered, answer.predictions), refused=refused, state=state)

    def _look(self) -> None:
        """What the predictions look like, from one batch that is not written."""
        for partition in self._spec.partitions:
            rows = self._view.stretches(partition, RECORD_COLUMNS)
            for row in range(0, rows.height, self._batch_rows):
                batch = rows.slice(row, self._batch_rows)
                first = Record(self._topic, partition, int(batch["_offset"][0]))
                answer = self._host.answer(self._ask(partition, row, batch, first, LOOKED_AT))
                if answer.predictions.height:
                    self.columns = kinds_of(answer.predictions)
                    return

    def _tell_of(self, errors_topic_id: str) -> None:
        """The parent must know the topic for errors, to clear it away."""
        self._reports.send(Report("rows", rows=self.rows, resumed=self.resumed, errors_topic_id=errors_topic_id))

    def _figures(self) -> Figures:
        seconds, resident = family_usage()
        return Figures(self.recorder.latency(), self.recorder.record_latency(), seconds, resident)


def stops_of(snapshot: Snapshot, topic: str) -> dict[int, int]:
    """The end of each partition's range in the snapshot."""
    return {part.partition: part.stop for part in snapshot.stream(topic).partitions}


def _pinned(before: dict[str, str] | None, now: dict[str, str], version: str, record: Record) -> dict[str, str]:
    """The columns of the predictions, which stay what they were in the first batch."""
    if before is not None and now != before:
        raise PredictError(
            f"version {version}, batch that starts at {record}: predict returned {_words(now)}; "
            f"in the first batch it was {_words(before)}",
            hint="return the same columns of the same types for every batch",
        )
    return now


def _words(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())
