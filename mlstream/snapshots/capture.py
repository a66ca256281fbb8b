"""Freeze topics, files and tables together: the public `snapshot`, and the steps that it takes. Prints nothing.

1. claim the name
2. the cut: list the files; open the databases, which fixes what they show; then fix the topics' ranges, their ids and
   what the broker keeps
3. refuse a name that stands for other ranges, files or tables, before anything is read
4. read the tables, and let go of the databases
5. read the files, and copy those that the store lacks; refuse a name that stands for other contents
6. plan what the store has of the topics already, and copy the rest into the staging folder
7. look up the schemas that the records name
8. ask again: the same topics, and nothing expired unseen
9. publish: objects, storage map, cut, manifest, name; then the index
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.databases import TableRequest, parse_query, parse_table
from mlstream.home import Home, find_home
from mlstream.naming import check_snapshot_name
from mlstream.ranges import Position, TopicSelection, parse_rate
from mlstream.snapshots.copying import Copied, Progress, copy
from mlstream.snapshots.cuts import Cut
from mlstream.snapshots.file_bytes import digest_files
from mlstream.snapshots.files import FilePattern, list_files
from mlstream.snapshots.fixing import Fixed, ask_again, fix
from mlstream.snapshots.gather import files_text, gather, opened, read_tables, sources_of
from mlstream.snapshots.leases import Lease
from mlstream.snapshots.plan import plan_partition
from mlstream.snapshots.publishing import publish
from mlstream.snapshots.registry import Registry, RegistryAddress, find_registry
from mlstream.snapshots.reuse import Reuse, find_reuse, remember_all
from mlstream.snapshots.schemas import Collected, collect_schemas
from mlstream.snapshots.sealing import cut_of, publication_of, put_together
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store
from mlstream.snapshots.taken import check_free, name_taken
from mlstream.snapshots.wanted import Wanted, select

__all__ = ["Frozen", "Options", "freeze", "select", "snapshot"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to freeze.

    Attributes:
        allow_partial: keep what can be had where offsets expired or a partition is lost.
        max_bytes_s: the most to fetch from the brokers, in bytes a second; no limit when None.
        registry: where the schemas are that records name by id; they are not looked up when None.
    """

    allow_partial: bool = False
    max_bytes_s: float | None = None
    registry: RegistryAddress | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a freeze came to.

    Attributes:
        cut: when, how, and what the broker said.
        existed: the name stood for this very content already.
        fetched, reused: rows from the broker, and rows that the store had.
        written_bytes: what the new objects take.
        collected: what the schema registry said; None when it was not asked.
    """

    snapshot: Snapshot
    cut: Cut
    existed: bool
    fetched: int
    reused: int
    written_bytes: int
    collected: Collected | None


def snapshot(
    name: str,
    *,
    topics: Sequence[str | TopicSelection] = (),
    files: Sequence[str | Path] = (),
    tables: Sequence[str | TableRequest] = (),
    queries: Sequence[str | TableRequest] = (),
    start: str | Position = "earliest",
    stop: str | Position = "latest",
    connection: Connection | None = None,
    home: Home | str | Path | None = None,
    allow_partial: bool = False,
    max_rate: str | None = None,
    schema_registry: str | RegistryAddress | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Snapshot:
    """Freeze topics, files and tables under a name, cut together: an immutable dataset whose id covers every byte.

    Args:
        name: a-z, 0-9, '.', '_' and '-'. If it stands for the same content already, that is fine.
        topics: `"T"`, `"T[0,2-4]"`, `"T[0]@FROM..TO"`, or selections. Without any no broker is asked.
        files: paths of files and folders, and patterns (`"reference/*.csv"`), relative to the working directory.
        tables: tables of databases as `"URL#TABLE"`: `postgresql://user@host/database#weather`,
            `sqlite:///path#weather`; `${NAME}` in a URL is read from the environment.
        queries: queries as `"URL#NAME=SELECT …"`. All of one database are read in one transaction, which is opened
            before the ends of the topics are looked up.
        start, stop: for topics that do not say it themselves: an offset, a time (ISO 8601, UTC unless it says
            otherwise), a time ago (`-2h`), `earliest`, `latest` (the last stable offset) or `group:NAME`.
        connection: the cluster; found as `find_connection` says when None.
        home: where snapshots are kept; found as `find_home` says when None.
        allow_partial: keep what can be had where offsets expired or a partition is lost; the snapshot then says
            `complete: false` and what is missing.
        max_rate: the most to fetch from the brokers, for example `"50MB/s"`; no limit when None.
        schema_registry: the URL of the registry that has the schemas which records name; that of
            MLSTREAM_SCHEMA_REGISTRY when None, and none when that is not set either.
        progress: called after each block of records.

    Raises:
        UsageError: a name, a position, a path, a table or a rate that is none.
        NameTaken: the name stands for something else.
        UnknownTopic, UnknownPartition, EmptyRange, OffsetOutOfRange: there is nothing to freeze as asked.
        UnknownFile, UnknownTable: a file or a table is not there, or cannot be read.
        TopicChanged, FileChanged: a topic was deleted or made again, or a file written to, meanwhile.
        BrokerUnavailable, DatabaseError, RegistryError, StoreError: the cluster, a database, the registry or the disk
            cannot be used; a table holds what cannot be kept exactly.
    """
    home = home if isinstance(home, Home) else find_home(home)
    patterns = tuple(FilePattern(str(pattern), Path.cwd()) for pattern in files)
    requests = [parse_table(found) if isinstance(found, str) else found for found in tables]
    requests += [parse_query(found) if isinstance(found, str) else found for found in queries]
    wanted = Wanted(tuple(select(topics, start=start, stop=stop)), patterns, tuple(requests))
    registry = schema_registry if isinstance(schema_registry, RegistryAddress) else find_registry(schema_registry)
    options = Options(allow_partial, None if max_rate is None else parse_rate(max_rate), registry)
    check_snapshot_name(name)
    with ExitStack() as stack:
        client = None
        if wanted.topics:
            client = stack.enter_context(Client(find_connection(home) if connection is None else connection))
        return freeze(client, Store(home), name, wanted, options=options, progress=progress).snapshot


def freeze(
    client: Client | None,
    store: Store,
    name: str,
    wanted: Wanted | Sequence[TopicSelection],
    *,
    options: Options = Options(),
    progress: Callable[[Progress], None] | None = None,
) -> Frozen:
    """`snapshot` with the client and the store at hand, and all that is known of the freeze in return.

    Args:
        client: None when no topic is wanted.
        wanted: selections alone are topics.
    """
    began = time.monotonic()
    check_snapshot_name(name)
    wanted = wanted if isinstance(wanted, Wanted) else Wanted(tuple(wanted))

    def tell(doing: str) -> None:
        if progress is not None:
            progress(Progress(0, 0, 0, 0, 0, doing))

    # 1. claim the name
    with store.claim(name), store.staging() as staged, store.lease(f"freezing {name}") as lease:
        # 2. the cut
        sources = sources_of(wanted.tables, staged=staged)
        cut_began = time.monotonic()
        listed = list_files(wanted.files, home=store.path)
        with opened(sources):
            fixed = fix(client, wanted.topics, began=cut_began, allow_partial=options.allow_partial)
            # 3. refuse a name that stands for something else
            taken = check_free(store, name, fixed, listed, wanted.tables)
            # 4. the tables
            tables = read_tables(sources, staged=staged, tell=tell)
            databases = [each.cut for each in sources]
        # 5. the files
        if listed:
            tell(f"reading {files_text(listed)}")
        files = digest_files(listed)
        if taken is not None and (taken.files, taken.tables) != (files, tuple(table.content for table in tables)):
            raise name_taken(name, taken.id)
        gathered = gather(store, listed, files, tables, databases, lease=lease, staged=staged, tell=tell)
        # 6. the topics
        reuse, copies = _copy_topics(client, store, fixed, lease, staged, options, progress)
        # 7. the schemas
        collected = _collect(options.registry, store, fixed, copies, staged, tell)
        # 8. ask again
        doubtful = ask_again(client, fixed, copies, allow_partial=options.allow_partial)
        schemas = {} if collected is None else collected.schemas
        content, storage = put_together(
            fixed, copies, reuse.objects, complete=not doubtful, gathered=gathered, schemas=schemas
        )
        if taken is not None and taken != content:
            raise name_taken(name, taken.id)
        # 9. publish
        cut = cut_of(client, name, fixed, copies, gathered, seconds=time.monotonic() - began)
        new = {digest: path for found in copies for digest, path in found.assembled.staged.items()}
        lease.hold(snapshots=[content.id])  # should it be there: held, then looked at
        publication = publication_of(store, name, content, storage, cut, {**new, **gathered.staged})
        publish(store, publication, staged=staged)
        if content.complete:
            remember_all(store, content.id, fixed, copies, reuse, staged=staged)
    return Frozen(
        open_snapshot(name, home=store.home),
        cut,
        existed=taken is not None,
        fetched=sum(found.assembled.fetched for found in copies),
        reused=sum(found.assembled.reused for found in copies),
        written_bytes=sum(publication.sizes[digest] for digest in publication.objects),
        collected=collected,
    )


def _copy_topics(
    client: Client | None,
    store: Store,
    fixed: Fixed,
    lease: Lease,
    staged: Path,
    options: Options,
    progress: Callable[[Progress], None] | None,
) -> tuple[Reuse, list[Copied]]:
    if client is None:
        return Reuse({}, {}), []
    reuse = find_reuse(client, store, fixed, lease)
    copies = copy(
        client,
        [plan_partition(wanted, reuse.known(wanted)) for wanted in fixed.ranges],
        store=store,
        staged=staged,
        topic_ids=fixed.topic_ids,
        allow_partial=options.allow_partial,
        max_bytes_s=options.max_bytes_s,
        progress=progress,
    )
    return reuse, copies


def _collect(
    address: RegistryAddress | None,
    store: Store,
    fixed: Fixed,
    copies: Sequence[Copied],
    staged: Path,
    tell: Callable[[str], None],
) -> Collected | None:
    if address is None or not copies:
        return None
    tell("looking up schemas")
    with Registry(address) as registry:
        return collect_schemas(registry, store, fixed, copies, staged=staged)
