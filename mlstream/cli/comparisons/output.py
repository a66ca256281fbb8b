"""The forms that a comparison is printed in, the same for a new one and for one that was kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.errors import MlstreamError, StoreError, UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from mlstream.comparison.result import Comparison
    from mlstream.reporting.facts import RunFacts
    from mlstream.reporting.gates import GateResult
    from mlstream.reporting.tracking import Tracked


@dataclass(frozen=True, slots=True)
class Form:
    """How to print: as a screen, as `--json` or as `--markdown`; what stands below the screen; where a page of HTML
    goes.
    """

    as_json: bool = False
    markdown: bool = False
    html: Path | None = None
    slices: bool = False
    disagreements: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class Gates:
    """What came of the experiment's gates and of what the call asked for, and the error that it ends with."""

    results: tuple[GateResult, ...]
    error: MlstreamError | None


def FORM(command: Callable[..., Any]) -> Callable[..., Any]:  # noqa: N802  # a decorator like those of click
    """The options of the forms; the command is given them as `form`."""

    @click.option("--slices", is_flag=True, help="Show the parts of the records, named and the worst that were found.")
    @click.option("--disagreements", is_flag=True, help="Show what changed, and where versions are farthest apart.")
    @click.option("--full", is_flag=True, help="Show everything: slices, disagreements, calibration, drift, cost.")
    @click.option("--html", metavar="FILE", type=click.Path(dir_okay=False), help="Also write one page of HTML.")
    @click.option("--markdown", is_flag=True, help="Print Markdown, for a pull request.")
    @click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object (docs/statistics.md says what is in it)."
    )
    @wraps(command)
    def with_form(*args: Any, html: str | None, markdown: bool, as_json: bool, **settings: Any) -> Any:
        if markdown and as_json:
            raise UsageError("--json and --markdown both print to stdout", hint="choose one of them")
        if html == "":
            raise UsageError("--html '': it names no file", hint="give a file, or leave it out")
        if html is not None:
            check_folder(Path(html))
        below = {name: settings.pop(name) for name in ("slices", "disagreements", "full")}
        form = Form(as_json, markdown, None if html is None else Path(html), **below)
        return command(*args, form=form, **settings)

    return with_form


def check_folder(page: Path) -> None:
    """Refuse a page that cannot be written, before anything is computed for it.

    Raises:
        StoreError: there is no such folder.
    """
    if not page.parent.is_dir():
        raise StoreError(
            f"{page}: the page cannot be written: there is no folder {page.parent}",
            hint="give a file in a folder that exists",
        )


def checked(found: Comparison, facts: RunFacts, conditions: Sequence[str] = ()) -> Gates:
    """The experiment's gates, and what `--fail-if` asks for.

    Raises:
        UsageError: a gate or a condition does not fit the comparison.
    """
    from mlstream.reporting.gates import check_conditions, check_gates, gate_error, gates_of

    results = check_gates(found, gates_of(facts.config))
    asked = check_conditions(found, conditions)
    return Gates(results, gate_error([*results, *asked]))


def print_comparison(
    session: Session,
    found: Comparison,
    facts: RunFacts,
    form: Form,
    *,
    gates: Gates,
    tracked: Tracked | None = None,
) -> None:
    """Print it on stdout; write the page when one is asked for.

    Raises:
        StoreError: the page cannot be written.
    """
    if form.html is not None:
        _write_page(session, found, facts, form.html)
    if form.as_json:
        told = {"gates": [result.to_dict() for result in gates.results]} if gates.results else {}
        session.emit_json({**found.to_dict(), **told, "tracking": None if tracked is None else _tracking(tracked)})
    elif form.markdown:
        from mlstream.reporting.markdown import write_markdown

        click.echo(write_markdown(found, facts, gates=gates.results), nl=False)
    else:
        from mlstream.cli.compare_screen import screen

        width = min(session.out.width, 120)
        for line in [*screen(found, width=width, gates=gates.results), *_below(found, form, width)]:
            session.out.print(line, soft_wrap=True)


def _below(found: Comparison, form: Form, width: int) -> Iterator[Text]:
    """What was asked for beside the metrics."""
    from mlstream.cli.comparisons.details import disagreement_lines, drift_lines, full_lines, slice_lines

    if form.full:
        yield from full_lines(found, width)
        return
    if form.slices:
        yield from slice_lines(found, width)
    if form.disagreements:
        yield from disagreement_lines(found, width)
    yield from drift_lines(found, width)


def print_place(session: Session, tracked: Tracked) -> None:
    """Where it is recorded, below the screen."""
    from mlstream.cli.compare_screen import mlflow_line

    session.out.print(mlflow_line(_place(tracked)), soft_wrap=True)


@contextmanager
def spinner(session: Session) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal, nothing otherwise; on stderr."""
    if not session.err.is_terminal:
        yield lambda _sentence: None
        return
    with session.err.status("", spinner="dots") as status:
        yield status.update


def _write_page(session: Session, found: Comparison, facts: RunFacts, path: Path) -> None:
    from mlstream.reporting.report import write_report
    from mlstream.versions.files import write_atomically

    try:
        write_atomically(path, write_report(found, facts).encode())
    except OSError as exc:
        raise StoreError(
            f"{path}: the page cannot be written: {exc.strerror}", hint="give a file in a folder that exists"
        ) from exc
    session.say(f"wrote {path}")


def _tracking(tracked: Tracked) -> dict[str, Any]:
    return {"experiment_id": tracked.experiment_id, "run_id": tracked.run_id, "url": tracked.url}


def _place(tracked: Tracked) -> str:
    if tracked.url is not None:
        return tracked.url
    return f"recorded as run {tracked.run_id[:12]}; `mlstream ui` opens it"
