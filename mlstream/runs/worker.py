"""One version's process: read the decoded view, predict batch by batch, write the predictions. Decides nothing.

Started as `python -m mlstream.runs.worker`; `spec.py` says what it reads and reports. Batches follow a fixed grid: the
rows of a partition in groups of `batch_rows`, from its first row. The partitions take turns, so that the writes of
several are under way at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.errors import IntegrityError, PredictError, VersionLoadError
from mlstream.home import Home
from mlstream.runs.layout import Encoder, kinds_of
from mlstream.runs.machine import cpu_seconds, peak_memory_bytes
from mlstream.runs.process import Reports, config_of, seed_all, serve
from mlstream.runs.spec import Latency, Measured, Report, Spec
from mlstream.snapshots.snapshot import open_snapshot
from mlstream.streams.write import StreamWriter
from mlstream.versions import Predictor, Record, Version, resolve_version
from mlstream.wire.encode import encode

if TYPE_CHECKING:
    from mlstream.snapshots.views import View
    from mlstream.versions.importing import Account

WRITE_ROWS = 8192  # about as many rows go into a record batch
RECORD_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")


def work(spec: Spec, reports: Reports) -> Report:
    """Score every record of the input and write the predictions.

    Raises:
        VersionLoadError: the version cannot be loaded, or is not what it was when the run was planned.
        PredictError: it answered wrongly.
        BrokerError: the predictions cannot be written.
    """
    began = time.monotonic()
    seed_all(spec.seed)
    config = config_of(spec)
    version, predictor, account = _load(config, spec)
    view = _view(config, spec)
    encoder = Encoder(config.input.topic, run_id=spec.run_id, version=spec.version, batch_rows=config.batch_rows)
    warm_up()
    load_seconds = time.monotonic() - began
    reports.send(Report("loaded"))
    connection = Connection(tuple(spec.bootstrap_servers), spec.settings)
    latencies: list[float] = []
    columns: dict[str, str] | None = None
    rows = 0
    with Client(connection) as client:
        whole = config.batch_rows * max(1, WRITE_ROWS // config.batch_rows)  # written in whole batches, uncut
        with StreamWriter(client, spec.topic, threads=spec.threads, batch_rows=whole) as writer:
            first = time.monotonic()
            for partition, batch in batches(view, config.batch_rows):
                record = Record(config.input.topic, partition, int(batch["_offset"][0]))
                asked = time.perf_counter()
                predictions = predictor.predict(batch.drop(RECORD_COLUMNS), first=record)
                latencies.append(time.perf_counter() - asked)
                columns = _pinned(columns, kinds_of(predictions), spec.version, record)
                writer.write(partition, encoder.encode(batch.select(RECORD_COLUMNS), predictions))
                rows += batch.height
                reports.rows(rows)
        seconds = time.monotonic() - first
    version.check(account)
    measured = Measured(
        rows=rows,
        load_seconds=load_seconds,
        seconds=seconds,
        predict_seconds=sum(latencies),
        cpu_seconds=cpu_seconds(),
        memory_bytes=peak_memory_bytes(),
        latency=_latency(latencies),
    )
    classes = None if predictor.classes is None else list(predictor.classes)
    return Report("done", rows=rows, measured=measured, columns=columns or {}, classes=classes)


def warm_up() -> None:
    """Load the compiled encoder, which takes up to a second and is no part of how fast a version is."""
    nothing = pa.nulls(1, pa.binary())
    encode(pa.table({"timestamp": pa.nulls(1, pa.timestamp("ms", "UTC")), "key": nothing, "value": nothing}))


def batches(view: View, batch_rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The grid: the partitions' first `batch_rows` rows, then their next, and so on."""
    frames = {partition: view.partition(partition) for partition in view.partitions}
    longest = max((frame.height for frame in frames.values()), default=0)
    for start in range(0, longest, batch_rows):
        for partition, frame in frames.items():
            if start < frame.height:
                yield partition, frame.slice(start, batch_rows)


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
    snapshot = open_snapshot(spec.snapshot_id, home=Home(Path(spec.home)))
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


def _latency(seconds: list[float]) -> Latency:
    if not seconds:
        return Latency(0.0, 0.0, 0.0, 0)
    p50, p95, p99 = (float(value) * 1000 for value in np.percentile(seconds, [50, 95, 99]))
    return Latency(p50, p95, p99, len(seconds))


if __name__ == "__main__":
    serve(Spec, work)
