"""`mlstream run logs`: what the versions of a run printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlstream.cli.context import Session
from mlstream.cli.runs.screen import JSON

if TYPE_CHECKING:
    from mlstream.runs.run import Run

_ASKED_EVERY_S = 1.0


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("version", metavar="[VERSION]", required=False)
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), help="Only the last so many lines of each.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until the run has ended.")
@JSON
@click.pass_obj
def logs(session: Session, run_id: str, version: str | None, count: int | None, follow: bool, as_json: bool) -> None:
    """Print what the versions of RUN printed, or only VERSION.

    That is standard output and error of the model, the traceback of what it raised, and in lines that begin with
    `mlstream:` what was noted about its process. Where the home is at a URL, logs are sent there when a run ends.
    """
    from mlstream.errors import UsageError
    from mlstream.runs.logs import bring_log, last_lines, size_of
    from mlstream.runs.run import open_run

    found = open_run(run_id, home=session.at)
    wanted = list(found.versions) if version is None else [version]
    if as_json and follow:
        raise UsageError("--json prints one object, and --follow has no end", hint="leave one of them out")
    files = {name: bring_log(found, name) for name in wanted}
    if as_json:
        lines = {name: {"path": str(path), "lines": last_lines(path, count)} for name, path in files.items()}
        session.emit_json({"run_id": found.id, "logs": lines})
        return
    starts = {name: size_of(path) for name, path in files.items()}
    for name, path in files.items():
        _print(name, last_lines(path, count), titled=len(files) > 1)
        if not follow and not path.exists():
            session.say(f"{name}: {_why_none(found, path)}")
    if follow:
        _follow(files, starts, _end_of(found))


def _why_none(run: Run, path: Path) -> str:
    if run.home.url is None:
        return f"there is no log {path}"
    if run.status == "incomplete":
        return f"{run.home.url} has no log of it yet: logs are sent there when a run ends"
    return f"{run.home.url} has no log of it"


def _print(name: str, lines: Sequence[str], *, titled: bool) -> None:
    if titled:
        click.echo(f"==> {name} <==")
    for line in lines:
        click.echo(line)


def _follow(files: Mapping[str, Path], starts: Mapping[str, int], is_over: Callable[[], bool]) -> None:
    from mlstream.runs.logs import follow

    last = list(files)[-1]
    for name, line in follow(files, starts, is_over):
        if name != last:
            click.echo(f"==> {name} <==")
            last = name
        click.echo(line)


def _end_of(run: Run) -> Callable[[], bool]:
    """Whether no process computes the run any more, asked now and then."""
    from mlstream.runs.record import is_computed

    asked = 0.0
    over = False

    def is_over() -> bool:
        nonlocal asked, over
        if not over and time.monotonic() - asked >= _ASKED_EVERY_S:
            over, asked = not is_computed(run.home, run.key), time.monotonic()
        return over

    return is_over
