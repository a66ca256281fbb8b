"""Labels that are rows of a table or of a file of the snapshot, in the shape of a label stream. Joins nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from mlstream.config import LabelConfig
from mlstream.errors import LabelError
from mlstream.snapshots.snapshot import Snapshot

_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": lambda path: pl.read_csv(path, glob=False),
    ".parquet": lambda path: pl.read_parquet(path, glob=False),
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}


def read_label_rows(rule: LabelConfig, snapshot: Snapshot) -> pl.DataFrame:
    """The rows, with the row's number as `_offset`, 0 as `_partition` and, with `labels.time`, `_timestamp`.

    Raises:
        UnknownTable, UnknownFile: the snapshot does not hold it.
        LabelError: the file cannot be read, or the column of times is none.
    """
    if rule.table is not None:
        rows = snapshot.table(rule.table).collect()
    else:
        rows = _read_file(str(rule.file), snapshot.file(str(rule.file)))
    return rows.with_columns(
        pl.lit(0, dtype=pl.Int32).alias("_partition"),
        pl.int_range(rows.height, dtype=pl.Int64, eager=True).alias("_offset"),
        _times(rule, rows).alias("_timestamp"),
    )


def _read_file(name: str, path: Path) -> pl.DataFrame:
    read = _READERS.get(Path(name).suffix)
    if read is None:
        raise LabelError(f"labels.file: {name} cannot be read: write one of {', '.join(_READERS)}")
    try:
        return read(path)
    except (PolarsError, OSError) as exc:
        raise LabelError(f"labels.file: {name} cannot be read: {exc}") from exc


def _times(rule: LabelConfig, rows: pl.DataFrame) -> pl.Series:
    """When each label came, as datetime[ms, UTC]: from a time (UTC where it has no zone), a text, or ms since 1970."""
    kind = pl.Datetime("ms", "UTC")
    if rule.time is None:
        return pl.Series([None] * rows.height, dtype=kind)
    if rule.time not in rows.columns:
        raise LabelError(
            f"labels.time: {rule.source} has no column {rule.time!r}", hint=f"it has: {', '.join(rows.columns)}"
        )
    column = rows[rule.time]
    try:
        if column.dtype == pl.String:
            column = column.str.to_datetime(time_unit="ms", time_zone="UTC")
        if column.dtype == pl.Date:
            column = column.cast(pl.Datetime("ms"))
        if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None:
            return column.dt.cast_time_unit("ms").dt.replace_time_zone("UTC")
        if isinstance(column.dtype, pl.Datetime):
            return column.dt.cast_time_unit("ms").dt.convert_time_zone("UTC")
        if column.dtype.is_integer():
            return column.cast(pl.Int64).cast(kind)
    except PolarsError as exc:
        raise LabelError(f"labels.time: {rule.time} of {rule.source} holds no times: {exc}") from exc
    raise LabelError(f"labels.time: {rule.time} of {rule.source} is {column.dtype}, and no time")
