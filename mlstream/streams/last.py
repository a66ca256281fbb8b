"""The last committed record of a partition, which only markers and records of aborted transactions follow."""

from __future__ import annotations

import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.settling import settled_bounds
from mlstream.ranges import PartitionRange
from mlstream.streams.read import read

_FIRST_OFFSETS = 64  # it is looked for in ever longer stretches from the end
_FACTOR = 8


def last_record(client: Client, topic: str, partition: int) -> pa.RecordBatch | None:
    """The last committed record as one row of `wire.columns.SCHEMA`; None when there is none.

    Raises:
        BrokerUnavailable: an open transaction of somebody else hides the end.
        UnknownTopic, UnknownPartition: it does not exist.
    """
    found = settled_bounds(client, topic, [partition])[partition]
    stop, length = found.last_stable, _FIRST_OFFSETS
    while found.log_start < stop:
        first = max(found.log_start, stop - length)
        last: pa.RecordBatch | None = None
        for block in read(client, [PartitionRange(topic, partition, first, stop)], threads=1):
            if block.columns.num_rows:
                last = block.columns.slice(block.columns.num_rows - 1)
        if last is not None:
            return last
        stop, length = first, length * _FACTOR
    return None
