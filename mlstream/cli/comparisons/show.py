"""`mlstream compare show [ID]`: print a comparison that was made before, in any form."""

from __future__ import annotations

import click

from mlstream.cli.comparisons.output import FORM, Form, checked, print_comparison
from mlstream.cli.context import Session


@click.command()
@click.argument("comparison_id", metavar="[ID]", required=False)
@FORM
@click.pass_obj
def show(session: Session, comparison_id: str | None, form: Form) -> None:
    """Print a comparison that was made before: by its id or its beginning; the newest when left out.

    Nothing is computed again and MLflow is told nothing. Gates are shown; the exit code is 0 whatever came of them.
    """
    from mlstream.reporting.facts import comparison_facts
    from mlstream.reporting.kept import open_comparison

    found = open_comparison(comparison_id, home=session.at)
    facts = comparison_facts(found, session.at)
    print_comparison(session, found, facts, form, gates=checked(found, facts))
