"""Arrow columns → columns of text and numbers, from which CSV and JSON lines are written. Loses nothing, opens no file.

| Arrow                | becomes                                                                                  |
| bool, integers       | themselves                                                                               |
| floats               | themselves; in JSON lines "NaN", "Infinity" and "-Infinity" are strings                  |
| decimals             | text with all digits                                                                     |
| text                 | itself                                                                                   |
| binary, column `x`   | `x`: text where the bytes are UTF-8 without NUL, else base64; `x_encoding`: which of both |
| timestamps           | ISO 8601; with a Z where they are UTC                                                    |
| dates, times         | ISO 8601                                                                                 |
| intervals            | ISO 8601: P1M-2DT3.5S                                                                     |
| lists                | JSON, their items by these rules; bytes in base64                                        |
| headers of records   | JSON: objects of `key`, `value` and their encodings                                      |
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.errors import UsageError
from mlstream.wire.columns import HEADERS

TEXT = "utf-8"
BASE64 = "base64"
ENCODING = "_encoding"  # the ending of the column's name that says how a binary column was written
_FIRST_YEAR, _LAST_YEAR = np.datetime64("0001-01-01", "D"), np.datetime64("9999-12-31", "D")
_DIGITS = {"s": "", "ms": "%.3f", "us": "%.6f", "ns": "%.9f"}
_INTERVAL = ["months", "days", "microseconds"]


@dataclass(frozen=True, slots=True)
class Cells:
    """One column as it is written.

    Attributes:
        values: booleans, numbers or text.
        is_json: its text is JSON already, to be put into JSON as it stands.
    """

    name: str
    values: pl.Series
    is_json: bool = False


def cells_of(columns: pa.RecordBatch | pa.Table) -> list[Cells]:
    """All columns as they are written, in order; a binary column becomes two.

    Raises:
        UsageError: two columns would have one name, or a column's type has no text.
    """
    found = [
        cells
        for name, column in zip(columns.schema.names, columns.columns, strict=True)
        for cells in _cells(name, column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)
    ]
    names = [cells.name for cells in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"column {name!r}: another column needs that name, to say how its bytes are written",
                hint="use --format parquet",
            )
    return found


def names_of(schema: pa.Schema) -> list[str]:
    """The names of the columns that are written for columns of this schema."""
    return [cells.name for cells in cells_of(schema.empty_table())]


def _cells(name: str, column: pa.Array) -> Iterator[Cells]:
    kind = column.type
    if kind.equals(HEADERS):
        yield Cells(name, _headers(column), is_json=True)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        text, encoding = text_of(column)
        yield Cells(name, text)
        yield Cells(f"{name}{ENCODING}", encoding)
    elif pa.types.is_timestamp(kind):
        yield Cells(name, _times(column))
    elif pa.types.is_date32(kind):
        yield Cells(name, _iso(column.cast(pa.int32()).fill_null(0).to_numpy(), "D", column, ""))
    elif pa.types.is_time(kind):
        yield Cells(name, _polars(column).dt.strftime(f"%H:%M:%S{_DIGITS[kind.unit]}"))
    elif pa.types.is_decimal(kind):
        yield Cells(name, _polars(column).cast(pl.String))
    elif pa.types.is_struct(kind) and [field.name for field in kind] == _INTERVAL:
        yield Cells(name, pl.Series(name, [_interval(value) for value in column.to_pylist()], pl.String))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield Cells(name, pl.Series(name, _lists(name, column), pl.String), is_json=True)
    elif pa.types.is_struct(kind):
        raise UsageError(f"column {name!r} is {kind}, which has no text here", hint="use --format parquet")
    else:
        yield Cells(name, _polars(column))


def text_of(column: pa.Array) -> tuple[pl.Series, pl.Series]:
    """Bytes as text, and how: `utf-8`, `base64`, or null where there are none."""
    column = column.cast(pa.binary())
    try:
        text = _polars(column.cast(pa.string()))
    except pa.ArrowInvalid:  # some of them are no UTF-8: one by one
        text = pl.Series([_decoded(value) for value in column.to_pylist()], dtype=pl.String)
    is_null = pl.Series(column.is_null().to_numpy(zero_copy_only=False))
    is_text = (text.is_not_null() & ~text.str.contains("\0", literal=True)).fill_null(False)
    encoding = _constant(TEXT, is_text)
    if not (is_text | is_null).all():
        other = ~is_text & ~is_null
        text = text.zip_with(~other, _polars(column).bin.encode("base64"))
        encoding = encoding.zip_with(~other, _constant(BASE64, other))
    return text, encoding


def _constant(text: str, where: pl.Series) -> pl.Series:
    """The same text where that is true, null elsewhere."""
    return pl.select(pl.when(where).then(pl.lit(text)).otherwise(pl.lit(None, pl.String))).to_series()


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _headers(column: pa.ListArray) -> pl.Series:
    """Each record's headers as the text of a JSON array."""
    pairs = column.flatten()
    if len(pairs) == 0:
        return pl.Series(["[]"], dtype=pl.String).new_from_index(0, len(column))
    key, key_encoding = text_of(pairs.field(0))
    value, value_encoding = text_of(pairs.field(1))
    objects = pl.select(
        pl.struct(
            key.alias("key"),
            key_encoding.alias("key_encoding"),
            value.alias("value"),
            value_encoding.alias("value_encoding"),
        ).struct.json_encode()
    ).to_series()
    ends = np.zeros(len(column) + 1, np.int32)
    np.cumsum(pc.list_value_length(column).to_numpy(), out=ends[1:])
    lists = pa.ListArray.from_arrays(pa.array(ends), objects.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return _polars(pc.binary_join_element_wise("[", pc.binary_join(lists.cast(pa.list_(pa.string())), ","), "]", ""))


def _lists(name: str, column: pa.Array) -> list[str | None]:
    """Lists as JSON."""
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError) as exc:  # a year that Python does not know
        raise UsageError(f"column {name!r}: {exc}", hint="use --format parquet") from exc
    return [None if value is None else json.dumps(_plain(value), ensure_ascii=False) for value in values]


