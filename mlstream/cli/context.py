"""What every command needs: the home, the connection, and the two consoles. Imports rich only when it prints."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlstream.cli.plain import plain, plain_json
from mlstream.home import Home, find_home

if TYPE_CHECKING:
    from rich.console import Console

    from mlstream.broker.connection import Connection


@dataclass
class Session:
    """The global options of one call of the command line."""

    home: str | None = None
    bootstrap_servers: str | None = None
    kafka_config: str | None = None

    @cached_property
    def at(self) -> Home:
        """The home that this call works in."""
        return find_home(self.home)

    def connection(self, settings: dict[str, Any] | None = None) -> Connection:
        """The cluster of this call: options and environment first, then `settings`, then the embedded broker."""
        from mlstream.broker.connection import find_connection

        file = None if self.kafka_config is None else Path(self.kafka_config)
        return find_connection(self.at, servers=self.bootstrap_servers, settings_file=file, settings=settings)

    @cached_property
    def out(self) -> Console:
        """stdout: results only."""
        from rich.console import Console

        class Stdout(Console):
            def on_broken_pipe(self) -> None:
                """Leave it to the one table of exit codes, which has one for it; rich would exit with 1."""
                raise BrokenPipeError

        return Stdout(highlight=False, soft_wrap=False)

    @cached_property
    def err(self) -> Console:
        """stderr: progress and messages."""
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def say(self, message: str) -> None:
        """A message for a person, on stderr."""
        self.err.print(plain(message, keep="\n\t"), soft_wrap=True, markup=False, emoji=False)

    def line(self, text: str, *, style: str | None = None) -> None:
        """A line of results on stdout, which may hold names from anywhere: shown as they are, never obeyed."""
        self.out.print(plain(text), style=style, soft_wrap=True, markup=False, emoji=False)

    def emit_json(self, value: Any) -> None:
        """One JSON value on stdout."""
        sys.stdout.write(plain_json(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)) + "\n")
