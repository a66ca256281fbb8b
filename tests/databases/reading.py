"""Short ways for tests to read from a database."""

from __future__ import annotations

from typing import Any

from mlstream.databases import TableRequest, TableRows, open_database, parse_query


def read(request: TableRequest) -> tuple[TableRows, dict[str, list[Any]]]:
    """A table's description and its columns as Python values; the database is closed again."""
    with open_database(request.url, tables=[request]) as database:
        rows = database.read(request)
        found: dict[str, list[Any]] = {column.name: [] for column in rows.columns}
        for batch in rows.batches():
            assert batch.schema == rows.schema
            for name, values in found.items():
                values.extend(batch.column(name).to_pylist())
    assert all(len(values) == rows.rows for values in found.values())
    return rows, found


def read_query(url: str, query: str) -> tuple[TableRows, dict[str, list[Any]]]:
    """As `read`, of a query's result."""
    return read(parse_query(f"{url}#result={query}"))
