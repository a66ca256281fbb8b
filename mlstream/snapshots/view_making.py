"""Make a view: read a topic's stored rows, decode them on threads, write Arrow files. Publishes nothing.

Each batch is decoded by itself; only an inferred JSON schema looks at the whole range first.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import crc32c
import numpy as np
import pyarrow as pa

from mlstream.decoding.columns import Columns, Decoder
from mlstream.decoding.decoder import is_inferred, open_decoder
from mlstream.decoding.framed import RegisteredSchema
from mlstream.decoding.json_decoder import JsonDecoder, see_values
from mlstream.decoding.json_schema import Seen, join, schema_of
from mlstream.decoding.json_tokens import BATCH_ROWS, MAX_COLUMNS, TooManyColumns
from mlstream.errors import DecodeError
from mlstream.snapshots.documents import write_document
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.store import Store
from mlstream.wire.columns import repeated

if TYPE_CHECKING:
    from mlstream.config import DecodeConfig
    from mlstream.snapshots.manifest import StreamContent
    from mlstream.snapshots.snapshot import Snapshot

T = TypeVar("T")

DEAD_LETTERS = "dead-letters.arrow"
OWN_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")
_TIMESTAMP = pa.timestamp("ms", tz="UTC")
_OWN_SCHEMA = pa.schema(
    [
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64(), nullable=False),
        pa.field("_timestamp", _TIMESTAMP),
        pa.field("_key", pa.large_binary()),
    ]
)
_DEAD_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", _TIMESTAMP),
        pa.field("key", pa.large_binary()),
        pa.field("value", pa.large_binary()),
        pa.field("reason", pa.large_string(), nullable=False),
    ]
)
_READ = ("offset", "timestamp", "key", "value")  # of the records, as stored
_READ_BYTES = 1 << 22


def make_view(snapshot: Snapshot, topic: str, decode: DecodeConfig, folder: Path, staged: Path) -> None:
    """Write a view's files into an empty folder, `view.json` last.

    Raises:
        DecodeError: a value does not decode and the policy is to fail, or the topic cannot be decoded so at all.
        IntegrityError: an object is missing or damaged.
        OSError: the folder cannot be written.
    """
    stream = snapshot.stream(topic)
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="decode") as pool:
        rows = _Topic(snapshot, topic, pool)
        decoder = _decoder(rows, stream, decode)
        _refuse_own(topic, (name for name, _ in decoder.columns))
        counts = _write(rows, decoder, folder, decode.on_error)
    document: dict[str, Any] = {
        "format": 2,
        "records": {str(part.partition): part.root for part in stream.partitions},
        "columns": [list(column) for column in decoder.columns],
        "partitions": [
            {"partition": partition, "rows": str(found.rows), "faults": str(found.faults)}
            for partition, found in counts.items()
        ],
        "files": {path.name: describe_file(path) for path in sorted(folder.glob("*.arrow"))},
    }
    write_document(folder / "view.json", json.dumps(document, indent=1).encode(), staged=staged)


def describe_file(path: Path) -> dict[str, str]:
    """By what a file of a view is told from a damaged one: size, time of its last change, CRC-32C."""
    found = path.stat()
    return {
        "size_bytes": str(found.st_size),
        "modified_ns": str(found.st_mtime_ns),
        "crc32c": str(checksum(path)),
    }


def checksum(path: Path) -> int:
    """CRC-32C of a file's bytes."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            found = crc32c.crc32c(block, found)
    return found


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of one partition, as stored."""

    partition: int
    rows: pa.RecordBatch


@dataclass(slots=True)
class _Counts:
    """What was written of a partition: rows of the view, and records that did not decode."""

    rows: int = 0
    faults: int = 0


class _Topic:
    """The stored rows of one topic, read as often as is needed, worked on by threads, in order."""

    def __init__(self, snapshot: Snapshot, topic: str, pool: ThreadPoolExecutor) -> None:
        self._store: Store = snapshot.store
        self._snapshot = snapshot
        self.topic = topic
        self.partitions = tuple(part.partition for part in snapshot.stream(topic).partitions)
        self._pool = pool

    def map(self, work: Callable[[_Batch], T], partitions: Iterable[int]) -> Iterator[T]:
        """`work` on every batch of these partitions; results in order, a few under way."""
        waiting: deque[Future[T]] = deque()
        for partition in partitions:
            for batch in self._batches(partition):
                waiting.append(self._pool.submit(work, _Batch(partition, batch)))
                if len(waiting) > 4 * (os.cpu_count() or 1):
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _batches(self, partition: int) -> Iterator[pa.RecordBatch]:
        pieces = self._snapshot.pieces(self.topic, partition)
        self._store.obtain_all(piece.object for piece in pieces)
        for piece in pieces:
            for rows in read_rows(self._store.obtain(piece.object), piece.row, piece.rows, columns=_READ):
                for first in range(0, len(rows), BATCH_ROWS):
                    yield rows.slice(first, BATCH_ROWS)

    def error(self, batch: _Batch, row: int, reason: str) -> DecodeError:
        """The error for a record that does not decode."""
        offset = batch.rows.column("offset")[row].as_py()
        return DecodeError(
            f"{self.topic}[{batch.partition}]@{offset}: {reason}",
            hint="correct what is sent, or decode with `on_error: null` or `on_error: dead-letter`",
            topic=self.topic,
            partition=batch.partition,
            offset=offset,
        )


def _decoder(rows: _Topic, stream: StreamContent, decode: DecodeConfig) -> Decoder:
    if is_inferred(decode):
        return JsonDecoder(_inferred(rows, decode))
    registered = [
        RegisteredSchema(each.id, each.type, each.text, tuple((found.name, found.text) for found in each.references))
        for each in stream.schemas
    ]
    try:
        return open_decoder(decode, registered)
    except ValueError as exc:
        hint = None
        if decode.format in ("avro", "json-schema") and not registered:
            hint = "freeze it with --schema-registry URL, or give them under `decode.schemas`"
        raise DecodeError(f"topic {rows.topic}: {exc}", hint=hint, topic=rows.topic) from exc


def _inferred(rows: _Topic, decode: DecodeConfig) -> tuple[tuple[str, str], ...]:
    """The least upper bound over all records."""

    def infer(batch: _Batch) -> Mapping[str, Seen]:
        try:
            found, fault = see_values(batch.rows.column("value"))
        except TooManyColumns:
            raise _too_many(rows.topic) from None
        if fault is not None and decode.on_error == "fail":
            raise rows.error(batch, fault.row, fault.reason)
        return found

    seen = join(rows.map(infer, rows.partitions))
    if len(seen) > MAX_COLUMNS:
        raise _too_many(rows.topic)
    return schema_of(seen)


def _write(rows: _Topic, decoder: Decoder, folder: Path, on_error: str) -> dict[int, _Counts]:
    """Write each partition's file, and the dead letters where they are kept."""
    schema = pa.schema([*_OWN_SCHEMA, *decoder.schema])
    counts: dict[int, _Counts] = {}

    def decode(batch: _Batch) -> tuple[_Batch, Columns]:
        return batch, decoder.decode(batch.rows.column("value"))

    with ExitStack() as stack:
        dead = _ipc(stack, folder / DEAD_LETTERS, _DEAD_SCHEMA) if on_error == "dead-letter" else None
        for partition in rows.partitions:
            counts[partition] = count = _Counts()
            with ExitStack() as inner:
                out = _ipc(inner, folder / f"{partition}.arrow", schema)
                for batch, found in rows.map(decode, [partition]):
                    if found.faults and on_error == "fail":
                        raise rows.error(batch, found.faults[0].row, found.faults[0].reason)
                    typed = _with_own(batch, found, schema)
                    if found.faults and dead is not None:
                        dead.write_batch(_dead_letters(batch, found))
                        good = np.ones(len(typed), np.bool_)
                        good[[fault.row for fault in found.faults]] = False
                        typed = typed.filter(pa.array(good))
                    if len(typed):
                        out.write_batch(typed)
                    count.rows += len(typed)
                    count.faults += len(found.faults)
    return counts


