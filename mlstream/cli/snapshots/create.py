"""`mlstream snapshot create`: freeze topics, files and tables together under a name."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.create_screen import (
    estimate_json,
    frozen_json,
    print_estimate,
    print_frozen,
    shown_progress,
)
from mlstream.cli.snapshots.options import JSON

if TYPE_CHECKING:
    from mlstream.config import SnapshotFile
    from mlstream.ranges import TopicSelection
    from mlstream.snapshots.capture import Options
    from mlstream.snapshots.registry import RegistryAddress
    from mlstream.snapshots.wanted import Wanted


@click.command()
@click.argument("name")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="TOPIC",
    help="A topic: T, T[0,2-4] or 'T[0]@FROM..TO'; may be repeated.",
)
@click.option("--partition", "partitions", metavar="0,2-4", help="Only these partitions (default: all).")
@click.option("--from", "start", show_default="earliest", metavar="X", help="Where to start.")
@click.option("--to", "stop", show_default="latest", metavar="Y", help="Where to stop, exclusive.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help="A file, a folder or a pattern ('reference/*.csv'); may be repeated.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="URL#TABLE",
    help="A table of a database: postgresql://user@host/db#weather or sqlite:///path#weather; may be repeated.",
)
@click.option(
    "--query",
    "queries",
    multiple=True,
    metavar="URL#NAME=SELECT",
    help="The result of a query, and what it is called in the snapshot; may be repeated.",
)
@click.option("--config", metavar="FILE", help="Freeze what the `snapshot:` section of FILE names, too.")
@click.option("--dry-run", is_flag=True, help="Say what it would come to; freeze nothing.")
@click.option("--allow-partial", is_flag=True, help="Keep what can be had where records have expired.")
@click.option("--max-rate", metavar="RATE", help="The most to fetch from the brokers, for example 50MB/s.")
@click.option(
    "--schema-registry",
    metavar="URL",
    help="Where the schemas are that records name; they go into the snapshot.",
)
@JSON
@click.pass_obj
def create(session: Session, /, name: str, as_json: bool, dry_run: bool, **options: Any) -> None:
    """Freeze topics, files and tables together under NAME.

    X and Y are an offset (1200), a time (2013-10-01T06:00, UTC unless it says otherwise), a time ago (-2h),
    earliest, latest (the last stable offset), or group:NAME (what a consumer group has committed).

    A file is called by its path from the project's root; a folder is taken with all that is below it, and a symbolic
    link as what it leads to.

    All tables of one database are read in one transaction, opened before the ends of the topics are looked up. A URL
    may hold ${NAME}, which is read from the environment: so a password stands in no file and no list of processes.
    """
    from mlstream.broker.client import Client
    from mlstream.naming import check_snapshot_name
    from mlstream.snapshots.capture import freeze
    from mlstream.snapshots.estimate import estimate
    from mlstream.snapshots.store import Store

    check_snapshot_name(name)
    asked = _asked(_Given(**options))
    store = Store(session.at)
    with ExitStack() as stack:
        client = None
        if asked.wanted.topics:
            client = stack.enter_context(Client(session.connection(asked.connection or None)))
        if dry_run:
            found = estimate(client, store, asked.wanted, allow_partial=asked.options.allow_partial)
            if as_json:
                session.emit_json(estimate_json(name, found))
            else:
                print_estimate(session, name, found)
            return
        began = time.monotonic()
        with shown_progress(session) as progress:
            frozen = freeze(client, store, name, asked.wanted, options=asked.options, progress=progress)
        seconds = time.monotonic() - began
    if as_json:
        session.emit_json(frozen_json(frozen, seconds))
    else:
        print_frozen(session, frozen, seconds)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the command line says; None where it says nothing."""

    topics: tuple[str, ...]
    partitions: str | None
    start: str | None
    stop: str | None
    files: tuple[str, ...]
    tables: tuple[str, ...]
    queries: tuple[str, ...]
    config: str | None
    allow_partial: bool
    max_rate: str | None
    schema_registry: str | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is frozen, and how."""

    wanted: Wanted
    options: Options
    connection: dict[str, Any]


def _asked(given: _Given) -> _Asked:
    """The configuration's section and the command line put together.

    Both lists of topics, files and tables count; of all else there can be only one, and the command line's wins.
    """
    from mlstream.config import load_snapshot_config
    from mlstream.databases import parse_query, parse_table
    from mlstream.home import project_root
    from mlstream.ranges import parse_rate
    from mlstream.snapshots.capture import Options
    from mlstream.snapshots.files import FilePattern
    from mlstream.snapshots.registry import find_registry
    from mlstream.snapshots.wanted import Wanted, rooted

    file = None if given.config is None else load_snapshot_config(given.config)
    section = None if file is None else file.snapshot
    start, stop, max_rate = given.start, given.stop, given.max_rate
    topics, tables = given.topics, [*map(parse_table, given.tables), *map(parse_query, given.queries)]
    files = [FilePattern(text, Path.cwd()) for text in given.files]
    if section is not None:
        root = project_root(Path(given.config or ".").resolve().parent)
        topics = (*section.topics, *topics)
        named = [*map(parse_table, section.tables), *map(parse_query, section.queries)]
        tables = [*(rooted(request, root) for request in named), *tables]
        files = [*(FilePattern(text, root) for text in section.files), *files]
        start = section.start if start is None else start
        stop = section.stop if stop is None else stop
        max_rate = section.max_rate if max_rate is None else max_rate
    return _Asked(
        Wanted(
            tuple(_selections(topics, given.partitions, start or "earliest", stop or "latest")),
            tuple(files),
            tuple(tables),
        ),
        Options(
            allow_partial=given.allow_partial or (section is not None and section.allow_partial),
            max_bytes_s=None if max_rate is None else parse_rate(max_rate),
            registry=find_registry(given.schema_registry, None if file is None else _address(file)),
        ),
        {} if file is None else dict(file.connection),
    )


def _address(file: SnapshotFile) -> RegistryAddress | None:
    """The registry that a configuration names."""
    from mlstream.snapshots.registry import RegistryAddress

    found = file.schema_registry
    if found is None:
        return None
    password = None if found.password is None else found.password.get_secret_value()
    token = None if found.token is None else found.token.get_secret_value()
    return RegistryAddress(found.url, found.user, password, token, found.ca_file)


def _selections(topics: tuple[str, ...], partitions: str | None, start: str, stop: str) -> list[TopicSelection]:
    from mlstream.ranges import parse_partitions
    from mlstream.snapshots.wanted import select

    chosen = None if partitions is None else parse_partitions(partitions)
    found = select(topics, start=start, stop=stop)
    return [replace(each, partitions=chosen) if each.partitions is None else each for each in found]
