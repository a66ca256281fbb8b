"""A worker's process: have the model predict batch by batch, write exactly once. Decides nothing, runs no model.

Started as `python -m mlstream.runs.worker`; `spec.py` says what it reads and reports. The model is in a process of its
own (`mlstream/host/`), which maps the decoded view too. Batches follow a fixed grid (`grid.py`): the rows of a
partition in groups of `batch_rows`, from its first row. `scoring.py` has the order in which they are asked for and
written.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.config import ExperimentConfig
from mlstream.errors import (
    HostFailed,
    IntegrityError,
)
from mlstream.home import find_home
from mlstream.host.host import Host
from mlstream.host.log import say
from mlstream.host.spec import HostSpec, Limits
from mlstream.ranges import parse_size
from mlstream.runs.layout import RECORD_COLUMNS as RECORD_COLUMNS
from mlstream.runs.machine import cpu_seconds, peak_memory_bytes
from mlstream.runs.process import Reports, config_of, serve
from mlstream.runs.scoring import Scoring
from mlstream.runs.spec import Measured, Report, Spec
from mlstream.runs.state import make_state_topic
from mlstream.snapshots.snapshot import open_snapshot
from mlstream.versions.loading import LoadSpec
from mlstream.wire.encode import encode

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

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
            say(str(exc))
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
            scoring = Scoring(client, spec, config, host, view, reports)
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


if __name__ == "__main__":
    serve(Spec, work)
