"""A run as users read it: how each version fared, and its predictions as lazy frames. Talks to no broker.

A run's record is `runs/ID.json` in the home, written whole at the end; before that a record with the status
`incomplete` stands in its place, so that a run that was cut off is seen, and its topics are known to be ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mlstream.config import ExperimentConfig
from mlstream.display import Displayed
from mlstream.errors import RunError, RunIncomplete, UnknownRun, UnknownVersion, UsageError
from mlstream.home import Home, find_home
from mlstream.runs.errors import ERRORS_SCHEMA, as_errors
from mlstream.runs.layout import as_predictions, decode_lists, decoder
from mlstream.runs.machine import GitState
from mlstream.runs.outcome import Input, Repeat, VersionOutcome
from mlstream.runs.record import find_id, log_path, read_record, read_records, readable_records, record_path
from mlstream.snapshots.snapshot import Snapshot, open_snapshot

Status = Literal["complete", "partial", "failed", "incomplete"]
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run(Displayed):
    """Versions over one snapshot. Made by `run`, found again by `open_run`.

    Attributes:
        id: digest of the key and the attempt, 64 hex digits; its first 12 are in the topics' names.
        key: digest of all that decides the predictions: the same key means the same run.
        attempt: from 1.
        status: "complete": every version; "partial": some; "failed": none; "incomplete": it was cut off.
        config: the experiment as it was (without its connection).
        snapshot_id, snapshot_name: the input.
        input: what of it was scored.
        versions: name → outcome, in the configuration's order.
        started_at, finished_at: ISO 8601, UTC.
        timings: seconds of its stages: decode, score, freeze.
        settings: seed, batch_rows, threads a process, and of these for sums (`math_threads`).
        environment: Python and every installed distribution.
        hardware: processor, cores, memory, platform.
        git: the project's commit; None outside a repository.
        home: where the record and the snapshots are.
        cluster_id: of the cluster with its topics; None in records from before it was noted.
        repeat: what came of computing the baseline again; None when that was not asked for.
        repeats: the id of the run whose baseline this one computes again; None for all others.
        asked_at: when it was last asked for again and taken from the record, ISO 8601, UTC; None when it never was.
    """

    id: str
    key: str
    attempt: int
    status: Status
    config: ExperimentConfig = field(repr=False)
    snapshot_id: str
    snapshot_name: str | None
    input: Input = field(repr=False)
    versions: Mapping[str, VersionOutcome] = field(repr=False)
    started_at: str
    finished_at: str | None
    timings: Mapping[str, float] = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    environment: Mapping[str, Any] = field(repr=False)
    hardware: Mapping[str, Any] = field(repr=False)
    git: GitState | None = field(repr=False)
    home: Home = field(repr=False)
    cluster_id: str | None = field(default=None, repr=False)
    repeat: Repeat | None = field(default=None, repr=False)
    repeats: str | None = None
    asked_at: str | None = field(default=None, repr=False, compare=False)

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return self.config.experiment

    @property
    def config_path(self) -> Path | None:
        """The experiment's file; None when it was made in memory."""
        try:
            return self.config.path
        except ValueError:
            return None

    @property
    def path(self) -> Path:
        """Its record."""
        return record_path(self.home, self.id)

    @property
    def snapshot(self) -> Snapshot:
        """The input.

        Raises:
            UnknownSnapshot: when the home does not have it any more.
        """
        return open_snapshot(self.snapshot_id, home=self.home)

    def outcome(self, version: str) -> VersionOutcome:
        """How a version fared.

        Raises:
            UnknownVersion: the run has no such version.
        """
        found = self.versions.get(version)
        if found is None:
            near = get_close_matches(version, self.versions, n=1)
            raise UnknownVersion(
                f"run {self.id[:12]} has no version {version!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(self.versions)}",
            )
        return found

    def check(self) -> None:
        """Nothing, if every version answered every record.

        Raises:
            RunIncomplete: the run was cut off.
            RunError: versions failed; names them, what went wrong and their logs.
        """
        if self.status == "incomplete":
            raise RunIncomplete(f"run {self.id[:12]} was cut off", hint="run it again", run_id=self.id)
        failed = [found for found in self.versions.values() if found.status != "complete"]
        if failed:
            words = [f"version {found.name} failed: {explain(found)}" for found in failed]
            raise RunError(
                f"run {self.id[:12]}: {len(failed)} of {len(self.versions)} versions failed\n" + "\n".join(words),
                hint="correct what their logs say and run again; what is complete stays",
                run_id=self.id,
                versions=[found.name for found in failed],
            )

    def predictions(self, version: str) -> pl.LazyFrame:
        """What a version answered, in order of partition and offset of the records.

        Returns:
            `source_topic`, `source_partition` int32, `source_offset` int64, `timestamp` datetime[ms, UTC] (the
            record's event time), `prediction` (binary: bool, regression: float64, multiclass: string or int64), and
            `score` float64 or `scores` list of float64 when the model gives them. Records without a prediction are
            not among them: `errors` has those.

        Raises:
            RunIncomplete: the version did not deal with every record.
            UnknownSnapshot: the home does not have its output any more.
        """
        found = self._complete(version)
        output = open_snapshot(str(found.output_id), home=self.home)
        if "floats" in found.columns.values():
            decoded = decode_lists(output.scan(str(found.topic)), found.columns)
        else:
            decoded = output.scan(str(found.topic), decode=decoder(found.columns))
        return as_predictions(decoded, found.columns)

    def errors(self, version: str) -> pl.LazyFrame:
        """The records that got no prediction of a version, as they were, in order of partition and offset.

        Returns:
            `source_partition` int32, `source_offset` int64, `timestamp` datetime[ms, UTC], `key` and `value` binary,
            `error` ("undecodable"; or, where the version refused it, "raised" or "invalid") and `reason`, a sentence.
            No rows when each record got one.

        Raises:
            RunIncomplete: the version did not deal with every record.
            UnknownSnapshot: the home does not have its errors any more.
        """
        found = self._complete(version)
        if found.errors_id is None:
            return pl.LazyFrame(schema=ERRORS_SCHEMA)
        frozen = open_snapshot(found.errors_id, home=self.home)
        (topic,) = frozen.topics
        return as_errors(frozen.scan(topic))

    def _complete(self, version: str) -> VersionOutcome:
        found = self.outcome(version)
        if found.status != "complete" or found.output_id is None or found.topic is None:
            raise RunIncomplete(
                f"run {self.id[:12]}: version {version} {_short(found)}",
                hint=f"its log: {found.log}" if found.status == "failed" else "run it again",
                run_id=self.id,
                version=version,
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the record: JSON values only."""
        return {
            "format": FORMAT,
            "id": self.id,
            "key": self.key,
            "attempt": self.attempt,
            "status": self.status,
            "experiment": self.experiment,
            "config": config_values(self.config),
            "config_path": None if self.config_path is None else str(self.config_path),
            "root": str(self.config.root),
            "snapshot_id": self.snapshot_id,
            "snapshot_name": self.snapshot_name,
            "input": self.input.to_dict(),
            "versions": {name: found.to_dict() for name, found in self.versions.items()},
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "timings": dict(self.timings),
            "settings": dict(self.settings),
            "environment": dict(self.environment),
            "hardware": dict(self.hardware),
            "git": None if self.git is None else asdict(self.git),
            "cluster_id": self.cluster_id,
            "repeat": None if self.repeat is None else self.repeat.to_dict(),
            "repeats": self.repeats,
            "asked_at": self.asked_at,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], *, home: Home) -> Run:
        """The run that `to_dict` was called on.

        Raises:
            RunError: the record is of another version of mlstream, or damaged.
        """
        if found.get("format") != FORMAT:
            raise RunError(
                f"run {str(found.get('id'))[:12]}: its record has the format {found.get('format')}; "
                f"this mlstream reads {FORMAT}",
                hint="run it again",
            )
        try:
            config = ExperimentConfig.model_validate(found["config"])
            if found["config_path"] is not None:
                config = config.located(Path(found["config_path"]), Path(found["root"]))
            versions = {
                name: VersionOutcome.from_dict(part, log=log_path(home, found["id"], name))
                for name, part in found["versions"].items()
            }
            return cls(
                id=found["id"],
                key=found["key"],
                attempt=found["attempt"],
                status=found["status"],
                config=config,
                snapshot_id=found["snapshot_id"],
                snapshot_name=found["snapshot_name"],
                input=Input.from_dict(found["input"]),
                versions=versions,
                started_at=found["started_at"],
                finished_at=found["finished_at"],
                timings=found["timings"],
                settings=found["settings"],
                environment=found["environment"],
                hardware=found["hardware"],
                git=None if found["git"] is None else GitState(**found["git"]),
                home=home,
                cluster_id=found.get("cluster_id"),
                repeat=None if found.get("repeat") is None else Repeat.from_dict(found["repeat"]),
                repeats=found.get("repeats"),
                asked_at=found.get("asked_at"),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise RunError(
                f"run {str(found.get('id'))[:12]}: its record is damaged: {exc}", hint="run it again"
            ) from exc


def config_values(config: ExperimentConfig) -> dict[str, Any]:
    """A configuration as JSON values, without its connection: that holds passwords, and decides no prediction."""
    return config.model_dump(mode="json", exclude={"connection"})


def open_run(run_id: str | None = None, *, experiment: str | None = None, home: Home | str | Path | None = None) -> Run:
    """The run with that id, or beginning of an id (4 digits or more); the newest when None, that repeats no other.

    Args:
        experiment: the newest run of this one; not together with an id.
        home: where runs are kept; found as `find_home` says when None.

    Raises:
        UnknownRun: there is none, or the beginning fits more than one.
        RunError: its record is damaged.
    """
    home = home if isinstance(home, Home) else find_home(home)
    if run_id is not None:
        if experiment is not None:
            raise UsageError("a run's id says which it is; give the id or the experiment")
        return Run.from_dict(read_record(home, find_id(home, run_id)), home=home)
    own = (found for found in read_records(home) if found.get("repeats") is None)
    newest = next((found for found in own if experiment is None or found.get("experiment") == experiment), None)
    if newest is None:
        of = "" if experiment is None else f" of {experiment}"
        raise UnknownRun(f"no runs{of} in {home.runs}", hint="make one: mlstream run CONFIG --snapshot NAME")
    return Run.from_dict(newest, home=home)


def list_runs(home: Home | str | Path | None = None, *, repeats: bool = False) -> list[Run]:
    """All runs, the newest first: the one that was asked for last.

    Args:
        repeats: also those that computed another's baseline again.

    Raises:
        RunError: a record is damaged.
    """
    found, damaged = readable_runs(home, repeats=repeats)
    if damaged is not None:
        raise damaged
    return found


def readable_runs(home: Home | str | Path | None = None, *, repeats: bool = False) -> tuple[list[Run], RunError | None]:
    """The runs whose records can be read, as `list_runs` has them, and the error of one that cannot."""
    home = home if isinstance(home, Home) else find_home(home)
    records, damaged = readable_records(home)
    found = []
    for record in records:
        if not repeats and record.get("repeats") is not None:
            continue
        try:
            found.append(Run.from_dict(record, home=home))
        except RunError as exc:
            damaged = exc if damaged is None else damaged
    return found, damaged


def _short(found: VersionOutcome) -> str:
    return f"failed: {_reason(found)}" if found.status == "failed" else "was cut off"


def explain(found: VersionOutcome) -> str:
    """Why a version failed, what to do about it, where its log is and how that ends, a line each."""
    lines = [] if found.hint is None else [f"fix: {found.hint}"]
    lines.append(f"its log: {found.log}")
    return _reason(found) + "".join(f"\n  {line}" for line in [*lines, *(f"  {line}" for line in found.log_tail)])


def _reason(found: VersionOutcome) -> str:
    """Why a version failed, for a sentence that has its name already."""
    return str(found.error).removeprefix(f"version {found.name}: ")
