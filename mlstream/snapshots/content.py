"""What a snapshot holds beside records: files, tables, and the schemas that its records need. Opens no file.

Values and their JSON, as the manifest carries them; docs/format.md says what each means. A manifest may come from
anywhere, so what is read is checked: paths stay inside the snapshot, digests are digests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mlstream.errors import UsageError
from mlstream.naming import check_table_name

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_PATH_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileContent:
    """One file: its path in the snapshot (relative, with `/`), and its bytes, which are an object of their own."""

    path: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """As in the manifest."""
        return {"path": self.path, "size_bytes": str(self.size_bytes), "sha256": self.sha256}

    @classmethod
    def of(cls, found: dict[str, Any]) -> FileContent:
        """From the manifest.

        Raises:
            ValueError: a path that leads elsewhere, a size or a digest that is none.
        """
        size = check_int64(found["size_bytes"])
        if size < 0:
            raise ValueError(f"file {found['path']!r}: size {size}")
        return cls(check_path(found["path"]), size, check_digest(found["sha256"]))


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table: its name and its type in the words of docs/format.md, for example `decimal(12,2)`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class TableContent:
    """One table or query result.

    Attributes:
        name: what the snapshot calls it.
        query: the SELECT that made it; None for a whole table.
        columns: in the order of the table or query.
        primary_key: columns by which its rows are in order; empty when all columns are.
        records_digest: hex SHA-256 over its rows in canonical order.
    """

    name: str
    query: str | None
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]
    rows: int
    records_digest: str

    def to_json(self) -> dict[str, Any]:
        """As in the manifest."""
        return {
            "name": self.name,
            "query": self.query,
            "columns": [{"name": column.name, "type": column.type} for column in self.columns],
            "primary_key": list(self.primary_key),
            "rows": str(self.rows),
            "records_digest": self.records_digest,
        }

    @classmethod
    def of(cls, found: dict[str, Any]) -> TableContent:
        """From the manifest.

        Raises:
            ValueError: a name that no table may have, a count or a digest that is none.
        """
        try:
            name = check_table_name(str(found["name"]))
        except UsageError as exc:
            raise ValueError(exc.message) from None
        rows = check_int64(found["rows"])
        if rows < 0:
            raise ValueError(f"table {found['name']!r}: {rows} rows")
        return cls(
            name,
            None if found["query"] is None else str(found["query"]),
            tuple(TableColumn(str(column["name"]), str(column["type"])) for column in found["columns"]),
            tuple(map(str, found["primary_key"])),
            rows,
            check_digest(found["records_digest"]),
        )


@dataclass(frozen=True, slots=True)
class SchemaReference:
    """A schema that another one refers to by name."""

    name: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """As in the manifest."""
        return {"name": self.name, "text": self.text}


@dataclass(frozen=True, slots=True)
class SchemaContent:
    """A schema of a registry that records of a topic name by its id, with the text of all that it refers to.

    Attributes:
        id: the number in the records (bytes 1 to 4 of the Confluent wire format).
        type: `AVRO` or `JSON`.
        references: whatever `text` names, dependencies first.
    """

    id: int
    type: str
    text: str
    references: tuple[SchemaReference, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As in the manifest."""
        return {
            "id": str(self.id),
            "type": self.type,
            "text": self.text,
            "references": [reference.to_json() for reference in self.references],
        }

    @classmethod
    def of(cls, found: dict[str, Any]) -> SchemaContent:
        """From the manifest."""
        return cls(
            check_int64(found["id"]),
            str(found["type"]),
            str(found["text"]),
            tuple(SchemaReference(str(each["name"]), str(each["text"])) for each in found["references"]),
        )


def check_path(path: object) -> str:
    """A path inside a snapshot: relative, with `/` between its parts, none of them empty, `.` or `..`.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if not isinstance(path, str) or not path:
        raise ValueError(f"path {path!r}: it is empty, or no text")
    parts = path.split("/")
    # A backslash or a drive's colon would be a separator on another system.
    odd = any(part in ("", ".", "..") for part in parts) or "\\" in path or ":" in parts[0]
    if odd or any(ord(sign) < 32 or ord(sign) == 127 for sign in path) or PurePosixPath(path).is_absolute():
        raise ValueError(f"path {path!r}: it leads out of the snapshot, or is not in its plain form")
    if len(path.encode("utf-8", "surrogatepass")) > _MOST_PATH_BYTES:
        raise ValueError(f"path {path[:40]!r}…: longer than {_MOST_PATH_BYTES} bytes")
    return path


def check_digest(text: object) -> str:
    """A SHA-256 in hex.

    Raises:
        ValueError: when it is none.
    """
    if not isinstance(text, str) or _DIGEST.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no SHA-256 in hex")
    return text


def check_int64(text: object) -> int:
    """An int64 as JSON carries it: a decimal string.

    Raises:
        ValueError: when it is none.
    """
    if not isinstance(text, str) or len(text) > 20 or not -(1 << 63) <= (number := int(text)) < 1 << 63:
        raise ValueError(f"{str(text)[:40]!r} is no 64-bit integer in a string")
    return number
