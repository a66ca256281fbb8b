"""Decoded columns of a snapshot's topic, kept as Arrow IPC files that map into memory. Derived: may be deleted.

    views/DIGEST/view.json              columns, rows and faults of each partition, and its files; written last
    views/DIGEST/PARTITION.arrow        `_partition`, `_offset`, `_timestamp`, `_key` and the decoded columns
    views/DIGEST/dead-letters.arrow     the records that did not decode, where they are left out of the view

DIGEST covers the digests of the records and the decoder, so a view is never out of date: it is there or it is made.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
import rfc8785
from numpy.typing import NDArray

from mlstream.errors import StoreError, UnknownPartition, UsageError
from mlstream.snapshots.documents import flush_folder
from mlstream.snapshots.locks import locked
from mlstream.snapshots.manifest import StreamContent
from mlstream.snapshots.store import store_error
from mlstream.snapshots.view_making import DEAD_LETTERS, checksum, make_view
from mlstream.wire.columns import numbers_of

if TYPE_CHECKING:
    from mlstream.config import DecodeConfig
    from mlstream.snapshots.snapshot import Snapshot

_STRETCH_ROWS = 65_536
DECODER = 1  # part of the digest: raise it when the same value would decode to something else
_REGISTERED = ("avro", "json-schema")


@dataclass(frozen=True, slots=True)
class View:
    """A topic's records as typed columns.

    Attributes:
        topic: which topic of the snapshot.
        digest: hex SHA-256 over the records' and the decoder's digests: equal digests, equal frames.
        columns: the decoded columns and their types, in the words of docs/decoding.md.
        rows: partition → rows.
        faults: partition → records that did not decode. With `on_error: null` they are null in every column, with
            `on_error: dead-letter` they are not among the rows; with `fail` there are none.
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
        return _frame(self._table(number))

    def stretches(self, number: int, columns: Sequence[str]) -> Stretches:
        """The same, a stretch at a time.

        Args:
            columns: the ones that a stretch has, with `_offset` among them.

        Raises:
            UnknownPartition, StoreError: as `partition` does.
        """
        return Stretches(self._table(number).select(list(columns)))

    def _table(self, number: int) -> pa.Table:
        if number not in self.rows:
            raise UnknownPartition(f"{self.topic}: the snapshot holds no partition {number}", partition=number)
        try:
            return pa.ipc.open_file(pa.memory_map(str(self.file(number)))).read_all()
        except (OSError, pa.ArrowInvalid) as exc:
            raise store_error(self.file(number), exc) from exc

    def file(self, number: int) -> Path:
        """The file of one partition, for a process that maps it itself."""
        return self.folder / f"{number}.arrow"

    def frame(self) -> pl.LazyFrame:
        """All rows in order of partition and offset."""
        return pl.concat([pl.scan_ipc(glob.escape(str(self.file(number)))) for number in self.rows])

    def empty_columns(self) -> tuple[str, ...]:
        """The decoded columns that are null in every row: of declared ones, names that no record may ever have had.

        Raises:
            StoreError: when the view was deleted meanwhile; open it again.
        """
        empty = [name for name, _ in self.columns] if any(self.rows.values()) else []
        for number, rows in self.rows.items():
            if not empty:
                break
            frame = self.partition(number)
            empty = [name for name in empty if frame[name].null_count() == rows]
        return tuple(empty)

    def dead_letters(self) -> pl.LazyFrame:
        """The records that were left out: `partition`, `offset`, `timestamp`, `key`, `value` and the `reason`.

        Raises:
            UsageError: when the view was not made with `on_error: dead-letter`, and so left none out.
        """
        path = self.folder / DEAD_LETTERS
        if not path.is_file():
            raise UsageError(
                f"the view of {self.topic} leaves no records out", hint="decode with `on_error: dead-letter`"
            )
        return pl.scan_ipc(glob.escape(str(path)))


class Stretches:
    """A partition's rows, of which only the stretch that is asked for takes memory, beside their offsets.

    Args:
        table: the rows, with a column `_offset`; mapped files stay mapped.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        chunks = [numbers_of(chunk, np.int64) for chunk in table.column("_offset").chunks]
        self.offsets: NDArray[np.int64] = np.concatenate(chunks) if chunks else np.empty(0, np.int64)
        self._at, self._stretch = 0, _frame(table.slice(0, 0))

    @property
    def height(self) -> int:
        """How many rows there are."""
        return int(self._table.num_rows)

    def slice(self, row: int, rows: int) -> pl.DataFrame:
        """Rows `[row, row + rows)`; fewer when there are no more."""
        if not self._at <= row <= row + rows <= self._at + self._stretch.height:
            # Many at once: it costs about as much as for few.
            self._at, self._stretch = row, _frame(self._table.slice(row, max(rows, _STRETCH_ROWS)))
        return self._stretch.slice(row - self._at, rows)


def _frame(table: pa.Table) -> pl.DataFrame:
    found = pl.from_arrow(table, rechunk=False)
    return found if isinstance(found, pl.DataFrame) else found.to_frame()


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
    # One process at a time makes a view; the others wait and take what it made.
    lock = snapshot.store.path / "tmp" / "views" / f"{digest}.lock"
    with locked(lock, busy=None), snapshot.store.staging() as staged:
        found = _load(folder, topic, digest)
        if found is not None:  # another process was quicker; others may be reading what it made
            return found
        made = staged / "view"
        try:
            made.mkdir()
            make_view(snapshot, topic, decode, made, staged)
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


def decoder_digest(decode: DecodeConfig) -> str:
    """Hex SHA-256 over everything that decides how a value becomes columns."""
    said = decode.model_dump(mode="json")
    description: dict[str, Any] = {
        **said,
        "decoder": DECODER,
        "columns": None if decode.columns is None else [[name, said["columns"][name]] for name in decode.columns],
    }
    return hashlib.sha256(rfc8785.dumps(description)).hexdigest()


def view_digest(stream: StreamContent, decode: DecodeConfig) -> str:
    """Hex SHA-256 over the records of a topic (each partition's number and root), their schemas and the decoder."""
    parts: dict[str, Any] = {
        "records": {str(part.partition): part.root for part in stream.partitions},
        "decoder": decoder_digest(decode),
    }
    if decode.format in _REGISTERED:
        parts["schemas"] = [schema.to_json() for schema in stream.schemas]
    return hashlib.sha256(rfc8785.dumps(parts)).hexdigest()


def _load(folder: Path, topic: str, digest: str) -> View | None:
    """The view in a folder; None when it is not there, or not whole."""
    try:
        document = json.loads((folder / "view.json").read_bytes())
        parts = {int(part["partition"]): part for part in document["partitions"]}
        files = document["files"]
        if not all(f"{number}.arrow" in files for number in parts):
            return None
        if not all(_is_whole(folder / name, known) for name, known in files.items()):
            return None
        return View(
            topic,
            digest,
            tuple((name, kind) for name, kind in document["columns"]),
            {number: int(part["rows"]) for number, part in parts.items()},
            {number: int(part["faults"]) for number, part in parts.items()},
            folder,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_whole(path: Path, known: dict[str, str]) -> bool:
    """Whether a file is what was written: by its size and its last change; by its bytes where that differs."""
    found = path.stat()
    if found.st_size != int(known["size_bytes"]):
        return False
    return found.st_mtime_ns == int(known["modified_ns"]) or checksum(path) == int(known["crc32c"])
