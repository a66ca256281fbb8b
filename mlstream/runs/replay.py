"""Run versions over a snapshot, each in a process of its own: the public `run`, and the steps that it takes.

1. find everything, before anything starts: the input, the versions, their columns, the topics' names
2. decode the input, once for all versions
3. the same run is not computed twice
4. clear what a cut-off attempt left; write a record that says `incomplete`; make the topics
5. one process a version; wait for all of them
6. freeze what each wrote, and check that it is one prediction for each record
7. write the record, whole
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.config import ExperimentConfig, load_config
from mlstream.errors import MlstreamError, RunError, UsageError
from mlstream.home import Home, find_home
from mlstream.ranges import PartitionRange
from mlstream.runs.fleet import Ended, run_workers
from mlstream.runs.machine import git_state, hardware, math_threads, threads_for
from mlstream.runs.outcome import Input, VersionOutcome
from mlstream.runs.outputs import clear_leftovers, drop_topic, free_attempt, freeze_output, make_topics
from mlstream.runs.plan import Plan, chosen_versions, make_plan
from mlstream.runs.record import log_path, read_records, write_record
from mlstream.runs.run import Run, Status, config_values
from mlstream.runs.spec import Report, Spec
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.versions import resolve_version
from mlstream.versions.digests import environment

if TYPE_CHECKING:
    from mlstream.snapshots.views import View


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: `reused`: an earlier run is the answer; `decoding` the input; `scoring` and `freezing` a version.
        version: which version; None while the input is decoded and when an earlier run is reused.
        rows: records scored.
        total: records of the input.
        state: of the version.
        run_id: of the run; None until it is known.
    """

    stage: Literal["decoding", "reused", "scoring", "freezing"]
    version: str | None = None
    rows: int = 0
    total: int = 0
    state: Literal["loading", "running", "done", "failed"] = "running"
    run_id: str | None = None


Listener = Callable[[Progress], None]


