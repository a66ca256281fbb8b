"""Ask a version for the same records in batches of several sizes and say whether it answers the same. Writes nothing.

The grid of batches is ours, not the data's: an answer that depends on it is an artefact. It happens: a model that
scales by the mean of what it is given, sums whose last bits depend on where a row stands, state that is not declared.
A version that keeps state as it should is begun anew for each size, and has no excuse either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from mlstream.config import ExperimentConfig, load_config
from mlstream.errors import PredictError, RunError, UsageError
from mlstream.home import Home, find_home
from mlstream.host.host import Host
from mlstream.host.log import tail_of
from mlstream.host.spec import HostSpec, Limits
from mlstream.ranges import parse_size
from mlstream.runs.batch_figures import Asked, BatchCheck, Mismatch
from mlstream.runs.machine import limited_environment, threads_for
from mlstream.runs.repeat import differences
from mlstream.runs.worker import RECORD_COLUMNS
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.views import View
from mlstream.versions import Record, Version, missing_columns, resolve_version

SAMPLE_ROWS = 20_000
_SIZES = (1, 7)  # alone; and one that divides no power of two, so that rows move within the batch
_LEAST_BATCHES = 2  # of the experiment's size, of each partition that is asked for
_MOST_BATCHES = 500  # of a size: a call costs about a millisecond, and an estimator some more
_PLACE = ("source_partition", "source_offset")

Listener = Callable[[int, bool], None]


def check_batches(
    config: ExperimentConfig | str | Path,
    version: str,
    *,
    snapshot: str | Snapshot,
    rows: int = SAMPLE_ROWS,
    home: Home | str | Path | None = None,
    progress: Listener | None = None,
    on_building: Callable[[str], None] | None = None,
) -> BatchCheck:
    """Ask a version for the first records of each partition: in batches as a run has them, again, one by one, in
    sevens, and all at once. Small batches are asked for fewer records.

    Args:
        config: an experiment or its file.
        version: which of its versions.
        snapshot: the records, or their name or id.
        rows: how many records, over all partitions.
        home: where snapshots are kept; found as `find_home` says when None.
        progress: called with a size before its batches are asked for, and whether that is the second time.
        on_building: called with the name of an environment's file before it is built, which may take minutes.

    Raises:
        UnknownVersion, UnknownSnapshot, UnknownTopic, VersionLoadError, TrackingError, DecodeError: something is not
            there.
        PredictError, HostFailed: the model failed.
        UsageError: there is nothing to ask.
    """
    if rows < 1:
        raise UsageError(f"{rows} records tell nothing", hint="ask for more")
    home = home if isinstance(home, Home) else find_home(home)
    config = config if isinstance(config, ExperimentConfig) else load_config(config)
    source = snapshot if isinstance(snapshot, Snapshot) else open_snapshot(snapshot, home=home)
    # Its answers are looked at, not kept: what differs from a commit is no matter.
    config = config.model_copy(update={"dirty": "record"})
    found = resolve_version(config, version, home=home, on_building=on_building)
    view = source.view(config.input.topic, config.input.decode)
    absent = None if found.features is None else missing_columns(found.features, [name for name, _ in view.columns])
    if absent is not None:
        raise UsageError(f"version {version}: {absent}", hint="correct its features")
    sample = _sample(view, rows, config.batch_rows)
    if not sample:
        raise UsageError(f"{view.topic} has no records in this snapshot", hint="choose another snapshot")
    log = home.path / "checks" / config.experiment / f"{version}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    tell = progress if progress is not None else _tell_nobody
    with source.store.in_use(source.id, f"a check of {config.experiment}"), _start(found, log) as host:
        host.load()
        asking = _Asking(host, found, view, tell)
        try:
            usual, _ = asking.ask(config.batch_rows, sample)
            again = asking.compare(usual, config.batch_rows, sample, again=True)
            sizes = tuple(
                asking.compare(usual, size, _fewer(sample, size)) for size in _sizes(sample, config.batch_rows)
            )
            host.finish()
        except PredictError as exc:
            tail = "".join(f"\n  {line}" for line in tail_of(log))
            raise PredictError(f"{exc.message}{tail}", hint=exc.hint, **exc.facts) from exc
    return BatchCheck(
        version=version,
        digest=found.digest,
        snapshot_id=source.id,
        snapshot_name=source.name,
        topic=view.topic,
        records=sum(sample.values()),
        stateful=host.stateful,
        again=again,
        sizes=sizes,
    )


class _Asking:
    """A model that is loaded, and the records that it is asked for."""

    def __init__(self, host: Host, version: Version, view: View, tell: Listener) -> None:
        self._host = host
        self._view = view
        self._tell = tell
        own = version.config.versions[version.name]
        self._most_refused = sum(view.rows.values()) if own.on_error == "errors" else None

    def compare(self, usual: pl.DataFrame, size: int, sample: dict[int, int], *, again: bool = False) -> Asked:
        """Ask in batches of one size, and hold the answers against the usual ones."""
        self._tell(size, again)
        began = time.monotonic()
        now, batches = self.ask(size, sample)
        seconds = time.monotonic() - began
        key = list(_PLACE)
        before = usual.join(now.select(key), on=key, how="semi", maintain_order="left")
        differing, largest, first = _compare(before, now)
        return Asked(size, batches, now.height, differing, largest, first, seconds)

    def ask(self, size: int, sample: dict[int, int]) -> tuple[pl.DataFrame, int]:
        """The answers: `source_partition`, `source_offset`, `refused` (why, or null) and the predictions' columns."""
        parts: list[pl.DataFrame] = []
        for partition, rows in sample.items():
            if self._host.stateful:
                self._host.begin(partition)
            offsets = self._view.partition(partition)["_offset"].head(rows)
            for start in range(0, rows, size):
                parts.append(self._batch(partition, start, offsets.slice(start, size)))
            if self._host.stateful:
                self._host.forget(partition)
        return pl.concat(parts, how="diagonal"), len(parts)

    def _batch(self, partition: int, start: int, offsets: pl.Series) -> pl.DataFrame:
        answer = self._host.predict_rows(
            self._view.file(partition),
            start,
            len(offsets),
            first=Record(self._view.topic, partition, int(offsets[0])),
            most_refused=self._most_refused,
        )
        why = {each.row: each.reason for each in answer.refused}
        rows = pl.DataFrame(
            {
                "source_partition": pl.Series([partition] * len(offsets), dtype=pl.Int32),
                "source_offset": offsets.alias("source_offset"),
                "refused": pl.Series([why.get(row) for row in range(len(offsets))], dtype=pl.String),
            }
        )
        answered = rows.filter(pl.col("refused").is_null())
        if not answer.predictions.width:
            return rows
        predicted = pl.concat([answered, answer.predictions], how="horizontal")
        refused = rows.filter(pl.col("refused").is_not_null())
        return pl.concat([predicted, refused], how="diagonal").sort("source_offset") if refused.height else predicted


