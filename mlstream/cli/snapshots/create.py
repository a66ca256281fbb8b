"""`mlstream snapshot create`: freeze ranges of topics under a name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON
from mlstream.cli.snapshots.screen import estimate_json, print_estimate, print_frozen, shown_progress, snapshot_json

if TYPE_CHECKING:
    from mlstream.ranges import TopicSelection


@click.command()
@click.argument("name")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    required=True,
    metavar="TOPIC",
    help="What to freeze: T, T[0,2-4] or 'T[0]@FROM..TO'; may be repeated.",
)
@click.option("--partition", "partitions", metavar="0,2-4", help="Only these partitions (default: all).")
@click.option("--from", "start", default="earliest", show_default=True, metavar="X", help="Where to start.")
@click.option("--to", "stop", default="latest", show_default=True, metavar="Y", help="Where to stop, exclusive.")
@click.option("--dry-run", is_flag=True, help="Say what it would come to; freeze nothing.")
@click.option("--allow-partial", is_flag=True, help="Keep what can be had where records have expired.")
@JSON
@click.pass_obj
def create(
    session: Session,
    name: str,
    topics: tuple[str, ...],
    partitions: str | None,
    start: str,
    stop: str,
    dry_run: bool,
    allow_partial: bool,
    as_json: bool,
) -> None:
    """Freeze ranges of topics under NAME.

    X and Y are an offset (1200), a time (2013-10-01T06:00, UTC unless it says otherwise), a time ago (-2h),
    earliest, latest (the last stable offset), or group:NAME (what a consumer group has committed).
    """
    from mlstream.broker.client import Client
    from mlstream.naming import check_snapshot_name
    from mlstream.snapshots.capture import freeze
    from mlstream.snapshots.estimate import estimate
    from mlstream.snapshots.store import Store

    check_snapshot_name(name)
    selections = _selections(topics, partitions, start, stop)
    store = Store(session.at)
    with Client(session.connection()) as client:
        if dry_run:
            found = estimate(client, store, selections, allow_partial=allow_partial)
            if as_json:
                session.emit_json(estimate_json(name, found))
            else:
                print_estimate(session, name, found)
            return
        began = time.monotonic()
        with shown_progress(session) as progress:
            frozen = freeze(client, store, name, selections, allow_partial=allow_partial, progress=progress)
        seconds = time.monotonic() - began
    if as_json:
        session.emit_json(
            {
                **snapshot_json(frozen.snapshot, cut=frozen.cut),
                "existed": frozen.existed,
                "fetched": frozen.fetched,
                "reused": frozen.reused,
                "written_bytes": frozen.written_bytes,
                "seconds": round(seconds, 3),
            }
        )
        return
    print_frozen(session, frozen, seconds)


def _selections(topics: tuple[str, ...], partitions: str | None, start: str, stop: str) -> list[TopicSelection]:
    from dataclasses import replace

    from mlstream.ranges import parse_partitions, parse_position, parse_topic

    first, last = parse_position(start), parse_position(stop)
    chosen = None if partitions is None else parse_partitions(partitions)
    found = [parse_topic(text, start=first, stop=last) for text in topics]
    return [replace(each, partitions=chosen) if each.partitions is None else each for each in found]
