"""`mlstream compare --verify ID`: compute a comparison again and say whether every figure is the same."""

from __future__ import annotations

from typing import Any

import click

from mlstream.cli.comparisons.output import spinner
from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON, SHORT
from mlstream.errors import ComparisonError

_SHOWN = 20


@click.command()
@click.argument("comparison_id", metavar="[ID]", required=False)
@JSON
@click.pass_obj
def verify(session: Session, comparison_id: str | None, as_json: bool) -> None:
    """Compute a comparison again, by its id or its beginning (default: the newest), and compare every figure.

    It is computed from the frozen records and predictions, with the baseline, the slices and the options that it was
    made with. Nothing is kept or recorded. `mlstream compare --verify ID` is the same. Ends with 1 when a figure is not
    the same.
    """
    from mlstream.reporting.verify import verify_comparison

    with spinner(session) as say:
        found = verify_comparison(comparison_id, home=session.at, progress=say)
    if as_json:
        session.emit_json(found.to_dict())
    else:
        for item in found.differences[:_SHOWN]:
            session.line(f"{item.figure}: {_text(item.kept)} then, {_text(item.now)} now")
    if not found.same:
        raise ComparisonError(
            f"comparison {found.comparison_id[:SHORT]}: {len(found.differences):,} of {found.figures:,} figures are "
            f"not the same, the first is {found.differences[0].figure}",
            hint="another processor or other libraries may differ in the last digits of intervals; more than that "
            "means that the record or what it was computed from was changed",
            comparison_id=found.comparison_id,
        )
    if not as_json:
        session.line(f"comparison {found.comparison_id[:SHORT]}: all {found.figures:,} figures are the same")


def _text(value: Any) -> str:
    return "nothing" if value is None else repr(value)
