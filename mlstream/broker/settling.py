"""Wait until no transaction of a topic is open: a moment passes between the end of one and its last marker."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlstream.broker.client import Client
from mlstream.broker.offsets import Bounds, bounds
from mlstream.errors import BrokerUnavailable

SETTLE_S = 10.0
_PAUSE_S = 0.02


def settled_bounds(
    client: Client, topic: str, partitions: Sequence[int] | None = None, *, timeout_s: float = SETTLE_S
) -> dict[int, Bounds]:
    """The bounds of partitions once their last stable offset is the high watermark; of all when `partitions` is None.

    Raises:
        BrokerUnavailable: a transaction stays open.
        UnknownTopic, UnknownPartition: it does not exist.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = bounds(client, topic, partitions)
        waiting = [number for number, each in found.items() if each.last_stable < each.high_watermark]
        if not waiting:
            return found
        if time.monotonic() > deadline:
            raise BrokerUnavailable(
                f"{topic}[{waiting[0]}]: a transaction that is still open hides its end",
                hint="wait until its timeout has passed, and try again",
                topic=topic,
                partition=waiting[0],
            )
        time.sleep(_PAUSE_S)
