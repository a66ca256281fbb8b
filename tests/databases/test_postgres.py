"""Tables of a real PostgreSQL, as one transaction sees them, and what is said when that cannot be."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from mlstream.databases import TableRequest, open_database, parse_query, parse_table
from mlstream.errors import DatabaseError, MlstreamError, UnknownTable
from tests.databases.postgres_server import GUARDED, GUARDED_PASSWORD, Postgres, fresh_database
from tests.databases.reading import read, read_query


def test_several_tables_are_read_as_they_were_when_the_database_was_opened(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a (n int PRIMARY KEY)", "CREATE TABLE b (n int)", "INSERT INTO a VALUES (1), (2)")
    tables = [parse_table(f"{postgres.url}#a"), parse_query(f"{postgres.url}#both=SELECT * FROM a UNION ALL TABLE b")]
    with open_database(postgres.url, tables=tables) as database:
        postgres.run("INSERT INTO a VALUES (3)", "INSERT INTO b VALUES (4)")
        found = [database.read(request) for request in tables]
        assert [[n for batch in rows.batches() for n in batch["n"].to_pylist()] for rows in found] == [[1, 2], [1, 2]]
    assert postgres.rows("SELECT * FROM a ORDER BY n") == [(1,), (2,), (3,)]


def test_a_sum_over_two_tables_holds_while_a_writer_moves_money_between_them(postgres: Postgres) -> None:
    postgres.run(
        "CREATE TABLE a (id int PRIMARY KEY, n int)",
        "CREATE TABLE b (id int PRIMARY KEY, n int)",
        "INSERT INTO a SELECT i, 10 FROM generate_series(1, 200) i",
        "INSERT INTO b SELECT i, 0 FROM generate_series(1, 200) i",
    )
    done = threading.Event()
    commits = []

    def move() -> None:
        with postgres.connect() as connection:
            while not done.is_set():
                with connection.transaction():
                    connection.execute("UPDATE a SET n = n - 1")
                    connection.execute("UPDATE b SET n = n + 1")
                commits.append(1)

    writer = threading.Thread(target=move)
    writer.start()
    sums: set[tuple[int, int]] = set()
    try:
        for _ in range(10):
            before = len(commits)
            with open_database(postgres.url) as database:
                first = database.read(parse_table(f"{postgres.url}#a"))
                while len(commits) < before + 3:  # the writer commits between the two readings
                    time.sleep(0.001)
                second = database.read(parse_table(f"{postgres.url}#b"))
                totals = [
                    sum(n for batch in rows.batches() for n in batch["n"].to_pylist()) for rows in (first, second)
                ]
            sums.add((totals[0], totals[1]))
    finally:
        done.set()
        writer.join()
    assert {a + b for a, b in sums} == {2000}
    assert len(sums) > 1, "the writer wrote nothing, so this proves nothing"


def test_readings_in_two_transactions_would_break_that_sum(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a AS SELECT 10 AS n", "CREATE TABLE b AS SELECT 0 AS n")
    _, first = read(parse_table(f"{postgres.url}#a"))
    postgres.run("UPDATE a SET n = n - 1; UPDATE b SET n = n + 1")
    _, second = read(parse_table(f"{postgres.url}#b"))
    assert first["n"][0] + second["n"][0] == 11


def test_nobody_can_truncate_a_table_that_will_be_read(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a AS SELECT 1 AS n")
    with open_database(postgres.url, tables=[parse_table(f"{postgres.url}#a")]) as database:
        with postgres.connect() as other:
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(Exception, match="lock timeout"):
                other.execute("TRUNCATE a")
            other.execute("INSERT INTO a VALUES (2)")  # writers do not notice
        assert database.read(parse_table(f"{postgres.url}#a")).rows == 1


def test_a_table_that_somebody_alters_is_not_waited_for_without_end(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a AS SELECT 1 AS n")
    url = f"{postgres.url}&options=-c%20lock_timeout%3D100"
    with postgres.connect() as other, other.transaction():
        other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DatabaseError, match=r"lock timeout; somebody alters or truncates it"):
            read(parse_table(f"{url}#a"))
    with open_database(postgres.url) as database:  # nobody else's patience is shorter than 30 s
        rows = database.read(parse_query(f"{postgres.url}#p=SELECT current_setting('lock_timeout') AS p"))
        assert next(rows.batches())["p"].to_pylist() == ["30s"]


def test_text_of_other_encodings_comes_as_it_reads(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(postgres_server, "ENCODING LATIN1 TEMPLATE template0 LOCALE 'C'") as latin:
        latin.run('CREATE TABLE "t" (a text PRIMARY KEY, b text[])', "INSERT INTO t VALUES ('käse', '{ä}')")
        monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        assert read(parse_table(f"{latin.url}#t"))[1] == {"a": ["käse"], "b": [["ä"]]}


def test_text_in_no_encoding_is_refused_where_it_is_no_utf8(postgres_server: str) -> None:
    with fresh_database(postgres_server, "ENCODING SQL_ASCII TEMPLATE template0 LOCALE 'C'") as database:
        database.run("CREATE TABLE t (id int PRIMARY KEY, a text)", "INSERT INTO t VALUES (1, 'a'), (2, E'\\xe4')")
        with pytest.raises(DatabaseError, match=r"invalid byte sequence.*; .*convert_to\(the_column"):
            read(parse_table(f"{database.url}#t"))
        assert read_query(database.url, "SELECT convert_to(a, 'SQL_ASCII') AS a FROM t WHERE id = 2")[1] == {
            "a": [b"\xe4"]
        }


def test_the_mark_names_the_moment_as_the_database_does(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE a AS SELECT 1 AS n")
    with open_database(postgres.url) as database:
        mark = dict(database.mark)
        postgres.run("INSERT INTO a VALUES (2)")
        with postgres.connect() as other, other.transaction():
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute(f"SET TRANSACTION SNAPSHOT '{mark['exported_snapshot']}'".encode())
            seen = other.execute("SELECT pg_current_snapshot()::text, count(*) FROM a").fetchall()
    assert seen == [(mark["snapshot"], 1)]
    assert mark["database"] == postgres.rows("SELECT current_database()")[0][0]
    assert mark["server_version"] == postgres.rows("SHOW server_version")[0][0]
    assert postgres.rows(f"SELECT '{mark['lsn']}'::pg_lsn <= pg_current_wal_lsn()") == [(True,)]


def test_a_table_has_its_primary_key_in_the_key_s_order(postgres: Postgres) -> None:
    postgres.run(
        "CREATE TABLE t (a int, b int, c int, PRIMARY KEY (c, a) INCLUDE (b))",
        "INSERT INTO t SELECT i % 3, i, i % 5 FROM generate_series(1, 15) i",
    )
    rows, found = read(parse_table(f"{postgres.url}#t"))
    assert rows.primary_key == ("c", "a")
    keys = list(zip(found["c"], found["a"], strict=True))
    assert keys == sorted(keys)


def test_views_partitioned_tables_and_other_schemas_are_tables_too(postgres: Postgres) -> None:
    postgres.run(
        'CREATE SCHEMA "Odd"',
        'CREATE TABLE "Odd"."T" ("select" int, "a""b" text)',
        """INSERT INTO "Odd"."T" VALUES (1, '{}')""",
        """CREATE VIEW v AS SELECT * FROM "Odd"."T\"""",
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM v",
        "CREATE TABLE p (n int PRIMARY KEY) PARTITION BY RANGE (n)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)",
        "INSERT INTO p VALUES (3)",
    )
    for name in ("Odd.T", "v", "m", "public.v"):
        assert read(parse_table(f"{postgres.url}#{name}"))[1] == {"select": [1], 'a"b': ["{}"]}
    rows, found = read(parse_table(f"{postgres.url}#p"))
    assert (rows.primary_key, found) == (("n",), {"n": [3]})