def _ipc(stack: ExitStack, path: Path, schema: pa.Schema) -> pa.RecordBatchWriter:
    file = stack.enter_context(pa.OSFile(str(path), "wb"))
    return stack.enter_context(pa.ipc.new_file(file, schema))


def _with_own(batch: _Batch, found: Columns, schema: pa.Schema) -> pa.RecordBatch:
    own = (
        repeated(batch.partition, len(batch.rows)),
        batch.rows.column("offset"),
        batch.rows.column("timestamp"),
        batch.rows.column("key").cast(pa.large_binary()),
    )
    return pa.RecordBatch.from_arrays([*own, *found.arrays], schema=schema)


def _dead_letters(batch: _Batch, found: Columns) -> pa.RecordBatch:
    rows = batch.rows.take(pa.array([fault.row for fault in found.faults], pa.int64()))
    arrays = [
        repeated(batch.partition, len(rows)),
        *(rows.column(name).cast(_DEAD_SCHEMA.field(name).type) for name in ("offset", "timestamp", "key", "value")),
        pa.array([fault.reason for fault in found.faults], pa.large_string()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=_DEAD_SCHEMA)


def _refuse_own(topic: str, names: Iterable[str]) -> None:
    for name in names:
        if name in OWN_COLUMNS:
            raise DecodeError(
                f"topic {topic}: the records have a key {name!r}, which is a column that every view has",
                hint="declare the columns that you need under `decode.columns`, without it",
                topic=topic,
            )


def _too_many(topic: str) -> DecodeError:
    return DecodeError(
        f"topic {topic}: its records have more than {MAX_COLUMNS:,} different keys",
        hint="declare the columns that you need under `decode.columns`",
        topic=topic,
    )
