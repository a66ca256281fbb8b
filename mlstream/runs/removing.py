"""Remove a run: what it left on the cluster, in the store and on the disk. Deletes no snapshot: that is gc's.

1. nothing may refer to it, and nobody may compute it
2. its topics, by their ids, and the consumer groups that hold its progress
3. the names of its frozen outputs
4. its logs and its record, last: a removal that is cut off is done again

What another run has taken from it stays, until that run is removed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlstream.broker.admin import delete_topic_by_id
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.broker.groups import delete_group
from mlstream.errors import BrokerError, NameTaken, Protected, RunError, UnknownSnapshot
from mlstream.home import Home
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import drop_beside
from mlstream.runs.record import alone, remove_record
from mlstream.runs.run import Run, list_runs
from mlstream.runs.shard import group_of
from mlstream.snapshots.names import remove as remove_names
from mlstream.snapshots.references import digests_in
from mlstream.snapshots.remote_home import refresh
from mlstream.snapshots.store import Store

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed with a run.

    Attributes:
        run_id: which run.
        topics, groups: that were deleted on the cluster.
        names: of its frozen outputs; the data stays until a gc.
        stays: what was left, and why, a sentence each.
        comparisons: ids of those that refer to the run that is gone.
    """

    run_id: str
    topics: tuple[str, ...]
    groups: tuple[str, ...]
    names: tuple[str, ...]
    stays: tuple[str, ...]
    comparisons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Output:
    """What a version of the run left: its topic, its group, and the name of what was frozen of it."""

    outcome: VersionOutcome
    group: str
    shared_with: str | None


def remove_run(
    run: Run, *, connection: Connection | None = None, force: bool = False, keep_topics: bool = False
) -> list[Removed]:
    """Remove a run, and the runs that computed its baseline again.

    Args:
        connection: the cluster that its topics are on; found as `find_connection` says when None.
        force: also when comparisons refer to it; they stay, and name a run that is not there any more.
        keep_topics: leave its topics and groups as they are; the cluster is not asked.

    Returns:
        What was removed, one for each run; this one last.

    Raises:
        RunError: a comparison refers to it, it is being computed, or its topics are on another cluster.
        BrokerError: the cluster cannot be used; nothing was removed but what the error comes after.
        StoreError: the home cannot be written.
    """
    # 1. nothing refers to it
    everything = list_runs(run.home, repeats=True)
    runs = [*(found for found in everything if found.repeats == run.id), run]
    referring = {found.id: _comparisons(run.home, found) for found in runs}
    named = sorted({each for found in referring.values() for each in found})
    if named and not force:
        raise RunError(
            f"run {run.id[:_SHOWN]}: comparisons refer to it: {', '.join(each[:_SHOWN] for each in named)}",
            hint="keep it, or remove it all the same with --force: they then name a run that is gone",
            run_id=run.id,
            comparisons=named,
        )
    going = {found.id for found in runs}
    left = [found for found in everything if found.id not in going]
    return [_remove(found, left, referring[found.id], connection=connection, keep_topics=keep_topics) for found in runs]


def _remove(
    run: Run, left: Sequence[Run], comparisons: Sequence[str], *, connection: Connection | None, keep_topics: bool
) -> Removed:
    outputs = [_output(run, name, outcome, left) for name, outcome in run.versions.items()]
    own = [each for each in outputs if each.shared_with is None]
    stays = [
        f"{each.outcome.topic}: run {each.shared_with[:_SHOWN]} has taken it"
        for each in outputs
        if each.shared_with is not None
    ]
    topics: list[str] = []
    groups: list[str] = []
    with alone(run.home, run.key, what=f"run {run.id[:_SHOWN]}"):
        # 2. on the cluster
        if keep_topics:
            for each in own:
                topic = each.outcome.topic
                stays += [f"{name}: topics are kept" for name in (topic, *each.outcome.beside) if name is not None]
        elif own:
            given = connection if connection is not None else find_connection(run.home)
            try:
                with Client(given) as client:
                    _check_cluster(client, run)
                    for each in own:
                        stays += _clear(client, each, topics, groups)
            except BrokerError as exc:
                hint = "`--keep-topics` removes the rest of the run and leaves its topics"
                raise type(exc)(
                    exc.message, hint=hint if exc.hint is None else f"{exc.hint}; {hint}", **exc.facts
                ) from exc
        # 3. the names of what was frozen
        names, kept = _drop_names(Store(run.home), own)
        # 4. the record last
        remove_record(run.home, run.id)
    return Removed(run.id, tuple(topics), tuple(groups), tuple(names), (*stays, *kept), tuple(comparisons))


def _comparisons(home: Home, run: Run) -> list[str]:
    """The comparisons whose records mention the run."""
    refresh(home)
    found = []
    for path in sorted(home.comparisons.glob("*.json")):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # removed since it was listed
        if run.id in digests_in(data):
            found.append(path.stem)
    return found


def _output(run: Run, name: str, outcome: VersionOutcome, left: Sequence[Run]) -> _Output:
    computed_by = outcome.reused if outcome.reused is not None else run.id
    shared_with = next(
        (
            other.id
            for other in left
            for theirs in other.versions.values()
            if outcome.topic_id and theirs.topic_id == outcome.topic_id and theirs.topic is not None
        ),
        None,
    )
    return _Output(outcome, group_of(computed_by, name), shared_with if outcome.topic is not None else None)


def _check_cluster(client: Client, run: Run) -> None:
    if run.cluster_id is not None and run.cluster_id != client.cluster_id:
        raise RunError(
            f"run {run.id[:_SHOWN]}: its topics are on the cluster {run.cluster_id}, "
            f"and {client.connection.servers} is {client.cluster_id}",
            hint="name the other with --bootstrap-servers, or leave its topics with --keep-topics",
            run_id=run.id,
        )


def _clear(client: Client, output: _Output, topics: list[str], groups: list[str]) -> Iterator[str]:
    """Delete a topic and a group; note what was deleted, and say what was not, and why."""
    topic, topic_id = output.outcome.topic, output.outcome.topic_id
    topics += drop_beside(client, output.outcome)
    if topic is not None and not topic_id:
        yield f"{topic}: its id was never noted, so nobody knows whether the topic is the run's"
    elif topic is not None and topic_id:
        if delete_topic_by_id(client, topic, topic_id):
            topics.append(topic)
        else:
            yield f"{topic}: the cluster has no topic of that name and id"
    if delete_group(client, output.group):
        groups.append(output.group)


def _drop_names(store: Store, outputs: Sequence[_Output]) -> tuple[list[str], list[str]]:
    """Take the names of frozen outputs away; the names that are gone, and why others stay."""
    gone, stays = [], []
    known = store.refs()
    for each in outputs:
        for name, snapshot_id in each.outcome.frozen.items():
            if known.get(name) != snapshot_id:
                continue  # it stands for something else by now
            try:
                gone += [removed.name for removed in remove_names(store, [name])]
            except UnknownSnapshot:
                continue
            except (Protected, NameTaken) as exc:
                stays.append(f"snapshot {exc.message.removeprefix('snapshot ')}")
    return gone, stays
