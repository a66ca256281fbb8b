"""The Arrow form of each column type: what rows travel in, and what Parquet objects hold. Touches no data."""

from __future__ import annotations

import pyarrow as pa

from mlstream.databases.types import ColumnType

DECIMAL_DIGITS = 38  # of a 128-bit decimal; more are refused
INTERVAL = pa.struct([("months", pa.int32()), ("days", pa.int32()), ("microseconds", pa.int64())])
_FORMS = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "text": pa.string(),
    "enum": pa.string(),
    "json": pa.string(),
    "jsonb": pa.string(),
    "uuid": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "interval": INTERVAL,
}


def arrow_type(column: ColumnType, scale: int = 0) -> pa.DataType:
    """The Arrow form of a type.

    Args:
        scale: digits after the point of a decimal that was declared without, or with more than 38 digits.
    """
    if column.item is not None:
        return pa.list_(arrow_type(column.item, scale))
    if column.name != "decimal":
        return _FORMS[column.name]
    if column.precision is None or column.scale is None or column.precision > DECIMAL_DIGITS:
        return pa.decimal128(DECIMAL_DIGITS, scale)
    return pa.decimal128(column.precision, column.scale)


def fits(column: ColumnType, form: pa.DataType) -> bool:
    """Whether values of a type may come in this Arrow form: its own, or a decimal of any scale.

    Lists may have either name for what is in them: Parquet and Arrow differ on it.
    """
    if column.item is not None:
        return bool(pa.types.is_list(form)) and fits(column.item, form.value_type)
    if column.name == "decimal":
        return bool(pa.types.is_decimal128(form))
    return bool(form == _FORMS[column.name])
