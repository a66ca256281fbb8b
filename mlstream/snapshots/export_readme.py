"""The README.md that lies beside exported files: what the columns are, how to read them. Makes text, opens no file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_RAW = """\
Each line of a stream's file is a record, in order of its offset.

| column | |
| --- | --- |
| `partition`, `offset` | where the record stood |
| `timestamp` | event time, UTC; none where the record has none |
| `timestamp_type` | 0: the producer's time (CreateTime); 1: the broker's (LogAppendTime) |
"""
_BINARY_COLUMNS = """\
| `key`, `value` | bytes; a key or value that is not there (null) differs from one that is empty |
| `headers` | list of `key` and `value`, both bytes, in order; a value may be null |
"""
_TEXT_COLUMNS = """\
| `key`, `key_encoding` | the key, and how it is written; see below |
| `value`, `value_encoding` | the value, and how it is written |
| `headers` | a list of objects: `key`, `key_encoding`, `value`, `value_encoding`, in order{json} |
"""
_DECODED = """\
Each line of a stream's file is a record whose value was decoded into columns: `_partition`, `_offset` and
`_timestamp` (event time, UTC) say which record it is, `_key` is its key, and the other columns are the value's. Columns
of type json hold JSON as text.
"""
_TEXT = """\
## How values are written

Text is UTF-8. Nothing is lost:

- **Bytes** stand in two columns. `x` holds them as text where they are UTF-8 without a NUL character, and `x_encoding`
  says `utf-8`; else `x` is base64, and `x_encoding` says `base64`. Where `x_encoding` is {empty}, there are no bytes
  (null); where it says `utf-8` and `x` is empty, they are empty.
- **Times** are ISO 8601, those with a `Z` in UTC. Years after 9999 have more digits.
- **Decimals** have all their digits{quoted}. **Floats** read back to the same bits.
- **Lists** are JSON{in_csv}; bytes in a list are base64. **Intervals** are ISO 8601: `P1M-2DT3.5S`.
"""
_CSV = """\
- **Null** is an empty field without quotes, empty text is `""`: as PostgreSQL's `COPY … CSV` has it. Fields are quoted
  as RFC 4180 says, and may hold line breaks.
"""
_JSON_LINES = """\
- **NaN and infinities**, which JSON does not have, are the strings `"NaN"`, `"Infinity"`, `"-Infinity"`.
"""
_READ = {
    "parquet": """\
```python
import pandas, duckdb, polars

pandas.read_parquet("{folder}")
duckdb.sql("SELECT count(*) FROM '{folder}/*.parquet'")
polars.scan_parquet("{folder}/*.parquet")
spark.read.parquet("{folder}")
```
""",
    "csv": """\
```python
import pandas, duckdb

pandas.read_csv("{file}", keep_default_na=False, dtype=str)
duckdb.sql("SELECT * FROM read_csv('{folder}/*.csv', all_varchar=true)")
spark.read.csv("{folder}", header=True, multiLine=True, escape='"', lineSep="\\n")
```
""",
    "jsonl": """\
```python
import pandas, duckdb

pandas.read_json("{file}", lines=True, dtype=False)
duckdb.sql("SELECT * FROM read_json('{folder}/*.jsonl')")
spark.read.json("{folder}")
```
""",
}


def readme(description: dict[str, Any]) -> str:
    """The text for what export.json describes."""
    return "\n\n".join(part.strip() for part in _paragraphs(description)) + "\n"


def _paragraphs(found: dict[str, Any]) -> Iterator[str]:
    kind: str = found["format"]
    yield f"# {found['name'] or found['snapshot'][:12]}"
    yield f"Exported by mlstream {found['mlstream']} from the snapshot\n`{found['snapshot']}`."
    yield "`manifest.json` is what that id is the SHA-256 of; `export.json` lists everything that is here."
    if not found["complete"]:
        yield "**The snapshot is partial**: `manifest.json` says what is missing."
    if found["streams"]:
        yield from _streams(found["streams"], kind)
    if found["tables"]:
        yield "## Tables"
        yield "\n".join(_table(table) for table in found["tables"])
    if found["files"]:
        yield "## Files"
        yield f"`files/` holds {len(found['files']):,} files, byte for byte."
    if kind != "parquet":
        csv = kind == "csv"
        words = {
            "empty": "empty" if csv else "null",
            "quoted": "" if csv else ", as strings",
            "in_csv": " in one field" if csv else "",
        }
        yield _TEXT.format(**words) + (_CSV if csv else _JSON_LINES)


def _streams(streams: list[dict[str, Any]], kind: str) -> Iterator[str]:
    yield "## Streams"
    yield "\n".join(
        f"- `{stream['folder']}`: topic `{stream['topic']}`, "
        f"{sum(part['rows'] for part in stream['files']):,} rows, a file a partition"
        for stream in streams
    )
    if any(stream["decoded"] is None for stream in streams):
        json = "" if kind == "jsonl" else ", as JSON"
        yield _RAW + (_BINARY_COLUMNS if kind == "parquet" else _TEXT_COLUMNS.format(json=json))
    decoded = [stream for stream in streams if stream["decoded"] is not None]
    if decoded:
        yield _DECODED
        for stream in decoded:
            columns = ", ".join(f"`{column}` {type_}" for column, type_ in stream["decoded"])
            yield f"Of `{stream['topic']}`: {columns}."
            letters = stream["dead_letters"]
            if letters is not None:
                count = f"{letters['rows']:,}"
                yield f"`{letters['path']}`: records of it that do not decode ({count}), each with the reason."
    folder = streams[0]["folder"]
    file = streams[0]["files"][0]["path"] if streams[0]["files"] else folder
    yield _READ[kind].format(folder=folder, file=file)


def _table(table: dict[str, Any]) -> str:
    of = "" if table["query"] is None else f", from `{' '.join(table['query'].split())}`"
    return f"- `{table['path']}`: {table['rows']:,} rows{of}"