def _times(column: pa.Array) -> pl.Series:
    """Timestamps in ISO 8601, of any year."""
    unit, zone = column.type.unit, column.type.tz
    ending = "" if zone is None else "Z"
    moments = column.cast(pa.timestamp(unit))
    if len(moments) == moments.null_count:
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(moments))
    numbers = moments.cast(pa.int64()).fill_null(0).to_numpy()
    days = numbers.view(f"datetime64[{unit}]").astype("datetime64[D]")
    if days.min() >= _FIRST_YEAR and days.max() <= _LAST_YEAR:
        return _polars(moments).dt.strftime(f"%Y-%m-%dT%H:%M:%S{_DIGITS[unit]}{ending}")
    return _iso(numbers, unit, column, ending)


def _iso(numbers: Any, unit: str, column: pa.Array, ending: str) -> pl.Series:
    """Moments as NumPy writes them: it knows years before 1 and after 9999."""
    texts = np.datetime_as_string(numbers.astype(f"datetime64[{unit}]")).tolist()
    whole = [f"{_four_digits(text) if text.startswith('-') else text}{ending}" for text in texts]
    valid = pl.Series(column.is_valid().to_numpy(zero_copy_only=False))
    return pl.Series(whole, dtype=pl.String).set(~valid, None)


def _four_digits(text: str) -> str:
    """A moment before the year 0, its year with the four digits of ISO 8601."""
    year, rest = text[1:].split("-", 1)
    return f"-{year:0>4}-{rest}"


def _interval(value: dict[str, int] | None) -> str | None:
    """An interval in ISO 8601, each part with its own sign."""
    if value is None:
        return None
    seconds = format(Decimal(value["microseconds"]).scaleb(-6).normalize(), "f")
    return f"P{value['months']}M{value['days']}DT{seconds}S"


def _plain(value: Any) -> Any:
    """An item of a list as JSON has it."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
        return text if value.tzinfo is None else f"{text}Z"
    if isinstance(value, date | time):
        return value.isoformat() if isinstance(value, date) else value.isoformat(timespec="microseconds")
    if isinstance(value, dict):
        return _interval(value) if list(value) == _INTERVAL else {name: _plain(item) for name, item in value.items()}
    return value


def _polars(column: pa.Array) -> pl.Series:
    found = pl.from_arrow(column)
    if not isinstance(found, pl.Series):
        raise TypeError(f"{column.type} became {type(found)}")
    return found
