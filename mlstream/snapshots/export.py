"""Write a snapshot out as plain files, for people who use something else. Changes no snapshot.

    DIR/streams/TOPIC/partition-00000.parquet    a folder a topic, a file a partition (.csv, .jsonl)
    DIR/dead-letters/TOPIC.parquet               records that do not decode, where the decoder leaves them out
    DIR/tables/NAME.parquet                      a file a table or query
    DIR/files/PATH                               its files, as they were
    DIR/README.md                                what the columns are, and how to read them
    DIR/manifest.json                            the snapshot's manifest: its SHA-256 is the snapshot's id
    DIR/export.json                              what is there; written last

1. make `DIR.partial` beside DIR, locked; one that a killed process left is removed
2. write streams, tables and files into it, each flushed to the disk, their rows counted
3. write what describes them, export.json last
4. rename it to DIR, which must not exist or be empty: DIR is whole or not there
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import polars as pl
import pyarrow as pa

from mlstream import __version__
from mlstream.databases.arrow import arrow_type
from mlstream.errors import IntegrityError, StoreError, UsageError
from mlstream.snapshots.content import FileContent, TableContent
from mlstream.snapshots.export_files import FORMATS, ColumnFile, Columns, Format
from mlstream.snapshots.export_folder import check_empty, partial_folder, publish_folder, write_flushed
from mlstream.snapshots.export_readme import readme
from mlstream.snapshots.manifest import PartitionContent, StreamContent
from mlstream.snapshots.objects import OBJECT_SCHEMA, PARTITION
from mlstream.snapshots.stored_rows import stored_rows
from mlstream.snapshots.tables import column_types, read_table_rows

if TYPE_CHECKING:
    from mlstream.config import DecodeConfig
    from mlstream.snapshots.snapshot import Snapshot
    from mlstream.snapshots.views import View

LAYOUT = 1  # of DIR, named in export.json
_VIEW_ROWS = 1 << 16
_BLOCK_BYTES = 1 << 20
_WORKERS = 2  # files that are written side by side: each holds a row group in memory


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: `rows` of streams and tables, and what all files take."""

    folder: Path
    format: Format
    rows: int
    files: int
    size_bytes: int
    seconds: float


