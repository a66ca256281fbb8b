"""`mlstream run CONFIG` and its commands; each is imported when it is called."""

from __future__ import annotations

import click

from mlstream.cli.lazy import DefaultGroup

# name → (module, attribute, the help line that `mlstream run --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "ls": ("mlstream.cli.runs.ls", "list_", "List the runs, the newest first."),
    "show": ("mlstream.cli.runs.show", "show", "Say what a run was made of and how its versions fared."),
    "logs": ("mlstream.cli.runs.logs", "logs", "Print what a run's versions printed."),
    "rm": ("mlstream.cli.runs.rm", "rm", "Remove runs with their topics and logs."),
}
_REPLAY = {"replay": ("mlstream.cli.runs.replay", "replay", "")}


@click.group(
    cls=DefaultGroup,
    commands_of={**COMMANDS, **_REPLAY},
    default="replay",
    usage="CONFIG --snapshot NAME [OPTIONS]",
)
def run() -> None:
    """Run every version of an experiment over a frozen snapshot, in parallel.

    Each version has processes of its own and writes its predictions to a topic of its own, which is frozen at the
    end. A version that fails fails alone: the error names its log. The same run is not computed twice, and one that
    was cut off goes on where it stopped.
    """
