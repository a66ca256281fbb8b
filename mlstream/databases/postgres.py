"""PostgreSQL through ADBC: one read-only transaction, whose snapshot is fixed when the database is opened.

1. begin: the tables that will be read are locked against TRUNCATE and ALTER (readers and writers do not notice), then
   the first query fixes the snapshot and exports it.
2. read: columns and types from the catalog, the rows by COPY in batches, checked and put on the disk.
3. end: the transaction is rolled back; it changed nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from mlstream.databases.address import Address, Kind
from mlstream.databases.catalog import (
    Relation,
    Types,
    column_modifiers,
    find_relation,
    near_relations,
    primary_key,
    quoted,
)
from mlstream.databases.database import Column, TableRows
from mlstream.databases.failures import refused, unreachable
from mlstream.databases.postgres_columns import PostgresColumn, column_of, read_batch, select
from mlstream.databases.requests import TableRequest
from mlstream.databases.spool import spool, spooled
from mlstream.errors import DatabaseError, UnknownTable

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# What a query gives must not depend on who asks, or where.
_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    # The copying of the streams is waited for in this transaction.
    "idle_in_transaction_session_timeout": "0",
}
_MARK = """
SELECT pg_current_snapshot()::text AS snapshot,
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn,
    CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_export_snapshot() END AS exported_snapshot,
    current_setting('server_version') AS server_version, current_database()::text AS database
