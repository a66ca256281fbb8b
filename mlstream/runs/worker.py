"""A worker's process: have the model predict batch by batch, write exactly once. Decides nothing, runs no model.

Started as `python -m mlstream.runs.worker`; `spec.py` says what it reads and reports. The model is in a process of its
own (`mlstream/host/`), which maps the decoded view too. Batches follow a fixed grid: the rows of a partition in groups
of `batch_rows`, from its first row. A few partitions take turns, so that the model works while transactions of others
are committed; `shard.py` has the protocol.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.errors import (
    HostFailed,
    IntegrityError,
    MlstreamError,
    PredictError,
    TransactionFailed,
)
from mlstream.home import find_home
from mlstream.host.host import Answer, Host
from mlstream.host.log import LOG_MARK
from mlstream.host.spec import HostSpec, Limits
from mlstream.ranges import parse_size
from mlstream.runs.errors import NO_FAULTS, DeadLetters, ErrorRecords, Faults, make_errors_topic
from mlstream.runs.latency import Recorder
from mlstream.runs.layout import Encoder, kinds_of
from mlstream.runs.machine import cpu_seconds, family_usage, peak_memory_bytes
from mlstream.runs.originals import Originals
from mlstream.runs.process import Reports, config_of, serve
from mlstream.runs.shard import Lane, Shard, transaction_rows
from mlstream.runs.spec import Figures, Measured, Report, Spec
from mlstream.runs.state import make_state_topic
from mlstream.snapshots.restore_target import largest_message
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.versions import Record
from mlstream.versions.loading import LoadSpec
from mlstream.wire.encode import encode

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

RECORD_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")
_SAID = 10  # refused records that the log names; all of them are in the errors topic
AT_ONCE = 4  # partitions that take turns; what waits to be committed takes memory
# What the system or a person sends to a process. A model that crashes gets others, and is not asked again.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM)


def work(spec: Spec, reports: Reports) -> Report:
    """Have every record of the worker's partitions scored and write the predictions.

    Raises:
        VersionLoadError: the version cannot be loaded, or is not what it was when the run was planned.
        PredictError: it answered wrongly.
        HostFailed: its process crashed, hung or took too much memory.
        ProducerFenced: another worker took over one of the partitions.
        BrokerError: the predictions cannot be written.
    """
    try:
        return _work(spec, reports)
    except HostFailed as exc:
        number = exc.facts.get("number")
        if number in _FROM_OUTSIDE:
            # As if it had hit this process: it is started again as long as each gets further than the one before.
            print(f"{LOG_MARK}{exc}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), number)
        raise


def _work(spec: Spec, reports: Reports) -> Report:
    began = time.monotonic()
    config = config_of(spec)
    host_spec = HostSpec(load=LoadSpec.from_json(spec.load), seed=spec.seed, leave_out=RECORD_COLUMNS)
    python = None if spec.python is None else Path(spec.python)
    with Host(host_spec, limits=_limits(config, spec), python=python) as host:
        host.start_loading()
        view = _view(config, spec)
        warm_up()
        host.load()
        load_seconds = time.monotonic() - began
        with Client(Connection(tuple(spec.bootstrap_servers), spec.settings)) as client:
            kept = make_state_topic(client, spec.topic) if host.stateful else None
            reports.send(Report("loaded", state_topic_id=kept))
            first = time.monotonic()
            scoring = _Scoring(client, spec, config, host, view, reports)
            scoring.run()
            seconds = time.monotonic() - first
        host.finish()
    measured = Measured(
        rows=scoring.rows - scoring.resumed,
        load_seconds=load_seconds,
        seconds=seconds,
        predict_seconds=scoring.recorder.seconds,
        cpu_seconds=cpu_seconds(),
        memory_bytes=peak_memory_bytes() + host.memory_bytes,
        latency=scoring.recorder.latency(),
        record_latency=scoring.recorder.record_latency(),
    )
    classes = None if host.classes is None else list(host.classes)
    return Report(
        "done",
        rows=scoring.rows,
        resumed=scoring.resumed,
        errors=scoring.faults,
        measured=measured,
        columns=scoring.columns or {},
        classes=classes,
    )


class _Scoring:
    """The worker's partitions, a few at a time, through the model and into the output topic."""

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
        self._snapshot = open_snapshot(spec.snapshot_id, home=find_home(spec.home))
        self._stops = stops_of(self._snapshot, self._topic)
        policy = config.versions[spec.version]
        # So many of all records; how they are shared among workers must not matter, so the parent decides at the end.
        most = int(policy.refused_at_most * sum(view.rows.values()))
        self._most_refused = most if policy.on_error == "errors" else None
        self._errors_topic_id: str | None = None
        self._said = 0
        self._faults_before = self._refused_before = 0
        self._encoder = Encoder(self._topic, run_id=spec.run_id, version=spec.version, batch_rows=config.batch_rows)
        self._done_rows = 0
        self._active: deque[Shard] = deque()
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
        """Deal with every record."""
        waiting = deque(self._spec.partitions)
        with ThreadPoolExecutor(self._spec.threads, thread_name_prefix="mlstream-encode") as pool:
            try:
                while waiting or self._active:
                    while waiting and len(self._active) < AT_ONCE:
                        self._active.append(self._open(waiting.popleft(), pool))
                        # Where it begins: a restart got so far.
                        self._reports.send(Report("rows", rows=self.rows, resumed=self.resumed, errors=self.faults))
                    shard = self._active[0]
                    if self._step(shard):
                        self._active.popleft()
                        self._done_rows += shard.dealt
                        self._faults_before += shard.faults
                        self._refused_before += shard.refused
                    else:
                        self._active.rotate(-1)
                if self.columns is None:  # all of it was there already
                    self._look()
            finally:
                for shard in self._active:
                    with suppress(MlstreamError):  # the first failure is the one to tell
                        shard.abandon()

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
        frame = self._view.partition(partition)
        shard = Shard(self._client, lane, frame, pool=pool, errors=self._error_records(partition))
        self.resumed += shard.resumed
        self._begin(shard)
        return shard

    def _begin(self, shard: Shard) -> None:
        """Give the partition an instance that stands where its predictions end, if the model keeps state."""
        if self._host.stateful:
            state = shard.state()
            if shard.batch() is not None:
                self._host.begin(shard.partition, state)

    def _look(self) -> None:
        """What the predictions look like, from one batch that is not written."""
        for partition in self._spec.partitions:
            rows = self._view.partition(partition)
            for row in range(0, rows.height, self._batch_rows):
                answer = self._predict(partition, row, rows.slice(row, self._batch_rows))
                if answer.predictions.height:
                    self.columns = kinds_of(answer.predictions)
                    return

    def _error_records(self, partition: int) -> ErrorRecords | None:
        """What makes records of those without a prediction; None when each gets one or fails the version."""
        dead = DeadLetters(self._view, partition)
        if self._most_refused is None and not len(dead.offsets):
            return None
        return ErrorRecords(
            run_id=self._spec.run_id,
            version=self._spec.version,
            topic=self._topic,
            partition=partition,
            find=Originals(self._snapshot, self._topic, partition).find,
            dead=dead,
            make_topic=self._make_errors_topic,
        )

    def _make_errors_topic(self) -> None:
        """On the first error; the parent must know the topic, to clear it away."""
        if self._errors_topic_id is None:
            stream = self._snapshot.stream(self._topic)
            self._errors_topic_id = make_errors_topic(
                self._client,
                self._spec.topic,
                source=self._topic,
                largest=lambda: largest_message(self._snapshot, stream),
            )
            self._reports.send(
                Report("rows", rows=self.rows, resumed=self.resumed, errors_topic_id=self._errors_topic_id)
            )

    def _faults_of(self, batch: pl.DataFrame, answer: Answer, partition: int) -> Faults:
        """The refused records of a batch; the first few of the process are told of in the log."""
        if not answer.refused:
            return NO_FAULTS
        rows = [each.row for each in answer.refused]
        offsets = batch["_offset"].to_numpy()[rows]
        for offset, each in zip(offsets.tolist(), answer.refused, strict=True):
            if self._said < _SAID:
                self._said += 1
                print(f"{LOG_MARK}refused {Record(self._topic, partition, offset)}: {each.reason}", file=sys.stderr)
        sys.stderr.flush()
        return Faults(offsets, [each.error for each in answer.refused], [each.reason for each in answer.refused])

    def _predict(self, partition: int, row: int, batch: pl.DataFrame) -> Answer:
        """What the model answers for a batch that begins at a row of the view."""
        record = Record(self._topic, partition, int(batch["_offset"][0]))
        most = None if self._most_refused is None else max(0, self._most_refused - self._refused)
        return self._host.predict_rows(self._view.file(partition), row, batch.height, first=record, most_refused=most)

    def _step(self, shard: Shard) -> bool:
        """One batch of a partition; True when all of it is committed."""
        try:
            batch = shard.batch()
            if batch is None:
                shard.finish()
                if self._host.stateful:
                    self._host.forget(shard.partition)
                return True
            answer = self._predict(shard.partition, shard.row, batch)
            self.recorder.add(answer.seconds, batch.height)
            refused = self._faults_of(batch, answer, shard.partition)
            if answer.predictions.height:
                record = Record(self._topic, shard.partition, int(batch["_offset"][0]))
                self.columns = _pinned(self.columns, kinds_of(answer.predictions), self._spec.version, record)
            # Before the model is asked again: what it keeps is then as old as these predictions.
            state = self._host.state(shard.partition) if self._host.stateful and shard.closes() else None
            answered = _without(batch.select(RECORD_COLUMNS), answer)
            shard.write(self._encoder.encode(answered, answer.predictions), refused=refused, state=state)
        except TransactionFailed as exc:
            shard.recover(exc)
            self._begin(shard)
        self._reports.rows(self.rows, self.resumed, self._figures, errors=self.faults)
        return False

    def _figures(self) -> Figures:
        seconds, resident = family_usage()
        return Figures(self.recorder.latency(), self.recorder.record_latency(), seconds, resident)


