"""The cut: which ranges are frozen, and what the cluster says of them, before and after they are copied."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlstream.broker.admin import topic_settings
from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds, bounds_of_all
from mlstream.broker.positions import Located, locate
from mlstream.errors import OffsetOutOfRange, TopicChanged, UnknownPartition, UnknownTopic
from mlstream.ranges import PartitionRange, TopicSelection
from mlstream.snapshots.copying import Copied, changed


@dataclass(frozen=True, slots=True)
class Fixed:
    """The cut: what is frozen, and what the cluster said when it was fixed.

    Attributes:
        ranges: in order of topic and partition.
        topic_ids: topic → id.
        policies: topic → cleanup.policy; None where it could not be read.
        kept: (topic, partition) → the broker's bounds.
    """

    cluster_id: str
    ranges: tuple[PartitionRange, ...]
    topic_ids: dict[str, str]
    policies: dict[str, str | None]
    kept: dict[tuple[str, int], Bounds]
    created_at_ms: int
    cut_ms: int


def fix(
    client: Client | None,
    selections: Sequence[TopicSelection],
    *,
    began: float | None = None,
    allow_partial: bool = False,
) -> Fixed:
    """The end of the cut: ranges of offsets, and all that must be known of the cluster at that moment.

    Args:
        client: None when there is nothing to select.
        began: when the cut began (`time.monotonic()`), if anything else was fixed before; now when None.
        allow_partial: a range may start at offsets that have expired.
    """
    now = time.monotonic()
    began = now if began is None else began
    created_at_ms = time.time_ns() // 1_000_000 - round((now - began) * 1000)
    located = Located((), {}, {}) if client is None else locate(client, selections, allow_expired=allow_partial)
    cut_ms = round((time.monotonic() - began) * 1000)
    topics = sorted(located.topics)
    return Fixed(
        "" if client is None else client.cluster_id,
        tuple(sorted(located.ranges)),
        {topic: located.topics[topic].topic_id for topic in topics},
        {} if client is None else topic_settings(client, topics, "cleanup.policy"),
        dict(located.kept),
        created_at_ms,
        cut_ms,
    )


def reusable_topics(fixed: Fixed) -> dict[str, str]:
    """Topics whose records never change once they are there, and their ids."""
    return {
        topic: topic_id
        for topic, topic_id in fixed.topic_ids.items()
        if topic_id and fixed.policies[topic] is not None and "compact" not in str(fixed.policies[topic])
    }


def ask_again(client: Client | None, fixed: Fixed, copies: Sequence[Copied], *, allow_partial: bool) -> bool:
    """Check that the topics are the same and that nothing expired unseen; True when a partial copy is in doubt."""
    if client is None:
        return False
    doubtful = any(found.missing for found in copies)
    for topic, now in _bounds_now(client, fixed, allow_partial=allow_partial).items():
        for found in copies:
            wanted = found.plan.wanted
            if wanted.topic != topic:
                continue
            log_start = now[wanted.partition].log_start
            # A gap is loss only where the log start has passed it; else it is compaction, an abort or a marker.
            if log_start > wanted.start and found.gaps.other > 0 and not found.missing:
                if not allow_partial:
                    raise OffsetOutOfRange(
                        f"{topic}[{wanted.partition}]: records expired while they were copied; "
                        f"the broker keeps {log_start} onward now",
                        hint=f"use --from {log_start}, or --allow-partial",
                        topic=topic,
                        partition=wanted.partition,
                        log_start=log_start,
                    )
                doubtful = True
    return doubtful


def _bounds_now(client: Client, fixed: Fixed, *, allow_partial: bool) -> dict[str, dict[int, Bounds]]:
    """What the brokers keep now of the cut's topics; without topics that are gone, where that is allowed."""
    parts: dict[str, list[int]] = {topic: [] for topic in fixed.topic_ids}
    for wanted in fixed.ranges:
        parts[wanted.topic].append(wanted.partition)
    found: dict[str, dict[int, Bounds]] = {}
    try:
        _ask(client, fixed, parts, found)
    except (UnknownTopic, UnknownPartition):
        for topic in parts:  # which one?
            try:
                _ask(client, fixed, {topic: parts[topic]}, found)
            except (UnknownTopic, UnknownPartition) as exc:
                if not allow_partial:
                    raise TopicChanged(
                        f"topic {topic}: it, or a partition of it, was deleted while it was copied",
                        hint="nothing was kept; --allow-partial keeps what had been read",
                        topic=topic,
                    ) from exc
    return found


def _ask(client: Client, fixed: Fixed, parts: dict[str, list[int]], found: dict[str, dict[int, Bounds]]) -> None:
    for topic, info in client.describe(list(parts)).items():
        if info.topic_id != fixed.topic_ids[topic]:
            raise changed(topic)
    for (topic, partition), now in bounds_of_all(client, parts).items():
        found.setdefault(topic, {})[partition] = now
