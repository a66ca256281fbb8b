"""A worker's process: read the decoded view, predict batch by batch, write exactly once. Decides nothing.

Started as `python -m mlstream.runs.worker`; `spec.py` says what it reads and reports. Batches follow a fixed grid: the
rows of a partition in groups of `batch_rows`, from its first row. A few partitions take turns, so that the model works
while transactions of others are committed; `shard.py` has the protocol.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.errors import IntegrityError, MlstreamError, PredictError, TransactionFailed, VersionLoadError
from mlstream.home import find_home
from mlstream.runs.latency import Recorder
from mlstream.runs.layout import Encoder, kinds_of
from mlstream.runs.machine import cpu_seconds, family_usage, peak_memory_bytes
from mlstream.runs.process import Reports, config_of, seed_all, serve
from mlstream.runs.shard import Lane, Shard, transaction_rows
from mlstream.runs.spec import Figures, Measured, Report, Spec
from mlstream.snapshots.snapshot import open_snapshot
from mlstream.versions import Predictor, Record, Version, resolve_version
from mlstream.wire.encode import encode

if TYPE_CHECKING:
    from mlstream.snapshots.views import View
    from mlstream.versions.importing import Account

RECORD_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")
AT_ONCE = 4  # partitions that take turns; what waits to be committed takes memory


def work(spec: Spec, reports: Reports) -> Report:
    """Score every record of the worker's partitions and write the predictions.

    Raises:
        VersionLoadError: the version cannot be loaded, or is not what it was when the run was planned.
        PredictError: it answered wrongly.
        ProducerFenced: another worker took over one of the partitions.
        BrokerError: the predictions cannot be written.
    """
    began = time.monotonic()
    seed_all(spec.seed)
    config = config_of(spec)
    version, predictor, account = _load(config, spec)
    view = _view(config, spec)
    warm_up()
    load_seconds = time.monotonic() - began
    reports.send(Report("loaded"))
    with Client(Connection(tuple(spec.bootstrap_servers), spec.settings)) as client:
        first = time.monotonic()
        scoring = _Scoring(client, spec, config, predictor, view, reports)
        scoring.run()
        seconds = time.monotonic() - first
    version.check(account)
    latency = scoring.recorder.latency()
    measured = Measured(
        rows=scoring.rows - scoring.resumed,
        load_seconds=load_seconds,
        seconds=seconds,
        predict_seconds=scoring.recorder.seconds,
        cpu_seconds=cpu_seconds(),
        memory_bytes=peak_memory_bytes(),
        latency=latency,
        record_latency=scoring.recorder.record_latency(),
    )
    classes = None if predictor.classes is None else list(predictor.classes)
    return Report(
        "done",
        rows=scoring.rows,
        resumed=scoring.resumed,
        measured=measured,
        columns=scoring.columns or {},
        classes=classes,
    )


class _Scoring:
    """The worker's partitions, a few at a time, through the model and into the output topic."""

    def __init__(
        self, client: Client, spec: Spec, config: ExperimentConfig, predictor: Predictor, view: View, reports: Reports
    ) -> None:
        self._client = client
        self._spec = spec
        self._topic = config.input.topic
        self._batch_rows = config.batch_rows
        self._predictor = predictor
        self._view = view
        self._reports = reports
        self._stops = stops_of(config, spec)
        self._encoder = Encoder(self._topic, run_id=spec.run_id, version=spec.version, batch_rows=config.batch_rows)
        self._done_rows = 0
        self._active: deque[Shard] = deque()
        self.recorder = Recorder()
        self.columns: dict[str, str] | None = None
        self.resumed = 0

    @property
    def rows(self) -> int:
        """Records that were dealt with, by this process and one before it."""
        return self._done_rows + sum(shard.row for shard in self._active)

    def run(self) -> None:
        """Deal with every record."""
        waiting = deque(self._spec.partitions)
        with ThreadPoolExecutor(self._spec.threads, thread_name_prefix="mlstream-encode") as pool:
            try:
                while waiting or self._active:
                    while waiting and len(self._active) < AT_ONCE:
                        self._active.append(self._open(waiting.popleft(), pool))
                        self._reports.send(Report("rows", rows=self.rows))  # where it begins: a restart got so far
                    shard = self._active[0]
                    if self._step(shard):
                        self._active.popleft()
                        self._done_rows += shard.row
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
        )
        shard = Shard(self._client, lane, self._view.partition(partition), pool=pool)
        self.resumed += shard.resumed
        return shard

    def _look(self) -> None:
        """What the predictions look like, from one batch that is not written."""
        for partition in self._spec.partitions:
            batch = self._view.partition(partition).head(self._batch_rows)
            if batch.height:
                record = Record(self._topic, partition, int(batch["_offset"][0]))
                self.columns = kinds_of(self._predictor.predict(batch.drop(RECORD_COLUMNS), first=record))
                return

    def _step(self, shard: Shard) -> bool:
        """One batch of a partition; True when all of it is committed."""
        try:
            batch = shard.batch()
            if batch is None:
                shard.finish()
                return True
            record = Record(self._topic, shard.partition, int(batch["_offset"][0]))
            asked = time.perf_counter()
            predictions = self._predictor.predict(batch.drop(RECORD_COLUMNS), first=record)
            self.recorder.add(time.perf_counter() - asked, batch.height)
            self.columns = _pinned(self.columns, kinds_of(predictions), self._spec.version, record)
            shard.write(self._encoder.encode(batch.select(RECORD_COLUMNS), predictions))
        except TransactionFailed as exc:
            shard.recover(exc)
        self._reports.rows(self.rows, self._figures)
        return False

    def _figures(self) -> Figures:
        seconds, resident = family_usage()
        return Figures(self.recorder.latency(), self.recorder.record_latency(), seconds, resident)


def stops_of(config: ExperimentConfig, spec: Spec) -> dict[int, int]:
    """The end of each partition's range in the snapshot."""
    snapshot = open_snapshot(spec.snapshot_id, home=find_home(spec.home))
    return {part.partition: part.stop for part in snapshot.stream(config.input.topic).partitions}


def warm_up() -> None:
    """Load the compiled encoder, which takes up to a second and is no part of how fast a version is."""
    nothing = pa.nulls(1, pa.binary())
    encode(pa.table({"timestamp": pa.nulls(1, pa.timestamp("ms", "UTC")), "key": nothing, "value": nothing}))


def _load(config: ExperimentConfig, spec: Spec) -> tuple[Version, Predictor, Account]:
    version = resolve_version(config, spec.version)
    if version.digest != spec.digest:
        raise VersionLoadError(
            f"version {spec.version} changed after the run was planned: its digest is {version.digest[:12]}, "
            f"it was {spec.digest[:12]}",
            hint="run again",
        )
    predictor, account = version.load_with_account()
    return version, predictor, account


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


def _words(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())


if __name__ == "__main__":
    serve(Spec, work)
