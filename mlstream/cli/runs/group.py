"""`mlstream run CONFIG` and its commands; each is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence

import click

from mlstream.cli.lazy import LazyGroup

# name → (module, attribute, the help line that `mlstream run --help` shows without importing the module)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "ls": ("mlstream.cli.runs.ls", "list_", "List the runs, the newest first."),
    "show": ("mlstream.cli.runs.show", "show", "Say what a run was made of and how its versions fared."),
    "logs": ("mlstream.cli.runs.logs", "logs", "Print what a run's versions printed."),
    "rm": ("mlstream.cli.runs.rm", "rm", "Remove runs with their topics and logs."),
}
_REPLAY = "replay"
_REPLAY_AT = ("mlstream.cli.runs.replay", _REPLAY, "")
_PARSING = "mlstream.cli.runs.parsing"


class _RunGroup(LazyGroup):
    """A group whose name alone is a command: what is no sub-command is a CONFIG, or an option that goes with one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in COMMANDS and args[0] not in ctx.help_option_names:
            args = [_REPLAY, *args]
        ctx.meta[_PARSING] = True
        try:
            return super().parse_args(ctx, args)
        finally:
            del ctx.meta[_PARSING]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, and for whoever asks what it takes, those of the command that it is by itself."""
        own = super().get_params(ctx)
        return own if ctx.meta.get(_PARSING) else [*self._options(ctx), *own]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["CONFIG --snapshot NAME [OPTIONS]"]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_usage(ctx, formatter)
        formatter.write(f"       {ctx.command_path} COMMAND [ARGS]...\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        asked = (*self._options(ctx), *super().get_params(ctx))
        records = [found for parameter in asked if (found := parameter.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in COMMANDS.items()])

    def _options(self, ctx: click.Context) -> Sequence[click.Parameter]:
        replay = self.get_command(ctx, _REPLAY)
        return () if replay is None else [found for found in replay.params if isinstance(found, click.Option)]


@click.group(cls=_RunGroup, commands_of={**COMMANDS, _REPLAY: _REPLAY_AT})
def run() -> None:
    """Run every version of an experiment over a frozen snapshot, in parallel.

    Each version has processes of its own and writes its predictions to a topic of its own, which is frozen at the
    end. A version that fails fails alone: the error names its log. The same run is not computed twice, and one that
    was cut off goes on where it stopped.
    """
