"""Decoded columns of a snapshot's topic, kept as Arrow IPC files that map into memory. Derived: may be deleted.

    views/DIGEST/view.json          the schema, rows and faults of each partition; written last
    views/DIGEST/PARTITION.arrow    `_partition`, `_offset`, `_timestamp`, `_key` and the decoded columns

DIGEST covers the digests of the records and the decoder, so a view is never out of date: it is there or it is made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl
import pyarrow as pa
import rfc8785
from filelock import FileLock

from mlstream.decoding.json_columns import Fault, arrow_schema, to_columns
from mlstream.decoding.json_schema import Schema, join, schema_of, see
from mlstream.decoding.json_tokens import BATCH_ROWS, MAX_COLUMNS, Names, TooManyColumns, tokenise
from mlstream.errors import DecodeError, StoreError, UnknownPartition
from mlstream.snapshots.manifest import StreamContent
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.store import Store, flush_folder, store_error, write_document

if TYPE_CHECKING:
    from mlstream.config import DecodeConfig
    from mlstream.snapshots.snapshot import Snapshot

T = TypeVar("T")
R = TypeVar("R")

DECODER = 1  # part of the digest: raise it when the same value would decode to something else
OWN_COLUMNS = ("_partition", "_offset", "_timestamp", "_key")
_OWN_SCHEMA = pa.schema(
    [
        pa.field("_partition", pa.int32(), nullable=False),
        pa.field("_offset", pa.int64(), nullable=False),
        pa.field("_timestamp", pa.timestamp("ms", tz="UTC")),
        pa.field("_key", pa.large_binary()),
    ]
)
_RAW_SCHEMA = pa.schema([pa.field("value", pa.large_binary())])


@dataclass(frozen=True, slots=True)
class View:
    """A topic's records as typed columns.

    Attributes:
        topic: which topic of the snapshot.
        digest: hex SHA-256 over the records' and the decoder's digests: equal digests, equal frames.
        columns: the decoded columns and their types (int, float, string, bool, time, json; raw for format raw).
        rows: partition → rows.
        faults: partition → records that did not decode and are null in every column (only with `on_error: null`).
        folder: where the files are.
    """

    topic: str
    digest: str
    columns: tuple[tuple[str, str], ...]
    rows: dict[int, int]
    faults: dict[int, int]
    folder: Path

    @property
    def partitions(self) -> tuple[int, ...]:
        """The numbers of its partitions, in order."""
        return tuple(self.rows)

    @property
    def schema(self) -> pl.Schema:
        """Names and types of all columns."""
        return self.frame().collect_schema()

    def partition(self, number: int) -> pl.DataFrame:
        """One partition's rows in order of their offsets, mapped into memory.

        Raises:
            UnknownPartition: when the snapshot does not hold it.
            StoreError: when the view was deleted meanwhile; open it again.
        """
        if number not in self.rows:
            raise UnknownPartition(f"{self.topic}: the snapshot holds no partition {number}", partition=number)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self._file(number)))).read_all()
        except (OSError, pa.ArrowInvalid) as exc:
            raise store_error(self._file(number), exc) from exc
        found = pl.from_arrow(table, rechunk=False)
        return found if isinstance(found, pl.DataFrame) else found.to_frame()

    def frame(self) -> pl.LazyFrame:
        """All rows in order of partition and offset."""
        return pl.concat([pl.scan_ipc(self._file(number)) for number in self.rows])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.arrow"


def open_view(snapshot: Snapshot, topic: str, decode: DecodeConfig) -> View:
    """The view of a topic; made when it is not there.

    Raises:
        UnknownTopic: when the snapshot holds nothing of it.
        DecodeError: when a value does not decode: names topic, partition, offset and reason.
        IntegrityError: when an object is missing or damaged.
    """
    stream = snapshot.stream(topic)
    digest = view_digest(stream, decode)
    folder = snapshot.store.views / digest
    found = _load(folder, topic, digest)
    if found is not None:
        return found
    with _making(snapshot, digest, folder), snapshot.store.staging() as staged:
        found = _load(folder, topic, digest)
        if found is not None:  # another process was quicker; others may be reading what it made
            return found
        made = staged / "view"
        try:
            made.mkdir()
            _make(snapshot, topic, decode, made, staged)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():  # damaged
                folder.replace(staged / "damaged")
            made.replace(folder)
            flush_folder(folder.parent)
        except OSError as exc:
            raise store_error(folder, exc) from exc
    found = _load(folder, topic, digest)
    if found is None:
        raise StoreError(f"{folder}: the view cannot be read", hint="delete the folder and try again")
    return found


@contextmanager
def _making(snapshot: Snapshot, digest: str, folder: Path) -> Iterator[None]:
    """One process at a time makes a view; the others wait and take what it made. A process that dies lets go of it."""
    locks = snapshot.store.path / "tmp" / "views"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{digest}.lock")
        lock.acquire()
    except OSError as exc:
        raise store_error(folder, exc) from exc
    try:
        yield
    finally:
        lock.release()


def decoder_digest(decode: DecodeConfig) -> str:
    """Hex SHA-256 over everything that decides how a value becomes columns."""
    columns = None if decode.columns is None else [list(item) for item in decode.columns.items()]
    description = {"decoder": DECODER, "format": decode.format, "columns": columns, "on_error": decode.on_error}
    return hashlib.sha256(rfc8785.dumps(description)).hexdigest()


def view_digest(stream: StreamContent, decode: DecodeConfig) -> str:
    """Hex SHA-256 over the records of a topic (each partition's number and root) and the decoder."""
    records = {str(part.partition): part.root for part in stream.partitions}
    return hashlib.sha256(rfc8785.dumps({"records": records, "decoder": decoder_digest(decode)})).hexdigest()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of one partition, as stored."""

    partition: int
    rows: pa.RecordBatch


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
        for piece in self._snapshot.pieces(self.topic, partition):
            for rows in read_rows(self._store.obtain(piece.object), piece.row, piece.rows):
                for first in range(0, len(rows), BATCH_ROWS):
                    yield rows.slice(first, BATCH_ROWS)

    def error(self, partition: int, offset: int, reason: str) -> DecodeError:
        """The error for a record that does not decode."""
        return DecodeError(
            f"{self.topic}[{partition}]@{offset}: {reason}",
            hint="correct what is sent, or decode with `on_error: null`",
            topic=self.topic,
            partition=partition,
            offset=offset,
        )


def _make(snapshot: Snapshot, topic: str, decode: DecodeConfig, folder: Path, staged: Path) -> None:
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="decode") as pool:
        rows = _Topic(snapshot, topic, pool)
        columns: tuple[tuple[str, str], ...]
        if decode.format == "raw":
            columns, counts = (("value", "raw"),), _write(rows, _decode_raw, _RAW_SCHEMA, folder, strict=True)
        else:
            schema = _declared(topic, decode) if decode.columns is not None else _inferred(rows, decode)
            columns = schema
            counts = _write(rows, _json_decoder(schema), arrow_schema(schema), folder, strict=decode.on_error == "fail")
    document = {
        "format": DECODER,
        "records": {str(part.partition): part.root for part in snapshot.stream(topic).partitions},
        "columns": [list(column) for column in columns],
        "partitions": [
            {
                "partition": partition,
                "rows": str(done),
                "faults": str(faults),
                "size_bytes": str((folder / f"{partition}.arrow").stat().st_size),
            }
            for partition, (done, faults) in counts.items()
        ],
    }
    write_document(folder / "view.json", json.dumps(document, indent=1).encode(), staged=staged)


def _load(folder: Path, topic: str, digest: str) -> View | None:
    """The view in a folder; None when it is not there, or not whole."""
    try:
        document = json.loads((folder / "view.json").read_bytes())
        parts = {part["partition"]: part for part in document["partitions"]}
        for number, part in parts.items():
            if (folder / f"{number}.arrow").stat().st_size != int(part["size_bytes"]):
                return None
        return View(
            topic,
            digest,
            tuple((name, kind) for name, kind in document["columns"]),
            {number: int(part["rows"]) for number, part in parts.items()},
            {number: int(part["faults"]) for number, part in parts.items()},
            folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _declared(topic: str, decode: DecodeConfig) -> Schema:
    schema = tuple((decode.columns or {}).items())
    _refuse_own(topic, (name for name, _ in schema))
    return schema  # type: ignore[return-value]  # the configuration checks the types' names


def _inferred(rows: _Topic, decode: DecodeConfig) -> Schema:
    """The least upper bound over all records."""

    def infer(batch: _Batch) -> dict[str, object]:
        names = Names()
        try:
            tokens = tokenise(batch.rows.column("value"), names)
        except TooManyColumns:
            raise _too_many(rows.topic) from None
        bad = np.flatnonzero(tokens.faults)
        if len(bad) and decode.on_error == "fail":
            row = int(bad[0])
            offset = batch.rows.column("offset")[row].as_py()
            raise rows.error(batch.partition, offset, tokens.reason(row))
        return see(tokens, names.columns)  # type: ignore[return-value]

    seen = join(rows.map(infer, rows.partitions))  # type: ignore[arg-type]
    if len(seen) > MAX_COLUMNS:
        raise _too_many(rows.topic)
    schema = schema_of(seen)
    _refuse_own(rows.topic, (name for name, _ in schema))
    return schema


def _json_decoder(schema: Schema) -> Callable[[_Batch], tuple[_Batch, tuple[pa.Array, ...], tuple[Fault, ...]]]:
    numbers = {name: number for number, (name, _) in enumerate(schema)}

    def decode(batch: _Batch) -> tuple[_Batch, tuple[pa.Array, ...], tuple[Fault, ...]]:
        names = Names(tuple(numbers), closed=True)
        found = to_columns(tokenise(batch.rows.column("value"), names), numbers, schema)
        return batch, found.arrays, found.faults

    return decode


def _decode_raw(batch: _Batch) -> tuple[_Batch, tuple[pa.Array, ...], tuple[Fault, ...]]:
    return batch, (batch.rows.column("value").cast(pa.large_binary()),), ()


def _write(
    rows: _Topic,
    decode: Callable[[_Batch], tuple[_Batch, tuple[pa.Array, ...], tuple[Fault, ...]]],
    schema: pa.Schema,
    folder: Path,
    *,
    strict: bool,
) -> dict[int, tuple[int, int]]:
    """Write each partition's file; partition → rows and faults."""
    full = pa.schema([*_OWN_SCHEMA, *schema])
    counts = {}
    for partition in rows.partitions:
        done = faults = 0
        with pa.OSFile(str(folder / f"{partition}.arrow"), "wb") as file, pa.ipc.new_file(file, full) as out:
            for batch, arrays, bad in rows.map(decode, [partition]):
                if bad and strict:
                    offset = batch.rows.column("offset")[bad[0].row].as_py()
                    raise rows.error(partition, offset, bad[0].reason)
                own = (
                    pa.repeat(pa.scalar(partition, pa.int32()), len(batch.rows)),
                    batch.rows.column("offset"),
                    batch.rows.column("timestamp"),
                    batch.rows.column("key").cast(pa.large_binary()),
                )
                out.write_batch(pa.RecordBatch.from_arrays([*own, *arrays], schema=full))
                done += len(batch.rows)
                faults += len(bad)
        counts[partition] = done, faults
    return counts


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
