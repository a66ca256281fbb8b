"""`mlstream run CONFIG --snapshot NAME`: every version over a frozen snapshot; `run ls`, `run show`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlstream.runs.attempt import Progress
    from mlstream.runs.outcome import VersionOutcome
    from mlstream.runs.run import Run

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_REPLAY = "replay"
_COLOURS = {"complete": "green", "partial": "yellow", "failed": "red", "incomplete": "yellow"}
_PARSING = "mlstream.cli.run.parsing"


class _RunContext(click.Context):
    """Speaks of `mlstream run`, not of the name of the command behind it."""

    @property
    def command_path(self) -> str:
        return super().command_path.removesuffix(f" {_REPLAY}")


class _Replay(click.Command):
    context_class = _RunContext


class _RunGroup(click.Group):
    """A group whose name alone is a command: what is no sub-command is a CONFIG, or an option that goes with one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_REPLAY, *args]
        ctx.meta[_PARSING] = True
        try:
            return super().parse_args(ctx, args)
        finally:
            del ctx.meta[_PARSING]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, and for whoever asks what it takes, those of the command that it is by itself."""
        own = super().get_params(ctx)
        return own if ctx.meta.get(_PARSING) else [*self._options, *own]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["CONFIG --snapshot NAME [OPTIONS]"]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_usage(ctx, formatter)
        formatter.write(f"       {ctx.command_path} COMMAND [ARGS]...\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        asked = (*self._options, *super().get_params(ctx))
        records = [found for parameter in asked if (found := parameter.get_help_record(ctx)) is not None]
        with formatter.section("Options"):
            formatter.write_dl(records)
        self.format_commands(ctx, formatter)

    @property
    def _options(self) -> list[click.Parameter]:
        return [parameter for parameter in self.commands[_REPLAY].params if isinstance(parameter, click.Option)]


@click.group(cls=_RunGroup)
def run() -> None:
    """Run every version of an experiment over a frozen snapshot, in parallel.

    Each version has a process of its own and writes its predictions to a topic of its own, which is frozen at the
    end. A version that fails fails alone: the error names its log. The same run is not computed twice.
    """


@run.command(_REPLAY, cls=_Replay, hidden=True)
@click.argument("config", metavar="CONFIG")
@click.option("--snapshot", required=True, metavar="NAME", help="The frozen input: a name or an id.")
@click.option("--version", "versions", multiple=True, metavar="V", help="Only this version; may be repeated.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes a version.")
@click.option("--force", is_flag=True, help="Compute it again even when it is there.")
@_JSON
@click.pass_obj
def replay(
    session: Session,
    config: str,
    snapshot: str,
    versions: tuple[str, ...],
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Run every version of the experiment in CONFIG over a frozen snapshot."""
    from mlstream.config import load_config
    from mlstream.runs.replay import run as run_versions

    found = load_config(config)
    with _shown_progress(session) as report:
        done = run_versions(
            found,
            snapshot=snapshot,
            versions=versions if versions else None,
            connection=_connection(session, found.connection),
            home=session.at,
            workers=workers,
            force=force,
            progress=report,
        )
    if as_json:
        session.emit_json(_as_json(done))
    else:
        _print_outcomes(session, done)
        if done.status == "complete":
            session.say(f"next: mlstream compare {done.id[:12]}")
    done.check()


