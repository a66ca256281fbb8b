"""Read what a comparison needs of a run: records, predictions, labels, costs, repeats. Compares nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mlstream.comparison.compare import Evidence, Origin, Other
from mlstream.comparison.cost import read_cost
from mlstream.comparison.labels import absent_columns, needed_columns
from mlstream.comparison.result import Cost, Floor
from mlstream.comparison.table import LateTable
from mlstream.config import DecodeConfig, LabelConfig
from mlstream.errors import ComparisonError, CoverageError, LabelError, RunError, UnknownSnapshot
from mlstream.reporting.label_rows import read_label_rows
from mlstream.reporting.own_functions import load_functions
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.run import Run, open_run
from mlstream.snapshots.snapshot import Snapshot

_PLACE = ("_partition", "_offset", "_timestamp")


def read_evidence(run: Run, *, against: Snapshot | None = None) -> Evidence:
    """What the complete versions of a run said, of which records, and what was true.

    Args:
        run: complete, or partial.
        against: another snapshot, whose records of the run's topic the input is held against.

    Raises:
        CoverageError, LabelError, ComparisonError: the run, its snapshot or the other one does not hold what is needed.
    """
    config = run.config
    names = complete_versions(run)
    snapshot = _scored(run)
    records, columns, labels = _read_input(run, snapshot)
    return Evidence(
        records=records,
        predictions=_Predictions(run, names),
        errors={name: run.versions[name].refused for name in names},
        labels=labels,
        classes={name: known for name in names if (known := run.versions[name].classes) is not None},
        against=None if against is None else _read_other(against, config.input.topic, config.input.decode),
        functions=load_functions(config),
        costs=tuple(_cost(run.versions[name]) for name in names),
        floor=_floor(run),
        repeats=_repeats(run),
        columns=columns,
    )


@dataclass(frozen=True, slots=True)
class _Predictions(Mapping[str, pl.DataFrame]):
    """Version → its predictions, read when they are asked for and not kept."""

    run: Run
    names: Sequence[str]

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self.names:
            raise KeyError(name)
        return _read_predictions(self.run, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_origin(run: Run) -> Origin:
    """Where the evidence of a run came from."""
    return Origin(
        run_id=run.id,
        snapshot_id=run.snapshot_id,
        snapshot_name=run.snapshot_name,
        outputs={
            name: output for name in complete_versions(run) if (output := run.versions[name].output_id) is not None
        },
        left_out=tuple(name for name, outcome in run.versions.items() if outcome.status != "complete"),
        undecodable=max(run.versions[name].undecodable for name in complete_versions(run)),
    )


def complete_versions(run: Run) -> list[str]:
    """The versions that answered every record."""
    return [name for name, outcome in run.versions.items() if outcome.status == "complete"]


def _scored(run: Run) -> Snapshot:
    try:
        return run.snapshot
    except UnknownSnapshot as exc:
        named = "" if run.snapshot_name is None else f"{run.snapshot_name} "
        raise UnknownSnapshot(
            f"run {run.id[:12]}: the snapshot that it scored, {named}{run.snapshot_id[:12]}, is not in {run.home.path} "
            "any more",
            hint="bring it back: mlstream snapshot pull",
            run_id=run.id,
        ) from exc


def _read_input(run: Run, snapshot: Snapshot) -> tuple[pl.DataFrame, LateTable, pl.DataFrame | None]:
    """The records that were scored with what is needed of each, all their columns, and labels from elsewhere."""
    config = run.config
    rule = config.labels
    whole = snapshot.scan(config.input.topic, decode=config.input.decode)
    names = whole.collect_schema().names()
    if rule is None:
        records = whole.select(_PLACE).collect().rechunk()
        return records, LateTable(whole, _record_columns(names), records.height), None
    of_record, of_label = needed_columns(rule)
    absent = [name for name in of_record if name not in names]
    if absent:
        key = "labels.value" if rule.source is None else "labels.on"
        raise absent_columns(key, absent, "the record", names)
    # Functions of the experiment's own are given all columns; of a misspelt group all are told.
    group = () if config.ranking is None else (config.ranking.group,)
    every = bool(config.custom_metrics) or not set(group) <= set(names)
    needed = _record_columns(names if every else (), (*of_record, *(() if every else group)))
    records = whole.select(needed).collect().rechunk()
    columns = LateTable(whole, _record_columns(names, of_record), records.height)
    if rule.source is None:
        return records, columns, None
    if rule.topic is None:
        return records, columns, read_label_rows(rule, snapshot)
    return records, columns, _scan(snapshot, _label_topic(rule, snapshot), rule.decode, of_label)


def _record_columns(names: Sequence[str], needed: Sequence[str] = ()) -> list[str]:
    """Where the record is, its own columns, and others that are needed."""
    own = [name for name in names if not name.startswith("_")]
    return list(dict.fromkeys([*_PLACE, *own, *needed]))


def _label_topic(rule: LabelConfig, snapshot: Snapshot) -> str:
    topic = str(rule.topic)
    if topic not in snapshot.topics:
        raise LabelError(
            f"labels.topic: snapshot {snapshot.name or snapshot.id[:12]} holds no topic {topic!r}; "
            f"it holds: {', '.join(snapshot.topics)}",
            hint=f"freeze both together: mlstream snapshot create NAME --topic … --topic {topic}",
        )
    return topic


def _scan(snapshot: Snapshot, topic: str, decode: DecodeConfig, columns: Sequence[str]) -> pl.DataFrame:
    frame = snapshot.scan(topic, decode=decode)
    if not set(columns) <= set(frame.collect_schema().names()):
        # The join words the error; to suggest a column it must see all of them.
        return frame.head(1).collect()
    return frame.select(*_PLACE, *(name for name in columns if name not in _PLACE)).collect()


def _read_predictions(run: Run, version: str) -> pl.DataFrame:
    try:
        frame = run.predictions(version)
        if "floats" in run.outcome(version).columns.values():
            frame = frame.collect().lazy()  # lists are decoded now: once
        strange = frame.select(pl.col("source_topic").unique()).collect(engine="streaming")["source_topic"].to_list()
        said = frame.drop("source_topic", "timestamp").collect().rechunk()
    except UnknownSnapshot as exc:
        raise UnknownSnapshot(
            f"run {run.id[:12]}: the predictions of {version} are not in {run.home.path} any more",
            hint="bring them back, mlstream snapshot pull, or compute them again, mlstream run --force",
            run_id=run.id,
            version=version,
        ) from exc
    if strange not in ([], [run.input.topic]):
        raise CoverageError(
            f"{version}: its predictions are for {', '.join(sorted(strange))}, and the run scored {run.input.topic}",
            version=version,
        )
    return said


def _read_other(snapshot: Snapshot, topic: str, decode: DecodeConfig) -> Other:
    if topic not in snapshot.topics:
        raise ComparisonError(
            f"snapshot {snapshot.name or snapshot.id[:12]} holds no topic {topic!r}; "
            f"it holds: {', '.join(snapshot.topics)}",
            hint="name a snapshot of the same topic with --against",
        )
    frame = snapshot.scan(topic, decode=decode)
    names = frame.collect_schema().names()
    rows = int(frame.select(pl.len()).collect().item())
    return Other(snapshot.id, snapshot.name, LateTable(frame, _record_columns(names), rows))


def _cost(outcome: VersionOutcome) -> Cost:
    scored = 0 if outcome.measured is None else outcome.measured.rows
    return read_cost(outcome.name, outcome.figures, scored=scored, reused=outcome.reused)


def _floor(run: Run) -> Floor | None:
    repeat = run.repeat
    if repeat is None:
        return None
    return Floor(repeat.version, len(repeat.run_ids) + 1, repeat.rows, repeat.differing, repeat.largest)


def _repeats(run: Run) -> tuple[pl.DataFrame, ...]:
    """The predictions of the computations that repeat the baseline; of those that the home still has."""
    if run.repeat is None or run.repeat.equal:
        return ()
    found = []
    for run_id in run.repeat.run_ids:
        try:
            found.append(_read_predictions(open_run(run_id, home=run.home), run.repeat.version))
        except RunError:
            continue
    return tuple(found)
