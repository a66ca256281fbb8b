"""`mlstream broker`: a real Apache Kafka on this machine, up, down, status, logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from mlstream.cli.context import Session

if TYPE_CHECKING:
    from mlstream.broker.embedded import Progress, Status
    from mlstream.broker.embedded.report import Report

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
# What the user can do about a state.
_FIXES = {
    "absent": "mlstream broker up",
    "stopped": "mlstream broker up",
    "died": "mlstream broker up: starts it again and recovers its data",
    "unresponsive": "mlstream broker logs; mlstream broker down ends it",
}


@click.group()
def broker() -> None:
    """A real Apache Kafka on this machine: up, down, status, logs.

    One node, only on loopback, with its data in the project's home. Not needed when MLSTREAM_BOOTSTRAP_SERVERS
    names a cluster.
    """


@broker.command()
@click.option("--port", type=int, help="The port for clients (default: the last one, or a free one).")
@click.option("--heap", "heap_mb", type=int, default=512, show_default=True, metavar="MB", help="The largest heap.")
@click.option(
    "--profile",
    type=click.Choice(["quick", "bench"]),
    default="quick",
    show_default=True,
    help="quick: starts fast and small. bench: the JVM's choices for a server, for measuring.",
)
@click.option(
    "--jars",
    type=click.Path(file_okay=False),
    envvar="MLSTREAM_KAFKA_JARS",
    help="A folder with Kafka's jars (default: fetched once, checked, kept in the cache).",
)
@click.option("--timeout", "timeout_s", type=float, default=60.0, show_default=True, metavar="SECONDS")
@_JSON
@click.pass_obj
def up(
    session: Session, port: int | None, heap_mb: int, profile: str, jars: str | None, timeout_s: float, as_json: bool
) -> None:
    """Start the broker, or find it running; print its address.

    Its data and its port are kept from one time to the next. JAVA_HOME chooses another Java, MLSTREAM_CACHE another
    place for Kafka's jars.
    """
    from mlstream.broker.embedded import up as bring_up

    with _shown_progress(session) as report:
        found = bring_up(
            session.at,
            port=port,
            heap_mb=heap_mb,
            profile=profile,
            jars=jars,
            timeout_s=timeout_s,
            progress=report,
        )
    if as_json:
        session.emit_json(asdict(found) | {"pid": found.pid})
        return
    word = "is up" if found.started else "was up already"
    click.echo(f"Kafka {found.kafka_version} {word} (pid {found.pid}); data in {session.at.broker}", err=True)
    click.echo(",".join(found.bootstrap_servers))
    named = session.bootstrap_servers
    if named is not None and named not in found.bootstrap_servers:
        click.echo(f"note: the other commands use {named}, from MLSTREAM_BOOTSTRAP_SERVERS or the option", err=True)


@broker.command()
@click.option(
    "--timeout", "timeout_s", type=float, default=30.0, show_default=True, metavar="SECONDS", help="Then it is killed."
)
@_JSON
@click.pass_obj
def down(session: Session, timeout_s: float, as_json: bool) -> None:
    """Stop the broker; its data and its port are kept."""
    from mlstream.broker.embedded import down as bring_down

    stopped = bring_down(session.at, timeout_s=timeout_s)
    if as_json:
        session.emit_json(asdict(stopped))
    elif not stopped.pids:
        click.echo("the broker was not running", err=True)
    elif stopped.killed:
        click.echo(
            f"the broker did not stop within {timeout_s:g} s and was killed (pid {stopped.killed[0]}); "
            "its data is recovered at the next start",
            err=True,
        )
    else:
        click.echo("the broker is down; its data and its port are kept", err=True)


@broker.command()
@_JSON
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Say whether the broker runs, where, and how large it is."""
    from mlstream.broker.embedded import status as ask_status

    found = ask_status(session.at)
    if as_json:
        session.emit_json(_as_json(found))
        return
    for line in _describe(found):
        click.echo(line)
    if found.state in _FIXES:
        click.echo(f"  next: {_FIXES[found.state]}", err=True)


@broker.command()
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), default=50, show_default=True, help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until interrupted.")
@click.pass_obj
def logs(session: Session, count: int, follow: bool) -> None:
    """Print the last lines of the broker's log."""
    from mlstream.broker.embedded import read_state
    from mlstream.broker.embedded.logs import follow as follow_file
    from mlstream.broker.embedded.logs import log_path, recent_lines
    from mlstream.broker.embedded.state import node_folder
    from mlstream.errors import BrokerError

    state = read_state(session.at)
    if state is None:
        raise BrokerError(f"{session.at.broker}: no broker was ever started there", hint="mlstream broker up")
    # With several nodes each has its own file; the first is the one that is shown.
    folder = node_folder(session.at, state.nodes[0].node_id)
    for line in recent_lines(folder, count):
        click.echo(line)
    if follow:
        for line in follow_file(log_path(folder)):
            click.echo(line)


def _as_json(found: Status) -> dict[str, Any]:
    return asdict(found) | {"pid": found.pid, "uptime_s": found.uptime_s, "data_bytes": found.data_bytes}


def _describe(found: Status) -> Iterator[str]:
    if found.state == "absent":
        yield "absent: no broker was ever started in this home"
        return
    yield f"{found.state}: Kafka {found.kafka_version} on {', '.join(found.bootstrap_servers)}"
    yield f"  heap {found.heap_mb} MB, profile {found.profile}, {_size(found.data_bytes)} of data"
    for node in found.nodes:
        if node.pid is not None:
            since = "" if node.uptime_s is None else f", up {_duration(node.uptime_s)}"
            yield f"  node {node.node_id}: pid {node.pid}{since}"


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def _shown_progress(session: Session) -> Iterator[Report]:
    """A bar on a terminal, else a line a step; both on stderr."""
    if not sys.stderr.isatty():
        last = ""

        def say(progress: Progress) -> None:
            nonlocal last
            if progress.step != last:
                last = progress.step
                click.echo(f"{progress.step} …", err=True)

        yield say
        return

    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[size]}"))
    with Bar(*columns, console=session.err, transient=True) as bar:
        task = bar.add_task("", total=None, size="")

        def show(progress: Progress) -> None:
            size = f"{progress.done}/{progress.total} jars, {_size(progress.size_bytes)}" if progress.total else ""
            total = progress.total if progress.total > 0 else None
            bar.update(task, description=progress.step, completed=progress.done, total=total, size=size)

        yield show
