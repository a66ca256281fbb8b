"""`mlstream compare ls`: the comparisons of the home, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT, plain_table

if TYPE_CHECKING:
    from mlstream.comparison.result import Comparison


@click.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Only the ids, one a line.")
@JSON
@click.pass_obj
def list_(session: Session, quiet: bool, as_json: bool) -> None:
    """List the comparisons of the home, the newest first.

    For each challenger it says on how many metrics it was better (▲), worse (▼), equivalent (≈) or neither (?).
    """
    from mlstream.reporting.kept import read_comparisons

    kept, damaged = read_comparisons(session.at)
    if as_json:
        session.emit_json({"comparisons": [_json(found) for found in kept]})
    elif quiet:
        for found in kept:
            click.echo(found.id)
    elif kept:
        _print(session, kept)
    elif damaged is None:
        session.say(f"no comparisons in {session.at.comparisons}; make one: mlstream compare")
    if damaged is not None:
        raise damaged  # after those that can be read


def _print(session: Session, kept: Sequence[Comparison]) -> None:
    table = plain_table("comparison", "~experiment", "~snapshot", "run", "~verdicts")
    for found in kept:
        table.add_row(
            found.id[:SHORT],
            found.experiment,
            found.snapshot_name if found.snapshot_name is not None else found.snapshot_id[:SHORT],
            found.run_id[:SHORT],
            "\n".join(_verdicts(found, version) for version in found.versions if version != found.baseline),
        )
    session.out.print(table)


def _verdicts(found: Comparison, version: str) -> str:
    from mlstream.reporting import wording

    counts = wording.verdict_counts(delta for delta in found.deltas if delta.version == version)
    told = " ".join(f"{wording.SIGNS[verdict]}{count}" for verdict, count in counts.items())
    return f"{version} {told}".rstrip()


def _json(found: Comparison) -> dict[str, Any]:
    return {
        "id": found.id,
        "experiment": found.experiment,
        "snapshot_id": found.snapshot_id,
        "snapshot_name": found.snapshot_name,
        "run_id": found.run_id,
        "baseline": found.baseline,
        "verdicts": {
            version: {delta.metric: delta.verdict for delta in found.deltas if delta.version == version}
            for version in found.versions
            if version != found.baseline
        },
    }
