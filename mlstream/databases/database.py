"""The door to a database: open it, which fixes what it shows, and read tables from it. Knows no particular database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from mlstream.databases.address import Kind, parse_address
from mlstream.databases.requests import TableRequest

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name, and its type in the words of docs/format.md."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of a table or query, read and waiting on the disk while their database is open.

    Attributes:
        columns: in the order of the table or query.
        primary_key: names of the columns by which the database tells rows apart; empty when there are none.
        rows: how many.
        schema: the columns as `batches` gives them: `databases.arrow` has a type's Arrow form.
        batches: begins anew with each call; the rows come in no particular order.
    """

    name: str
    query: str | None
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    rows: int
    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]] = field(repr=False)


class Database(Protocol):
    """A database, seen as it was at one moment. A context manager: what it shows is fixed when `with` is entered.

    Attributes:
        kind: `postgresql` or `sqlite`.
        source: its URL without what is secret.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def source(self) -> str: ...

    @property
    def mark(self) -> Mapping[str, str]:
        """What the database itself calls the moment; empty before it is entered.

        PostgreSQL: `lsn`, `snapshot` (`pg_current_snapshot()`), `exported_snapshot`, `server_version`, `database`.
        SQLite: `sha256` of the copy that is read, `data_version`, `schema_version`, `journal_mode`, `sqlite_version`.
        """

    def __enter__(self) -> Database: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def read(self, request: TableRequest) -> TableRows:
        """All rows of a table or query, as they were at the moment; usable until the `with` ends.

        Raises:
            UnknownTable: when there is no such table.
            DatabaseError: when it cannot be read, or holds what cannot be kept exactly.
        """


def open_database(url: str, *, tables: Sequence[TableRequest] = (), folder: Path | None = None) -> Database:
    """The database at a URL, to be entered with `with`.

    Args:
        url: `postgresql://user@host:port/database` (parameters, PGPASSWORD and the password file as in libpq), or
            `sqlite:///path` (`sqlite:////path` for one that begins at the root). `${NAME}` in it is the variable NAME
            of the environment.
        tables: what will be read of it. PostgreSQL: nobody can truncate or alter these until then (TRUNCATE is not
            bound to transactions: later readers of an older state would find nothing).
        folder: where rows wait until they are used; the system's folder for temporary files when None.

    Raises:
        UsageError: when it is no such URL.
        DatabaseError: on entering: when it cannot be reached, or refuses.
        UnknownTable: on entering: when one of `tables` is not there.
    """
    address = parse_address(url)
    if address.kind == "sqlite":
        from mlstream.databases.sqlite import SqliteDatabase  # what is not asked for is not loaded

        return SqliteDatabase(address, folder)
    from mlstream.databases.postgres import PostgresDatabase

    return PostgresDatabase(address, tuple(tables), folder)
