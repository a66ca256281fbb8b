"""A reader of the store that knows docs/format.md only: pyarrow, hashlib and json, nothing of mlstream. The oracle."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.snapshots import plain_table

CELL = 65_536
GROUP = 65_536

Record = tuple[int, "int | None", int, "bytes | None", "bytes | None", "list[tuple[bytes | None, bytes | None]]"]


def sized(data: bytes | None) -> bytes:
    return struct.pack("<i", -1) if data is None else struct.pack("<i", len(data)) + data


def position(record: Record) -> bytes:
    return struct.pack("<qB", record[0], record[2])


def payload(record: Record) -> bytes:
    _, timestamp, _, key, value, headers = record
    parts = [struct.pack("<q", -1 if timestamp is None else timestamp), sized(key), sized(value)]
    parts.append(struct.pack("<i", len(headers)))
    parts += [sized(name) + sized(content) for name, content in headers]
    return b"".join(parts)


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def records_digest(records: Sequence[Record]) -> bytes:
    return sha(sha(b"".join(map(position, records))) + sha(b"".join(map(payload, records))))


def root(records: Sequence[Record], start: int, stop: int) -> str:
    found = b""
    for number in range(start // CELL, (stop - 1) // CELL + 1) if stop > start else ():
        low, high = max(number * CELL, start), min((number + 1) * CELL, stop)
        inside = [record for record in records if low <= record[0] < high]
        if inside:
            found += struct.pack("<qqqq", number, low, high, len(inside)) + records_digest(inside)
    return hashlib.sha256(found).hexdigest()


def payload_digest(records: Sequence[Record]) -> str:
    groups = [records[first : first + GROUP] for first in range(0, len(records), GROUP)]
    return hashlib.sha256(b"".join(sha(b"".join(map(payload, group))) for group in groups)).hexdigest()


def rows_of(table: Any) -> Iterator[Record]:
    for row in table.to_pylist():
        timestamp = row["timestamp"]
        yield (
            row["offset"],
            None if timestamp is None else round(timestamp.timestamp() * 1000),
            row["timestamp_type"],
            row["key"],
            row["value"],
            [(header["key"], header["value"]) for header in row["headers"]],
        )


def stored_records(home: Path, pieces: Sequence[dict[str, Any]]) -> Iterator[Record]:
    for piece in pieces:
        name = piece["object"]
        path = home / "objects" / name[:2] / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        with pq.ParquetFile(path) as file:
            yield from rows_of(file.read().slice(int(piece["row"]), int(piece["rows"])))


def table_digest(home: Path, table: dict[str, Any], pieces: Sequence[dict[str, Any]]) -> tuple[int, str]:
    """How many rows a table has, and their digest: from the rows that are stored, put into their order anew."""
    rows = []
    for piece in pieces:
        name = piece["object"]
        path = home / "objects" / name[:2] / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
        with pq.ParquetFile(path) as file:
            stored = file.read().slice(int(piece["row"]), int(piece["rows"]))
        assert stored.column_names == [column["name"] for column in table["columns"]]
        # Columns of values, not rows by name: a row is its values in the order of the columns.
        rows += list(zip(*(column.to_pylist() for column in stored.columns), strict=True))
    names = [column["name"] for column in table["columns"]]
    kinds = [column["type"] for column in table["columns"]]
    key = [names.index(name) for name in table["primary_key"] or ()]
    return len(rows), plain_table.digest(rows, kinds, key)


def recomputed_id(home: Path, snapshot_id: str) -> str:
    """The id of a stored snapshot, from its rows: its digests are computed anew and put into the manifest's place."""
    document = json.loads((home / "manifests" / f"{snapshot_id}.json").read_bytes())
    storage = json.loads((home / "storage" / f"{snapshot_id}.json").read_bytes())
    for stream, stored in zip(document["streams"], storage["streams"], strict=True):
        for part, place in zip(stream["partitions"], stored["partitions"], strict=True):
            records = [record for cell in place["cells"] for record in stored_records(home, cell["pieces"])]
            times = [record[1] for record in records if record[1] is not None]
            types = {record[2] for record in records}
            part["rows"] = str(len(records))
            part["root"] = root(records, int(part["start"]), int(part["stop"]))
            part["payload_digest"] = payload_digest(records)
            part["min_timestamp_ms"] = str(min(times)) if times else None
            part["max_timestamp_ms"] = str(max(times)) if times else None
            part["timestamp_type"] = (
                "mixed" if len(types) > 1 else {0: "CreateTime", 1: "LogAppendTime"}[types.pop()] if types else None
            )
    for table, place in zip(document["tables"], storage["tables"], strict=True):
        count, table["records_digest"] = table_digest(home, table, place["pieces"])
        table["rows"] = str(count)
    for file in document["files"]:
        data = (home / "objects" / file["sha256"][:2] / file["sha256"]).read_bytes()
        file["sha256"], file["size_bytes"] = hashlib.sha256(data).hexdigest(), str(len(data))
    # RFC 8785 for what a manifest holds: ASCII keys, and no numbers but small integers.
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
