"""Columns of a PostgreSQL result: the SQL that asks for them, and their way from the driver's batches. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from mlstream.databases.catalog import Types, quoted
from mlstream.databases.leaves import Leaf, Unkept
from mlstream.databases.lists import Lists
from mlstream.databases.types import ColumnType
from mlstream.errors import DatabaseError

_MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class PostgresColumn:
    """One column.

    Attributes:
        number: its place; `c0`, and `d0` for the dimensions of an array, are the columns of what is asked and waits.
        values: how its values travel.
        base: the SQL type that it is cast to first, where it is a domain.
    """

    number: int
    name: str
    values: Leaf | Lists
    base: str | None

    @property
    def type(self) -> ColumnType:
        """Its type; known when all rows were taken."""
        return self.values.type

    @property
    def waiting(self) -> list[pa.Field]:
        """The fields in which it waits on the disk."""
        fields = [pa.field(f"c{self.number}", self.values.waiting)]
        if isinstance(self.values, Lists):
            fields.append(pa.field(f"d{self.number}", pa.string()))
        return fields

    @property
    def final(self) -> pa.DataType:
        """Its Arrow type; known when all rows were taken."""
        return self.values.final

    @property
    def sql(self) -> str:
        """What is asked for."""
        column = self._column
        if isinstance(self.values, Lists):
            sent = self.values.leaf.sent_as
            return f"{column}{f'::{sent}[]' if sent else ''} AS c{self.number}, array_dims({column}) AS d{self.number}"
        return f"{column}{f'::{self.values.sent_as}' if self.values.sent_as else ''} AS c{self.number}"

    @property
    def order(self) -> str | None:
        """What to order by; None when the server cannot order as wanted."""
        if isinstance(self.values, Lists) or self.values.order is None:
            return None
        return self.values.order.format(self._column)

    @property
    def _column(self) -> str:
        column = f"t.{quoted(self.name)}"
        return column if self.base is None else f"({column}::{self.base})"

    def take(self, batch: pa.RecordBatch) -> list[pa.Array]:
        """What the driver brought, checked, as it waits.

        Raises:
            Unkept: when some values cannot be kept.
        """
        values = _plain(batch.column(f"c{self.number}"))
        if isinstance(self.values, Lists):
            shapes = batch.column(f"d{self.number}")
            return [self.values.take(values, shapes), shapes]
        return [self.values.take(values)]

    def finish(self, batch: pa.RecordBatch) -> pa.Array:
        """What waited, in its final form."""
        values = batch.column(f"c{self.number}")
        if isinstance(self.values, Lists):
            return self.values.finish(values, batch.column(f"d{self.number}"))
        return self.values.finish(values)


def column_of(number: int, name: str, types: Types, oid: int, modifier: int, where: str) -> PostgresColumn:
    """The column of that name and type.

    Raises:
        DatabaseError: when values of the type cannot be kept exactly.
    """
    found = types.find(oid, modifier)
    if found is None:
        raise DatabaseError(
            f"{where}: column {name!r} has the type {types.name(oid)}, which has no exact form in a snapshot",
            hint=f"cast it in a query: --query 'URL#name=SELECT …, {quoted(name)}::text AS {quoted(name)} FROM …'",
            column=name,
        )
    return PostgresColumn(number, name, Lists(found.leaf) if found.is_array else found.leaf, found.base)


def select(query: str, columns: Sequence[PostgresColumn], key: Sequence[str]) -> str:
    """The SQL that asks for the columns of a query, in the snapshot's order if the server can order so."""
    asked = ", ".join(column.sql for column in columns)
    by_name = {column.name: column for column in columns}
    order = [column.order for column in ([by_name[name] for name in key] if key else columns)]
    # The driver's own line ends a comment at the end of the query.
    text = f"SELECT {asked} FROM (\n{query}\n) AS t"
    known = [expression for expression in order if expression is not None]
    return f"{text} ORDER BY {', '.join(known)}" if len(known) == len(order) else text


def read_batch(
    batch: pa.RecordBatch, columns: Sequence[PostgresColumn], key: Sequence[str], where: str
) -> list[pa.Array]:
    """The arrays of a batch, checked, as they wait on the disk.

    Raises:
        DatabaseError: naming the column, and the rows by their primary key.
    """
    arrays: list[pa.Array] = []
    for column in columns:
        try:
            arrays.extend(column.take(batch))
        except Unkept as exc:
            cast = exc.fix.format(quoted(column.name))
            raise DatabaseError(
                f"{where}: column {column.name!r} holds {exc.what}{_rows(batch, columns, key, exc.bad)}",
                hint=f"use a query: --query 'URL#name=SELECT …, {cast} AS {quoted(column.name)} FROM …'",
                column=column.name,
            ) from exc
    return arrays


def _rows(batch: pa.RecordBatch, columns: Sequence[PostgresColumn], key: Sequence[str], bad: pa.Array) -> str:
    """Which rows are meant, by their primary key, for a message."""
    numbers = {column.name: column.number for column in columns}
    if not key:
        return ""
    meant = pc.indices_nonzero(bad.fill_null(False))
    shown = []
    for row in meant.slice(0, _MOST_SHOWN).to_pylist():
        values = [f"{name} = {_plain(batch.column(f'c{numbers[name]}'))[row].as_py()!r}" for name in key]
        shown.append(", ".join(values))
    more = len(meant) - len(shown)
    return f" where {'; '.join(shown)}{f' and in {more} more rows at least' if more > 0 else ''}"


def _plain(values: pa.Array) -> pa.Array:
    """Values without the driver's extension type around them."""
    return values.storage if isinstance(values, pa.ExtensionArray) else values