def run(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None = None,
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    force: bool = False,
    progress: Listener | None = None,
) -> Run:
    """Run versions of an experiment over a frozen snapshot, in parallel; their predictions become frozen topics.

    The same run (the same input, versions, decoder, features, seed and batches) is computed once: asked for again, the
    earlier one is returned. A version that fails fails alone; see `Run.status` and `Run.check`.

    Args:
        config: an experiment or its file.
        snapshot: the input, or its name or id.
        versions: which versions; all when None.
        connection: the cluster that predictions go to; found as `find_connection` says when None.
        home: where snapshots and runs are kept; found as `find_home` says when None.
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
    with _alone(home, plan.key):
        # 3. the same run is not computed twice
        earlier = [Run.from_dict(record, home=home) for record in read_records(home) if record.get("key") == plan.key]
        done = next((run for run in earlier if run.status == "complete"), None)
        if done is not None and not force:
            tell(Progress("reused", total=done.input.rows, rows=done.input.rows, state="done", run_id=done.id))
            return done
        given = connection if connection is not None else find_connection(home, settings=config.connection)
        _check_portable(given)
        with Client(given) as client:
            # 4. clear what a cut-off attempt left
            clear_leftovers(client, home, earlier)
            attempt = free_attempt(client, plan, earlier)
            replay = _Replay(client, home, plan, attempt, source, view, tell)
            return replay.run(decode_seconds)


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


class _Replay:
    """One attempt at a plan."""

    def __init__(
        self, client: Client, home: Home, plan: Plan, attempt: int, source: Snapshot, view: View, tell: Listener
    ) -> None:
        self._client = client
        self._home = home
        self._plan = plan
        self._config = plan.config
        self._source = source
        self._view = view
        self._tell = tell
        self._id = plan.run_id(attempt)
        self._attempt = attempt
        self._topics = plan.topics(attempt)
        self._rows = source.stream(plan.config.input.topic).rows

    def run(self, decode_seconds: float) -> Run:
        """Steps 4 to 7."""
        record = self._begin()
        write_record(self._home, record.to_dict())
        needed = max(part.partition for part in self._source.stream(self._config.input.topic).partitions) + 1
        ids = make_topics(self._client, self._topics, like=self._config.input.topic, at_least=needed)
        record = replace(
            record, versions={name: replace(found, topic_id=ids[name]) for name, found in record.versions.items()}
        )
        write_record(self._home, record.to_dict())
        # 5. one process a version
        began = time.monotonic()
        ended = self._score(record)
        scored = time.monotonic()
        # 6. freeze what each wrote
        outcomes = {name: self._finish(found, ended[name]) for name, found in record.versions.items()}
        timings = {"decode": decode_seconds, "score": scored - began, "freeze": time.monotonic() - scored}
        # 7. write the record
        record = replace(record, versions=outcomes, status=_status(outcomes), finished_at=_now(), timings=timings)
        write_record(self._home, record.to_dict())
        return record

    def _begin(self) -> Run:
        stream = self._source.stream(self._config.input.topic)
        ranges = tuple(
            PartitionRange(stream.topic, part.partition, part.start, part.stop) for part in stream.partitions
        )
        versions = {}
        for version in self._plan.versions:
            log = log_path(self._home, self._id, version.name)
            log.parent.mkdir(parents=True, exist_ok=True)
            versions[version.name] = VersionOutcome(
                version.name, "incomplete", version.describe(), self._topics[version.name], None, log
            )
        return Run(
            id=self._id,
            key=self._plan.key,
            attempt=self._attempt,
            status="incomplete",
            config=self._config,
            snapshot_id=self._source.id,
            snapshot_name=self._source.name,
            input=Input(stream.topic, self._plan.schema, self._plan.view_digest, ranges, self._rows),
            versions=versions,
            started_at=_now(),
            finished_at=None,
            timings={},
            settings={
                "seed": self._config.seed,
                "batch_rows": self._config.batch_rows,
                "threads": threads_for(len(versions)),
                "math_threads": math_threads(),
            },
            environment=environment(),
            hardware=hardware(),
            git=git_state(self._config.root),
            home=self._home,
        )

    def _score(self, record: Run) -> dict[str, Ended]:
        config, connection = self._config, self._client.connection
        specs = [
            Spec(
                config=config_values(config),
                path="" if record.config_path is None else str(record.config_path),
                root=str(config.root),
                version=version.name,
                digest=version.digest,
                home=str(self._home.path),
                snapshot_id=self._source.id,
                view_digest=self._view.digest,
                run_id=self._id,
                topic=self._topics[version.name],
                bootstrap_servers=list(connection.bootstrap_servers),
                settings=dict(connection.settings),
                seed=config.seed,
                threads=record.settings["threads"],
                reports=-1,
            )
            for version in self._plan.versions
        ]
        for spec in specs:
            self._tell(self._progress(spec.version, 0, "loading"))
        logs = {name: found.log for name, found in record.versions.items()}
        return run_workers(specs, logs=logs, on_report=self._hear)

    def _hear(self, version: str, report: Report) -> None:
        state: Literal["running", "failed"] = "failed" if report.event == "failed" else "running"
        self._tell(self._progress(version, report.rows, state))

    def _progress(self, version: str, rows: int, state: Literal["loading", "running", "done", "failed"]) -> Progress:
        return Progress("scoring", version, rows, self._rows, state, self._id)

    def _finish(self, begun: VersionOutcome, ended: Ended) -> VersionOutcome:
        """Freeze what a version wrote; or, when it failed, take its topic away."""
        topic, topic_id = str(begun.topic), str(begun.topic_id)
        report = ended.report
        if report is None or report.measured is None:
            return self._failed(begun, ended.error, ended.hint, ended.log_tail)
        self._tell(replace(self._progress(begun.name, report.rows, "running"), stage="freezing"))
        began = time.monotonic()
        columns = report.columns if report.columns is not None else {}
        try:
            output = freeze_output(
                self._client, self._home, topic, source=self._config.input.topic, view=self._view, columns=columns
            )
        except MlstreamError as exc:
            return self._failed(begun, exc.message, exc.hint, ())
        self._tell(replace(self._progress(begun.name, report.rows, "done"), stage="freezing"))
        return replace(
            begun,
            status="complete",
            topic_id=topic_id,
            rows=report.rows,
            measured=report.measured,
            columns=columns,
            classes=None if report.classes is None else tuple(report.classes),
            output_id=output.id,
            output_name=topic,
            freeze_seconds=time.monotonic() - began,
        )

    def _failed(
        self, begun: VersionOutcome, error: str | None, hint: str | None, tail: tuple[str, ...]
    ) -> VersionOutcome:
        self._tell(self._progress(begun.name, 0, "failed"))
        gone = drop_topic(self._client, str(begun.topic), str(begun.topic_id))
        return replace(
            begun, status="failed", topic=None if gone else begun.topic, error=error, hint=hint, log_tail=tail
        )


def _status(outcomes: Mapping[str, VersionOutcome]) -> Status:
    complete = [found.status == "complete" for found in outcomes.values()]
    return "complete" if all(complete) else "partial" if any(complete) else "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