def test_an_empty_table_has_its_columns(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE t (id int PRIMARY KEY, a int[], b numeric, c interval)")
    rows, _ = read(parse_table(f"{postgres.url}#t"))
    assert [column.type for column in rows.columns] == ["int32", "list(int32)", "decimal", "interval"]
    assert rows.rows == 0


def test_a_query_may_end_with_a_comment_and_a_semicolon(postgres: Postgres) -> None:
    assert read_query(postgres.url, "SELECT 1 AS a -- one\n;")[1] == {"a": [1]}
    assert read_query(postgres.url, "WITH x AS (SELECT 2 AS a) SELECT a FROM x -- two")[1] == {"a": [2]}


def test_nothing_is_left_in_the_database_or_on_the_disk(postgres: Postgres, tmp_path: Path) -> None:
    postgres.run("CREATE TABLE t AS SELECT 1 AS a")
    with open_database(postgres.url, folder=tmp_path) as database:
        database.read(parse_table(f"{postgres.url}#t"))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    with postgres.connect() as connection:
        for _ in range(200):
            left = connection.execute(others.encode()).fetchall()
            if left == [(0,)]:
                break
            time.sleep(0.05)
    assert left == [(0,)]


def test_a_transaction_that_waits_for_the_streams_is_not_ended(postgres: Postgres) -> None:
    postgres.run("CREATE TABLE t AS SELECT 1 AS a")
    name = postgres.rows("SELECT current_database()")[0][0]
    postgres.run(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '200ms'")
    with open_database(postgres.url) as database:
        time.sleep(0.6)
        assert database.read(parse_table(f"{postgres.url}#t")).rows == 1


def test_a_password_comes_from_the_url_the_environment_or_the_password_file(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", GUARDED_PASSWORD)
    assert read_query(postgres.as_user(GUARDED, "${SHOP_PASSWORD}"), "SELECT current_user AS u")[1] == {"u": [GUARDED]}
    monkeypatch.setenv("PGPASSWORD", GUARDED_PASSWORD)
    assert read_query(postgres.as_user(GUARDED), "SELECT current_user AS u")[1] == {"u": [GUARDED]}
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:{GUARDED}:{GUARDED_PASSWORD.replace(':', chr(92) + ':')}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert read_query(postgres.as_user(GUARDED), "SELECT current_user AS u")[1] == {"u": [GUARDED]}


def test_no_message_shows_a_password(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    url = postgres.as_user(GUARDED, quote("wrong:geheim", safe=""))
    with pytest.raises(
        DatabaseError, match=r"cannot connect: .*password authentication failed.*check user and"
    ) as caught:
        read_query(url, "SELECT 1 AS a")
    assert "geheim" not in repr(caught.getrepr(style="value")) + str(caught.value) + repr(caught.value.facts)
    with pytest.raises(DatabaseError, match=r"no password supplied.*\$\{NAME\} in the URL"):
        read_query(postgres.as_user(GUARDED), "SELECT 1 AS a")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/db", "cannot connect: .*check host and port, and that the server runs"),
        ("postgresql://me:geheim@h/db?bogus=1", "invalid URI query parameter.*correct the URL's parameters"),
    ],
)
def test_a_server_that_is_not_there_is_said_with_the_fix(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message) as caught:
        read_query(url, "SELECT 1 AS a")
    assert "geheim" not in str(caught.value)


def test_a_table_that_is_not_there_is_told_before_anything_is_read(postgres: Postgres) -> None:
    postgres.run("CREATE SCHEMA far", "CREATE TABLE far.storms (n int)", "CREATE TABLE weather (n int)")
    with pytest.raises(UnknownTable, match="no table 'wether'; there is: weather"):
        open_database(postgres.url, tables=[parse_table(f"{postgres.url}#wether")]).__enter__()
    with pytest.raises(UnknownTable, match=r"no table 'Storms'; there is: far\.storms"):
        read(parse_table(f"{postgres.url}#Storms"))


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("SELECT * FROM nowhere", UnknownTable, 'relation "nowhere" does not exist; check the name'),
        ("SELECT nothing FROM t", DatabaseError, 'column "nothing" does not exist; check the names'),
        ("SELEKT 1", DatabaseError, "syntax error.*one SELECT"),
        ("SELECT 1/0 AS a", DatabaseError, "division by zero"),
        ("SELECT 1 AS a, 2 AS a", DatabaseError, "two columns are called 'a'; give each column a name"),
        ("DELETE FROM t", DatabaseError, "use one SELECT"),
        ("DELETE FROM t RETURNING n", DatabaseError, "syntax error.*one SELECT"),
        ("WITH d AS (DELETE FROM t RETURNING n) SELECT * FROM d", DatabaseError, "use one SELECT"),
        ("SELECT n FROM t FOR UPDATE", DatabaseError, "read-only transaction; a snapshot only reads"),
        ("SELECT nextval('s') AS a", DatabaseError, "read-only transaction; a snapshot only reads"),
        ("SELECT wipe() AS a", DatabaseError, "read-only transaction; a snapshot only reads"),
        ("SELECT 1 AS a; DROP TABLE t", DatabaseError, "multiple commands"),
        ("SELECT 1 AS a) AS q; DROP TABLE t --", DatabaseError, "syntax error"),
        ("SELECT n INTO u FROM t", DatabaseError, "use one SELECT"),
        ("COPY t TO STDOUT", DatabaseError, "use one SELECT"),
    ],
)
def test_a_query_only_reads_and_an_error_names_the_fix(
    postgres: Postgres, query: str, kind: type[MlstreamError], message: str
) -> None:
    postgres.run(
        "CREATE TABLE t AS SELECT 1 AS n",
        "CREATE SEQUENCE s",
        "CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM t; SELECT 1'",
    )
    with pytest.raises(kind, match=message) as caught:
        read_query(postgres.url, query)
    assert caught.value.message.startswith("postgresql://")
    assert "query result: " in caught.value.message
    assert postgres.rows("SELECT n FROM t") == [(1,)]
    assert postgres.rows("SELECT is_called FROM s") == [(False,)]


