"""Columns of SQLite: one type each, found from all values, and their way to Arrow. Runs no SQL.

SQLite gives each value a type, not each column; a column of a snapshot has one. It is found from all values:

    integers                    int64
    reals                       float64
    integers and reals          float64, if every integer is exact as one (SQLite itself stores 2.0 as 2 where a
                                column is NUMERIC or DECIMAL); else refused
    text, blobs                 text (it must be UTF-8), binary
    only nulls, or no rows      by the column's declared affinity; text for an expression
    any other mix               refused: the error names the column and some rows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlstream.errors import DatabaseError

CLASSES = ("integer", "real", "text", "blob")


@dataclass(frozen=True, slots=True)
class SqliteColumn:
    """A column: its name and its type's word."""

    name: str
    type: str


def affinity(declared: str) -> str:
    """The type of a column without values, by SQLite's rules for affinities (https://sqlite.org/datatype3.html)."""
    upper = declared.upper()
    if "INT" in upper:
        return "int64"
    if any(word in upper for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if "BLOB" in upper or not upper:
        return "binary"
    return "float64"


def word_of(classes: tuple[str, ...], without_values: str) -> str | None:
    """The type of a column by the storage classes of its values; None when no type holds them all.

    Args:
        classes: some of `CLASSES`, in that order.
        without_values: the type of a column that has none.
    """
    words = {
        (): without_values,
        ("integer",): "int64",
        ("real",): "float64",
        ("integer", "real"): "float64",
        ("text",): "text",
        ("blob",): "binary",
    }
    return words.get(classes)


def array_of(column: SqliteColumn, form: pa.DataType, values: list[Any], where: str) -> pa.Array:
    """A column's values as Arrow has them.

    Args:
        values: as the driver gives them, texts as bytes.
        where: what they are of, for the error.

    Raises:
        DatabaseError: text that is not UTF-8.
    """
    try:
        if column.type == "float64":
            values = [None if value is None else float(value) for value in values]
        if column.type != "text":
            return pa.array(values, form)
        found = pa.array(values, pa.binary()).cast(form)
        found.validate(full=True)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
        what = "text that is not UTF-8" if column.type == "text" else f"values that are no {column.type} after all"
        raise DatabaseError(
            f"{where}: column {column.name!r} holds {what}",
            hint=f"use a query: --query 'URL#name=SELECT …, CAST({quoted(column.name)} AS BLOB) AS "
            f"{quoted(column.name)} FROM …'",
            column=column.name,
        ) from exc
    return found


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
