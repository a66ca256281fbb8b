"""What a freeze takes beside topics: files and tables, fixed at the cut, then copied into the staging folder.

Publishes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlstream.databases import Database, TableRequest, open_database
from mlstream.databases.address import parse_address
from mlstream.snapshots.content import FileContent, TableContent
from mlstream.snapshots.cuts import CutDatabase, CutFile
from mlstream.snapshots.file_bytes import copy_files
from mlstream.snapshots.files import ListedFile
from mlstream.snapshots.leases import Lease
from mlstream.snapshots.storage import StoredObject, StoredTable
from mlstream.snapshots.store import Store
from mlstream.snapshots.tables import FrozenTable, freeze_table


@dataclass(frozen=True, slots=True)
class Gathered:
    """Files and tables as the documents of a snapshot want them.

    Attributes:
        files, tables: for the manifest, in order of their paths and names.
        stored: for the storage map, in the order of `tables`.
        objects: digest → size and rows of every object that they are in, new or in the store already.
        staged: digest → file of those that are new.
        cut_files, cut_databases: for the cut.
    """

    files: tuple[FileContent, ...] = ()
    tables: tuple[TableContent, ...] = ()
    stored: tuple[StoredTable, ...] = ()
    objects: dict[str, StoredObject] = field(default_factory=dict)
    staged: dict[str, Path] = field(default_factory=dict)
    cut_files: tuple[CutFile, ...] = ()
    cut_databases: tuple[CutDatabase, ...] = ()


NOTHING = Gathered()


@dataclass(frozen=True, slots=True)
class Source:
    """A database, and what will be read of it in one transaction, which is open while this is entered (`with`)."""

    database: Database
    requests: tuple[TableRequest, ...]

    @property
    def cut(self) -> CutDatabase:
        """What the cut says of it."""
        return CutDatabase(
            self.database.source,
            self.database.kind,
            dict(self.database.mark),
            tuple(sorted(request.name for request in self.requests)),
        )


def sources_of(requests: Sequence[TableRequest], *, staged: Path) -> tuple[Source, ...]:
    """Every database that is named, once, however often and in whatever order. Opens none: that is part of the cut.

    Raises:
        UsageError: a URL that is none of a database.
    """
    of: dict[str, list[TableRequest]] = {}
    for request in requests:
        of.setdefault(parse_address(request.url).url, []).append(request)
    return tuple(Source(open_database(url, tables=tables, folder=staged), tuple(tables)) for url, tables in of.items())


@contextmanager
def opened(sources: Sequence[Source]) -> Iterator[None]:
    """Open databases one after the other: what each shows is fixed then, and until the end.

    Raises:
        DatabaseError, UnknownTable: one cannot be reached, refuses, or lacks a table.
    """
    with ExitStack() as stack:
        for source in sources:
            stack.enter_context(source.database)
        yield


def read_tables(sources: Sequence[Source], *, staged: Path, tell: Callable[[str], None]) -> tuple[FrozenTable, ...]:
    """Every table, read while its database is open, in order of their names.

    Args:
        tell: called with what is under way.

    Raises:
        UnknownTable, DatabaseError: a table is not there, cannot be read, or holds what cannot be kept exactly.
        StoreError: the disk is full or cannot be written.
    """
    found = []
    for each in sources:
        for request in each.requests:
            tell(f"reading table {request.name}")
            found.append(freeze_table(each.database.read(request), staged))
    return tuple(sorted(found, key=lambda table: table.content.name))


def gather(
    store: Store,
    listed: Sequence[ListedFile],
    files: Sequence[FileContent],
    tables: Sequence[FrozenTable],
    cut: Sequence[CutDatabase],
    *,
    lease: Lease,
    staged: Path,
    tell: Callable[[str], None],
) -> Gathered:
    """Copy the files that the store lacks, and put them together with the tables.

    Args:
        files: what was read of the listed files.
        cut: the databases that the tables are from.
        lease: holds what the store has already.
        tell: called with what is under way.

    Raises:
        FileChanged: a file is not as it was listed.
        UnknownFile, StoreError: a file cannot be read, or not be written.
    """
    written = {digest: found for table in tables for digest, found in table.objects.items()}
    objects = {
        **{file.sha256: StoredObject(file.size_bytes, 0) for file in files},
        **{digest: stored for digest, (_, stored) in written.items()},
    }
    if objects:
        lease.hold(objects=objects)  # held before it is looked at: what is there after this stays
    new = {digest: path for digest, (path, stored) in written.items() if not store.holds(digest, stored.size_bytes)}
    lacking = [file for file in files if not store.holds(file.sha256, file.size_bytes)]
    if lacking:
        tell(f"copying {files_text(lacking)}")
    return Gathered(
        tuple(files),
        tuple(table.content for table in tables),
        tuple(StoredTable(table.content.name, table.pieces) for table in tables),
        objects,
        {**new, **copy_files(listed, files, store=store, staged=staged)},
        cut_files=tuple(CutFile(file.path, str(file.source), file.modified_ms) for file in listed),
        cut_databases=tuple(cut),
    )


def files_text(files: Sequence[object]) -> str:
    """How many files, in words."""
    return "1 file" if len(files) == 1 else f"{len(files):,} files"