def test_a_table_that_may_not_be_read_is_named_with_the_fix(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", GUARDED_PASSWORD)
    postgres.run("CREATE TABLE secrets AS SELECT 1 AS n")
    url = postgres.as_user(GUARDED)
    with pytest.raises(DatabaseError, match=r"permission denied for table secrets; ask .* GRANT SELECT"):
        read(TableRequest(url, "secrets"))


def test_rows_that_a_policy_hides_are_not_missing_unnoticed(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", GUARDED_PASSWORD)
    postgres.run(
        "CREATE TABLE t AS SELECT i AS n FROM generate_series(1, 4) i",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY half ON t TO {GUARDED} USING (n % 2 = 0)",
        f"GRANT SELECT ON t TO {GUARDED}",
    )
    with pytest.raises(DatabaseError, match="would be affected by row-level security"):
        read(TableRequest(postgres.as_user(GUARDED), "t"))
    assert read_query(postgres.as_user(GUARDED), "SELECT n FROM t")[1] == {"n": [2, 4]}  # whoever asks so, means it


@pytest.mark.parametrize(
    "query",
    ["SELECT pg_sleep(5)::text AS a", "SELECT i AS a, repeat('x', 1000) AS b FROM generate_series(1, 9999999) i"],
)
def test_a_statement_that_the_server_ends_is_said_with_the_fix(postgres: Postgres, query: str) -> None:
    url = f"{postgres.url}&options=-c%20statement_timeout%3D300"
    with pytest.raises(DatabaseError, match=r"statement timeout; .* \?options=-c%20statement_timeout%3D0"):
        read_query(url, query)


def test_a_connection_that_is_lost_while_rows_stream_is_said_so(postgres: Postgres) -> None:
    def end() -> None:
        with postgres.connect() as connection:
            for _ in range(400):
                found = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'COPY%'"
                ).fetchall()
                if found:
                    return
                time.sleep(0.01)

    ender = threading.Thread(target=end)
    ender.start()
    try:
        with pytest.raises(DatabaseError, match="the connection was lost while rows were read; try again"):
            read_query(postgres.url, "SELECT i AS a, repeat('x', 1000) AS b FROM generate_series(1, 9999999) i")
    finally:
        ender.join()


def test_a_database_that_is_not_entered_says_so(postgres: Postgres) -> None:
    with pytest.raises(DatabaseError, match="not open; read inside"):
        open_database(postgres.url).read(parse_query(f"{postgres.url}#a=SELECT 1 AS a"))
