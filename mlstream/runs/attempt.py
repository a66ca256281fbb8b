"""One attempt at a plan: its record, its topics, its processes, and what they wrote, frozen. Decides not whether.

The numbers are the steps of replay.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from mlstream.broker.client import Client
from mlstream.errors import MlstreamError, PredictError, RunError, RunIncomplete
from mlstream.home import Home
from mlstream.naming import RUN_DIGITS, errors_topic, state_topic
from mlstream.ranges import PartitionRange
from mlstream.runs.combining import errors_of, figures_of, resumed_of, rows_of, together, with_figures
from mlstream.runs.fleet import Ended, run_workers
from mlstream.runs.logs import send_logs
from mlstream.runs.machine import git_state, hardware, math_threads, threads_for
from mlstream.runs.outcome import Input, VersionOutcome
from mlstream.runs.outputs import drop_topics, freeze_output, make_topics
from mlstream.runs.plan import Plan
from mlstream.runs.process import SURROUNDINGS
from mlstream.runs.record import log_path, write_record
from mlstream.runs.run import Run, Status, config_values
from mlstream.runs.spec import Figures, Report, Spec
from mlstream.snapshots.snapshot import Snapshot
from mlstream.versions.digests import environment

if TYPE_CHECKING:
    from mlstream.snapshots.views import View


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        stage: `reused`: an earlier run is the answer; `building` the environment of a version; `decoding` the input;
            `scoring` and `freezing` a version.
        version: which version; None while the input is decoded and when an earlier run is reused.
        rows: records scored.
        total: records of the input.
        state: of the version.
        run_id: of the run; None until it is known.
        resumed: of the rows, those that were there already when the version's processes began.
        errors: records that the version could not deal with so far.
        figures: what the version's processes say of themselves; None until they have said something.
    """

    stage: Literal["building", "decoding", "reused", "scoring", "freezing"]
    version: str | None = None
    rows: int = 0
    total: int = 0
    state: Literal["loading", "running", "done", "failed"] = "running"
    run_id: str | None = None
    resumed: int = 0
    errors: int = 0
    figures: Figures | None = None


Listener = Callable[[Progress], None]


