"""A snapshot as users read it: what it holds, its rows as lazy frames, its files, its check. Talks to no broker."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mlstream.display import Displayed
from mlstream.errors import IntegrityError, UnknownFile, UnknownPartition, UnknownTable, UnknownTopic
from mlstream.home import Home, find_home
from mlstream.snapshots.content import FileContent, TableContent
from mlstream.snapshots.cuts import Cut, parse_cut
from mlstream.snapshots.manifest import Content, StreamContent, parse_content
from mlstream.snapshots.raw_rows import runs_of, scan_raw
from mlstream.snapshots.storage import Piece, Storage, StoredPartition, check_storage, parse_storage
from mlstream.snapshots.store import Store

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection
    from mlstream.config import DecodeConfig
    from mlstream.snapshots.difference import Difference
    from mlstream.snapshots.export import Exported
    from mlstream.snapshots.export_files import Format
    from mlstream.snapshots.restore_record import Restored
    from mlstream.snapshots.transfer import Moved
    from mlstream.snapshots.verify import Verified
    from mlstream.snapshots.views import View


class Snapshot(Displayed):
    """An immutable dataset: records of streams, files and tables. Made by `snapshot`, found again by `open_snapshot`.

    Attributes:
        id: SHA-256 over its content, 64 hex digits.
        name: the name that it was opened by; else the first that it has; None when it has none.
    """

    def __init__(self, store: Store, snapshot_id: str, name: str | None, content: Content) -> None:
        self.store = store
        self.id = snapshot_id
        self.name = name
        self.content = content

    def __repr__(self) -> str:
        return f"Snapshot({self.name or self.id[:12]}: {', '.join(self.topics)}, {self.rows:,} rows)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def complete(self) -> bool:
        """False when a part of what was asked for could not be had; the partitions say what is missing."""
        return self.content.complete

    @property
    def streams(self) -> tuple[StreamContent, ...]:
        """The topics and their partitions: ranges, rows and digests."""
        return self.content.streams

    @property
    def topics(self) -> tuple[str, ...]:
        """The names of its topics."""
        return tuple(stream.topic for stream in self.streams)

    @property
    def files(self) -> tuple[FileContent, ...]:
        """Its files, in order of their paths."""
        return self.content.files

    @property
    def tables(self) -> tuple[TableContent, ...]:
        """Its tables and query results, in order of their names."""
        return self.content.tables

    @property
    def rows(self) -> int:
        """Records of all topics."""
        return sum(stream.rows for stream in self.streams)

    @property
    def size_bytes(self) -> int:
        """What its objects take on the disk; other snapshots may share them."""
        return self.storage.size_bytes

    @property
    def names(self) -> tuple[str, ...]:
        """All names that stand for it."""
        return tuple(name for name, snapshot_id in self.store.refs().items() if snapshot_id == self.id)

    @cached_property
    def storage(self) -> Storage:
        """Where the rows are.

        Raises:
            IntegrityError: when the storage map is missing, damaged, or not what the manifest covers.
        """
        storage = parse_storage(self.store.read(self.store.storage(self.id)), self.id)
        check_storage(storage, self.content, self.id)
        return storage

    def cuts(self) -> list[Cut]:
        """Every freeze that led to this content, oldest first."""
        return [parse_cut(self.store.read(path), f"cuts/{path.name}") for path in self.store.cuts(self.id)]

    def stream(self, topic: str) -> StreamContent:
        """What it holds of a topic.

        Raises:
            UnknownTopic: when it holds nothing of it.
        """
        for found in self.streams:
            if found.topic == topic:
                return found
        raise UnknownTopic(
            f"snapshot {self.name or self.id[:12]} holds no topic {topic!r}",
            hint=_nearest(topic, list(self.topics), "topics"),
            topic=topic,
        )

    def scan(self, topic: str, decode: DecodeConfig | None = None) -> pl.LazyFrame:
        """The records of a topic as a lazy frame, in order of partition and offset.

        Args:
            decode: how values become columns. Without it the rows are raw: `partition` int32, `offset` int64,
                `timestamp` datetime[ms, UTC], `timestamp_type` int8 (0 CreateTime, 1 LogAppendTime), `key` binary,
                `value` binary, `headers` list of (key, value). With it: `_partition`, `_offset`, `_timestamp`, `_key`
                and the decoded columns; the first use makes a view in the home, later ones map it into memory.

        Raises:
            UnknownTopic: when the snapshot holds nothing of it.
            DecodeError: when a value does not decode.
            IntegrityError: when an object is missing.
        """
        if decode is not None:
            return self.view(topic, decode).frame()
        self.stream(topic)
        return scan_raw(self.store, self.storage, self.stored(topic))

    def file(self, path: str) -> Path:
        """Where the bytes of a file are: a read-only file whose name is their digest.

        Args:
            path: as the snapshot calls it, for example `reference/airports.csv`.

        Raises:
            UnknownFile: when it holds no such file.
            IntegrityError: when its object is missing.
        """
        for found in self.files:
            if found.path == path:
                return self.store.obtain(found.sha256)
        raise UnknownFile(
            f"snapshot {self.name or self.id[:12]} holds no file {path!r}",
            hint=_nearest(path, [found.path for found in self.files], "files"),
            path=path,
        )

    def table(self, name: str) -> pl.LazyFrame:
        """The rows of a table or query as a lazy frame, in the order of the primary key.

        Raises:
            UnknownTable: when it holds no such table.
            IntegrityError: when an object is missing.
        """
        for found in self.storage.tables:
            if found.name == name:
                frames = [
                    pl.scan_parquet(self.store.obtain(piece.object), glob=False).slice(piece.row, piece.rows)
                    for piece in found.pieces
                ]
                return pl.concat(frames)
        raise UnknownTable(
            f"snapshot {self.name or self.id[:12]} holds no table {name!r}",
            hint=_nearest(name, [found.name for found in self.tables], "tables"),
            table=name,
        )

    def view(self, topic: str, decode: DecodeConfig) -> View:
        """The decoded columns of a topic, from the home's views or made now.

        Raises:
            UnknownTopic, DecodeError, IntegrityError: as `scan`.
        """
        from mlstream.snapshots.views import open_view  # compiled kernels, which the raw rows do not need

        return open_view(self, topic, decode)

    def dead_letters(self, topic: str, decode: DecodeConfig) -> pl.LazyFrame:
        """The records of a topic that do not decode, where `decode.on_error` is `dead-letter` and so leaves them out.

        Returns:
            `partition` int32, `offset` int64, `timestamp` datetime[ms, UTC], `key` and `value` binary, `reason` text;
            in order of partition and offset.

        Raises:
            UsageError: `decode.on_error` is another, so that no record is left out.
            UnknownTopic, DecodeError, IntegrityError: as `scan`.
        """
        return self.view(topic, decode).dead_letters()

    def stored(self, topic: str) -> tuple[StoredPartition, ...]:
        """Where the rows of a topic are, partition by partition."""
        for content, found in zip(self.streams, self.storage.streams, strict=True):
            if content.topic == topic:
                return found.partitions
        return ()

    def pieces(self, topic: str, partition: int) -> list[Piece]:
        """The runs of an object's rows that make up a partition, in order; successive ones are put together.

        Raises:
            UnknownPartition: when the snapshot holds nothing of it.
        """
        for found in self.stored(topic):
            if found.partition == partition:
                return list(runs_of(found))
        raise UnknownPartition(
            f"snapshot {self.name or self.id[:12]} holds no partition {partition} of {topic}",
            topic=topic,
            partition=partition,
        )

    def diff(self, other: Snapshot, *, limit: int = 20) -> Difference:
        """How another snapshot differs from this one; it may be of another home.

        Args:
            limit: how many records of each stream, and rows of each table, are given. All are counted.

        Raises:
            IntegrityError: when an object that has to be read is missing or damaged.
        """
        from mlstream.snapshots.diff import diff  # which few callers want

        return diff(self, other, limit=limit)

    def verify(self, deep: bool = False) -> Verified:
        """Check that everything is there and is what its digest says; with `deep` down to every row.

        Raises:
            IntegrityError: naming the first thing that is missing or wrong.
        """
        from mlstream.snapshots.verify import verify  # compiled kernels

        return verify(self, deep=deep)

    def push(self, url: str | Path, *, force: bool = False) -> Moved:
        """Copy it to the store at a folder's path or a URL (`s3://bucket/store`); only what is missing there travels.

        It has there the name that it was opened by, if any.

        Args:
            force: a name that stands for something else there is moved.

        Raises:
            NameTaken: the name stands for another snapshot there.
            IntegrityError: an object here is missing or damaged; nothing is visible there.
            StoreError: the store there cannot be used.
        """
        from mlstream.snapshots.push import push  # the drivers of URLs
        from mlstream.snapshots.remote_open import open_remote

        return push(self, open_remote(url), name=self.name, force=force)

    def restore(
        self,
        topic: str,
        *,
        source: str | None = None,
        partitions: int | None = None,
        codec: str = "zstd",
        connection: Connection | None = None,
    ) -> Restored:
        """Write the records of a topic into a new one, read them back, and compare.

        Args:
            topic: the new topic; it is made with settings that keep old event times.
            source: which topic of the snapshot; not needed when there is only one.
            partitions: how many the new topic has; as many as needed when None.
            codec: none, gzip, snappy, lz4 or zstd.
            connection: which cluster; found as `find_connection` says when None.

        Raises:
            UsageError, UnknownTopic, TopicExists, IntegrityError, BrokerError, StoreError: see `snapshots.restore`.
        """
        from mlstream.broker.client import Client  # a broker's client, which reading does not need
        from mlstream.broker.connection import find_connection
        from mlstream.snapshots.restore import restore

        with Client(find_connection(self.store.home) if connection is None else connection) as client:
            done = restore(client, self, topic, source=source, partitions=partitions, codec=codec)
        return done.restored

    def restored(self, topic: str | None = None) -> list[Restored]:
        """The restores of this snapshot, the newest first: which topic, and which offset became which.

        Args:
            topic: only those into topics of that name, on whatever cluster.
        """
        from mlstream.snapshots.restore_record import records

        return [found for found in records(self.store, self.id) if topic in (None, found.topic)]

    def export(
        self,
        folder: str | Path,
        *,
        format: Format = "parquet",  # noqa: A002  # the word that users know it by
        decode: DecodeConfig | Mapping[str, DecodeConfig] | None = None,
    ) -> Exported:
        """Write its streams, tables and files out as plain files, for people who use something else.

        Args:
            folder: where to; it must not exist, or be empty. It is whole or not there; its README.md explains it.
            format: parquet, csv or jsonl (JSON lines), of streams and tables; files stay as they are.
            decode: how values become columns: of all topics, or topic → how; others are written as raw records.

        Raises:
            UsageError, UnknownTopic, DecodeError, IntegrityError, StoreError: see `snapshots.export`.
        """
        from mlstream.snapshots.export import export  # compiled kernels

        return export(self, folder, format=format, decode=decode)


def open_snapshot(name_or_id: str, *, home: Home | str | Path | None = None) -> Snapshot:
    """The snapshot of that name, id, or beginning of an id (8 digits or more).

    Args:
        home: where snapshots are kept; found as `find_home` says when None.

    Raises:
        UnknownSnapshot: when there is none, or the beginning fits more than one.
        IntegrityError: when its manifest is missing or damaged.
    """
    store = Store(home if isinstance(home, Home) else find_home(home))
    snapshot_id, name = store.find(name_or_id)
    content = parse_content(store.read(store.manifest(snapshot_id)), snapshot_id)
    if name is None:
        name = next((known for known, found in store.refs().items() if found == snapshot_id), None)
    return Snapshot(store, snapshot_id, name, content)


def list_snapshots(home: Home | str | Path | None = None) -> list[Snapshot]:
    """All snapshots of a home, the newest cut first; damaged ones are left out (`open_snapshot` says what is wrong).

    Args:
        home: where snapshots are kept; found as `find_home` says when None.
    """
    home = home if isinstance(home, Home) else find_home(home)
    store = Store(home)
    names: dict[str, str] = {}
    for name, snapshot_id in store.refs().items():
        names.setdefault(snapshot_id, name)
    found = []
    for snapshot_id in store.ids():
        try:
            content = parse_content(store.read(store.manifest(snapshot_id)), snapshot_id)
        except IntegrityError:
            continue
        found.append(Snapshot(store, snapshot_id, names.get(snapshot_id), content))
    cuts = {snapshot_id: path.name[65:] for snapshot_id, path in store.last_cuts().items()}
    return sorted(found, key=lambda snapshot: cuts.get(snapshot.id, ""), reverse=True)


def _nearest(name: str, names: list[str], what: str) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"it holds: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else f"it holds no {what}"
