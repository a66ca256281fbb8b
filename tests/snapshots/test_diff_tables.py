"""diff of tables and files, and what the command says of them; the plain twin of a table is a dict."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import mlstream
from mlstream.home import Home
from mlstream.snapshots.difference import TableDifference
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots.making import columns, make_snapshot, plain, values

Call = Callable[..., Any]
Freeze = Callable[..., Snapshot]


@pytest.fixture
def frozen(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Freeze:
    """Freeze a table `things` that is made by SQL and filled with rows."""
    monkeypatch.chdir(tmp_path)

    def freeze(name: str, table: str, rows: Iterable[Sequence[object]], *, query: str | None = None) -> Snapshot:
        path = f"{name}.db"
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"CREATE TABLE things ({table})")
            for row in rows:
                database.execute(f"INSERT INTO things VALUES ({', '.join('?' * len(row))})", row)
        if query is None:
            return mlstream.snapshot(name, tables=[f"sqlite:///{path}#things"], home=home)
        return mlstream.snapshot(name, queries=[f"sqlite:///{path}#things={query}"], home=home)

    return freeze


def table(old: Snapshot, new: Snapshot, *, limit: int = 100) -> TableDifference:
    (found,) = old.diff(new, limit=limit).tables
    return found


def counts(found: TableDifference) -> tuple[int, int, int, int]:
    return found.same, found.changed, found.removed, found.added


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_compared_by_their_primary_key(frozen: Freeze, seed: int) -> None:
    dice = random.Random(seed)
    old = {(dice.choice("ab"), n): dice.choice([None, "", "x", "y"]) for n in range(40_000) if dice.random() < 0.9}
    new = {key: value if dice.random() < 0.99 else "changed" for key, value in old.items() if dice.random() < 0.99}
    new |= {("new", n): "x" for n in range(dice.randrange(300))}
    declared = "who TEXT, n INTEGER, note TEXT, PRIMARY KEY (who, n)"
    found = table(
        frozen("a", declared, [(*key, value) for key, value in old.items()]),
        frozen("b", declared, [(*key, value) for key, value in new.items()]),
        limit=10_000,
    )
    changed = {key for key in old.keys() & new.keys() if old[key] != new[key]}
    assert found.primary_key == ("who", "n")
    assert counts(found) == (
        len(old.keys() & new.keys()) - len(changed),
        len(changed),
        len(old.keys() - new.keys()),
        len(new.keys() - old.keys()),
    )
    shown: dict[str, set[tuple[str, int]]] = {"changed": set(), "removed": set(), "added": set()}
    for row in found.rows:
        values = row.old if row.old is not None else row.new
        assert values is not None
        shown[row.change].add((values["who"], values["n"]))
        assert row.columns == (("note",) if row.change == "changed" else ())
    assert shown == {"changed": changed, "removed": old.keys() - new.keys(), "added": new.keys() - old.keys()}


def test_rows_without_a_key_are_compared_as_often_as_they_occur(frozen: Freeze) -> None:
    old = [("a", 1), ("a", 1), ("a", 1), ("b", None), ("c", 3)]
    new = [("a", 1), ("b", 0), ("c", 3), ("c", 3)]
    found = table(frozen("a", "name TEXT, n INTEGER", old), frozen("b", "name TEXT, n INTEGER", new))
    assert (found.primary_key, counts(found)) == ((), (2, 0, 3, 2))
    gone = Counter(tuple(row.old.values()) for row in found.rows if row.old is not None)
    come = Counter(tuple(row.new.values()) for row in found.rows if row.new is not None)
    assert gone == Counter([("a", 1), ("a", 1), ("b", None)])
    assert come == Counter([("b", 0), ("c", 3)])


def test_columns_that_come_go_or_change_their_type_are_named_and_the_others_compared(frozen: Freeze) -> None:
    old = frozen(
        "a", "id INTEGER PRIMARY KEY, same TEXT, gone TEXT, kind INTEGER", [(1, "a", "x", 1), (2, "b", "x", 1)]
    )
    new = frozen(
        "b", "id INTEGER PRIMARY KEY, same TEXT, kind TEXT, come REAL", [(1, "a", "1", 0.5), (2, "c", "1", 0.5)]
    )
    found = table(old, new)
    assert [(change.name, change.old is None, change.new is None) for change in found.columns] == [
        ("gone", False, True),
        ("kind", False, False),
        ("come", True, False),
    ]
    assert (found.primary_key, counts(found), found.order) == (("id",), (1, 1, 0, 0), False)
    assert [row.columns for row in found.rows] == [("same",)]


def test_columns_in_another_order_are_told_and_their_rows_are_the_same(frozen: Freeze) -> None:
    old = frozen("a", "id INTEGER PRIMARY KEY, one TEXT, two TEXT", [(1, "a", "b")])
    new = frozen("b", "id INTEGER PRIMARY KEY, two TEXT, one TEXT", [(1, "b", "a")])
    found = table(old, new)
    assert (found.change, found.order, counts(found)) == ("changed", True, (1, 0, 0, 0))


def test_another_key_or_query_is_told(frozen: Freeze) -> None:
    rows = [(1, "a"), (2, "b")]
    keyed = frozen("a", "id INTEGER PRIMARY KEY, name TEXT", rows)
    bare = frozen("b", "id INTEGER, name TEXT", rows)
    found = table(keyed, bare)
    assert (found.key, found.query, counts(found)) == (True, False, (2, 0, 0, 0))
    asked = frozen("c", "id INTEGER, name TEXT", rows, query="SELECT * FROM things")
    again = frozen("d", "id INTEGER, name TEXT", rows, query="SELECT id, name FROM things")
    found = table(asked, again)
    assert (found.query, found.change, counts(found)) == (True, "changed", (2, 0, 0, 0))


def test_values_are_the_same_when_their_bytes_are(frozen: Freeze) -> None:
    declared = "id INTEGER PRIMARY KEY, x REAL, b BLOB"
    old = frozen("a", declared, [(1, 0.3, b""), (2, 1.5, None), (3, 2.0, b"\x00")])
    new = frozen("b", declared, [(1, 0.1 + 0.2, b""), (2, 1.5, b""), (3, 2.0, b"\x00")])
    found = table(old, new)
    assert counts(found) == (1, 2, 0, 0)
    assert [row.columns for row in found.rows] == [("x",), ("b",)]


def test_an_empty_table_and_one_that_is_in_one_only(frozen: Freeze, home: Home) -> None:
    declared = "id INTEGER PRIMARY KEY"
    empty, full = frozen("a", declared, []), frozen("b", declared, [(n,) for n in range(5)])
    assert counts(table(empty, full)) == (0, 0, 0, 5)
    assert counts(table(full, empty)) == (0, 0, 5, 0)
    none = make_snapshot(home, "none", {"t": {0: plain(1)}})
    alone = table(none, full)
    assert (alone.change, alone.old_rows, alone.new_rows, alone.added) == ("added", None, 5, 5)


@pytest.fixture
def both(frozen: Freeze, home: Home) -> tuple[str, str]:
    """Two snapshots of files and a table, which differ in everything."""
    for name, files, rows in (
        ("old", {"kept": "k", "edited": "a", "gone": "g"}, [(1, "a"), (2, "b\x1b[31m"), (3, "c")]),
        ("new", {"kept": "k", "edited": "longer", "came": "n"}, [(1, "a"), (2, "B"), (4, "d")]),
    ):
        for file in Path().glob("*.txt"):
            file.unlink()
        for stem, text in files.items():
            Path(f"{stem}.txt").write_text(text)
        with closing(sqlite3.connect("shop.db")) as database, database:
            database.execute("DROP TABLE IF EXISTS things")
            database.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
            database.executemany("INSERT INTO things VALUES (?, ?)", rows)
        mlstream.snapshot(name, files=["*.txt"], tables=["sqlite:///shop.db#things"], home=home)
    return "old", "new"


def test_the_command_shows_tables_and_files_in_80_columns(bare_cli: Call, both: tuple[str, str]) -> None:
    said = bare_cli("snapshot", "diff", *both)
    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in said.stdout
    for line in (
        "~ table things  compared by id",
        "  rows: 1 same, 1 changed, 1 removed, 1 added",
        "~ id=2",
        "    - name  b\\x1b[31m",
        "    + name  B",
        "- id=3, name=c",
        "+ id=4, name=d",
        "~ edited.txt  1 B to 6 B",
        "- gone.txt  1 B",
        "+ came.txt  1 B",
    ):
        assert line in lines
    assert "kept.txt" not in said.stdout


def test_the_command_gives_one_json_object_and_an_exit_code_when_asked(bare_cli: Call, both: tuple[str, str]) -> None:
    old, new = both
    said = bare_cli("snapshot", "diff", old, new, "--json", "--exit-code", "--limit", "1")
    assert (said.exit_code, said.stderr) == (1, "")
    assert {file["path"]: file["change"] for file in said.json["files"]} == {
        "came.txt": "added",
        "edited.txt": "changed",
        "gone.txt": "removed",
    }
    (things,) = said.json["tables"]
    assert [things[count] for count in ("same", "changed", "removed", "added")] == [1, 1, 1, 1]
    assert things["rows"] == [
        {
            "change": "changed",
            "old": {"id": 2, "name": "b\x1b[31m"},
            "new": {"id": 2, "name": "B"},
            "columns": ["name"],
        }
    ]
    same = bare_cli("snapshot", "diff", old, old, "--exit-code")
    assert (same.exit_code, same.stdout.splitlines()[-1]) == (0, "they hold the same")
    unknown = bare_cli("snapshot", "diff", old, "nothing")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "no snapshot is called 'nothing'" in unknown.stderr


def test_the_command_shows_records_in_80_columns(bare_cli: Call, home: Home) -> None:
    one = columns(values([b'{"price": 1}', b"same", b"gone", b"\xff\x00", b"x" * 500]))
    other = columns(values([b'{"price": 2}', b"same", b"", None, b"y" * 500]))
    offsets = pa.array([0, 1, 7_000_000_000, 7_000_000_001, 7_000_000_002], pa.int64())
    make_snapshot(home, "a", {"t": {0: one, 1: plain(3)}})
    make_snapshot(home, "b", {"t": {0: other.set_column(0, "offset", offsets), 1: plain(3)}})
    said = bare_cli("snapshot", "diff", "a", "b")
    lines = said.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "~ t  compared by offset" in lines
    assert "~ [0]@0" in lines
    assert '    - value  {"price": 1}' in lines
    assert '    + value  {"price": 2}' in lines
    assert "- [0]@3  k3  0xff00" in lines
    assert "  1 more partition is the same" in lines
    found = bare_cli("snapshot", "diff", "a", "b", "--json").json["streams"][0]
    assert [record["change"] for record in found["records"]] == ["changed", "removed", "removed", "removed"]
    assert found["records"][2]["old"]["value"] == {"base64": "/wA="}
    none = bare_cli("snapshot", "diff", "a", "b", "--limit", "0")
    assert "  and 4 more records (--limit shows more)" in none.stdout.splitlines()


def test_long_values_are_shown_where_they_begin_to_differ(bare_cli: Call, home: Home) -> None:
    for name, last in (("a", b"old"), ("b", b"new")):
        make_snapshot(home, name, {"t": {0: columns(values([b"0123456789" * 100 + last + b"x" * 500]))}})
    lines = bare_cli("snapshot", "diff", "a", "b").stdout.splitlines()
    for sign, end in (("-", "old"), ("+", "new")):
        shown = f"    {sign} value  …890123456789{end}"
        assert shown + "x" * (79 - len(shown)) + "…" in lines
