"""`mlstream ui`: MLflow's UI on the recorded comparisons."""

from __future__ import annotations

import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from mlstream.cli.context import Session


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the UI (default: 5000, or a free one).")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the UI listens on.")
@click.option("--open/--no-open", "open_browser", default=True, help="Open the newest comparison in a browser.")
@click.pass_obj
def ui(session: Session, port: int | None, host: str, open_browser: bool) -> None:
    """Open the MLflow UI on the recorded comparisons.

    Runs until Ctrl-C, and prints the address of the newest comparison. Where MLFLOW_TRACKING_URI names a server, that
    server has the UI: its address is printed and nothing is started.
    """
    from mlstream.registry.place import shown_uri, tracking_uri
    from mlstream.reporting.server import is_server, serving
    from mlstream.reporting.tracking import newest

    uri = tracking_uri(session.at)
    if is_server(uri):
        found = newest(session.at)
        session.say(f"MLFLOW_TRACKING_URI names a server, which has the UI: {shown_uri(uri)}")
        _show(shown_uri(uri) if found is None or found.url is None else found.url, open_browser=open_browser)
        return
    with stopped_by_signals(), serving(session.at, host=host, port=port) as server:
        found = newest(session.at)  # while the server starts
        server.wait_ready()
        session.say(f"MLflow UI on {shown_uri(uri)}: {server.url} (Ctrl-C stops it)")
        if found is None:
            session.say("no comparison is recorded there yet: `mlstream compare` records one")
        _show(server.url if found is None else f"{server.url}/{found.page}", open_browser=open_browser)
        server.wait()


def _show(url: str, *, open_browser: bool) -> None:
    click.echo(url)
    sys.stdout.flush()
    if open_browser and sys.stdout.isatty() and _has_screen():
        webbrowser.open(url)


def _has_screen() -> bool:
    """Without one, the browser that Python finds may be one that takes over the terminal."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ctrl-C or a SIGTERM ends what is inside in order; to stop a server is no failure."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        signal.signal(signal.SIGTERM, before)
