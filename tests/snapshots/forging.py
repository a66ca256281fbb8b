"""Stores that lie: a snapshot whose documents and objects are changed by hand. No test is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstream.errors import IntegrityError, MlstreamError
from mlstream.home import Home
from mlstream.snapshots.pull import pull
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import Snapshot

Document = dict[str, Any]

# Types that hold the same values as those of records, with the same digests.
OTHER_TYPES = [
    ("partition", pa.int64()),
    ("offset", pa.uint64()),
    ("timestamp", pa.timestamp("us", "UTC")),
    ("timestamp", pa.timestamp("ms", "Europe/Berlin")),
    ("timestamp", pa.timestamp("ms")),
    ("timestamp", pa.int64()),
    ("timestamp_type", pa.int16()),
    ("key", pa.large_binary()),
    ("value", pa.string()),
    ("headers", pa.large_list(pa.struct([("key", pa.binary()), ("value", pa.binary())]))),
    ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
]


class Forged:
    """A store of a snapshot `ticks`, and ways to make it lie. Ids and digests are right unless it is said."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.path = snapshot.store.path
        self.id = snapshot.id

    def document(self, folder: str) -> Document:
        found: Document = json.loads((self.path / folder / f"{self.id}.json").read_bytes())
        return found

    def manifest(self, change: Callable[[Document], object]) -> None:
        """Change the manifest, and file everything under the id that it has then."""
        document, storage = self.document("manifests"), self.document("storage")
        change(document)
        self.manifest_bytes(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())
        storage["snapshot"] = self.id
        self.storage_bytes(json.dumps(storage).encode())

    def manifest_bytes(self, data: bytes) -> None:
        self.id = hashlib.sha256(data).hexdigest()
        (self.path / "manifests" / f"{self.id}.json").write_bytes(data)
        (self.path / "refs" / "ticks").write_text(f"{self.id}\n")

    def storage(self, change: Callable[[Document], object]) -> None:
        document = self.document("storage")
        change(document)
        self.storage_bytes(json.dumps(document).encode())

    def storage_bytes(self, data: bytes) -> None:
        (self.path / "storage" / f"{self.id}.json").write_bytes(data)

    @property
    def objects(self) -> list[str]:
        return list(self.document("storage")["objects"])

    def object(self, digest: str) -> Path:
        return self.path / "objects" / digest[:2] / digest

    def put_object(self, data: bytes, instead_of: str, *, rows: int | None = None) -> str:
        """Other bytes for an object, under the name that they have, and the storage map says so."""
        digest = hashlib.sha256(data).hexdigest()
        self.object(digest).parent.mkdir(exist_ok=True)
        self.object(digest).write_bytes(data)

        def change(document: Document) -> None:
            known = document["objects"].pop(instead_of)
            document["objects"][digest] = {"size_bytes": str(len(data)), "rows": str(rows or known["rows"])}
            for piece in (*pieces_of(document), *(p for table in document["tables"] for p in table["pieces"])):
                if piece["object"] == instead_of:
                    piece["object"] = digest

        self.storage(change)
        return digest


def parquet(tmp_path: Path, table: pa.Table, **options: Any) -> bytes:
    """The bytes of a Parquet file with these rows."""
    pq.write_table(table, tmp_path / "made", **options)
    return (tmp_path / "made").read_bytes()


def cells_of(storage: Document) -> list[Document]:
    return [cell for stream in storage["streams"] for part in stream["partitions"] for cell in part["cells"]]


def pieces_of(storage: Document) -> list[Document]:
    return [piece for cell in cells_of(storage) for piece in cell["pieces"]]


def refused(forged: Forged, home: Home, why: str, *, error: type[MlstreamError] = IntegrityError) -> None:
    """Pulling it is refused, and the home is as it was."""
    before = files(home)
    with pytest.raises(error, match=why):
        pull("ticks", open_remote(forged.path), home=home)
    assert files(home) == before


def files(home: Home) -> set[str]:
    """Everything in a home but locks and empty folders."""
    found = (path for path in home.path.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(home.path)) for path in found if path.suffix != ".lock"}


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [path, *(found for key, value in inner for found in places(value, (*path, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document