def stops_of(snapshot: Snapshot, topic: str) -> dict[int, int]:
    """The end of each partition's range in the snapshot."""
    return {part.partition: part.stop for part in snapshot.stream(topic).partitions}


def warm_up() -> None:
    """Load the compiled encoder, which takes up to a second and is no part of how fast a version is."""
    nothing = pa.nulls(1, pa.binary())
    encode(pa.table({"timestamp": pa.nulls(1, pa.timestamp("ms", "UTC")), "key": nothing, "value": nothing}))


def _limits(config: ExperimentConfig, spec: Spec) -> Limits:
    own = config.versions[spec.version]
    return Limits(memory_bytes=None if own.memory is None else parse_size(own.memory), timeout_s=own.timeout_s)


def _view(config: ExperimentConfig, spec: Spec) -> View:
    snapshot = open_snapshot(spec.snapshot_id, home=find_home(spec.home))
    view = snapshot.view(config.input.topic, config.input.decode)
    if view.digest != spec.view_digest:
        raise IntegrityError(
            f"the decoded view of {config.input.topic} is not the one that the run was planned with", hint="run again"
        )
    return view


def _pinned(before: dict[str, str] | None, now: dict[str, str], version: str, record: Record) -> dict[str, str]:
    """The columns of the predictions, which stay what they were in the first batch."""
    if before is not None and now != before:
        raise PredictError(
            f"version {version}, batch that starts at {record}: predict returned {_words(now)}; "
            f"in the first batch it was {_words(before)}",
            hint="return the same columns of the same types for every batch",
        )
    return now


def _without(records: pl.DataFrame, answer: Answer) -> pl.DataFrame:
    """The records of a batch that are not refused."""
    if not answer.refused:
        return records
    kept = np.ones(records.height, np.bool_)
    kept[[each.row for each in answer.refused]] = False
    return records.filter(pl.Series(kept))


def _words(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())


if __name__ == "__main__":
    serve(Spec, work)
