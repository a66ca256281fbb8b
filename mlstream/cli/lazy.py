"""Click groups that know their commands' names and help lines, and import a command when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

_PARSING = "mlstream.cli.lazy.parsing"


class ReaderGone(Exception):
    """Whoever reads stdout went away; no OSError, of which click would make its own exit code."""


class LazyGroup(click.Group):
    """A group of commands that live in modules of their own.

    Args:
        commands_of: name → (module, attribute, the help line that the group shows without importing the module).
    """

    def __init__(self, *args: Any, commands_of: Mapping[str, tuple[str, str, str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.commands_of = commands_of

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands_of)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as exc:
            raise ReaderGone from exc

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = self._near(ctx, args[0])
            if near is None:
                raise
            raise click.UsageError(f"No such command {args[0]!r}. Did you mean `{near}`?", ctx) from None

    def _near(self, ctx: click.Context, name: str) -> str | None:
        """The command that may be meant: one of that name in a group of this one, or one of nearly that name here."""
        for own in self.list_commands(ctx):
            group = self.get_command(ctx, own)
            if isinstance(group, click.Group) and name in group.list_commands(ctx):
                return f"{ctx.command_path} {own} {name}"
        close = get_close_matches(name, self.list_commands(ctx), n=1)
        return f"{ctx.command_path} {close[0]}" if close else None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_of:
            return None
        module, attribute, _ = self.commands_of[cmd_name]
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in self.commands_of.items()])


class _GroupsContext(click.Context):
    """Speaks of the group, not of the command behind it."""

    @property
    def command_path(self) -> str:
        assert self.parent is not None
        return self.parent.command_path


class DefaultCommand(click.Command):
    """What a `DefaultGroup` is by itself: its errors show the group's name and usage."""

    context_class = _GroupsContext

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        group = None if ctx.parent is None else ctx.parent.command
        return [group.usage] if isinstance(group, DefaultGroup) else super().collect_usage_pieces(ctx)


class DefaultGroup(LazyGroup):
    """A group whose name alone is a command: what names no sub-command goes to the one that is the default.

    Args:
        default: the name, in `commands_of`, of the command that the group is by itself; not listed.
        usage: what goes with that command, for the line of usage.
    """

    def __init__(self, *args: Any, default: str, usage: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.default = default
        self.usage = usage

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = self.chosen(ctx, args)
        ctx.meta[_PARSING] = True
        try:
            return super().parse_args(ctx, args)
        finally:
            del ctx.meta[_PARSING]

    def chosen(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments, beginning with a command's name."""
        named = bool(args) and (args[0] in self.list_commands(ctx) or args[0] in ctx.help_option_names)
        return args if named else [self.default, *args]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self.commands_of if name != self.default]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, and for whoever asks what it takes, those of the command that it is by itself."""
        own = super().get_params(ctx)
        return own if ctx.meta.get(_PARSING) else [*self._options(ctx), *own]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [self.usage]

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
            formatter.write_dl([(name, self.commands_of[name][2]) for name in self.list_commands(ctx)])

    def _options(self, ctx: click.Context) -> Sequence[click.Parameter]:
        default = self.get_command(ctx, self.default)
        return () if default is None else [found for found in default.params if isinstance(found, click.Option)]
