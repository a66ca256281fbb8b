"""A worker of one shard with a model that keeps state, which may die at any point of its protocol. No test is here.

As `mortal.py`, with `PlainMeans` in this very process. With the second argument `forgetful` it goes on from the right
place without the state: what must be found out.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import polars as pl

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.errors import TransactionFailed
from mlstream.runs.layout import Encoder
from mlstream.runs.shard import Lane, Shard
from mlstream.snapshots.views import Stretches
from tests.runs import mortal
from tests.runs.counting import PlainMeans


def work(client: Client, lane: Lane, rows: int, seed: int, *, forgetful: bool) -> int:
    """Deal with every record of a partition; how many were dealt with before."""
    frame = mortal.frame_of(lane, rows, seed)
    encoder = Encoder(lane.source, run_id=lane.run_id, version=lane.version, batch_rows=lane.batch_rows)

    def begun(shard: Shard) -> PlainMeans:
        model, state = PlainMeans(), shard.state()
        if state is not None and not forgetful:
            model.load_state(state)
        return model

    with ThreadPoolExecutor(1) as pool:
        shard = Shard(client, lane, Stretches(frame.to_arrow()), pool=pool)
        model = begun(shard)
        while True:
            try:
                batch = shard.batch()
                if batch is None:
                    shard.finish()
                    return shard.resumed
                answers = model.predict([(n / 7, n) for n in batch["n"].to_list()])
                predictions = pl.DataFrame({"prediction": answers})
                state = model.state() if shard.closes() else None
                source = batch.select("_partition", "_offset", "_timestamp", "_key")
                shard.write(encoder.encode(source, predictions), state=state)
            except TransactionFailed as exc:
                shard.recover(exc)
                model = begun(shard)


def main() -> int:
    job = mortal.Job(**json.loads(sys.argv[1]))
    mortal._arrange(job)
    with Client(Connection(tuple(job.servers)), timeout_s=20) as client:
        work(client, Lane(**job.lane), job.rows, job.seed, forgetful=sys.argv[2:] == ["forgetful"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
