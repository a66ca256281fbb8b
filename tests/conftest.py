"""Fixtures of all tests: a real Kafka, a client, a home, and the command line. Imports what it needs when it is asked.

Each pytest process has a broker of its own, in a temporary home; only the cache of Kafka's jars is shared.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from mlstream.broker.client import Client
    from mlstream.broker.connection import Connection
    from mlstream.home import Home
    from tests.broker.sasl_broker import SaslBroker
    from tests.databases.postgres_server import Postgres
    from tests.fault_table import Faults
    from tests.snapshots.s3_server import S3Server

# How long an example takes on a busy machine is no property of the code.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")


@pytest.fixture(scope="session")
def broker_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of the session's embedded broker. Tests that need a broker of their own use `home`."""
    from mlstream.home import Home

    return Home(tmp_path_factory.mktemp("kafka"))


@pytest.fixture(scope="session")
def broker(broker_home: Home) -> Iterator[Connection]:
    """A running Kafka: the one that MLSTREAM_TEST_BOOTSTRAP_SERVERS names, else an embedded one."""
    from mlstream.broker.connection import Connection
    from mlstream.broker.embedded import down, read_state, up
    from tests.guard import guarded

    named = os.environ.get("MLSTREAM_TEST_BOOTSTRAP_SERVERS")
    if named:
        yield Connection(bootstrap_servers=tuple(named.split(",")), settings={})
        return
    try:
        started = up(broker_home, timeout_s=120)
        state = read_state(broker_home)
        assert state is not None
        with guarded(started.pid, str(state.nodes[0].token)):
            yield Connection(bootstrap_servers=started.bootstrap_servers, settings={})
            down(broker_home)
    finally:
        down(broker_home)


@pytest.fixture(scope="session")
def client(broker: Connection) -> Iterator[Client]:
    """A client of the session's broker."""
    from mlstream.broker.client import Client

    with Client(broker) as opened:
        yield opened


@pytest.fixture(scope="session")
def sasl_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaslBroker]:
    """A running Kafka that asks for TLS and a password; `sasl_broker.connection()` is the way in."""
    from tests.broker.sasl_broker import running_sasl_broker

    with running_sasl_broker(tmp_path_factory.mktemp("sasl-kafka")) as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the administrator of a PostgreSQL: the one that MLSTREAM_TEST_POSTGRES names, or an embedded one."""
    from tests.databases.postgres_server import running_postgres

    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[Postgres]:
    """An empty PostgreSQL database of the test's own: `.url`, `.run(sql, …)`, `.rows(sql)`, `.connect()` (psycopg)."""
    from tests.databases.postgres_server import fresh_database

    with fresh_database(postgres_server) as database:
        yield database


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server."""
    from tests.snapshots.s3_server import running_s3

    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty folder of a bucket, with the environment that finds and opens it."""
    from tests.snapshots.s3_server import BUCKET

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an MLflow store that has its tables, which take seconds to make, and nothing in them."""
    from mlstream.home import Home
    from mlstream.registry.registration import check_reachable

    home = Home(tmp_path_factory.mktemp("empty"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        check_reachable(home)
    return home.path / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home of the test's own."""
    from mlstream.home import Home

    return Home(tmp_path / "home")


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Faults:
    """Where a fault test enters what it came to; the session ends with a table of all."""
    from tests.fault_table import Faults

    return Faults(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of the fault tests, if any ran."""
    from tests.fault_table import entries, table

    lines = table(entries(report for found in terminalreporter.stats.values() for report in found))
    if lines:
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(lines))


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic's name that no other test uses; the topic does not exist."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].strip("-")
    return f"{words}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Called:
    """What a call of the command line gave back."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON value that `--json` promises."""
        return json.loads(self.stdout)


@pytest.fixture
def bare_cli(home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Call the command line in this process, in the test's home, with no cluster named: `bare_cli("broker", "up")`."""
    from mlstream.cli.main import run

    for name in ("MLSTREAM_BOOTSTRAP_SERVERS", "MLSTREAM_KAFKA_CONFIG", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLSTREAM_HOME", str(home.path))

    def call(*args: str | os.PathLike[str]) -> Called:
        capsys.readouterr()
        exit_code = run([os.fspath(arg) for arg in args])
        captured = capsys.readouterr()
        return Called(exit_code, captured.out, captured.err)

    return call


@pytest.fixture
def cli(bare_cli: Callable[..., Called], broker: Connection, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Called]:
    """Call the command line in this process, in the test's home and on the session's broker."""
    monkeypatch.setenv("MLSTREAM_BOOTSTRAP_SERVERS", ",".join(broker.bootstrap_servers))
    return bare_cli
