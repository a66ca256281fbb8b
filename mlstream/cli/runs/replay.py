"""`mlstream run CONFIG --snapshot NAME`: every version over a frozen snapshot, or what that would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session
from mlstream.cli.lazy import DefaultCommand
from mlstream.cli.runs.empty_columns import say_empty_columns
from mlstream.cli.runs.progress import line_of
from mlstream.cli.runs.screen import JSON, SHORT, plain_table, print_outcomes, repeat_text, run_json

if TYPE_CHECKING:
    from mlstream.config import ExperimentConfig
    from mlstream.runs.attempt import Listener, Progress
    from mlstream.runs.preview import Preview
    from mlstream.runs.run import Run

_DID = {"compute": "computed", "resume": "resumed", "reuse": "reused"}


@click.command("replay", cls=DefaultCommand, hidden=True)
@click.argument("config", metavar="CONFIG")
@click.option("--snapshot", required=True, metavar="NAME", help="The frozen input: a name or an id.")
@click.option("--version", "versions", multiple=True, metavar="V", help="Only this version; may be repeated.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes a version.")
@click.option("--repeat", "times", type=click.IntRange(1), default=1, metavar="N", help="Compute the baseline N times.")
@click.option("--dry-run", is_flag=True, help="Only say what would be computed.")
@click.option("--force", is_flag=True, help="Compute it again even when it is there.")
@JSON
@click.pass_obj
def replay(
    session: Session,
    config: str,
    snapshot: str,
    versions: tuple[str, ...],
    workers: int,
    times: int,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run every version of the experiment in CONFIG over a frozen snapshot.

    --repeat 2 computes the baseline a second time and says whether it answers the same, bit by bit; what differs
    then is noise that no comparison can see through. --dry-run makes no topic and no record.
    """
    from mlstream.cli.runs.progress import shown_progress
    from mlstream.config import load_config
    from mlstream.runs.replay import run as run_versions

    found = load_config(config)
    chosen = versions if versions else None
    if dry_run:
        _preview(session, found, snapshot, chosen, workers=workers, times=times, force=force, as_json=as_json)
        return
    with _interruptible(force=force) as note, shown_progress(session) as show:

        def report(progress: Progress) -> None:
            note(progress)
            show(progress)

        done = run_versions(
            found,
            snapshot=snapshot,
            versions=chosen,
            connection=_connection(session, found.connection),
            home=session.at,
            workers=workers,
            force=force,
            progress=report,
        )
        if times > 1 and done.status != "failed":
            done = _repeat(session, done, found, times=times, workers=workers, report=report)
    say_empty_columns(session, found, snapshot)
    if as_json:
        session.emit_json(run_json(done))
    else:
        print_outcomes(session, done)
        repeat = repeat_text(done)
        if repeat is not None and times > 1:
            session.out.print(f"\nrepeat: {repeat}", markup=False, soft_wrap=True)
        if done.status == "complete":
            session.say(f"next: mlstream compare {done.id[:SHORT]}")
    done.check()


@contextmanager
def _interruptible(*, force: bool) -> Iterator[Listener]:
    """Say with an interrupt that the run can be gone on with, once there is something to go on with."""
    begun = False

    def note(progress: Progress) -> None:
        nonlocal begun
        begun = begun or progress.stage in ("scoring", "freezing")

    try:
        yield note
    except KeyboardInterrupt:
        if not begun:
            raise
        without = "without --force " if force else ""
        raise KeyboardInterrupt(f"{without}the same command goes on where it stopped") from None


def _repeat(
    session: Session, done: Run, config: ExperimentConfig, *, times: int, workers: int, report: Listener
) -> Run:
    from mlstream.runs.repeat import baseline_of, repeat_baseline

    if done.outcome(baseline_of(done)).status != "complete":
        session.say(f"the baseline {baseline_of(done)} failed: it was not repeated")
        return done
    connection = session.connection(config.connection)
    return repeat_baseline(done, times=times, connection=connection, workers=workers, progress=report)


def _connection(session: Session, settings: dict[str, Any]) -> Any:
    """The cluster of the call when the options name one; None leaves it to the run, which may not need any."""
    named = session.bootstrap_servers is not None or session.kafka_config is not None
    return session.connection(settings) if named else None


def _preview(
    session: Session,
    config: ExperimentConfig,
    snapshot: str,
    versions: tuple[str, ...] | None,
    *,
    workers: int,
    times: int,
    force: bool,
    as_json: bool,
) -> None:
    from mlstream.runs.preview import preview

    def say(progress: Progress) -> None:
        if progress.stage == "building":  # the rest is short
            click.echo(line_of(progress), err=True)

    found = preview(
        config,
        snapshot=snapshot,
        versions=versions,
        connection=_connection(session, config.connection),
        home=session.at,
        workers=workers,
        force=force,
        progress=say,
    )
    say_empty_columns(session, config, snapshot)
    if as_json:
        session.emit_json({**asdict(found), "repeat": times})
        return
    _print_preview(session, found)
    if times > 1:
        session.out.print(f"then the baseline is computed {times} times in all, {found.rows:,} records each")


def _print_preview(session: Session, found: Preview) -> None:
    what = {
        "reuse": "was computed before; nothing would be computed",
        "resume": "was cut off; it would go on",
        "compute": "would be computed",
    }
    session.out.print(f"run {found.run_id[:SHORT]} {what[found.action]}", markup=False)
    if found.computed_now:
        session.out.print("another process is computing the same run: this one would be refused")
    beside = f", and {found.undecodable:,} that do not decode" if found.undecodable else ""
    session.out.print(
        f"input: {found.topic}, {found.rows:,} records in {found.partitions} partitions{beside}",
        markup=False,
        soft_wrap=True,
    )
    session.out.print(f"processes a version: {found.workers}; threads of each: {found.threads}\n")
    headers = ["~version", "would be", ">records", ">batches", "digest", "from run"]
    reuses = any(version.reused is not None for version in found.versions)
    table = plain_table(*headers[: 6 if reuses else 5])
    for version in found.versions:
        reused = [] if not reuses else ["" if version.reused is None else version.reused[:SHORT]]
        numbers = ("–", "–") if version.action == "reuse" else (f"{version.rows:,}", f"{version.batches:,}")
        table.add_row(version.name, _DID[version.action], *numbers, version.digest[:8], *reused)
    session.out.print(table)
    session.out.print("\ntopics:")
    for version in found.versions:
        session.out.print(f"  {version.topic}", markup=False, soft_wrap=True)
    session.say("nothing was made: leave --dry-run out to run it")
