"""`mlstream run rm`: remove runs, with what they left on the cluster and on the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection
    from mlstream.runs.removing import Removed
    from mlstream.runs.run import Run


@click.command()
@click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also when a comparison refers to it.")
@click.option("--keep-topics", is_flag=True, help="Leave its topics; the cluster is not asked.")
@JSON
@click.pass_obj
def rm(session: Session, run_ids: tuple[str, ...], force: bool, keep_topics: bool, as_json: bool) -> None:
    """Remove the runs RUN...: ids, or beginnings of ids.

    A run goes with its record and logs, its output topics (by their ids: a topic that was made anew under the same
    name stays), its consumer groups, and the names of its frozen outputs, whose data `mlstream snapshot gc` then
    deletes. What another run has taken from it stays, and so does MLflow's account of it.
    """
    from mlstream.runs.removing import remove_run
    from mlstream.runs.run import open_run

    runs = list({found.id: found for found in (open_run(run_id, home=session.at) for run_id in run_ids)}.values())
    removed: list[Removed] = []
    try:
        for found in runs:
            if any(found.id == each.run_id for each in removed):
                continue  # it repeated one that came before
            connection = None if keep_topics else _connection(session, found)
            gone = remove_run(found, connection=connection, force=force, keep_topics=keep_topics)
            removed += gone
            if not as_json:
                for line in (line for each in gone for line in _lines(each)):
                    session.line(line)
    finally:
        if as_json and removed:
            session.emit_json({"removed": [_json(each) for each in removed]})
        elif any(each.names for each in removed):
            session.say("the data of these names goes with `mlstream snapshot gc --yes`")


def _connection(session: Session, found: Run) -> Connection:
    """The cluster of the call; without one, that of the run's configuration, if the file still is there."""
    from mlstream.config import load_config
    from mlstream.errors import ConfigError

    settings: dict[str, Any] = {}
    if found.config_path is not None and found.config_path.is_file():
        try:
            settings = load_config(found.config_path).connection
        except ConfigError as exc:
            session.say(f"{found.config_path} does not name the cluster any more: {exc.message}")
    return session.connection(settings)


def _lines(each: Removed) -> Iterator[str]:
    yield f"removed run {each.run_id[:SHORT]}"
    for topic in each.topics:
        yield f"  topic {topic}"
    for group in each.groups:
        yield f"  group {group}"
    for name in each.names:
        yield f"  snapshot name {name}"
    for why in each.stays:
        yield f"  stays: {why}"
    if each.comparisons:
        yield f"  comparisons that name it: {', '.join(found[:SHORT] for found in each.comparisons)}"


def _json(each: Removed) -> dict[str, Any]:
    return asdict(each)
