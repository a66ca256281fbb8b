"""The raw records of a topic as one lazy frame over the objects that hold them. Knows no names and no decoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from mlstream.snapshots.storage import Piece, Storage, StoredPartition
from mlstream.snapshots.store import Store

RAW_SCHEMA = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "timestamp": pl.Datetime("ms", "UTC"),
        "timestamp_type": pl.Int8(),
        "key": pl.Binary(),
        "value": pl.Binary(),
        "headers": pl.List(pl.Struct({"key": pl.Binary(), "value": pl.Binary()})),
    }
)


def scan_raw(store: Store, storage: Storage, parts: Sequence[StoredPartition]) -> pl.LazyFrame:
    """The rows of these partitions, in order, with the columns of `RAW_SCHEMA`.

    Raises:
        IntegrityError: an object is missing.
    """
    store.obtain_all(run.object for part in parts for run in runs_of(part))
    frames = [frame for part in parts for frame in _scan(store, storage, part)]
    return pl.concat(frames) if frames else pl.LazyFrame(schema=RAW_SCHEMA)


def runs_of(part: StoredPartition) -> Iterator[Piece]:
    """The runs of an object's rows that make up a partition, in order; successive ones are put together."""
    run: Piece | None = None
    for cell in part.cells:
        for piece in cell.pieces:
            if run is not None and run.object == piece.object and run.row + run.rows == piece.row:
                run = Piece(run.object, run.row, run.rows + piece.rows)
                continue
            if run is not None:
                yield run
            run = piece
    if run is not None:
        yield run


def _scan(store: Store, storage: Storage, part: StoredPartition) -> Iterator[pl.LazyFrame]:
    whole: list[Path] = []
    for run in runs_of(part):
        path = store.obtain(run.object)
        if run.row == 0 and run.rows == storage.objects[run.object].rows:
            whole.append(path)
            continue
        if whole:
            yield pl.scan_parquet(whole, glob=False)
            whole = []
        yield pl.scan_parquet(path, glob=False).slice(run.row, run.rows)
    if whole:
        yield pl.scan_parquet(whole, glob=False)
