"""Files of columns that are written piece by piece, flushed to the disk at their end: Parquet, CSV, JSON lines."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, TypeAlias, get_args

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mlstream.errors import UsageError
from mlstream.snapshots.export_cells import Cells, cells_of, names_of
from mlstream.snapshots.objects import HashedFile

Format: TypeAlias = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
Columns: TypeAlias = "pa.RecordBatch | pa.Table"

_GROUP_BYTES = 64 << 20


class ColumnFile:
    """A file that takes columns of one schema; a context manager that flushes it to the disk.

    Raises:
        OSError: when it cannot be written.
        UsageError: when a column cannot be written in this format.
    """

    def __init__(self, path: Path, schema: pa.Schema, kind: Format) -> None:
        header = b"" if kind != "csv" else pl.DataFrame(schema=names_of(schema)).write_csv().encode()
        self._kind = kind
        self._file = HashedFile(path)
        self._waiting: list[pa.Table] = []
        self._parquet = pq.ParquetWriter(self._file, schema, compression="zstd") if kind == "parquet" else None
        self.rows = 0
        self._file.write(header)

    def __enter__(self) -> ColumnFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if exc is None:
                self._end_group()
                if self._parquet is not None:
                    self._parquet.close()
                self._file.finish()
        finally:
            if self._parquet is not None:
                with suppress(OSError, pa.ArrowException):
                    self._parquet.close()
            self._file.close()

    @property
    def size_bytes(self) -> int:
        """What was written so far."""
        return self._file.size

    @property
    def sha256(self) -> str:
        """Over what was written so far, in hex."""
        return self._file.hash.hexdigest()

    def write(self, columns: Columns) -> None:
        """Go on with these rows."""
        self.rows += columns.num_rows
        if self._kind == "parquet":
            table = pa.Table.from_batches([columns]) if isinstance(columns, pa.RecordBatch) else columns
            self._waiting.append(table)
            if sum(part.nbytes for part in self._waiting) >= _GROUP_BYTES:
                self._end_group()
        elif columns.num_rows > 0:
            cells = cells_of(columns)
            self._file.write(csv_of(cells) if self._kind == "csv" else json_lines_of(cells))

    def _end_group(self) -> None:
        if self._parquet is not None and self._waiting:
            table = pa.concat_tables(self._waiting)
            self._waiting = []
            self._parquet.write_table(table, row_group_size=max(table.num_rows, 1))


def csv_of(columns: Iterable[Cells]) -> memoryview:
    """Rows in CSV (RFC 4180, lines end in LF). Null is an empty field, empty text is "".

    Raises:
        UsageError: a text with a NUL, which CSV readers do not take.
    """
    found = {}
    for cells in columns:
        text = cells.values
        if text.dtype == pl.String and text.str.contains("\0", literal=True).any():
            raise UsageError(
                f"column {cells.name!r}: a text holds a NUL character, which CSV cannot carry",
                hint="use --format jsonl or parquet",
            )
        found[cells.name] = text
    buffer = io.BytesIO()
    pl.DataFrame(found).write_csv(buffer, include_header=False)
    return buffer.getbuffer()


def json_lines_of(columns: Iterable[Cells]) -> memoryview:
    """Rows as JSON objects, one a line. What is JSON already, and floats that JSON does not have, stand at the end."""
    plain: dict[str, pl.Series] = {}
    ready: dict[str, pl.Series] = {}
    for cells in columns:
        if cells.is_json:
            ready[cells.name] = cells.values
        elif cells.values.dtype.is_float() and not cells.values.is_finite().all():
            ready[cells.name] = _any_float(cells.values)
        else:
            plain[cells.name] = cells.values
    buffer = io.BytesIO()
    frame = pl.DataFrame(plain)
    if not ready:
        frame.write_ndjson(buffer)
        return buffer.getbuffer()
    parts: list[pl.Expr | pl.Series] = [pl.lit("{")]
    if plain:
        parts = [frame.select(pl.struct(pl.all()).struct.json_encode().str.head(-1)).to_series()]
    for number, (name, texts) in enumerate(ready.items()):
        comma = "," if plain or number else ""
        parts += [pl.lit(f"{comma}{json.dumps(name, ensure_ascii=False)}:"), texts.fill_null("null")]
    lines = pl.select(pl.concat_str(*parts, pl.lit("}")).alias("line"))
    lines.write_csv(buffer, include_header=False, quote_style="never")
    return buffer.getbuffer()


def _any_float(values: pl.Series) -> pl.Series:
    """Floats as JSON, those that it does not have as strings."""
    number = pl.struct(values.alias("n")).struct.json_encode().str.slice(5).str.head(-1)  # {"n":0.5}
    return pl.select(
        pl.when(values.is_nan())
        .then(pl.lit('"NaN"'))
        .when(values.is_infinite())
        .then(pl.when(values > 0).then(pl.lit('"Infinity"')).otherwise(pl.lit('"-Infinity"')))
        .otherwise(number)
        .alias("f")
    ).to_series()
