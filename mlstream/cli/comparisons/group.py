"""`mlstream compare [RUN]` and its commands; each is imported when it is called."""

from __future__ import annotations

import click

from mlstream.cli.lazy import DefaultGroup

# name → (module, attribute, the help line that `mlstream compare --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "ls": ("mlstream.cli.comparisons.ls", "list_", "List the comparisons, the newest first."),
    "show": ("mlstream.cli.comparisons.show", "show", "Print a comparison that was made before."),
    "history": (
        "mlstream.cli.comparisons.history",
        "history",
        "Show how versions did from one comparison to the next.",
    ),
    "sync": ("mlstream.cli.comparisons.sync", "sync", "Record in MLflow what it has not heard of yet."),
    "verify": ("mlstream.cli.comparisons.verify", "verify", "Compute a comparison again: is every figure the same?"),
}
_COMPARE = {"compare": ("mlstream.cli.compare", "compare", "")}
_SPELLINGS = {"--history": "history", "--sync": "sync", "--verify": "verify"}


class _CompareGroup(DefaultGroup):
    """Commands may be written as options too."""

    def chosen(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in _SPELLINGS:
            return [_SPELLINGS[args[0]], *args[1:]]
        return super().chosen(ctx, args)


@click.group(cls=_CompareGroup, commands_of={**COMMANDS, **_COMPARE}, default="compare", usage="[RUN] [OPTIONS]")
def compare() -> None:
    """Compare the versions of RUN (an id or its beginning; default: the newest complete run) with the baseline.

    Every metric comes with its difference to the baseline, an interval from a paired block bootstrap, and a verdict.
    The comparison is kept in the home and recorded in MLflow. Labels, metrics, margins, slices and gates are those that
    the experiment's file has now: to change one, nothing need be run again.
    """
