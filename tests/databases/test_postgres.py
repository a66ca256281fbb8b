"""Tables of a real PostgreSQL, as one transaction sees them."""

from __future__ import annotations

from mlstream.databases import open_database, parse_query, parse_table
from tests.databases.postgres_server import Postgres


def test_several_tables_are_read_as_they_were_when_the_database_was_opened(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a (n int PRIMARY KEY)", "CREATE TABLE b (n int)", "INSERT INTO a VALUES (1), (2)")
    tables = [parse_table(f"{postgres.url}#a"), parse_query(f"{postgres.url}#both=SELECT * FROM a UNION ALL TABLE b")]
    with open_database(postgres.url, tables=tables) as database:
        postgres.run("INSERT INTO a VALUES (3)", "INSERT INTO b VALUES (4)")
        found = [database.read(request) for request in tables]
        assert [[n for batch in rows.batches() for n in batch["n"].to_pylist()] for rows in found] == [[1, 2], [1, 2]]
    assert postgres.rows("SELECT * FROM a ORDER BY n") == [(1,), (2,), (3,)]
