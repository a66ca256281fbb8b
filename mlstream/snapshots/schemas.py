"""The schemas that frozen records name by id (the Confluent wire format), looked up once, while a freeze goes on.

A value in the wire format is a zero byte, the schema's id (int32, big-endian) and the body. The texts go into the
manifest, so that a snapshot decodes when the registry is gone. Which ids a cell of 65,536 offsets has is remembered in
`index/schemas/`, by the digest of its records: what the store had already is not read again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.decoding.framed import header_ids
from mlstream.errors import IntegrityError
from mlstream.snapshots.content import SchemaContent
from mlstream.snapshots.copying import Copied
from mlstream.snapshots.documents import write_document
from mlstream.snapshots.fixing import Fixed
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.registry import Registry
from mlstream.snapshots.storage import StoredCell
from mlstream.snapshots.store import Store, store_error

MOST_IDS = 1024  # of a topic; where there are more, the values only happen to begin with a zero byte


@dataclass(frozen=True, slots=True)
class UnknownSchema:
    """An id that records of a topic name and the registry does not know; where the first such record is."""

    topic: str
    id: int
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset} names schema {self.id}, which the registry does not know"


@dataclass(frozen=True, slots=True)
class Collected:
    """What a registry said of a freeze's records.

    Attributes:
        schemas: topic → the schemas that its records name, in order of their ids; topics without any are left out.
        unknown: ids that the registry does not know. Their records do not decode; the decoder's `on_error` says what
            becomes of them.
        passed_over: topics with more than 1,024 different ids: not the wire format, nothing was looked up.
    """

    schemas: Mapping[str, tuple[SchemaContent, ...]]
    unknown: tuple[UnknownSchema, ...]
    passed_over: tuple[str, ...]


def collect_schemas(
    registry: Registry, store: Store, fixed: Fixed, copies: Sequence[Copied], *, staged: Path
) -> Collected:
    """The schemas that the records of a freeze name. Called when all is copied, before anything is published.

    Args:
        copies: all partitions; rows that came from the store count like those that were fetched.
        staged: the freeze's staging folder; `copies` say which objects are in it.

    Raises:
        RegistryError: the registry does not answer, or answers nonsense. An id that it does not know is no error.
        IntegrityError: an object of the store is missing or damaged.
    """
    schemas: dict[str, tuple[SchemaContent, ...]] = {}
    unknown: list[UnknownSchema] = []
    passed_over: list[str] = []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="schemas") as pool:
        for topic, topic_id in fixed.topic_ids.items():
            mine = [_Cells(store, fixed.cluster_id, topic_id, found) for found in copies if _topic(found) == topic]
            ids: set[int] | None = set()
            for part in mine:
                found = part.ids(pool)
                part.remember(staged)
                ids = None if ids is None or found is None or len(ids | found) > MOST_IDS else ids | found
            if ids is None:
                passed_over.append(topic)
                continue
            known = {number: registry.schema(number) for number in sorted(ids)}
            if texts := tuple(schema for schema in known.values() if schema is not None):
                schemas[topic] = texts
            for number in (number for number, schema in known.items() if schema is None):
                partition, offset = _first(mine, number)
                unknown.append(UnknownSchema(topic, number, partition, offset))
    return Collected(schemas, tuple(unknown), tuple(passed_over))


class _Cells:
    """The cells of one partition: where their rows are, and which ids each has."""

    def __init__(self, store: Store, cluster_id: str, topic_id: str, copied: Copied) -> None:
        self.partition = copied.plan.wanted.partition
        self._store = store
        self._staged = copied.assembled.staged
        self._cells = copied.assembled.cells
        # A topic without an id might be another one of that name; its records' digests tell anyway.
        stream = json.dumps([cluster_id, copied.plan.wanted.topic, topic_id])
        folder = store.index / "schemas" / hashlib.sha256(stream.encode()).hexdigest()[:32]
        self._file = folder / f"{self.partition}.json"
        self._known: dict[str, tuple[int, ...] | None] = {}

    def ids(self, pool: ThreadPoolExecutor) -> set[int] | None:
        """All ids of the partition; None when a cell has too many."""
        before = self._remembered()
        unread = [cell for cell in self._cells if cell.cell.records.hex() not in before]
        read = dict(zip((cell.cell.records.hex() for cell in unread), pool.map(self._read_ids, unread), strict=True))
        known = {**before, **read}
        self._known = {digest: known[digest] for digest in (cell.cell.records.hex() for cell in self._cells)}
        found: set[int] = set()
        for ids in self._known.values():
            if ids is None:
                return None
            found.update(ids)
        return found

    def remember(self, staged: Path) -> None:
        """Write down what is known, in place of what was."""
        cells = {digest: None if ids is None else list(ids) for digest, ids in self._known.items()}
        try:
            write_document(self._file, json.dumps({"format": 1, "cells": cells}).encode(), staged=staged)
        except OSError as exc:
            raise store_error(self._file, exc) from exc

    def first(self, schema_id: int) -> int | None:
        """The offset of the first record that names a schema."""
        for cell in self._cells:
            ids = self._known[cell.cell.records.hex()]
            if ids is None or schema_id not in ids:
                continue
            for batch in self._rows(cell, ("offset", "value")):
                rows = np.flatnonzero(_ids_of(batch) == schema_id)
                if len(rows):
                    return int(batch.column("offset")[int(rows[0])].as_py())
        return None

    def _read_ids(self, cell: StoredCell) -> tuple[int, ...] | None:
        found: set[int] = set()
        for batch in self._rows(cell, ("value",)):
            ids = _ids_of(batch)
            found.update(np.unique(ids[ids >= 0]).tolist())
            if len(found) > MOST_IDS:
                return None
        return tuple(sorted(found))

    def _rows(self, cell: StoredCell, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        for piece in cell.pieces:
            path = self._staged.get(piece.object)
            path = self._store.obtain(piece.object) if path is None else path
            yield from read_rows(path, piece.row, piece.rows, columns=columns)

    def _remembered(self) -> dict[str, tuple[int, ...] | None]:
        try:
            document = json.loads(self._file.read_bytes())
            if document["format"] != 1:
                return {}
            return {
                str(digest): None if ids is None else tuple(map(int, ids)) for digest, ids in document["cells"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # derived: found out again


def _topic(copied: Copied) -> str:
    return copied.plan.wanted.topic


def _ids_of(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    return header_ids(batch.column("value"))


def _first(parts: Iterable[_Cells], schema_id: int) -> tuple[int, int]:
    for part in parts:
        offset = part.first(schema_id)
        if offset is not None:
            return part.partition, offset
    raise IntegrityError(
        f"index/schemas: it says that a record names schema {schema_id}, and none does", hint="delete that folder"
    )
