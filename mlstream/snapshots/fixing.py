"""The cut: which ranges are frozen, and what the cluster says of them, before and after they are copied."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from mlstream.broker.admin import topic_config
from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds, bounds, resolve
from mlstream.errors import BrokerRefused, OffsetOutOfRange, TopicChanged, UnknownPartition, UnknownTopic
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


def fix(client: Client, selections: Sequence[TopicSelection], *, allow_partial: bool = False) -> Fixed:
    """The cut: ranges of offsets, and all that must be known of the cluster at that moment.

    With `allow_partial` a range may start at offsets that have expired.
    """
    created_at_ms = time.time_ns() // 1_000_000
    began = time.monotonic()
    ranges = tuple(sorted(_resolve_expired(client, selections) if allow_partial else resolve(client, selections)))
    topics = sorted({found.topic for found in ranges})
    kept = {
        (topic, part): found
        for topic in topics
        for part, found in bounds(client, topic, [r.partition for r in ranges if r.topic == topic]).items()
    }
    topic_ids = {topic: client.topic(topic).topic_id for topic in topics}
    cut_ms = round((time.monotonic() - began) * 1000)
    policies = {topic: _policy(client, topic) for topic in topics}
    return Fixed(client.cluster_id, ranges, topic_ids, policies, kept, created_at_ms, cut_ms)


def reusable_topics(fixed: Fixed) -> dict[str, str]:
    """Topics whose records never change once they are there, and their ids."""
    return {
        topic: topic_id
        for topic, topic_id in fixed.topic_ids.items()
        if topic_id and fixed.policies[topic] is not None and "compact" not in str(fixed.policies[topic])
    }


def ask_again(client: Client, fixed: Fixed, copies: Sequence[Copied], *, allow_partial: bool) -> bool:
    """Check that the topics are the same and that nothing expired unseen; True when a partial copy is in doubt."""
    doubtful = any(found.missing for found in copies)
    for topic, topic_id in fixed.topic_ids.items():
        mine = [found for found in copies if found.plan.wanted.topic == topic]
        try:
            if client.topic(topic).topic_id != topic_id:
                raise changed(topic)
            now = bounds(client, topic, [found.plan.wanted.partition for found in mine])
        except (UnknownTopic, UnknownPartition) as exc:
            if not allow_partial:
                raise TopicChanged(
                    f"topic {topic}: it, or a partition of it, was deleted while it was copied",
                    hint="nothing was kept; --allow-partial keeps what had been read",
                    topic=topic,
                ) from exc
            continue
        for found in mine:
            wanted = found.plan.wanted
            log_start = now[wanted.partition].log_start
            # A gap is loss only where the log start has passed it; else it is compaction, an abort or a marker.
            if log_start > wanted.start and found.gaps.other > 0 and not found.missing:
                if not allow_partial:
                    raise OffsetOutOfRange(
                        f"{wanted.topic}[{wanted.partition}]: records expired while they were copied; "
                        f"the broker keeps {log_start} onward now",
                        hint=f"use --from {log_start}, or --allow-partial",
                        topic=topic,
                        partition=wanted.partition,
                        log_start=log_start,
                    )
                doubtful = True
    return doubtful


def _resolve_expired(client: Client, selections: Sequence[TopicSelection]) -> list[PartitionRange]:
    """`resolve`, but offsets that have expired may be asked for: copying will find them gone."""
    ranges: list[PartitionRange] = []
    for asked in selections:
        offset = asked.start.offset
        kept = {} if offset is None else bounds(client, asked.topic, asked.partitions)
        expired = tuple(part for part, found in kept.items() if offset is not None and offset < found.log_start)
        rest = tuple(part for part in kept if part not in expired)
        if offset is None or not expired:
            ranges += resolve(client, [asked])
            continue
        there = resolve(client, [TopicSelection(asked.topic, expired, stop=asked.stop)])
        ranges += [PartitionRange(asked.topic, r.partition, min(offset, r.stop), r.stop) for r in there]
        if rest:
            ranges += resolve(client, [TopicSelection(asked.topic, rest, asked.start, asked.stop)])
    return ranges


def _policy(client: Client, topic: str) -> str | None:
    try:
        return topic_config(client, topic).get("cleanup.policy")
    except BrokerRefused:  # reading it may be forbidden where reading records is not
        return None
