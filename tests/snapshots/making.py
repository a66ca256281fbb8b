"""Rows and snapshots made by hand, without a broker: the store's real code, fed with columns. No test is here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from mlstream.broker.offsets import Bounds
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.snapshots.assemble import Assembled, PartitionAssembler
from mlstream.snapshots.content import SchemaContent
from mlstream.snapshots.copying import Copied
from mlstream.snapshots.cuts import Cut
from mlstream.snapshots.fixing import Fixed
from mlstream.snapshots.pipeline import Pipeline
from mlstream.snapshots.plan import Known, PartitionPlan, plan_partition
from mlstream.snapshots.publishing import publish
from mlstream.snapshots.sealing import publication_of, put_together
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.storage import StoredObject
from mlstream.snapshots.store import Store
from mlstream.wire.columns import SCHEMA

CLUSTER = "cluster-0000000000000A"
TOPIC_ID = "topic-000000000000000A"


@dataclass(frozen=True)
class Row:
    """One record. `timestamp` None: it has none."""

    offset: int
    value: bytes | None = b"{}"
    key: bytes | None = None
    timestamp: int | None = 1_700_000_000_000
    timestamp_type: int = 0
    headers: tuple[tuple[bytes, bytes | None], ...] = field(default_factory=tuple)


def columns(rows: Iterable[Row]) -> pa.RecordBatch:
    """Rows as the decoder would hand them over."""
    rows = list(rows)
    data: Mapping[str, list[Any]] = {
        "offset": [row.offset for row in rows],
        "timestamp": [row.timestamp for row in rows],
        "timestamp_type": [row.timestamp_type for row in rows],
        "key": [row.key for row in rows],
        "value": [row.value for row in rows],
        "headers": [[{"key": key, "value": value} for key, value in row.headers] for row in rows],
    }
    arrays = [pa.array(data[column.name], column.type) for column in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def left(home: Home) -> list[str]:
    """Everything that is in a store, but locks."""
    if not home.path.exists():
        return []
    return sorted(str(p.relative_to(home.path)) for p in home.path.rglob("*") if p.is_file() and p.suffix != ".lock")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, and leave its size as it is."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def values(found: Sequence[bytes | None], *, start: int = 0) -> list[Row]:
    """Rows with these values and successive offsets."""
    return [
        Row(start + n, value, key=b"k%d" % (n % 7), timestamp=1_700_000_000_000 + n) for n, value in enumerate(found)
    ]


def plain(count: int, *, start: int = 0, size: int = 20) -> pa.RecordBatch:
    """Many small records with successive offsets, made quickly; a row depends on its offset only."""
    offsets = range(start, start + count)
    body = [b"%0*d" % (size, offset) for offset in offsets]
    arrays = [
        pa.array(offsets, pa.int64()),
        pa.array(offsets, pa.int64()).cast(SCHEMA.field("timestamp").type),
        pa.array([0] * count, pa.int8()),
        pa.array([b"%d" % (offset % 50) for offset in offsets], pa.binary()),
        pa.array(body, pa.binary()),
        pa.array([[]] * count, SCHEMA.field("headers").type),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def assemble(
    home: Home,
    plan: PartitionPlan,
    batches: Iterable[pa.RecordBatch],
    *,
    flush_each: bool = False,
    budget_bytes: int = 32 << 20,
) -> Assembled:
    """Feed a partition's plan with batches; the objects go straight into the store."""
    store = Store(home)
    with store.staging() as staged, Pipeline(workers=2, budget_bytes=budget_bytes) as pipeline:
        assembler = PartitionAssembler(plan, pipeline=pipeline, staged=staged, path_of=store.object)
        for batch in batches:
            last = batch.column("offset")[len(batch) - 1].as_py() if len(batch) else 0
            assembler.feed(batch, last + 1)
            if flush_each:
                assembler.flush()
        assembler.close()
        pipeline.finish()
        done = assembler.result()
        for digest, path in done.staged.items():
            target = store.object(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    return done


def known_of(done: Assembled, wanted: PartitionRange) -> Known:
    """What an assembled partition is for the plan of the next."""
    return Known(wanted.start, wanted.stop, {cell.cell.number: cell for cell in done.cells}, done.groups)


def make_snapshot(
    home: Home,
    name: str,
    topics: Mapping[str, Mapping[int, Sequence[pa.RecordBatch] | pa.RecordBatch]],
    *,
    cluster_id: str = CLUSTER,
    topic_id: str = TOPIC_ID,
    ranges: Mapping[int, tuple[int, int]] = MappingProxyType({}),
    schemas: Mapping[str, tuple[SchemaContent, ...]] = MappingProxyType({}),
) -> Snapshot:
    """A published snapshot of topic → partition → batches.

    A range starts at 0 and ends after the last row, unless `ranges` says otherwise of the partition.
    """
    store = Store(home)
    copies: list[Copied] = []
    known: dict[str, StoredObject] = {}
    for topic, partitions in sorted(topics.items()):
        for number, found in sorted(partitions.items()):
            batches = [found] if isinstance(found, pa.RecordBatch) else list(found)
            offsets = [batch.column("offset")[len(batch) - 1].as_py() for batch in batches if len(batch)]
            start, stop = ranges.get(number, (0, (offsets[-1] + 1) if offsets else 0))
            wanted = PartitionRange(topic, number, start, stop)
            plan = plan_partition(wanted)
            done = assemble(home, plan, batches)
            known.update(done.sizes)
            copies.append(Copied(plan, done, (), 0, 0, ((0, 0),)))
    wanted_all = tuple(copy.plan.wanted for copy in copies)
    fixed = Fixed(
        cluster_id,
        wanted_all,
        dict.fromkeys(sorted(topics), topic_id),
        dict.fromkeys(topics, "delete"),
        {(r.topic, r.partition): Bounds(0, r.stop, r.stop) for r in wanted_all},
        created_at_ms=time.time_ns() // 1_000_000,
        cut_ms=1,
    )
    content, storage = put_together(fixed, copies, known, complete=True, schemas=schemas)
    cut = Cut(name, fixed.created_at_ms, 1, 0.1, "tester", "here", ("127.0.0.1:9092",), {}, ())
    with store.staging() as staged:
        objects = {digest: store.object(digest) for digest in known}
        publish(store, publication_of(store, name, content, storage, cut, objects), staged=staged)
    return open_snapshot(name, home=home)
