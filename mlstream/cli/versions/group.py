"""`mlstream version` and its commands; each is imported when it is called."""

from __future__ import annotations

import click

from mlstream.cli.lazy import LazyGroup

# name → (module, attribute, the help line that `mlstream version --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "ls": ("mlstream.cli.versions.ls", "list_", "List the versions that the experiments name."),
    "show": ("mlstream.cli.versions.show", "show", "Say what a version is made of: code, weights, environment."),
    "gc": ("mlstream.cli.versions.gc", "gc", "Remove environments and checkouts that nobody uses any more."),
    "check": ("mlstream.cli.versions.check", "check", "Say whether its answers depend on the size of batches."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def version() -> None:
    """What the versions of an experiment are made of, and whether they answer as they should."""