class Attempt:
    """One attempt at a plan."""

    def __init__(
        self,
        client: Client,
        home: Home,
        plan: Plan,
        attempt: int,
        source: Snapshot,
        view: View,
        tell: Listener,
        workers: int,
    ) -> None:
        self._client = client
        self._home = home
        self._plan = plan
        self._config = plan.config
        self._source = source
        self._view = view
        self._tell = tell
        self._workers = max(1, min(workers, len(view.partitions)))
        self._id = plan.run_id(attempt)
        self._attempt = attempt
        self._topics = plan.topics(attempt)
        self._rows = source.stream(plan.config.input.topic).rows
        self._heard: dict[str, dict[int, Report]] = {}
        self._beside: dict[str, dict[str, str]] = {}  # version → fields of its outcome: topics beside its output

    def begin(self, computed: Mapping[str, VersionOutcome], *, repeats: str | None = None) -> Run:
        """Step 4: a record, and the topics of the versions that are not `computed` yet.

        Args:
            repeats: the id of the run whose baseline is computed again.
        """
        record = replace(self._record(computed), repeats=repeats)
        write_record(self._home, record.to_dict())
        needed = max(part.partition for part in self._source.stream(self._config.input.topic).partitions) + 1
        topics = {name: topic for name, topic in self._topics.items() if name not in computed}
        ids = make_topics(self._client, topics, like=self._config.input.topic, at_least=needed)
        versions = {
            name: replace(found, topic_id=ids[name]) if name in ids else found
            for name, found in record.versions.items()
        }
        record = replace(record, versions=versions)
        write_record(self._home, record.to_dict())
        return record

    def run(self, record: Run, decode_seconds: float) -> Run:
        """Steps 5 to 7.

        Raises:
            RunError: another process goes on with the run; its record and its topics are left to that one.
            RunIncomplete, StoreError, BrokerUnavailable: the cluster or the home cannot be used any more; what is
                committed stays, and `run` goes on with it.
        """
        # 5. one or more processes a version
        began = time.monotonic()
        todo = {name: found for name, found in record.versions.items() if found.status != "complete"}
        ended = self._score(record, list(todo))
        self._check_ended(ended)
        record = self._with_beside(record)
        scored = time.monotonic()
        # 6. freeze what each wrote
        outcomes = {
            name: self._finish(found, ended[name]) if name in todo else found for name, found in record.versions.items()
        }
        timings = {"decode": decode_seconds, "score": scored - began, "freeze": time.monotonic() - scored}
        # 7. write the record, when its logs are where others find them
        send_logs(self._home, [outcomes[name].log for name in todo])
        record = replace(record, versions=outcomes, status=_status(outcomes), finished_at=utc_now(), timings=timings)
        write_record(self._home, record.to_dict())
        return record

    def _record(self, computed: Mapping[str, VersionOutcome]) -> Run:
        stream = self._source.stream(self._config.input.topic)
        ranges = tuple(
            PartitionRange(stream.topic, part.partition, part.start, part.stop) for part in stream.partitions
        )
        versions = {}
        for version in self._plan.versions:
            if version.name in computed:
                versions[version.name] = computed[version.name]
                continue
            log = log_path(self._home, self._id, version.name)
            log.parent.mkdir(parents=True, exist_ok=True)
            versions[version.name] = VersionOutcome(
                version.name,
                "incomplete",
                version.describe(),
                self._topics[version.name],
                None,
                log,
                key=self._plan.version_keys[version.name],
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
            started_at=utc_now(),
            finished_at=None,
            timings={},
            settings={
                "seed": self._config.seed,
                "batch_rows": self._config.batch_rows,
                "workers": self._workers,
                "threads": self._threads(len(versions) - len(computed)),
                "math_threads": math_threads(),
            },
            environment=environment(),
            hardware=hardware(),
            git=git_state(self._config.root),
            home=self._home,
            cluster_id=self._client.cluster_id,
        )

    def _threads(self, versions: int) -> int:
        return threads_for(max(1, versions) * self._workers)

    def _score(self, record: Run, names: Sequence[str]) -> dict[str, Ended]:
        config, connection = self._config, self._client.connection
        partitions = list(self._view.partitions)
        specs = [
            Spec(
                config=config_values(config),
                path="" if record.config_path is None else str(record.config_path),
                root=str(config.root),
                version=version.name,
                load=version.load_spec.to_json(),
                python=None if version.python is None else str(version.python),
                home=self._home.address,
                snapshot_id=self._source.id,
                view_digest=self._view.digest,
                run_id=self._id,
                topic=str(record.versions[version.name].topic),
                partitions=partitions[worker :: self._workers],
                bootstrap_servers=list(connection.bootstrap_servers),
                settings=dict(connection.settings),
                seed=config.seed,
                threads=self._threads(len(names)),
                worker=worker,
            )
            for version in self._plan.versions
            if version.name in names
            for worker in range(self._workers)
        ]
        for name in names:
            self._tell(self._progress(name, 0, "loading"))
        logs = {spec.name: record.versions[spec.version].log for spec in specs}
        ended = run_workers(specs, logs=logs, on_report=partial(self._hear, record))
        return {name: together([found for (version, _), found in ended.items() if version == name]) for name in names}

    def _hear(self, record: Run, name: tuple[str, int], report: Report) -> None:
        version, worker = name
        if self._learns(record, version, report):
            write_record(self._home, self._with_beside(record).to_dict())  # whoever clears it away must know the topic
        heard = self._heard.setdefault(version, {})
        heard[worker] = with_figures(report, heard.get(worker))
        failed = any(found.event == "failed" for found in heard.values())
        state: Literal["running", "failed"] = "failed" if failed else "running"
        self._tell(self._progress(version, rows_of(list(heard.values())), state))

    def _learns(self, record: Run, version: str, report: Report) -> bool:
        """Whether a report tells of a topic beside the version's output that was not known."""
        topic = str(record.versions[version].topic)
        told: dict[str, str] = {}
        if report.errors_topic_id is not None:
            told |= {"errors_topic": errors_topic(topic), "errors_topic_id": report.errors_topic_id}
        if report.state_topic_id is not None:
            told |= {"state_topic": state_topic(topic), "state_topic_id": report.state_topic_id}
        known = self._beside.setdefault(version, {})
        new = not told.items() <= known.items()
        known |= told
        return new

    def _with_beside(self, record: Run) -> Run:
        """The record with the topics that the versions have made beside their outputs."""
        versions = {
            name: replace(found, **self._beside.get(name, {}))  # type: ignore[arg-type]
            for name, found in record.versions.items()
        }
        return replace(record, versions=versions)

    def _progress(self, version: str, rows: int, state: Literal["loading", "running", "done", "failed"]) -> Progress:
        heard = list(self._heard.get(version, {}).values())
        return Progress(
            "scoring",
            version,
            rows,
            self._rows,
            state,
            self._id,
            resumed=resumed_of(heard),
            errors=errors_of(heard),
            figures=figures_of(heard),
        )

    def _finish(self, begun: VersionOutcome, ended: Ended) -> VersionOutcome:
        """Freeze what a version wrote; or, when it failed, take its topic away."""
        report = ended.report
        if report is None or report.measured is None:
            return self._failed(begun, ended.error, ended.hint, ended.log_tail)
        self._tell(replace(self._progress(begun.name, report.rows, "running"), stage="freezing"))
        began = time.monotonic()
        columns = report.columns if report.columns is not None else {}
        try:
            done = freeze_output(
                self._client, self._home, begun, source=self._config.input.topic, view=self._view, columns=columns
            )
            self._check_refused(done)
        except SURROUNDINGS as exc:  # it is all committed, and can be frozen later
            raise type(exc)(exc.message, hint=_go_on(exc.hint), **exc.facts) from exc
        except MlstreamError as exc:
            return self._failed(begun, exc.message, exc.hint, ())
        told = self._progress(begun.name, report.rows, "done")
        self._tell(replace(told, stage="freezing", errors=done.errors))
        return replace(
            done,
            status="complete",
            resumed=report.resumed,
            restarts=ended.restarts,
            measured=report.measured,
            classes=None if report.classes is None else tuple(report.classes),
            freeze_seconds=time.monotonic() - began,
        )

    def _check_ended(self, ended: Mapping[str, Ended]) -> None:
        """Raise when a version could not be dealt with for what is no fault of its own."""
        run = f"run {self._id[:RUN_DIGITS]}"
        if any(found.cause == "taken over" for found in ended.values()):
            raise RunError(
                f"{run}: another process took it over, and goes on with it",
                hint="let it; `mlstream run ls` shows how it fares",
                run_id=self._id,
            )
        for name, found in ended.items():
            if found.cause == "surroundings":
                raise RunIncomplete(
                    f"{run} was cut off: version {name}: {found.error}", hint=_go_on(found.hint), run_id=self._id
                )

    def _check_refused(self, found: VersionOutcome) -> None:
        """Fail a version that refused more of the records than it may.

        Raises:
            PredictError: it did.
        """
        records, share = found.rows + found.refused, self._config.versions[found.name].refused_at_most
        if found.refused > int(share * records):
            raise PredictError(
                f"version {found.name}: it refused {found.refused:,} of {records:,} records; "
                f"it may refuse a share of {share:.4g}",
                hint="correct the model; or let it refuse more, with a larger `refused_at_most`",
                version=found.name,
            )

    def _failed(
        self, begun: VersionOutcome, error: str | None, hint: str | None, tail: tuple[str, ...]
    ) -> VersionOutcome:
        self._tell(self._progress(begun.name, 0, "failed"))
        begun = drop_topics(self._client, begun)
        return replace(begun, status="failed", error=error, hint=hint, log_tail=tail)


def _go_on(hint: str | None) -> str:
    then = "the same command goes on where it stopped"
    return then if hint is None else f"{hint}; then {then}"


def _status(outcomes: Mapping[str, VersionOutcome]) -> Status:
    complete = [found.status == "complete" for found in outcomes.values()]
    return "complete" if all(complete) else "partial" if any(complete) else "failed"


def utc_now() -> str:
    """This moment as records have it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
