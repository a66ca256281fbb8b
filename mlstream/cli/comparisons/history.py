"""`mlstream compare --history`: how versions did over snapshots, from one comparison to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT, plain_table

if TYPE_CHECKING:
    from mlstream.reporting.history import History


@click.command()
@click.argument("experiment", metavar="[EXPERIMENT]", required=False)
@click.option("--metric", metavar="METRIC", help="Of this metric (default: the first of the newest comparison).")
@JSON
@click.pass_obj
def history(session: Session, experiment: str | None, metric: str | None, as_json: bool) -> None:
    """Show how the versions of an experiment did over its comparisons, oldest first.

    A sign beside a figure is its verdict against that comparison's baseline: better ▲, worse ▼, equivalent ≈,
    inconclusive ?. `mlstream compare --history` is the same.
    """
    from mlstream.reporting.history import histories
    from mlstream.reporting.kept import read_comparisons

    kept, damaged = read_comparisons(session.at)
    found = histories(kept, experiment=experiment, metric=metric) if kept or damaged is None else []
    if as_json:
        session.emit_json({"histories": [one.to_dict() for one in found]})
    elif found or damaged is None:
        _print(session, found)
    if damaged is not None:
        raise damaged  # after those that can be read


def _print(session: Session, found: Sequence[History]) -> None:
    from mlstream.reporting import wording
    from mlstream.reporting.history import shown

    if not found:
        session.say(f"no comparisons with metrics in {session.at.comparisons}; make one: mlstream compare")
        return
    for number, one in enumerate(found):
        if number:
            session.line("")
        arrow = wording.direction(one.higher_is_better)
        session.line(f"{one.experiment}: {wording.metric_name(one.metric)} {arrow}", style="bold")
        table = plain_table("~snapshot", "comparison", "~baseline", *(f">{version}" for version in one.versions))
        for moment in one.moments:
            table.add_row(
                moment.snapshot_name if moment.snapshot_name is not None else moment.snapshot_id[:SHORT],
                moment.comparison_id[:SHORT],
                moment.baseline,
                *(shown(moment.standing(version)) for version in one.versions),
            )
        session.out.print(table)
