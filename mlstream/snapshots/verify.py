"""Check a snapshot against its digests, from the manifest down to every row. Changes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mlstream.errors import IntegrityError
from mlstream.snapshots.canonical import PayloadHasher, RunHasher
from mlstream.snapshots.manifest import GROUP_ROWS, parse_content
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.storage import StoredCell, StoredPartition
from mlstream.snapshots.store import Store

if TYPE_CHECKING:
    from mlstream.snapshots.snapshot import Snapshot

_READ_BYTES = 1 << 20
_HINT = "restore it from a copy of the store, or freeze the range again while the broker still has it"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was checked and found right. `cells` were recomputed from their rows only when it was `deep`."""

    snapshot_id: str
    objects: int
    size_bytes: int
    cells: int
    rows: int
    deep: bool


def verify(snapshot: Snapshot, *, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> Verified:
    """Check a snapshot.

    1. the manifest's bytes are those of the id
    2. the storage map's cells and groups add up to the manifest's digests, all of them
    3. every object is there and its bytes are those of its name
    4. (deep) every cell's rows have its records digest, their offsets increase and lie inside it, and the rows in
       groups have the payload digest

    Args:
        progress: called with the bytes done and the bytes in all.

    Raises:
        IntegrityError: naming the first thing that is missing or wrong.
    """
    store = snapshot.store
    # 1. and 2.: read anew, whatever was read when the snapshot was opened
    parse_content(store.read(store.manifest(snapshot.id)), snapshot.id)
    snapshot.__dict__.pop("storage", None)
    storage = snapshot.storage
    total = storage.size_bytes * (2 if deep else 1)
    done = 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    # 3. the objects
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        checks = pool.map(lambda item: _check_object(store, item[0], item[1].size_bytes), storage.objects.items())
        for size in checks:
            tell(size)
        # 4. every row
        if deep:
            for content, stream in zip(snapshot.streams, storage.streams, strict=True):
                jobs = [(content.topic, part) for part in stream.partitions]
                for size in pool.map(lambda job: _check_rows(snapshot, *job), jobs):
                    tell(size)
    cells = sum(len(part.cells) for stream in storage.streams for part in stream.partitions)
    return Verified(snapshot.id, len(storage.objects), storage.size_bytes, cells, snapshot.rows, deep)


def _check_object(store: Store, digest: str, size_bytes: int) -> int:
    path = store.object(digest)
    found = hashlib.sha256()
    size = 0
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_READ_BYTES):
                found.update(block)
                size += len(block)
    except FileNotFoundError:
        raise IntegrityError(f"object {digest}: it is missing", hint=_HINT, object=digest) from None
    except OSError as exc:
        raise IntegrityError(f"object {digest}: it cannot be read: {exc.strerror}", hint=_HINT, object=digest) from exc
    if found.hexdigest() != digest:
        changed = "its bytes have changed" if size == size_bytes else f"it has {size} bytes instead of {size_bytes}"
        raise IntegrityError(f"object {digest}: {changed}", hint=_HINT, object=digest)
    return size


def _check_rows(snapshot: Snapshot, topic: str, part: StoredPartition) -> int:
    groups: list[bytes] = []
    group = PayloadHasher()
    size = 0
    for found in part.cells:
        where = f"{topic}[{part.partition}] cell {found.cell.number}"
        hasher = RunHasher()
        before = found.cell.start - 1
        for rows in _rows_of(snapshot.store, found):
            offsets = rows.column("offset").to_numpy()
            inside = before < offsets[0] and offsets[-1] < found.cell.stop
            if not inside or not bool(np.all(np.diff(offsets) > 0)):
                raise IntegrityError(f"{where}: its offsets do not increase, or lie outside of it", hint=_HINT)
            before = int(offsets[-1])
            hasher.update(rows)
            while len(rows) > 0:
                now = rows.slice(0, GROUP_ROWS - group.rows)
                rows = rows.slice(len(now))
                group.update(now)
                if group.rows == GROUP_ROWS:
                    groups.append(group.digest())
                    group = PayloadHasher()
        if hasher.rows != found.cell.rows or hasher.digest().records != found.cell.records:
            raise IntegrityError(
                f"{where}: its rows are not those of its digest",
                hint=_HINT,
                topic=topic,
                partition=part.partition,
                cell=found.cell.number,
            )
        size += sum(
            snapshot.storage.objects[piece.object].size_bytes
            * piece.rows
            // max(snapshot.storage.objects[piece.object].rows, 1)
            for piece in found.pieces
        )
    if group.rows:
        groups.append(group.digest())
    if tuple(groups) != part.groups:
        raise IntegrityError(f"{topic}[{part.partition}]: its rows are not those of its payload digest", hint=_HINT)
    return size


def _rows_of(store: Store, found: StoredCell) -> Iterator[pa.RecordBatch]:
    for piece in found.pieces:
        yield from read_rows(store.object(piece.object), piece.row, piece.rows)
