"""MLflow's own server as a child process on a local store, for looking at it. Imports no MLflow itself.

The server listens on loopback unless told otherwise, so MLflow's host check lets the browser in as it is. Its log goes
to a file beside the store.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlstream.errors import TrackingError
from mlstream.home import Home
from mlstream.registry.place import server_environment, shown_uri, tracking_uri

DEFAULT_PORT = 5000
_START_S = 180.0  # importing MLflow takes seconds, on a busy machine many; a server that ends is noticed at once
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started: not necessarily ready yet."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def wait_ready(self) -> None:
        """Return when it answers.

        Raises:
            TrackingError: when it ends instead, or does not answer in time.
        """
        # A proxy of the environment has no business between us and this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise self._ended()
            with suppress(urllib.error.URLError, OSError), opener.open(f"{self.url}/health", timeout=5):
                return
            time.sleep(0.1)
        raise TrackingError(f"the MLflow server does not answer after {_START_S:.0f} s", hint=f"its log is {self.log}")

    def wait(self) -> None:
        """Return when it ends by itself.

        Raises:
            TrackingError: always, since a server is not meant to.
        """
        # Not Popen.wait: polars, once imported, lets the system go on waiting when Ctrl-C comes (SA_RESTART).
        while self.process.poll() is None:
            time.sleep(0.2)
        raise self._ended()

    def _ended(self) -> TrackingError:
        return TrackingError(
            f"the MLflow server ended with exit code {self.process.returncode}: {_last_line(self.log)}",
            hint=f"its log is {self.log}",
        )


@contextmanager
def serving(home: Home, *, host: str = "127.0.0.1", port: int | None = None) -> Iterator[Server]:
    """A server on the store that comparisons go to, which must not be a server itself; stopped at the end.

    Args:
        home: the project's home.
        host: the address that it listens on.
        port: its port; 5000 if that is free, else any free one, when None.

    Raises:
        TrackingError: when there is no store yet, or the port is taken.
    """
    uri = tracking_uri(home)
    if uri == home.mlflow_uri and not (home.path / "mlflow.db").exists():
        raise TrackingError(
            f"nothing is recorded yet in {home.path}", hint="run `mlstream compare` first, or choose another --home"
        )
    chosen = _free_port(host, port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(chosen), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--registry-store-uri", uri]
    if uri == home.mlflow_uri:
        artifacts = home.mlflow_artifacts.as_uri()
        command += ["--default-artifact-root", artifacts, "--artifacts-destination", artifacts]
    environ = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **server_environment(os.environ)}
    environ.pop("MLFLOW_TRACKING_URI", None)
    home.path.mkdir(parents=True, exist_ok=True)
    log = home.path / "mlflow-ui.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches this process alone, which then stops the server in order.
        process = subprocess.Popen(
            command, env=environ, cwd=home.path, stdout=output, stderr=output, start_new_session=True
        )
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"[{shown}]" if ":" in shown else shown
    try:
        yield Server(f"http://{address}:{chosen}", log, process)
    finally:
        _stop(process)


def is_server(uri: str) -> bool:
    """Whether `uri` names an MLflow server, which has a UI of its own."""
    return uri.startswith(("http://", "https://"))


def _free_port(host: str, port: int | None) -> int:
    for candidate in (port,) if port is not None else (DEFAULT_PORT, 0):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as exc:
                if port is not None:
                    raise TrackingError(
                        f"{host}:{port} cannot be listened on ({exc.strerror})",
                        hint="choose another --port, or leave it out",
                    ) from exc
                continue
            return int(probe.getsockname()[1])
    raise TrackingError(f"no port of {host} can be listened on", hint="choose another --host")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and the workers below it: asked first, then not."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        process.wait()
        return
    for action in (psutil.Process.terminate, psutil.Process.kill):
        for member in family:
            with suppress(psutil.NoSuchProcess):
                action(member)
        _, family = psutil.wait_procs(family, timeout=_STOP_S)
        if not family:
            break
    process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return shown_uri(lines[-1].strip()) if lines else "it wrote nothing"
