"""Run versions over a snapshot, each in processes of its own: the public `run`, and the steps that it takes.

1. find everything, before anything starts: the input, the versions, their columns, the topics' names
2. decode the input, once for all versions
3. the same run is not computed twice, nor a version that an earlier run has computed
4. go on with an attempt that was cut off; or write a record that says `incomplete`, and make the topics
5. one or more processes a version; wait for all of them
6. freeze what each wrote, and check that it is one prediction for each record
7. write the record, whole
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.config import ExperimentConfig, load_config
from mlstream.errors import RunError, UsageError
from mlstream.home import Home, find_home
from mlstream.runs.attempt import Attempt, Listener, Progress
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import clear_leftovers, free_attempt, still_there
from mlstream.runs.plan import Plan, chosen_versions, make_plan
from mlstream.runs.record import read_records
from mlstream.runs.run import Run
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store
from mlstream.versions import resolve_version


def run(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None = None,
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Listener | None = None,
) -> Run:
    """Run versions of an experiment over a frozen snapshot, in parallel; their predictions become frozen topics.

    The same run (the same input, versions, decoder, features, seed and batches) is computed once: asked for again, the
    earlier one is returned. A version that another run has computed over the same input is taken from there. A run
    that was cut off is gone on with: its predictions are written exactly once. A version that fails fails alone; see
    `Run.status` and `Run.check`.

    Args:
        config: an experiment or its file.
        snapshot: the input, or its name or id.
        versions: which versions; all when None.
        connection: the cluster that predictions go to; found as `find_connection` says when None.
        home: where snapshots and runs are kept; found as `find_home` says when None.
        workers: processes a version, which share its partitions; how many there are changes no prediction.
        force: compute it again even when it is there.
        progress: called in this thread as the run goes on.

    Returns:
        The run, with the status "complete", "partial" or "failed".

    Raises:
        ConfigError, UnknownSnapshot, UnknownTopic, UnknownVersion, VersionLoadError, DecodeError, UsageError:
            something is not there or not right; nothing was started.
        RunError: the same run is being computed by another process.
        BrokerError: the cluster cannot be used.
    """
    # 1. find everything
    home = home if isinstance(home, Home) else find_home(home)
    config = config if isinstance(config, ExperimentConfig) else load_config(config)
    tell = progress if progress is not None else _tell_nobody
    source = snapshot if isinstance(snapshot, Snapshot) else open_snapshot(snapshot, home=home)
    found = [resolve_version(config, name) for name in chosen_versions(config, versions)]
    source.stream(config.input.topic)
    # 2. decode the input
    began = time.monotonic()
    tell(Progress("decoding", total=source.stream(config.input.topic).rows))
    view = source.view(config.input.topic, config.input.decode)
    plan = make_plan(
        config,
        found,
        snapshot_id=source.id,
        view_digest=view.digest,
        schema=dict(view.columns),
    )
    decode_seconds = time.monotonic() - began
    with _alone(home, plan.key), source.store.in_use(source.id, f"a run of {config.experiment}"):
        # 3. the same run is not computed twice
        records = [Run.from_dict(record, home=home) for record in read_records(home)]
        earlier = [found for found in records if found.key == plan.key]
        done = next((run for run in earlier if run.status == "complete"), None)
        if done is not None and not force:
            tell(Progress("reused", total=done.input.rows, rows=done.input.rows, state="done", run_id=done.id))
            return done
        given = connection if connection is not None else find_connection(home, settings=config.connection)
        _check_portable(given)
        with Client(given) as client:
            # 4. go on with an attempt that was cut off
            cut_off = None
            if not force:
                cut_off = next(
                    (run for run in earlier if run.status == "incomplete" and still_there(client, run)), None
                )
            clear_leftovers(client, home, [run for run in earlier if run is not cut_off])
            attempt = free_attempt(client, plan, earlier) if cut_off is None else cut_off.attempt
            now = Attempt(client, home, plan, attempt, source, view, tell, workers)
            if cut_off is not None:
                return now.run(cut_off, decode_seconds)
            return now.run(now.begin({} if force else _computed(records, plan)), decode_seconds)


def _computed(records: Sequence[Run], plan: Plan) -> dict[str, VersionOutcome]:
    """Versions of the plan that earlier runs have computed, whose frozen predictions are still there."""
    found: dict[str, VersionOutcome] = {}
    for run in records:
        for name, outcome in run.versions.items():
            if name in found or outcome.status != "complete" or plan.version_keys.get(name) != outcome.key:
                continue
            if outcome.output_id is not None and Store(run.home).manifest(outcome.output_id).exists():
                found[name] = replace(outcome, reused=outcome.reused if outcome.reused is not None else run.id)
    return found


@contextmanager
def _alone(home: Home, key: str) -> Iterator[None]:
    """Hold the key, so that no other process computes the same run or takes its topics for leftovers."""
    home.runs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home.runs / f".{key[:16]}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            "the same run is being computed by another process", hint="wait for it: `mlstream run ls` shows it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_portable(connection: Connection) -> None:
    """Refuse settings that are objects of this process: the versions' processes connect by themselves."""
    for name, value in connection.settings.items():
        if not (value is None or isinstance(value, str | int | float)):
            raise UsageError(
                f"connection setting {name}: a {type(value).__name__} cannot be given to another process",
                hint="use settings that are text, numbers or booleans",
            )


def _tell_nobody(progress: Progress) -> None:
    """The listener when none was given."""
