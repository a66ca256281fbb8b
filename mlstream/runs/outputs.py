"""A run's output topics: make them, find those of a cut-off attempt, freeze them, check that nothing is missing.

Never writes into a topic that was there before, and deletes a topic only when a record of this home says, by name and
by topic id, that it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mlstream.broker.admin import KEEP_EVERYTHING, create_topic, delete_topic_by_id, topic_config
from mlstream.broker.client import Client
from mlstream.broker.settling import settled_bounds
from mlstream.errors import BrokerError, BrokerRefused, EmptyRange, RunError, UnknownTopic
from mlstream.home import Home
from mlstream.naming import errors_topic, state_topic
from mlstream.runs.checking import check_output
from mlstream.runs.errors import HEADER_ROOM_BYTES
from mlstream.runs.errors_topic import DEFAULT_MESSAGE_BYTES
from mlstream.runs.layout import decoder
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.plan import Plan
from mlstream.runs.record import write_record
from mlstream.runs.run import Run
from mlstream.snapshots.capture import snapshot
from mlstream.snapshots.snapshot import Snapshot

if TYPE_CHECKING:
    from mlstream.snapshots.views import View


def free_attempt(client: Client, plan: Plan, earlier: Sequence[Run]) -> int:
    """The next attempt of a plan that has neither a record here nor a topic on the cluster (of another home, say)."""
    there = set(client.topics())
    attempt = max((run.attempt for run in earlier), default=0) + 1
    while any(not there.isdisjoint((topic, *names_beside(topic))) for topic in plan.topics(attempt).values()):
        attempt += 1
    return attempt


def clear_leftovers(client: Client, home: Home, earlier: Sequence[Run]) -> None:
    """Delete the topics of attempts that were cut off, and note it in their records."""
    for run in earlier:
        left = {name: found for name, found in run.versions.items() if found.status == "incomplete"}
        if run.status != "incomplete" or all(found.topic is None for found in left.values()):
            continue
        for found in left.values():
            drop_beside(client, found)
            if found.topic is not None and found.topic_id:
                delete_topic_by_id(client, found.topic, found.topic_id)
        gone = {**run.versions, **{name: _without_topics(found) for name, found in left.items()}}
        write_record(home, replace(run, versions=gone).to_dict())


def still_there(client: Client, run: Run) -> bool:
    """Whether the cluster has every topic of a run that was cut off, so that it can go on."""
    for found in run.versions.values():
        if found.status == "complete":  # an earlier run has computed it
            continue
        if found.topic is None or not found.topic_id:
            return False
        wanted = {found.topic: found.topic_id, **found.beside}
        try:
            if any(client.topic(topic).topic_id != topic_id for topic, topic_id in wanted.items()):
                return False
        except UnknownTopic:
            return False
    return True


def make_topics(client: Client, topics: Mapping[str, str], *, like: str, at_least: int) -> dict[str, str]:
    """Make the topics of a run, which keep everything, and take a message as large as one of the scored topic.

    Args:
        topics: version → topic.
        like: the scored topic; if the cluster has it, its number of partitions is taken, and its largest message.
        at_least: how many partitions the scored snapshot needs.

    Returns:
        version → the topic's id.

    Raises:
        TopicExists: one is there already; it is not touched.
    """
    partitions, settings = at_least, dict(KEEP_EVERYTHING)
    with suppress(UnknownTopic, BrokerRefused):  # it may be read, but not described
        partitions = max(partitions, len(client.topic(like).partitions))
        most = int(topic_config(client, like).get("max.message.bytes", DEFAULT_MESSAGE_BYTES))
        if most > DEFAULT_MESSAGE_BYTES:  # a prediction has the key of its record, whatever its size
            settings["max.message.bytes"] = str(most + HEADER_ROOM_BYTES)
    return {
        version: create_topic(client, topic, partitions=partitions, config=settings).topic_id
        for version, topic in topics.items()
    }


def freeze_output(
    client: Client, home: Home, outcome: VersionOutcome, *, source: str, view: View, columns: Mapping[str, str]
) -> VersionOutcome:
    """Freeze what a version wrote, each topic under its own name, and check it against the input.

    Args:
        source: the scored topic.
        view: the decoded input.
        columns: the pinned columns of the predictions.

    Returns:
        The outcome with what was frozen, and how many records are in it.

    Raises:
        RunError: predictions and errors together are not each record of the input once, in order.
        SnapshotError, BrokerError: it cannot be frozen.
    """
    topic = str(outcome.topic)
    output = _frozen(client, home, topic)
    if output is None:
        raise RunError(
            f"{topic}: no record of the input got a prediction",
            hint="correct the model, or let it refuse fewer records with a smaller `refused_at_most`",
            topic=topic,
        )
    beside = errors_topic(topic)
    errors_id = topics_beside(client, outcome).get(beside)
    errors = None if errors_id is None else _frozen(client, home, beside)
    count = check_output(output.view(topic, decoder(columns)), view, topic=topic, source=source, errors=errors)
    return replace(
        outcome,
        rows=output.rows,
        errors=count.errors,
        undecodable=count.undecodable,
        columns=dict(columns),
        output_id=output.id,
        output_name=topic,
        errors_topic=None if errors_id is None else beside,
        errors_topic_id=errors_id,
        errors_id=None if errors is None else errors.id,
    )


def _frozen(client: Client, home: Home, topic: str) -> Snapshot | None:
    """A topic under its own name; None when nothing was committed to it."""
    settled_bounds(client, topic)  # the markers of the last transactions may still be on their way
    try:
        return snapshot(topic, topics=[topic], connection=client.connection, home=home)
    except EmptyRange:
        return None


def names_beside(topic: str) -> tuple[str, ...]:
    """The names of the topics that a version may make beside its output."""
    return errors_topic(topic), state_topic(topic)


def topics_beside(client: Client, outcome: VersionOutcome) -> dict[str, str]:
    """The topics beside a version's output, name → id: those of its record, and those that nobody has noted.

    A process that makes one tells its id, unless it is killed in that moment. But nobody else makes a topic beside an
    output that is ours: its name holds the digits of the run, for which it was free.
    """
    found = dict(outcome.beside)
    if outcome.topic is None or not outcome.topic_id:
        return found
    there = set(client.topics())
    with suppress(UnknownTopic):  # deleted since
        if outcome.topic in there and client.topic(outcome.topic).topic_id == outcome.topic_id:
            for name in names_beside(outcome.topic):
                if name not in found and name in there:
                    found[name] = client.topic(name).topic_id
    return found


def drop_beside(client: Client, outcome: VersionOutcome) -> tuple[str, ...]:
    """Delete the topics beside a version's output; those that were there. To be done before the output is deleted."""
    found = topics_beside(client, outcome)
    return tuple(name for name, topic_id in found.items() if delete_topic_by_id(client, name, topic_id))


def drop_topics(client: Client, outcome: VersionOutcome) -> VersionOutcome:
    """Delete the topics of a version that failed: half of its predictions serve nobody. What is left is in the outcome.

    Nothing is raised: why the version failed is the thing to tell.
    """
    try:
        drop_beside(client, outcome)
        outcome = replace(outcome, errors_topic=None, state_topic=None)
        delete_topic_by_id(client, str(outcome.topic), str(outcome.topic_id))
    except BrokerError:
        return outcome
    return replace(outcome, topic=None)


def _without_topics(outcome: VersionOutcome) -> VersionOutcome:
    return replace(outcome, topic=None, errors_topic=None, state_topic=None)
