"""Write the parts of the documentation that come from the code: docs/cli.md and configs/schema.json. `make docs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mlstream.cli.main import cli
from mlstream.config import json_schema

ROOT = Path(__file__).parent.parent


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and everything below it, depth first, in the order of `--help`."""
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=" ".join(path)) as ctx:
            for name in command.list_commands(ctx):
                found = command.get_command(ctx, name)
                if found is not None and not found.hidden:
                    yield from commands(found, (*path, name))


def reference() -> str:
    """docs/cli.md: the help text of every command, at 80 columns."""
    parts = [
        "# The command line\n",
        "Written by `make docs` from the commands themselves. Results go to stdout, messages and progress to stderr; "
        "`--json` prints one object.\n",
        "Exit codes: 0 ok · 1 expected error · 2 usage · 3 a gate failed · 4 inconclusive where a verdict was "
        "demanded · 130 interrupt · 141 closed pipe.\n",
    ]
    for path, command in commands(cli, ("mlstream",)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=80, max_content_width=80)
        context.help_option_names = ["-h", "--help"]
        text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"{'#' * min(len(path) + 1, 4)} {' '.join(path)}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def schema() -> str:
    """configs/schema.json: the JSON Schema of experiment files."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


FILES = {"docs/cli.md": reference, "configs/schema.json": schema}


def main() -> int:
    """Write the files; with `--check`, write nothing and exit with 1 when one is out of date."""
    stale = [name for name, make in FILES.items() if not _same(ROOT / name, make())]
    if "--check" in sys.argv[1:]:
        for name in stale:
            print(f"{name} is out of date: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).write_text(FILES[name](), encoding="utf-8")
        print(f"wrote {name}")
    return 0


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