@run.command("ls")
@_JSON
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List all runs, the newest first."""
    from mlstream.runs.run import list_runs

    runs = list_runs(session.at)
    if as_json:
        session.emit_json([_as_json(found) for found in runs])
        return
    if not runs:
        session.say(f"no runs in {session.at.runs}; make one: mlstream run CONFIG --snapshot NAME")
        return
    table = _table("run", "~experiment", "~snapshot", "status", ">records", "started")
    for found in runs:
        complete = sum(outcome.status == "complete" for outcome in found.versions.values())
        table.add_row(
            found.id[:12],
            found.experiment,
            found.snapshot_name if found.snapshot_name is not None else found.snapshot_id[:12],
            _coloured(found.status) + (f" {complete}/{len(found.versions)}" if found.status == "partial" else ""),
            f"{found.input.rows:,}",
            found.started_at[:16].replace("T", " "),
        )
    session.out.print(table)


@run.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@_JSON
@click.pass_obj
def show(session: Session, run_id: str | None, as_json: bool) -> None:
    """Show RUN: an id or its beginning; the newest when left out."""
    from mlstream.runs.run import explain, open_run

    found = open_run(run_id, home=session.at)
    if as_json:
        session.emit_json(_as_json(found))
        return
    for name, text in _facts(found):
        session.out.print(f"{name:<11} {text}", markup=False, soft_wrap=True)
    session.out.print()
    _print_outcomes(session, found)
    for outcome in found.versions.values():
        if outcome.error is not None:
            text = f"\n{outcome.name} failed: {outcome.error}{explain(outcome)}"
            session.out.print(text, markup=False, soft_wrap=True)


def _connection(session: Session, settings: dict[str, Any]) -> Any:
    """The cluster of the call when the options name one; None leaves it to the run, which may not need any."""
    named = session.bootstrap_servers is not None or session.kafka_config is not None
    return session.connection(settings) if named else None


def _facts(found: Run) -> Iterator[tuple[str, str]]:
    yield "run", found.id
    yield "status", found.status
    yield "experiment", f"{found.experiment}{'' if found.config_path is None else f' ({found.config_path})'}"
    yield "snapshot", f"{found.snapshot_name or '(no name)'} {found.snapshot_id[:12]}"
    ranges = found.input.ranges
    yield "input", f"{found.input.topic}, {found.input.rows:,} records in {len(ranges)} partitions"
    yield "columns", ", ".join(f"{name} {kind}" for name, kind in found.input.schema.items())
    yield "started", found.started_at + (f", attempt {found.attempt}" if found.attempt > 1 else "")
    if found.timings:
        yield "took", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in found.timings.items())
    yield "settings", ", ".join(f"{name} {value}" for name, value in found.settings.items())
    yield "machine", f"{found.hardware['cpu']}, {found.hardware['cpus']} cpus, {found.environment['python']}"
    if found.git is not None:
        yield (
            "git",
            f"{found.git.commit[:12]}{'' if found.git.branch is None else f' on {found.git.branch}'}"
            + (", with changes" if found.git.dirty else ""),
        )
    yield "record", str(found.path)


def _print_outcomes(session: Session, found: Run) -> None:
    table = _table("version", "status", ">records", ">records/s", ">p50 ms", ">p99 ms", ">CPU s", ">memory", "digest")
    for outcome in found.versions.values():
        table.add_row(outcome.name, _coloured(outcome.status), *_figures(outcome), outcome.digest[:8])
    session.out.print(table)
    topics = [outcome for outcome in found.versions.values() if outcome.status == "complete"]
    if topics:
        session.out.print("\ntopics, frozen as snapshots of the same names:")
    for outcome in topics:
        session.out.print(f"  {outcome.topic}", markup=False, soft_wrap=True)


def _figures(outcome: VersionOutcome) -> list[str]:
    measured, rate = outcome.measured, outcome.rows_per_second
    if measured is None:
        return ["–"] * 6
    return [
        f"{outcome.rows:,}",
        "–" if rate is None else f"{rate:,.0f}",
        f"{measured.latency.p50_ms:.1f}",
        f"{measured.latency.p99_ms:.1f}",
        f"{measured.cpu_seconds:.1f}",
        f"{measured.memory_bytes / 1e6:,.0f} MB",
    ]


def _table(*columns: str) -> Table:
    """A plain table; a column whose name begins with `>` is for numbers, one with `~` may take several lines."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        table.add_column(name.lstrip(">~"), justify=justify, no_wrap=not name.startswith("~"), overflow="fold")
    return table


def _coloured(status: str) -> str:
    return f"[{_COLOURS[status]}]{status}[/]"


def _as_json(found: Run) -> dict[str, Any]:
    """The record, with the figures that follow from it and the places of the logs."""
    record = found.to_dict()
    for name, outcome in found.versions.items():
        record["versions"][name] |= {"figures": outcome.figures, "log": str(outcome.log)}
    return record


@contextmanager
def _shown_progress(session: Session) -> Iterator[Callable[[Progress], None]]:
    """A bar a version on a terminal, else a line when something changes; both on stderr."""
    if session.err.is_terminal:
        with _bars(session) as report:
            yield report
        return
    said: set[Sequence[Any]] = set()

    def say(progress: Progress) -> None:
        line = _line(progress)
        if line is not None and (progress.version, line) not in said:
            said.add((progress.version, line))
            click.echo(line, err=True)

    yield say


@contextmanager
def _bars(session: Session) -> Iterator[Callable[[Progress], None]]:
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>11,.0f} records", markup=False),
        TextColumn("{task.fields[state]}", markup=False),
        TimeRemainingColumn(compact=True),
    )
    with Bars(*columns, console=session.err, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.stage == "reused":
                bars.console.print(_line(progress), markup=False, soft_wrap=True)
                return
            name = progress.version if progress.version is not None else "input"
            if name not in tasks:
                total = None if progress.stage == "decoding" else progress.total
                tasks[name] = bars.add_task(name, total=total, state="")
            state = progress.stage if progress.stage != "scoring" else progress.state
            if progress.state == "failed":
                bars.update(tasks[name], state="failed")
            elif progress.stage != "decoding":
                bars.update(tasks[name], completed=progress.rows, state="" if state == "running" else state)
                if "input" in tasks:
                    bars.remove_task(tasks.pop("input"))
            else:
                bars.update(tasks[name], state="decoding")

        yield show


def _line(progress: Progress) -> str | None:
    """What a line says of a step, None when it says nothing new."""
    run_id = "" if progress.run_id is None else progress.run_id[:12]
    if progress.stage == "reused":
        return f"the same run was computed before ({run_id}); --force computes it again"
    if progress.stage == "decoding":
        return f"decoding {progress.total:,} records"
    if progress.state == "failed":
        return f"{progress.version}: failed"
    if progress.stage == "freezing":
        return f"{progress.version}: {progress.rows:,} records, freezing" if progress.state == "running" else None
    return f"{progress.version}: loading" if progress.state == "loading" else None