def _compare(before: pl.DataFrame, now: pl.DataFrame) -> tuple[int, float, Mismatch | None]:
    """How many answers differ, by how much at most, and the first that does."""
    one_refused = before["refused"].is_null() != now["refused"].is_null()
    both = before["refused"].is_null() & now["refused"].is_null()
    first = None
    if one_refused.any():
        row = int(one_refused.arg_max() or 0)
        partition, offset = before.select(_PLACE).row(row)
        first = Mismatch(partition, offset, "refused", before["refused"][row], now["refused"][row])
    try:
        found = differences(before.filter(both).drop("refused").lazy(), now.filter(both).drop("refused").lazy())
    except RunError as exc:  # the records are the same, so it is the columns
        raise PredictError(
            f"the answers have other columns in batches of another size: {_words(before)}, then {_words(now)}",
            hint="return the same columns of the same types for every batch",
        ) from exc
    if found.first is not None:
        row, column, usual, other = found.first
        partition, offset = before.filter(both).select(_PLACE).row(row)
        if first is None or (partition, offset) < (first.partition, first.offset):
            first = Mismatch(partition, offset, column, usual, other)
    return int(one_refused.sum()) + int(found.rows.sum()), found.largest, first


def _words(frame: pl.DataFrame) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in frame.schema.items() if name not in (*_PLACE, "refused"))


def _sample(view: View, rows: int, batch_rows: int) -> dict[int, int]:
    """How many records of each partition: about as many of each, and of so few partitions that it is more than a batch.

    (A partition that is one batch anyway is cut the same when it is asked all at once.)
    """
    by_size = sorted(view.partitions, key=lambda partition: view.rows[partition])
    chosen: dict[int, int] = {}
    left = rows
    asked = by_size[-max(1, rows // (_LEAST_BATCHES * batch_rows)) :]
    for number, partition in enumerate(asked):
        share = -(-left // (len(asked) - number))
        chosen[partition] = min(view.rows[partition], share)
        left -= chosen[partition]
    return {partition: chosen[partition] for partition in view.partitions if chosen.get(partition)}


def _sizes(sample: dict[int, int], batch_rows: int) -> list[int]:
    """The sizes to ask in, without those that cut the sample as batches of the experiment's size do."""
    most = max(sample.values())
    return sorted({size for size in (*_SIZES, most) if min(size, most) != min(batch_rows, most)})


def _fewer(sample: dict[int, int], size: int) -> dict[int, int]:
    """The beginning of a sample, so much that batches of that size do not become too many."""
    most = max(1, _MOST_BATCHES // len(sample)) * size
    return {partition: min(rows, most) for partition, rows in sample.items()}


def _start(version: Version, log: Path) -> Host:
    own, config = version.config.versions[version.name], version.config
    return Host(
        HostSpec(load=version.load_spec, seed=config.seed, leave_out=RECORD_COLUMNS),
        limits=Limits(memory_bytes=None if own.memory is None else parse_size(own.memory), timeout_s=own.timeout_s),
        log=log,
        python=version.python,
        variables=limited_environment(threads_for(1), config.seed),
    )


def _tell_nobody(_size: int, _again: bool) -> None:
    """The listener when none was given."""
