"""`mlstream snapshot`: the group. Imports a command when it runs."""

from __future__ import annotations

import click

from mlstream.cli.lazy import LazyGroup

# name → (module, attribute, the help line that `mlstream snapshot --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "create": ("mlstream.cli.snapshots.create", "create", "Freeze topics, files and tables together."),
    "ls": ("mlstream.cli.snapshots.ls", "list_", "List the snapshots, the newest first."),
    "show": ("mlstream.cli.snapshots.show", "show", "Say what a snapshot holds."),
    "verify": ("mlstream.cli.snapshots.verify", "verify", "Check that snapshots are whole."),
    "diff": ("mlstream.cli.snapshots.diff", "diff", "Say what differs between two snapshots."),
    "tag": ("mlstream.cli.snapshots.tag", "tag", "Give a snapshot another name."),
    "untag": ("mlstream.cli.snapshots.untag", "untag", "Take a name away from a snapshot that has others."),
    "rm": ("mlstream.cli.snapshots.rm", "rm", "Remove names; the data stays until gc."),
    "keep": ("mlstream.cli.snapshots.keep", "keep", "Protect a snapshot for a time."),
    "gc": ("mlstream.cli.snapshots.gc", "gc", "Delete what nothing refers to."),
    "restore": ("mlstream.cli.snapshots.restore", "restore", "Put a topic back into Kafka, and check it."),
    "export": ("mlstream.cli.snapshots.export", "export", "Write a snapshot out as plain files."),
    "push": ("mlstream.cli.snapshots.push", "push", "Copy snapshots to another store."),
    "pull": ("mlstream.cli.snapshots.pull", "pull", "Copy snapshots from another store."),
}


@click.group(cls=LazyGroup, commands_of=COMMANDS)
def snapshot() -> None:
    """Freeze topics, files and tables together; look at what was frozen, check, compare, move and restore it.

    A snapshot is an immutable dataset under one digest. The same content frozen twice has the same digest, and
    snapshots share what they have in common.
    """
