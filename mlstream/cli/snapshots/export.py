"""`mlstream snapshot export`: a snapshot as plain files."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mlstream.cli.context import Session
from mlstream.cli.snapshots.options import JSON
from mlstream.cli.snapshots.screen import print_facts, size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlstream.config import DecodeConfig


@click.command()
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "csv", "jsonl"]),
    default="parquet",
    show_default=True,
    help="Of streams and tables; files stay as they are.",
)
@click.option(
    "--decode",
    metavar="CONFIG",
    help="Typed columns instead of raw records: as an experiment's file says for its topics; or json, avro or "
    "json-schema for all topics.",
)
@JSON
@click.pass_obj
def export(
    session: Session,
    name: str,
    folder: Path,
    kind: Literal["parquet", "csv", "jsonl"],
    decode: str | None,
    as_json: bool,
) -> None:
    """Write the snapshot NAME into the folder DIR, as plain files.

    A folder a topic with a file a partition, a file a table, and files as they were; DIR/README.md says what the
    columns are. DIR must not exist, or be empty, and appears when it is whole.
    """
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from mlstream.snapshots.export import export as write_out
    from mlstream.snapshots.snapshot import open_snapshot

    opened = open_snapshot(name, home=session.at)
    columns = (BarColumn(bar_width=24), TextColumn("{task.completed:,} rows"), TimeRemainingColumn(compact=True))
    with Bar(*columns, console=session.err, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("")
        done = write_out(
            opened,
            folder,
            format=kind,
            decode=None if decode is None else _decoders(decode, opened.topics),
            progress=lambda rows, total: bar.update(task, completed=rows, total=total),
        )
    if as_json:
        session.emit_json({**asdict(done), "folder": str(done.folder), "snapshot_id": opened.id})
        return
    print_facts(
        session,
        [
            ("snapshot", opened.name or opened.id),
            ("exported", f"{done.rows:,} rows as {kind}{f', {done.files:,} files' if done.files else ''}"),
            ("size", f"{size_text(done.size_bytes)} in {done.seconds:.1f} s"),
            ("folder", str(done.folder)),
        ],
    )


def _decoders(text: str, topics: tuple[str, ...]) -> Mapping[str, DecodeConfig]:
    """What `--decode` means, for each topic of the snapshot that it is about."""
    from mlstream.config import DecodeConfig, load_config
    from mlstream.errors import UsageError

    if text in ("json", "avro", "json-schema"):  # the others need more than a word
        return {topic: DecodeConfig.model_validate({"format": text}) for topic in topics}
    config = load_config(text)
    found = {config.input.topic: config.input.decode}
    if config.labels is not None and config.labels.topic is not None:
        found[config.labels.topic] = config.labels.decode
    mine = {topic: decode for topic, decode in found.items() if topic in topics}
    if not mine:
        raise UsageError(
            f"{text}: it decodes {', '.join(found)}, and the snapshot holds none of these topics",
            hint=f"it holds: {', '.join(topics)}" if topics else "it holds no topic",
        )
    return mine