"""
_SERVER = "SELECT current_setting('server_version_num')::int4 AS version, current_setting('lock_timeout') AS patience"
_OLDEST = 130000
_PATIENCE = "30s"  # for whoever alters a table that will be read, unless the URL or the server says otherwise
_USE_COPY = "adbc.postgresql.use_copy"  # an option of the driver, which older releases have no name for
_LOCKABLE = ("r", "p")


class PostgresDatabase:
    """A PostgreSQL database; see `databases.database.Database`."""

    def __init__(self, address: Address, tables: Sequence[TableRequest], folder: Path | None) -> None:
        self._address = address
        self._tables = tables
        self._parent = folder
        self._resources = ExitStack()
        self._connection: dbapi.Connection | None = None
        self._folder: Path | None = None
        self._mark: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.source})"

    @property
    def kind(self) -> Kind:
        """`postgresql`."""
        return "postgresql"

    @property
    def source(self) -> str:
        """The URL without what is secret."""
        return self._address.source

    @property
    def mark(self) -> Mapping[str, str]:
        """The moment, as the database calls it; see `Database.mark`."""
        return self._mark

    def __enter__(self) -> PostgresDatabase:
        with ExitStack() as resources:
            made = tempfile.TemporaryDirectory(prefix="mlstream-tables-", dir=self._parent, ignore_cleanup_errors=True)
            self._folder = Path(resources.enter_context(made))
            try:
                connection = dbapi.connect(self._address.url, autocommit=True)
            except adbc_driver_manager.Error as exc:
                raise unreachable(self._address, exc) from exc
            self._connection = resources.enter_context(connection)
            self._begin()
            resources.callback(self._end)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()
        self._connection = self._folder = None

    def read(self, request: TableRequest) -> TableRows:
        """All rows of a table or query, as they were at the moment; see `Database.read`."""
        doing = f"table {request.name}" if request.query is None else f"query {request.name}"
        with self._converted(doing):
            if request.query is None:
                relation = self._relation(request.name)
                query = f"SELECT * FROM {relation.sql}"
                key = primary_key(self._rows, relation.oid)
                modifiers = column_modifiers(self._rows, relation.oid)
                # Rows that a policy would hide must not be missing unnoticed.
                self._run("SET LOCAL row_security = off")
            else:
                query, key, modifiers = request.query, (), {}
                self._run("SET LOCAL row_security = on")
            columns = self._columns(query, modifiers, doing)
            batches = self._batches(select(query, columns, key), columns, key, doing)
            path, rows = spool(self._require_folder(), pa.schema([f for c in columns for f in c.waiting]), batches)
        schema = pa.schema([pa.field(column.name, column.final) for column in columns])

        def again() -> Iterator[pa.RecordBatch]:
            for batch in spooled(path):
                arrays = [column.finish(batch) for column in columns]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

        return TableRows(
            request.name,
            request.query,
            tuple(Column(column.name, str(column.type)) for column in columns),
            key,
            rows,
            schema,
            again,
        )

    def _begin(self) -> None:
        with self._converted("a snapshot of it"):
            self._run("SET client_encoding = 'UTF8'")  # else text comes as the database has it
            ((version, patience),) = [tuple(row.values()) for row in self._rows(_SERVER)]
            if version < _OLDEST:
                raise DatabaseError(
                    f"{self.source}: PostgreSQL {version // 10000}; 13 is the oldest that can be read",
                    hint="update the server, or export the table to a file and use --file",
                )
            whole = [self._relation(request.name) for request in self._tables if request.query is None]
            self._run(_BEGIN)
            settings = {**_SETTINGS, "lock_timeout": _PATIENCE} if patience == "0" else _SETTINGS
            for name, value in settings.items():
                self._run(f"SET LOCAL {name} = '{value}'")
            locked = sorted({relation.sql for relation in whole if relation.kind in _LOCKABLE})
            if locked:
                self._run(f"LOCK TABLE {', '.join(locked)} IN ACCESS SHARE MODE")
            mark = self._rows(_MARK)[0]
        self._mark = {name: value for name, value in mark.items() if value is not None}

    def _end(self) -> None:
        try:
            self._run("ROLLBACK")
        except adbc_driver_manager.Error:
            return  # the connection is gone, and with it the transaction

    def _relation(self, name: str) -> Relation:
        found = find_relation(self._rows, name)
        if found is None:
            near = near_relations(self._rows, name)
            hint = f"there is: {', '.join(near)}" if near else "the database has no table that you may see"
            raise UnknownTable(f"{self.source}: no table {name!r}", hint=hint, table=name, source=self.source)
        return found

    def _columns(self, query: str, modifiers: Mapping[str, int], doing: str) -> list[PostgresColumn]:
        with self._cursor() as cursor:
            names = cursor.adbc_execute_schema(query).names
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise DatabaseError(
                f"{self.source}: {doing}: it gives no columns", hint="a snapshot only reads: use one SELECT"
            )
        if twice:
            raise DatabaseError(
                f"{self.source}: {doing}: two columns are called {twice[0]!r}",
                hint="give each column a name of its own with AS",
            )
        kinds = ", ".join(f"pg_typeof(t.{quoted(name)})::oid::int8" for name in names)
        # No row is needed to know the types, and none is computed.
        row = self._table(
            f"SELECT {kinds} FROM (VALUES (1)) AS one LEFT JOIN (SELECT * FROM (\n{query}\n) AS q LIMIT 0) AS t ON true"
        )
        oids = [column[0].as_py() for column in row.columns]
        types = Types(self._rows)
        return [
            column_of(number, name, types, oid, modifiers.get(name, -1), f"{self.source}: {doing}")
            for number, (name, oid) in enumerate(zip(names, oids, strict=True))
        ]

    def _batches(
        self, query: str, columns: Sequence[PostgresColumn], key: Sequence[str], doing: str
    ) -> Iterator[pa.RecordBatch]:
        schema = pa.schema([field for column in columns for field in column.waiting])
        with self._cursor() as cursor:
            cursor.execute(query)
            reader = iter(cursor.fetch_record_batch())
            while (batch := self._next(reader, doing)) is not None:
                arrays = read_batch(batch, columns, key, f"{self.source}: {doing}")
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _next(self, reader: Iterator[pa.RecordBatch], doing: str) -> pa.RecordBatch | None:
        try:
            return next(reader, None)
        except OSError as exc:  # so the driver says that the server ended the statement
            raise refused(self._address, doing, exc) from exc

    def _rows(self, query: str) -> list[dict[str, Any]]:
        return self._table(query).to_pylist()  # type: ignore[no-any-return]

    def _table(self, query: str) -> pa.Table:
        with self._cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    def _run(self, statement: str) -> None:
        with self._cursor() as cursor:
            cursor.adbc_statement.set_options(**{_USE_COPY: "false"})
            cursor.execute(statement)

    def _cursor(self) -> dbapi.Cursor:
        if self._connection is None:
            raise DatabaseError(f"{self.source}: not open", hint="read inside `with open_database(…)`")
        return self._connection.cursor()

    def _require_folder(self) -> Path:
        if self._folder is None:
            raise DatabaseError(f"{self.source}: not open", hint="read inside `with open_database(…)`")
        return self._folder

    @contextmanager
    def _converted(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, pa.ArrowException) as exc:
            raise refused(self._address, doing, exc) from exc
