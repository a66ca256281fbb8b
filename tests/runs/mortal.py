"""A worker of one shard that may die at any point of its protocol. Run as a program; no test is here.

It is the real shard, writer and transactions on made-up rows; only the point of death is put in from outside. Prints
one JSON object when it comes to its end.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from kafka.protocol.producer import EndTxnRequest

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.network import Network
from mlstream.broker.offsets import committed
from mlstream.broker.transaction_steps import Coordination, Positions
from mlstream.broker.transactions import Batch, TransactionalProducer
from mlstream.errors import ProducerFenced, TransactionFailed
from mlstream.runs.layout import Encoder
from mlstream.runs.shard import Lane, Shard
from mlstream.snapshots.views import Stretches
from mlstream.streams.transact import TransactionWriter

POINTS = ("before-produce", "after-produce", "after-offsets", "during-end", "after-end")
FENCED = 3


@dataclass(frozen=True)
class Job:
    """What the program does.

    Attributes:
        servers, proxy: the cluster.
        lane: as `Lane`.
        rows, seed: the rows: offsets with gaps, drawn by the seed.
        point: where it dies (or stops), after `after` transactions; None lets it live.
        number: the signal.
        slow_s: how long it takes for a batch.
        timeout_ms: of a transaction.
        control: commit the positions on their own, before the transaction.
    """

    servers: list[str]
    lane: dict[str, Any]
    rows: int
    seed: int
    proxy: str | None = None
    point: str | None = None
    after: int = 0
    number: int = signal.SIGKILL
    slow_s: float = 0.0
    timeout_ms: int = 60_000
    stall_s: float = 30.0
    control: bool = False


def offsets_of(rows: int, seed: int) -> np.ndarray[Any, Any]:
    """The offsets of a partition's rows: some are missing, as after transactions and compaction."""
    return np.cumsum(np.random.default_rng(seed).integers(1, 4, rows)) - 1


def frame_of(lane: Lane, rows: int, seed: int) -> pl.DataFrame:
    """The decoded rows; `n` numbers them."""
    numbers = np.arange(rows)
    return pl.DataFrame(
        {
            "_partition": pl.Series(np.full(rows, lane.partition, np.int32)),
            "_offset": pl.Series(offsets_of(rows, seed).astype(np.int64)),
            "_timestamp": pl.Series(1_700_000_000_000 + numbers).cast(pl.Datetime("ms", "UTC")),
            "_key": pl.Series([b"%d" % number for number in numbers], dtype=pl.Binary),
            "n": numbers,
        }
    )


def main() -> int:
    job = Job(**json.loads(sys.argv[1]))
    lane = Lane(**job.lane)
    _arrange(job)
    settings = {} if job.proxy is None else {"proxy_url": job.proxy}
    frame = frame_of(lane, job.rows, job.seed)
    encoder = Encoder(lane.source, run_id=lane.run_id, version=lane.version, batch_rows=lane.batch_rows)
    failures = 0
    with Client(Connection(tuple(job.servers), settings), timeout_s=20) as client, ThreadPoolExecutor(1) as pool:
        try:
            shard = Shard(client, lane, Stretches(frame.to_arrow()), pool=pool)
            while True:
                try:
                    batch = shard.batch()
                    if batch is None:
                        shard.finish()
                        break
                    time.sleep(job.slow_s)
                    predictions = batch.select(prediction=pl.col("n").cast(pl.Float64))
                    shard.write(
                        encoder.encode(batch.select("_partition", "_offset", "_timestamp", "_key"), predictions)
                    )
                except TransactionFailed as exc:
                    failures += 1
                    shard.recover(exc)
        except ProducerFenced:
            return FENCED
    print(json.dumps({"resumed": shard.resumed, "failures": failures}))
    return 0


def _arrange(job: Job) -> None:
    """Put the point of death, the timeouts and the control into the real classes."""
    defaults = TransactionWriter.__init__.__kwdefaults__ or {}
    defaults["timeout_ms"], defaults["stall_s"] = job.timeout_ms, job.stall_s
    if job.control:
        _commit_positions_apart()
    if job.point is None:
        return
    count = 0

    def due() -> bool:
        nonlocal count
        count += 1
        return count == job.after + 1

    def die() -> None:
        # This thread: a stop that is sent to the process begins with another one, and this one goes on for a while.
        signal.pthread_kill(threading.get_ident(), job.number)

    transact, positions, commit = TransactionalProducer._transact, Coordination.commit_positions, Coordination.commit
    if job.point == "before-produce":
        _wrap(TransactionalProducer, "_transact", transact, before=lambda: due() and die())
    elif job.point == "after-produce":
        _wrap(Coordination, "commit_positions", positions, before=lambda: due() and die())
    elif job.point == "after-offsets":
        _wrap(Coordination, "commit", commit, before=lambda: due() and die())
    elif job.point == "after-end":
        _wrap(Coordination, "commit", commit, after=lambda: due() and die())
    elif job.point == "during-end":
        send = Network.send
        pause_s = random.Random(job.seed).uniform(0.0, 0.004)

        async def and_die(self: Network, request: Any, node: int, timeout_s: float) -> Any:
            if isinstance(request, EndTxnRequest) and due():
                self.start(send, self, request, node, timeout_s)
                await self.sleep(pause_s)  # it is on its way, or done, and nobody hears of it
                die()
            return await send(self, request, node, timeout_s)

        Network.send = and_die  # type: ignore[method-assign]
    else:
        raise ValueError(job.point)


def _wrap(
    owner: type,
    name: str,
    original: Callable[..., Any],
    *,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> None:
    async def wrapped(*args: Any) -> Any:
        before()
        found = await original(*args)
        after()
        return found

    setattr(owner, name, wrapped)


def _commit_positions_apart() -> None:
    """What must not be done: progress that moves before the predictions are there, and is believed."""
    transact = TransactionalProducer.transact
    apart: dict[str, TransactionalProducer] = {}

    def wrong(self: TransactionalProducer, batches: list[Batch], positions: Positions | None = None) -> Future[Any]:
        other = apart.get(self.transactional_id)
        if other is None:
            other = apart[self.transactional_id] = TransactionalProducer(
                self._client, f"{self.transactional_id}.apart", version=self.version
            )
        if positions is not None:
            moved = transact(other, [], positions)
            done: Future[Any] = Future()

            def go_on(_: Future[Any]) -> None:
                transact(self, batches, None).add_done_callback(lambda found: _hand_on(found, done))

            moved.add_done_callback(go_on)
            return done
        return transact(self, batches, None)

    def believe(self: Shard) -> tuple[int, int]:
        lane = self.lane
        position = committed(self._client, lane.group, lane.topic, [lane.partition])[lane.partition]
        return (0 if position is None else int(np.searchsorted(self._offsets, position, side="left"))), 0

    TransactionalProducer.transact = wrong  # type: ignore[method-assign,assignment]
    Shard._find_place = believe  # type: ignore[method-assign]


def _hand_on(found: Future[Any], done: Future[Any]) -> None:
    failure = found.exception()
    if failure is None:
        done.set_result(found.result())
    else:
        done.set_exception(failure)


def words(job: Job) -> str:
    """The job as the program's argument."""
    return json.dumps(asdict(replace(job, number=int(job.number))))


if __name__ == "__main__":
    sys.exit(main())
