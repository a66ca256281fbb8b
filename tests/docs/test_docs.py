"""The documentation says what the code does: generated parts are fresh, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mlstream.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def shown_commands() -> list[str]:
    """Every `mlstream …` line of the README's and the docs' code blocks."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:console|sh|bash|text)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [line.removeprefix("$ ") for line in block.splitlines() if re.match(r"(\$ )?mlstream ", line)]
    return sorted({line.split("  #")[0].rstrip(" \\") for line in found})


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_that_is_shown_exists_with_its_options(line: str) -> None:
    words = shlex.split(line.split(" | ")[0].split(" > ")[0])[1:]
    command: click.Command = cli
    context = click.Context(cli, info_name="mlstream")
    while isinstance(command, click.Group) and words:
        inner = command.get_command(context, words[0])
        if inner is None:
            break
        command, context, words = inner, click.Context(inner, info_name=words[0], parent=context), words[1:]
    known = {
        option for parameter in command.get_params(context) for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for parent in (cli,):
        known |= {option for parameter in parent.params for option in parameter.opts}
    for word in words:
        if word.startswith("--") and word != "--help":
            assert word.split("=")[0] in known, f"{line}: there is no option {word}"
