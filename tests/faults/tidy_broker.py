"""A Kafka whose housekeeping is quick: compaction and retention happen within a second, not within minutes.

The session's broker keeps Kafka's own pace (a look for what has expired every five minutes, the first after half a
minute), so a test would never see records go.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.broker.own_broker import running_own_broker

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

CLUSTER_ID = "tidy-cluster-for-tests"
HOUSEKEEPING = {
    "log.initial.task.delay.ms": 100,
    "log.retention.check.interval.ms": 100,
    "log.cleaner.backoff.ms": 100,
    # Not 0: a flush that is under way would meet a closed file, and the broker gives up its disk.
    "log.segment.delete.delay.ms": 3000,
}


def running_tidy_broker(folder: Path) -> AbstractContextManager[Connection]:
    """Start such a broker in `folder`, and stop it at the end."""
    return running_own_broker(folder, CLUSTER_ID, settings=HOUSEKEEPING)
