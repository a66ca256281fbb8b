"""SQLite by a private copy: made by SQLite's backup when the database is opened, and read from then on.

The types of columns, which SQLite does not have, are found in sqlite_columns.py.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from mlstream.databases.address import Address, Kind
from mlstream.databases.arrow import arrow_type
from mlstream.databases.database import Column, TableRows
from mlstream.databases.requests import TableRequest
from mlstream.databases.sqlite_columns import CLASSES, SqliteColumn, affinity, array_of, quoted, word_of
from mlstream.databases.types import parse_type
from mlstream.errors import DatabaseError, MlstreamError, StoreError, UnknownTable

_NO_ROOM = "free some space, or name another disk with MLSTREAM_HOME (with TMPDIR when nothing is frozen)"
_WAIT_S = 30.0  # for a writer to end
_ROWS_AT_ONCE = 1 << 14
_EXACT = 1 << 53  # integers up to here are exact as float64
_SECOND = re.compile(r".*:[0-9]+", re.DOTALL)
_ALLOWED = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, getattr(sqlite3, "SQLITE_RECURSIVE", 33)}
)


class SqliteDatabase:
    """An SQLite database; see `databases.database.Database`."""

    def __init__(self, address: Address, folder: Path | None) -> None:
        self._address = address
        self._parent = folder
        self._resources = ExitStack()
        self._copy: sqlite3.Connection | None = None
        self._mark: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.source})"

    @property
    def kind(self) -> Kind:
        """`sqlite`."""
        return "sqlite"

    @property
    def source(self) -> str:
        """The URL."""
        return self._address.source

    @property
    def mark(self) -> Mapping[str, str]:
        """The moment, as the database calls it; see `Database.mark`."""
        return self._mark

    def __enter__(self) -> SqliteDatabase:
        with ExitStack() as resources, self._converted("copying it"):
            made = tempfile.TemporaryDirectory(prefix="mlstream-tables-", dir=self._parent, ignore_cleanup_errors=True)
            folder = resources.enter_context(made)
            file = Path(folder) / "copy.db"
            self._mark = self._backup(file)
            copy = resources.enter_context(closing(_connect(file, "ro")))
            copy.text_factory = bytes
            self._copy = copy
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()
        self._copy = None

    def read(self, request: TableRequest) -> TableRows:
        """All rows of a table or query, as they were at the moment; see `Database.read`."""
        where = f"{self.source}: {request.name}"
        with self._converted(f"table {request.name}" if request.query is None else f"query {request.name}"):
            if request.query is None:
                table = self._table(request.name)
                query = f"SELECT * FROM main.{quoted(table)}"
                key, affinities = self._declared(table)
            else:
                query, key, affinities = request.query, (), {}
            names = self._names(query, where)
            columns, rows = self._columns(query, names, affinities, key, where)
        # Where a table has no INTEGER PRIMARY KEY and is not STRICT, its primary key may be null, many times.
        order = [f"{quoted(name)} COLLATE BINARY NULLS LAST" for name in key or names]
        ordered = f"SELECT * FROM (\n{query}\n) ORDER BY {', '.join(order)}"
        schema = pa.schema([pa.field(column.name, arrow_type(parse_type(column.type))) for column in columns])

        def batches() -> Iterator[pa.RecordBatch]:
            with self._converted(f"table {request.name}"):
                yield from self._batches(ordered, columns, schema, where)

        return TableRows(
            request.name,
            request.query,
            tuple(Column(column.name, column.type) for column in columns),
            key,
            rows,
            schema,
            batches,
        )

    def _backup(self, target: Path) -> dict[str, str]:
        """Copy the database; what marks the moment."""
        with closing(_connect(Path(self._address.path), "ro")) as origin:
            origin.execute("BEGIN")
            origin.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from here on, nothing moves
            mark = {
                "data_version": str(origin.execute("PRAGMA data_version").fetchone()[0]),
                "schema_version": str(origin.execute("PRAGMA schema_version").fetchone()[0]),
                "journal_mode": str(origin.execute("PRAGMA journal_mode").fetchone()[0]),
                "sqlite_version": sqlite3.sqlite_version,
            }
            with closing(sqlite3.connect(target)) as copy:
                origin.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # a copy of a WAL database would want its log beside it
        with target.open("rb") as file:
            mark["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        return mark

    def _table(self, name: str) -> str:
        found = self._run("SELECT name FROM main.sqlite_schema WHERE type IN ('table', 'view') ORDER BY name")
        known = [row[0].decode("utf-8", "replace") for row in found]
        bare = name.removeprefix("main.")
        same = [table for table in known if bare in (table, table.lower())] or [
            table for table in known if table.lower() == bare.lower()
        ]
        if not same:
            near = difflib.get_close_matches(bare, known, n=1) or known[:8]
            raise UnknownTable(
                f"{self.source}: no table {name!r}",
                hint=f"there is: {', '.join(near)}" if near else "the database has no tables",
                table=name,
                source=self.source,
            )
        return str(same[0])

    def _declared(self, table: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """A table's primary key, and each column's type by its affinity."""
        found = self._run(f"PRAGMA table_xinfo({quoted(table)})", free=True)
        keys = sorted((row[5], row[1].decode()) for row in found if row[5] > 0)
        return tuple(name for _, name in keys), {row[1].decode(): affinity(row[2].decode()) for row in found}

    def _names(self, query: str, where: str) -> list[str]:
        cursor = self._execute(f"SELECT * FROM (\n{query}\n) LIMIT 0")
        names = [column[0] for column in cursor.description or ()]
        lower = {name.lower() for name in names}
        # SQLite itself calls the second of two columns `a` in a subquery `a:1`.
        twice = [name.rpartition(":")[0] for name in names if _SECOND.fullmatch(name.lower())]
        twice = [name for name in twice if name.lower() in lower]
        if not names or twice:
            what = f"two columns are called {twice[0]!r}" if twice else "it gives no columns"
            raise DatabaseError(f"{where}: {what}", hint="give each column a name of its own with AS")
        return names

    def _columns(
        self, query: str, names: Sequence[str], affinities: Mapping[str, str], key: Sequence[str], where: str
    ) -> tuple[list[SqliteColumn], int]:
        """The columns by what their values are, and the number of rows."""
        counts = [f"total(typeof({quoted(name)}) = '{kind}')" for name in names for kind in CLASSES] + [
            f"total(typeof({quoted(name)}) = 'integer' AND {quoted(name)} NOT BETWEEN {-_EXACT} AND {_EXACT})"
            for name in names
        ]
        columns = []
        rows = int(self._run(f"SELECT count(*) FROM (\n{query}\n)")[0][0])
        found = self._counted(query, counts)
        for number, name in enumerate(names):
            amounts = found[number * len(CLASSES) : (number + 1) * len(CLASSES)]
            classes = tuple(kind for kind, amount in zip(CLASSES, amounts, strict=True) if amount)
            if classes == ("integer", "real") and found[len(names) * len(CLASSES) + number]:
                raise self._mixed(query, name, key, where, "reals and integers that no float64 holds exactly")
            word = word_of(classes, affinities.get(name, "text"))
            if word is None:
                raise self._mixed(query, name, key, where, " and ".join(classes) + " values")
            columns.append(SqliteColumn(name, word))
        return columns, rows

    def _counted(self, query: str, expressions: Sequence[str]) -> list[float]:
        """Sums over all rows, some at a time: SQLite has at most 2,000 columns in a result."""
        found: list[float] = []
        for first in range(0, len(expressions), 1000):
            some = ", ".join(expressions[first : first + 1000])
            found.extend(self._run(f"SELECT {some} FROM (\n{query}\n)")[0])
        return found

    def _mixed(self, query: str, name: str, key: Sequence[str], where: str, what: str) -> MlstreamError:
        """The error for a column whose values are of several types, with one row of each."""
        shown = ", ".join(quoted(column) for column in key)
        examples = []
        for kind in CLASSES:
            row = self._run(
                f"SELECT {quoted(name)}{f', {shown}' if shown else ''} FROM (\n{query}\n) "
                f"WHERE typeof({quoted(name)}) = '{kind}' LIMIT 1"
            )
            if row:
                value, *keys = (each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in row[0])
                at = ", ".join(f"{column} = {each!r}" for column, each in zip(key, keys, strict=True))
                examples.append(f"{kind} {str(value)[:40]!r}{f' where {at}' if at else ''}")
        return DatabaseError(
            f"{where}: column {name!r} holds {what}: {'; '.join(examples)}",
            hint=f"choose one in a query: --query 'URL#name=SELECT …, CAST({quoted(name)} AS TEXT) AS {quoted(name)} "
            "FROM …'",
            column=name,
        )

    def _batches(
        self, query: str, columns: Sequence[SqliteColumn], schema: pa.Schema, where: str
    ) -> Iterator[pa.RecordBatch]:
        cursor = self._execute(query)
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            arrays = [
                array_of(column, form, list(values), where)
                for column, form, values in zip(columns, schema.types, zip(*rows, strict=True), strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _run(self, query: str, *, free: bool = False) -> list[tuple[Any, ...]]:
        return self._execute(query, free=free).fetchall()

    def _execute(self, query: str, *, free: bool = False) -> sqlite3.Cursor:
        if self._copy is None:
            raise DatabaseError(f"{self.source}: not open", hint="read inside `with open_database(…)`")
        self._copy.set_authorizer(None if free else _authorize)
        return self._copy.execute(query)

    @contextmanager
    def _converted(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise _refused(self.source, doing, exc) from exc
        except OSError as exc:
            raise StoreError(f"the copy of {self.source}: {exc.strerror}", hint=_NO_ROOM) from exc


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}"
    # Transactions are ours alone; and a result of millions of rows is read in another thread than it was opened in.
    return sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)


def _authorize(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _refused(source: str, doing: str, error: sqlite3.Error) -> MlstreamError:
    message = str(error)
    if "disk is full" in message:
        return StoreError(f"the copy of {source}: no space left on the disk", hint=_NO_ROOM)
    if "disk I/O error" in message:
        hint: str | None = "check the disks of the database and of the store, and the limit on the size of files"
    elif "unable to open" in message:
        hint = "check the path; it is relative to the working directory unless it has four slashes"
    elif "not authorized" in message:
        hint = "a snapshot only reads: use one SELECT"
    elif "locked" in message or "busy" in message:
        hint = "a writer holds it; try again when it is done"
    elif "not a database" in message or "malformed" in message:
        hint = "check that the file is an SQLite database, and PRAGMA integrity_check"
    elif "no such table" in message:
        return UnknownTable(f"{source}: {doing}: {message}", hint="check the name", source=source)
    else:
        hint = "check the query; it is one SELECT" if doing.startswith("query") else None
    return DatabaseError(f"{source}: {doing}: {message}", hint=hint, source=source)
