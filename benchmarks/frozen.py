"""Snapshots of made-up ticks for the benchmarks that need no broker: the freeze's own code, fed with columns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.ticks import ticks
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from mlstream.wire.columns import SCHEMA
from tests.snapshots.making import CLUSTER, make_snapshot

PARTITIONS = 4
TOPIC = "bench"
_AT_ONCE = 250_000


def frozen(home: Home, name: str, records: int, *, changed: int | None = None, cluster_id: str = CLUSTER) -> Snapshot:
    """A snapshot of so many ticks in four partitions.

    Args:
        changed: the offset in partition 0 at which another value stands.
    """
    share = records // PARTITIONS
    return make_snapshot(
        home,
        name,
        {TOPIC: {part: list(_batches(share, part, changed if part == 0 else None)) for part in range(PARTITIONS)}},
        cluster_id=cluster_id,
    )


def _batches(rows: int, part: int, changed: int | None) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows, _AT_ONCE):
        count = min(_AT_ONCE, rows - first)
        frame = ticks(count, seed=1 + first // _AT_ONCE + 1000 * part)
        if changed is not None and first <= changed < first + count:
            row = pl.int_range(count) == changed - first
            frame = frame.with_columns(pl.when(row).then(pl.lit(b"{}")).otherwise("value").alias("value"))
        columns = {
            "offset": pa.array(np.arange(first, first + count)),
            "timestamp": frame["timestamp"].to_arrow(),
            "timestamp_type": pa.array(np.zeros(count, np.int8)),
            "key": frame["key"].to_arrow().cast(pa.binary()),
            "value": frame["value"].to_arrow().cast(pa.binary()),
            "headers": pa.array([[]] * count, SCHEMA.field("headers").type),
        }
        yield pa.RecordBatch.from_arrays(
            [columns[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA
        )