def export(
    snapshot: Snapshot,
    folder: str | Path,
    *,
    format: Format = "parquet",  # noqa: A002  # the word that users know it by
    decode: DecodeConfig | Mapping[str, DecodeConfig] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a snapshot's streams, tables and files into a folder.

    Args:
        folder: where to; it must not exist, or be empty.
        format: parquet, csv or jsonl (JSON lines), of streams and tables; files stay as they are.
        decode: how values become columns: of all topics, or topic → how; others are written as raw records.
        progress: called with the rows written and the rows in all.

    Raises:
        UsageError: the folder is not empty; an unknown format; a column that the format cannot hold.
        UnknownTopic: the snapshot does not hold a topic of `decode`.
        DecodeError: a value does not decode.
        IntegrityError: the snapshot is damaged.
        StoreError: the folder cannot be written.
    """
    began = time.monotonic()
    target = Path(folder).expanduser().resolve()
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not known", hint=f"use one of {', '.join(FORMATS)}")
    check_empty(target)
    try:
        with snapshot.store.in_use(snapshot.id, f"exporting it to {target.name}"):
            snapshot.store.obtain_all(snapshot.storage.objects)
            decoders = _decoders(snapshot, decode)
            views = {topic: snapshot.view(topic, config) for topic, config in decoders.items()}
            dead = {topic for topic, config in decoders.items() if config.on_error == "dead-letter"}
            # 1. make DIR.partial
            with partial_folder(target) as made:
                job = _Export(snapshot, made, format, views, dead, progress)
                # 2. streams, tables and files
                job.write()
                # 3. what describes them
                job.describe()
                size_bytes = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
                # 4. rename it
                publish_folder(made, target)
    except OSError as exc:
        raise StoreError(
            f"{target}: it cannot be written: {exc.strerror or exc}", hint="free some space, or choose another folder"
        ) from exc
    return Exported(target, format, job.rows, len(snapshot.files), size_bytes, time.monotonic() - began)


def _decoders(
    snapshot: Snapshot, decode: DecodeConfig | Mapping[str, DecodeConfig] | None
) -> Mapping[str, DecodeConfig]:
    if decode is None:
        return {}
    return decode if isinstance(decode, Mapping) else dict.fromkeys(snapshot.topics, decode)


class _Export:
    """One export under way: what is written, and how far it is."""

    def __init__(
        self,
        snapshot: Snapshot,
        folder: Path,
        kind: Format,
        views: Mapping[str, View],
        dead: Collection[str],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._snapshot = snapshot
        self._folder = folder
        self._kind: Format = kind
        self._views = views
        self._dead = dead
        self._progress = progress
        self._total = sum(self._rows_of(stream) for stream in snapshot.streams)
        self._total += sum(table.rows for table in snapshot.tables)
        self._lock = Lock()
        self._written: dict[str, dict[str, Any]] = {}
        self.rows = 0

    def _rows_of(self, stream: StreamContent) -> int:
        view = self._views.get(stream.topic)
        if view is None:
            return stream.rows
        return sum(view.rows.values()) + (sum(view.faults.values()) if stream.topic in self._dead else 0)

    def write(self) -> None:
        """All streams, tables and files, some of them side by side."""
        jobs: list[Callable[[], None]] = []
        for stream in self._snapshot.streams:
            (self._folder / "streams" / _plain(stream.topic)).mkdir(parents=True)
            jobs += [partial(self._write_partition, stream, part) for part in stream.partitions]
        if self._snapshot.tables:
            (self._folder / "tables").mkdir()
        if self._dead:
            (self._folder / "dead-letters").mkdir()
        jobs += [partial(self._write_dead_letters, topic) for topic in self._dead]
        jobs += [partial(self._write_table, table, number) for number, table in enumerate(self._snapshot.tables)]
        jobs += [partial(self._copy, file) for file in self._snapshot.files]
        pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="export")
        try:
            for done in [pool.submit(job) for job in jobs]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def describe(self) -> None:
        """README.md, manifest.json, export.json."""
        snapshot = self._snapshot
        description = {
            "layout": LAYOUT,
            "mlstream": __version__,
            "snapshot": snapshot.id,
            "name": snapshot.name,
            "complete": snapshot.complete,
            "format": self._kind,
            "streams": [self._stream_json(stream) for stream in snapshot.streams],
            "tables": [{**table.to_json(), **self._written[self._table_path(table)]} for table in snapshot.tables],
            "files": [{**file.to_json(), "size_bytes": file.size_bytes} for file in snapshot.files],
        }
        manifest = snapshot.store.read(snapshot.store.manifest(snapshot.id))
        write_flushed(self._folder / "README.md", readme(description).encode())
        write_flushed(self._folder / "manifest.json", manifest)
        write_flushed(
            self._folder / "export.json", (json.dumps(description, indent=1, ensure_ascii=False) + "\n").encode()
        )

    def _stream_json(self, stream: StreamContent) -> dict[str, Any]:
        view = self._views.get(stream.topic)
        return {
            "cluster_id": stream.cluster_id,
            "topic": stream.topic,
            "topic_id": stream.topic_id,
            "folder": f"streams/{_plain(stream.topic)}",
            "decoded": None if view is None else [list(column) for column in view.columns],
            "dead_letters": self._written.get(self._dead_path(stream.topic)),
            "files": [
                {
                    "partition": part.partition,
                    "start": part.start,
                    "stop": part.stop,
                    **self._written[self._partition_path(stream, part)],
                }
                for part in stream.partitions
            ],
        }

    def _partition_path(self, stream: StreamContent, part: PartitionContent) -> str:
        return f"streams/{_plain(stream.topic)}/partition-{part.partition:05d}.{self._kind}"

    def _dead_path(self, topic: str) -> str:
        return f"dead-letters/{_plain(topic)}.{self._kind}"

    def _table_path(self, table: TableContent) -> str:
        return f"tables/{_plain(table.name)}.{self._kind}"

    def _write_partition(self, stream: StreamContent, part: PartitionContent) -> None:
        view = self._views.get(stream.topic)
        if view is None:
            schema, rows, wanted = OBJECT_SCHEMA, _raw(self._snapshot, stream.topic, part.partition), part.rows
        else:
            schema = _to_arrow(view.partition(part.partition).clear()).schema
            rows, wanted = _view_rows(view, part.partition), view.rows[part.partition]
        self._write_rows(self._partition_path(stream, part), schema, rows, wanted)

    def _write_dead_letters(self, topic: str) -> None:
        """The records that do not decode, which are left out of the stream's files."""
        rows = self._views[topic].dead_letters().collect()
        slices = (_to_arrow(part) for part in rows.iter_slices(_VIEW_ROWS))
        self._write_rows(self._dead_path(topic), _to_arrow(rows.clear()).schema, slices, rows.height)

    def _write_table(self, table: TableContent, number: int) -> None:
        found = read_table_rows(table, self._snapshot.storage.tables[number].pieces, self._snapshot.store.obtain)
        first = next(found, None)
        if first is None:
            kinds = zip(table.columns, column_types(table), strict=True)
            schema = pa.schema([(column.name, arrow_type(kind)) for column, kind in kinds])
        else:
            schema, found = first.schema, chain([first], found)
        self._write_rows(self._table_path(table), schema, found, table.rows)

    def _write_rows(self, path: str, schema: pa.Schema, rows: Iterator[Columns], wanted: int) -> None:
        try:
            with ColumnFile(self._folder / path, schema, self._kind) as file:
                for columns in rows:
                    file.write(columns)
                    self._tell(columns.num_rows)
        except UsageError as exc:
            raise UsageError(f"{path}: {exc.message}", hint=exc.hint) from exc
        if file.rows != wanted:
            raise IntegrityError(
                f"{path}: it has {file.rows} rows, and the snapshot holds {wanted}",
                hint="run `mlstream snapshot verify --deep`",
            )
        entry = {"path": path, "rows": file.rows, "size_bytes": file.size_bytes, "sha256": file.sha256}
        with self._lock:
            self._written[path] = entry

    def _copy(self, file: FileContent) -> None:
        """A file's bytes, checked on the way. Never a link: nobody may write to the store through it."""
        source = self._snapshot.store.obtain(file.sha256)
        target = self._folder / "files" / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with source.open("rb") as read, target.open("wb") as written:
            while block := read.read(_BLOCK_BYTES):
                found.update(block)
                written.write(block)
            written.flush()
            os.fsync(written.fileno())
        if found.hexdigest() != file.sha256:
            raise IntegrityError(f"file {file.path}: its bytes have changed", hint="run `mlstream snapshot verify`")

    def _tell(self, rows: int) -> None:
        with self._lock:
            self.rows += rows
            if self._progress is not None:
                self._progress(self.rows, self._total)


def _raw(snapshot: Snapshot, topic: str, partition: int) -> Iterator[Columns]:
    """A partition's records as they are stored."""
    for rows in stored_rows(snapshot, topic, partition):
        constant = pa.repeat(pa.scalar(partition, PARTITION.type), rows.num_rows)
        yield pa.RecordBatch.from_arrays([constant, *rows.columns], schema=OBJECT_SCHEMA)


def _view_rows(view: View, partition: int) -> Iterator[Columns]:
    """A partition's decoded columns, some rows at a time."""
    for rows in view.partition(partition).iter_slices(_VIEW_ROWS):
        yield _to_arrow(rows)


def _to_arrow(rows: pl.DataFrame) -> pa.Table:
    return rows.to_arrow(compat_level=pl.CompatLevel.oldest())


def _plain(name: str) -> str:
    """A topic's or table's name as a file's: nothing in it leads elsewhere, or hides the file."""
    found = quote(name, safe="")
    return f"%2E{found[1:]}" if found.startswith(".") else found
