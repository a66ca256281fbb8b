"""A worker of one shard whose records do not all get predictions; it may die at any point. Run as a program; no test.

As `mortal.py`, with records that do not decode and records that are refused among the others: single ones, and long
stretches at the beginning, in the middle and at the end of the partition, which take transactions of their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import committed
from mlstream.errors import TransactionFailed
from mlstream.runs import shard
from mlstream.runs.errors import DeadLetters, ErrorRecords, Faults
from mlstream.runs.errors_topic import make_errors_topic
from mlstream.runs.layout import Encoder
from mlstream.runs.shard import Lane, Shard
from mlstream.snapshots.views import Stretches
from mlstream.wire.columns import SCHEMA
from tests.runs import mortal

STRETCH = 900  # records, of which none decodes
REASON = "made up"


def decoding(offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the records decode: none in three stretches, and beside them all but every seventh offset."""
    number, middle = np.arange(len(offsets)), len(offsets) // 2
    inside = (number < STRETCH) | (number >= len(offsets) - STRETCH) | (abs(number - middle) < STRETCH // 2)
    return np.asarray(~inside & (offsets % 7 != 3))


def refused(offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the records that decode are refused: a few, and all in one stretch."""
    return np.asarray((offsets % 11 == 5) | ((offsets > 9000) & (offsets < 9500)))


def originals(offsets: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """The records as they were, some at a time."""
    for start in range(0, len(offsets), 50):
        part = offsets[start : start + 50]
        rows = [
            {"offset": offset, "timestamp_type": 0, "value": b"%d" % offset, "headers": [{"key": b"n", "value": None}]}
            for offset in part.tolist()
        ]
        yield pa.RecordBatch.from_pylist(rows, SCHEMA)


def main() -> int:
    job = mortal.Job(**json.loads(sys.argv[1]))
    lane = Lane(**job.lane)
    mortal._arrange(job)
    shard.MOST_ROWS, shard._ERRORS_AT_ONCE = 200, 64  # so that the stretches take several transactions
    offsets = mortal.offsets_of(job.rows, job.seed)
    decodes = decoding(offsets)
    frame = mortal.frame_of(lane, job.rows, job.seed).filter(pl.Series(decodes))
    count = int((~decodes).sum())
    dead = DeadLetters(offsets[~decodes], pa.array([REASON] * count, pa.large_string()), np.full(count, 8))
    encoder = Encoder(lane.source, run_id=lane.run_id, version=lane.version, batch_rows=lane.batch_rows)
    if job.control:
        Shard._find_place = _believe  # type: ignore[method-assign]
    with Client(Connection(tuple(job.servers)), timeout_s=20) as client, ThreadPoolExecutor(1) as pool:

        def make_topic() -> None:
            make_errors_topic(client, lane.topic, source=lane.source, largest=lambda: 0)

        errors = ErrorRecords(
            run_id=lane.run_id,
            version=lane.version,
            topic=lane.source,
            partition=lane.partition,
            find=originals,
            dead=dead,
            make_topic=make_topic,
        )
        now = Shard(client, lane, Stretches(frame.to_arrow()), pool=pool, errors=errors)
        while True:
            try:
                batch = now.batch()
                if batch is None:
                    now.finish()
                    break
                places = batch["_offset"].to_numpy()
                bad = refused(places)
                count = int(bad.sum())
                answered = batch.filter(pl.Series(~bad))
                columns = encoder.encode(
                    answered.select("_partition", "_offset", "_timestamp", "_key"),
                    answered.select(prediction=pl.col("n").cast(pl.Float64)),
                )
                now.write(columns, refused=Faults(places[bad], ["raised"] * count, [REASON] * count))
            except TransactionFailed as exc:
                now.recover(exc)
    print(json.dumps({"resumed": now.resumed, "faults": now.faults}))
    return 0


def _believe(self: Shard) -> tuple[int, int]:
    """The control: progress is where the group stands, whatever was written."""
    lane = self.lane
    position = committed(self._client, lane.group, lane.topic, [lane.partition])[lane.partition]
    at = 0 if position is None else position
    return self._row_of(at), self._dead_before(at)


if __name__ == "__main__":
    sys.exit(main())
