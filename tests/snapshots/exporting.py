"""Records of every kind, and plain readers of exported files that know the README's rules only. No test is here."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.snapshots.making import Row

# Null and empty apart, no UTF-8, NUL, separators and line ends of CSV, headers repeated and null, times missing,
# before 1970, after 9999, and gaps between the offsets.
ODD = [
    Row(0, b'{"n": 1}', key=b"k", timestamp=1_380_585_600_000),
    Row(1, None, key=None, timestamp=None),
    Row(5, b"", key=b"", timestamp=0, headers=((b"a", b"1"), (b"a", b"\xff"), (b"b", None), (b"", b""))),
    Row(6, b"\xff\xfe\x00", key=b"\x80", timestamp=253_402_300_800_000),
    Row(7, b"nul\x00nul", key=b'quote "', timestamp=-1_500),
    Row(9, 'näh, "q"\r\nnext\rline\n\t\' '.encode(), key=b" NA ", timestamp=-62_135_596_800_001),
    Row(70_000, b"[]", key=b"null", timestamp=2**62, timestamp_type=1),
]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain_rows(rows: list[Row], partition: int = 0) -> list[tuple[Any, ...]]:
    """Rows as the readers below give them: times as milliseconds."""
    return [
        (partition, row.offset, row.timestamp, row.timestamp_type, row.key, row.value, list(row.headers))
        for row in rows
    ]


def read_csv(path: Path) -> list[tuple[Any, ...]]:
    """The records of a CSV file, by Python's own module."""
    with path.open(newline="", encoding="utf-8") as file:
        return [record_of(row) for row in csv.DictReader(file)]


def read_json_lines(path: Path) -> list[tuple[Any, ...]]:
    """The records of a file of JSON lines."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [record_of(json.loads(line)) for line in file]


def record_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A record from a line of CSV or JSON, as the README says."""
    headers = row["headers"]
    pairs = json.loads(headers) if isinstance(headers, str) else headers
    return (
        int(row["partition"]),
        int(row["offset"]),
        milliseconds(row["timestamp"] or None),
        int(row["timestamp_type"]),
        bytes_of(row, "key"),
        bytes_of(row, "value"),
        [(bytes_of(pair, "key"), bytes_of(pair, "value")) for pair in pairs],
    )


def bytes_of(row: Mapping[str, Any], name: str) -> bytes | None:
    """The bytes of a column and its encoding."""
    encoding = row[f"{name}_encoding"]
    if not encoding:
        assert not row[name]
        return None
    assert encoding in ("utf-8", "base64")
    text: str = row[name]
    return text.encode() if encoding == "utf-8" else base64.b64decode(text, validate=True)


def milliseconds(text: str | None) -> int | None:
    """ISO 8601 in UTC, of any year → ms since 1970."""
    if text is None:
        return None
    assert text.endswith("Z")
    date, clock = text[:-1].split("T")
    year, month, day = date.rsplit("-", 2)
    # The calendar repeats every 400 years of 146,097 days.
    cycles, rest = divmod(int(year), 400)
    moment = datetime.fromisoformat(f"{rest + 2000:04d}-{month}-{day}T{clock}+00:00")
    delta = moment - EPOCH
    whole = delta.days * 86_400_000 + delta.seconds * 1000 + delta.microseconds // 1000
    return whole + (cycles - 5) * 146_097 * 86_400_000


def all_files(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder."""
    yield from sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
