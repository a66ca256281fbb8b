"""Rows that wait on the disk: an Arrow file, written once and read as often as wanted, a batch at a time."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from mlstream.errors import StoreError


def spool(folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[Path, int]:
    """Write batches to a new file in `folder`; the file, and how many rows are in it.

    Raises:
        StoreError: when the disk is full or cannot be written.
    """
    path = folder / f"{secrets.token_hex(8)}.arrow"
    rows = 0
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                rows += batch.num_rows
    except OSError as exc:
        raise StoreError(
            f"{folder}: rows of a table cannot wait there: {exc.strerror or exc}",
            hint="free some space, or name another folder with TMPDIR",
        ) from exc
    return path, rows


def spooled(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of such a file, one after another."""
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
