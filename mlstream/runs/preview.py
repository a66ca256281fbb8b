"""What a run would do, without doing it: what is computed, resumed and reused, and how much. Makes nothing.

It finds and checks all that a run does before it starts, and so fails where the run would. The input is decoded for it,
which any run needs and keeps as a view; the cluster is asked, and nothing is written to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.offsets import committed
from mlstream.broker.transactions import check_transactions
from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.runs.attempt import Listener, Progress
from mlstream.runs.errors import undecodable
from mlstream.runs.machine import threads_for
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import free_attempt
from mlstream.runs.prepare import Known, Prepared, prepare, what_is_known
from mlstream.runs.record import is_computed
from mlstream.runs.replay import check_portable, resumable
from mlstream.runs.run import Run
from mlstream.runs.shard import group_of
from mlstream.snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from mlstream.snapshots.views import View

Action = Literal["compute", "resume", "reuse"]


@dataclass(frozen=True, slots=True)
class VersionPreview:
    """What a run would do about a version.

    Attributes:
        name: the version's.
        action: "compute" all of it, "resume" where it was cut off, or "reuse" what is there.
        digest: of the version, 64 hex digits.
        rows, batches: that the model would get; 0 when it is reused.
        topic: where its predictions go, or are.
        reused: the id of the run that has computed it; None unless it is reused.
    """

    name: str
    action: Action
    digest: str
    rows: int
    batches: int
    topic: str | None
    reused: str | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a run would do.

    Attributes:
        run_id: of the run that it would be: the next attempt, the one that is gone on with, or the one that is there.
        key: of the run; the same key means the same run.
        action: "reuse" when an earlier run is the whole answer; "resume" or "compute".
        computed_now: another process is computing the same run; a second one would be refused.
        snapshot_id, topic: the input.
        rows, partitions: of the input, as it is decoded.
        undecodable: records beside these that do not decode, and go to the errors topics.
        workers, threads: processes a version, and threads of each.
        versions: in the configuration's order.
    """

    run_id: str
    key: str
    action: Action
    computed_now: bool
    snapshot_id: str
    topic: str
    rows: int
    partitions: int
    workers: int
    threads: int
    versions: tuple[VersionPreview, ...]
    undecodable: int = 0


def preview(
    config: ExperimentConfig | str | Path,
    *,
    snapshot: str | Snapshot,
    versions: Sequence[str] | None = None,
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    workers: int = 1,
    force: bool = False,
    progress: Listener | None = None,
) -> Preview:
    """What `run` with the same arguments would do. It writes no record and makes no topic.

    The input is decoded for it and environments are built, which `progress` is told of: both are kept, and any run
    needs them.

    Raises:
        ConfigError, UnknownSnapshot, UnknownTopic, UnknownVersion, VersionLoadError, DecodeError, UsageError:
            something is not there or not right.
        BrokerError: the cluster cannot be used, and would be needed.
    """
    tell = progress if progress is not None else _tell_nobody
    found = prepare(
        config,
        snapshot=snapshot,
        versions=versions,
        home=home,
        on_decoding=lambda rows: tell(Progress("decoding", total=rows)),
        on_building=lambda version, _: tell(Progress("building", version)),
    )
    known = what_is_known(found)
    busy = is_computed(found.home, found.plan.key)
    if known.done is not None and not force:
        return _preview(found, known.done.id, "reuse", _reused(known.done), busy, workers)
    given = connection if connection is not None else find_connection(found.home, settings=found.config.connection)
    check_portable(given)
    with Client(given) as client:
        check_transactions(client)
        cut_off = None if force else resumable(client, known.earlier)
        if cut_off is not None:
            return _preview(found, cut_off.id, "resume", _resumed(client, found, cut_off), busy, workers)
        attempt = free_attempt(client, found.plan, (*known.earlier, *known.repeats))
    each = _computed(found, known, attempt, force=force)
    return _preview(found, found.plan.run_id(attempt), "compute", each, busy, workers)


def _reused(done: Run) -> list[VersionPreview]:
    return [
        VersionPreview(name, "reuse", outcome.digest, 0, 0, outcome.topic, _computed_by(done, outcome))
        for name, outcome in done.versions.items()
    ]


def _computed_by(run: Run, outcome: VersionOutcome) -> str:
    return run.id if outcome.reused is None else outcome.reused


def _resumed(client: Client, found: Prepared, cut_off: Run) -> list[VersionPreview]:
    each = []
    for name, outcome in cut_off.versions.items():
        if outcome.status == "complete":
            each.append(VersionPreview(name, "reuse", outcome.digest, 0, 0, outcome.topic, outcome.reused))
            continue
        got_to = committed(client, group_of(cut_off.id, name), str(outcome.topic), found.view.partitions)
        left = {part: _rows_from(found.view, part, position) for part, position in got_to.items()}
        each.append(_work(found, name, "resume", outcome.digest, left, outcome.topic))
    return each


def _computed(found: Prepared, known: Known, attempt: int, *, force: bool) -> list[VersionPreview]:
    topics = found.plan.topics(attempt)
    each = []
    for version in found.plan.versions:
        earlier = None if force else known.computed.get(version.name)
        if earlier is not None:
            each.append(VersionPreview(version.name, "reuse", version.digest, 0, 0, earlier.topic, earlier.reused))
        else:
            each.append(_work(found, version.name, "compute", version.digest, found.view.rows, topics[version.name]))
    return each


def _work(
    found: Prepared, name: str, action: Action, digest: str, rows: dict[int, int], topic: str | None
) -> VersionPreview:
    batch_rows = found.config.batch_rows
    batches = sum(-(-count // batch_rows) for count in rows.values())
    return VersionPreview(name, action, digest, sum(rows.values()), batches, topic)


def _rows_from(view: View, partition: int, position: int | None) -> int:
    """The rows of a partition at or after an offset; all when it is None."""
    if position is None:
        return view.rows[partition]
    offsets = view.stretches(partition, ["_offset"]).offsets
    return len(offsets) - int(np.searchsorted(offsets, position, side="left"))


def _preview(
    found: Prepared, run_id: str, action: Action, each: Sequence[VersionPreview], busy: bool, workers: int
) -> Preview:
    processes = max(1, min(workers, len(found.view.partitions)))
    running = sum(version.action != "reuse" for version in each)
    return Preview(
        run_id=run_id,
        key=found.plan.key,
        action=action,
        computed_now=busy,
        snapshot_id=found.source.id,
        topic=found.config.input.topic,
        rows=sum(found.view.rows.values()),
        partitions=len(found.view.partitions),
        workers=processes,
        threads=threads_for(max(1, running) * processes),
        versions=tuple(each),
        undecodable=undecodable(found.view),
    )


def _tell_nobody(progress: Progress) -> None:
    """The listener when none was given."""
