"""Tables of SQLite: a copy of one moment, columns with one type each, nothing guessed."""

from __future__ import annotations

import hashlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mlstream.databases import open_database, parse_query, parse_table
from mlstream.errors import DatabaseError, MlstreamError, UnknownTable
from tests.databases.reading import read, read_query

Made = Callable[..., str]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make a database by statements; its URL."""

    def make(*statements: str, name: str = "a.db") -> str:
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return f"sqlite:///{tmp_path / name}"

    return make


def test_values_of_each_storage_class_are_exact(made: Made) -> None:
    url = made(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i, r, t, b)",
        "INSERT INTO t VALUES (1, -9223372036854775808, 0.1, 'käse' || char(0) || '🧀', x'00ff')",
        "INSERT INTO t VALUES (2, NULL, NULL, '', x'')",
        "INSERT INTO t VALUES (3, 9223372036854775807, 9e999, NULL, NULL), (4, 0, -0.0, 'x', x'01')",
    )
    rows, found = read(parse_table(f"{url}#t"))
    assert [column.type for column in rows.columns] == ["int64", "int64", "float64", "text", "binary"]
    assert rows.primary_key == ("id",)
    assert found["i"] == [-(1 << 63), None, (1 << 63) - 1, 0]
    assert found["r"] == [0.1, None, math.inf, 0.0]
    assert found["t"] == ["käse\0🧀", "", None, "x"]
    assert found["b"] == [b"\x00\xff", b"", None, b"\x01"]


def test_integers_among_reals_become_reals_where_that_is_exact(made: Made) -> None:
    url = made("CREATE TABLE t (price DECIMAL(10,2))", "INSERT INTO t VALUES (2.0), (1.5), (9007199254740992)")
    rows, found = read(parse_table(f"{url}#t"))
    assert rows.columns[0].type == "float64"
    assert sorted(found["price"]) == [1.5, 2.0, 9007199254740992.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            "(1, 1.5), (2, 9007199254740993)",
            "reals and integers that no float64 holds exactly.*integer '9007199254740993'",
        ),
        (
            "(1, 'one'), (2, 2)",
            "column 'x' holds integer and text values: integer '2' where id = 2; text 'one' where id = 1",
        ),
        ("(1, x'00'), (2, 'a')", "text and blob values"),
    ],
)
def test_a_column_of_several_types_is_refused_with_a_row_of_each(made: Made, values: str, message: str) -> None:
    url = made("CREATE TABLE t (id INTEGER PRIMARY KEY, x)", f"INSERT INTO t VALUES {values}")
    with pytest.raises(DatabaseError, match=rf"{message}.*CAST\(\"x\" AS TEXT\)"):
        read(parse_table(f"{url}#t"))


def test_text_that_is_no_utf8_is_refused(made: Made) -> None:
    url = made("CREATE TABLE t (x)", "INSERT INTO t VALUES (CAST(x'ff' AS TEXT))")
    with pytest.raises(DatabaseError, match=r"column 'x' holds text that is not UTF-8.*CAST\(\"x\" AS BLOB\)"):
        read(parse_table(f"{url}#t"))


def test_a_column_without_values_has_the_type_that_it_was_declared_with(made: Made) -> None:
    url = made(
        "CREATE TABLE t (a BIGINT, b VARCHAR(3), c BLOB, d, e DOUBLE, f DECIMAL(3,1))", "INSERT INTO t(a) VALUES (1)"
    )
    words = ["int64", "text", "binary", "binary", "float64", "float64"]
    assert [column.type for column in read(parse_table(f"{url}#t"))[0].columns] == words
    assert [column.type for column in read_query(url, "SELECT *, NULL AS g FROM t WHERE 0")[0].columns] == ["text"] * 7


def test_a_table_is_read_as_it_was_when_the_database_was_opened(made: Made, tmp_path: Path) -> None:
    url = made("CREATE TABLE t (n)", "INSERT INTO t VALUES (1)")
    with open_database(url) as database, closing(sqlite3.connect(tmp_path / "a.db", timeout=0)) as writer:
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()  # at once: nobody holds the file
        assert database.read(parse_table(f"{url}#t")).rows == 1
    assert read(parse_table(f"{url}#t"))[0].rows == 2


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_sum_over_two_tables_holds_while_a_writer_moves_money_between_them(
    made: Made, tmp_path: Path, mode: str
) -> None:
    url = made(f"PRAGMA journal_mode = {mode}", "CREATE TABLE a AS SELECT 1000 AS n", "CREATE TABLE b AS SELECT 0 AS n")
    done = threading.Event()

    def move() -> None:
        with closing(sqlite3.connect(tmp_path / "a.db", timeout=30, isolation_level=None)) as writer:
            while not done.is_set():
                writer.execute("BEGIN IMMEDIATE")
                writer.execute("UPDATE a SET n = n - 1")
                writer.execute("UPDATE b SET n = n + 1")
                writer.execute("COMMIT")
                time.sleep(0.005)  # a file without WAL lets nobody else in otherwise

    thread = threading.Thread(target=move)
    thread.start()
    sums: set[tuple[Any, Any]] = set()
    try:
        for _ in range(10):
            with open_database(url) as database:
                assert database.mark["journal_mode"] == mode.lower()
                rows = [database.read(parse_table(f"{url}#{name}")) for name in "ab"]
                first, second = (next(each.batches())["n"].to_pylist()[0] for each in rows)
            sums.add((first, second))
    finally:
        done.set()
        thread.join()
    assert {a + b for a, b in sums} == {1000}
    assert len(sums) > 1, "the writer wrote nothing, so this proves nothing"


def test_the_mark_is_the_same_for_the_same_content(made: Made) -> None:
    url = made("CREATE TABLE t (n)", "INSERT INTO t VALUES (1)")
    marks = []
    for _ in range(2):
        with open_database(url) as database:
            marks.append(dict(database.mark))
    assert marks[0] == marks[1]
    assert set(marks[0]) == {"sha256", "data_version", "schema_version", "journal_mode", "sqlite_version"}
    made("UPDATE t SET n = 2")
    with open_database(url) as database:
        assert database.mark["sha256"] != marks[0]["sha256"]


def test_the_file_is_not_touched_and_nothing_is_left(made: Made, tmp_path: Path) -> None:
    url = made("CREATE TABLE t (n)", "INSERT INTO t VALUES (1)")
    before = hashlib.sha256((tmp_path / "a.db").read_bytes()).hexdigest()
    (tmp_path / "work").mkdir()
    with open_database(url, folder=tmp_path / "work") as database:
        database.read(parse_table(f"{url}#t"))
    assert hashlib.sha256((tmp_path / "a.db").read_bytes()).hexdigest() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.db", "work"]
    assert not list((tmp_path / "work").iterdir())


def test_views_odd_names_and_other_cases_are_found(made: Made) -> None:
    url = made(
        'CREATE TABLE "Wea""ther" ("select" INT, "a ""b" TEXT)', 'CREATE VIEW storms AS SELECT * FROM "Wea""ther"'
    )
    assert [column.name for column in read(parse_table(f"{url}#Storms"))[0].columns] == ["select", 'a "b']


def test_a_composite_key_is_in_its_own_order(made: Made) -> None:
    url = made(
        "CREATE TABLE t (a, b, c, PRIMARY KEY (c, a)) WITHOUT ROWID", "INSERT INTO t VALUES (2, 0, 'x'), (1, 0, 'x')"
    )
    rows, found = read(parse_table(f"{url}#t"))
    assert rows.primary_key == ("c", "a")
    assert found["a"] == [1, 2]


def test_a_query_may_be_recursive_and_end_with_a_comment(made: Made) -> None:
    url = made()
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3) SELECT i FROM n -- three"
    assert read_query(url, query)[1] == {"i": [1, 2, 3]}


@pytest.mark.parametrize(
    ("query", "kind", "message"),
    [
        ("SELECT * FROM nowhere", UnknownTable, "no such table: nowhere"),
        ("SELECT 1 AS a, 2 AS A", DatabaseError, "two columns are called 'A'"),
        ("DELETE FROM t", DatabaseError, "one SELECT"),
        ("ATTACH 'b.db' AS b", DatabaseError, "one SELECT"),
        ("SELECT 1 AS a; DROP TABLE t", DatabaseError, "one SELECT"),
        ("SELECT 1 AS a) ; DROP TABLE t --", DatabaseError, "one SELECT|one statement"),
        ("SELECT load_extension('x') AS a", DatabaseError, "not authorized|no such function"),
        ("SELECT * FROM pragma_database_list", MlstreamError, "not authorized|no such table|prohibited"),
    ],
)
def test_a_query_only_reads(made: Made, query: str, kind: type[MlstreamError], message: str) -> None:
    url = made("CREATE TABLE t (n)", "INSERT INTO t VALUES (1)")
    with pytest.raises(kind, match=message):
        read_query(url, query)
    assert read(parse_table(f"{url}#t"))[1] == {"n": [1]}


def test_a_table_that_is_not_there_is_answered_with_one_that_is(made: Made) -> None:
    url = made("CREATE TABLE weather (n)")
    with pytest.raises(UnknownTable, match="no table 'wether'; there is: weather"):
        read(parse_table(f"{url}#wether"))


def test_what_is_no_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="unable to open database file; check the path"):
        read_query(f"sqlite:///{tmp_path}/nowhere.db", "SELECT 1 AS a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.db").write_text("no database " * 1000)
    with pytest.raises(DatabaseError, match="file is not a database; check that"):
        read_query(f"sqlite:///{tmp_path}/text.db", "SELECT 1 AS a")


def test_a_path_may_be_relative_and_hold_any_signs(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made("CREATE TABLE t (n)", name="100% käse?.db")
    monkeypatch.chdir(tmp_path)
    with open_database("sqlite:///100%25 käse%3F.db") as database:
        assert database.read(parse_query("sqlite:///x#q=SELECT 1 AS a")).rows == 1


def test_more_columns_than_one_result_may_have_are_counted(made: Made) -> None:
    columns = ", ".join(f"c{number}" for number in range(500))
    url = made(f"CREATE TABLE t ({columns})", f"INSERT INTO t VALUES ({', '.join(['1'] * 500)})")
    assert read(parse_table(f"{url}#t"))[0].rows == 1


def test_a_database_in_utf16_is_read_as_any_other(made: Made) -> None:
    url = made(
        "PRAGMA encoding = 'UTF-16'", "CREATE TABLE t (a TEXT PRIMARY KEY)", "INSERT INTO t VALUES ('🧀'), ('ä'), ('z')"
    )
    assert sorted(read(parse_table(f"{url}#t"))[1]["a"]) == ["z", "ä", "🧀"]
