"""Tables in snapshots: the canonical order, a digest that depends on rows alone, and damage that is found."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstream.databases import Column, TableRows, open_database, parse_query, parse_table
from mlstream.databases.arrow import arrow_type
from mlstream.databases.types import parse_type
from mlstream.errors import DatabaseError, IntegrityError
from mlstream.snapshots import table_objects, tables
from mlstream.snapshots.content import TableContent
from mlstream.snapshots.tables import FrozenTable, check_table, freeze_table, read_table_rows
from tests.databases.postgres_server import Postgres
from tests.snapshots import plain_table


def table_rows(
    kinds: dict[str, str], rows: Sequence[Sequence[Any]], key: tuple[str, ...] = (), batch: int = 1000
) -> TableRows:
    """What a database would give, from Python values, in the order given."""
    schema = pa.schema([pa.field(name, arrow_type(parse_type(kind), 4)) for name, kind in kinds.items()])
    columns = [pa.array([row[n] for row in rows], field.type) for n, field in enumerate(schema)]
    whole = pa.Table.from_arrays(columns, schema=schema)
    described = tuple(Column(name, kind) for name, kind in kinds.items())
    return TableRows("t", None, described, key, len(rows), schema, lambda: iter(whole.to_batches(max_chunksize=batch)))


def held(frozen: FrozenTable) -> Callable[[str], Path]:
    return lambda digest: frozen.objects[digest][0]


def values(frozen: FrozenTable) -> list[tuple[Any, ...]]:
    """The rows of the objects, read by DuckDB."""
    found = []
    for piece in frozen.pieces:
        found += duckdb.sql(f"SELECT * FROM read_parquet('{frozen.objects[piece.object][0]}')").fetchall()
    return found


def check(frozen: FrozenTable) -> None:
    check_table(frozen.content, read_table_rows(frozen.content, frozen.pieces, held(frozen)))


KINDS = {"id": "int32", "name": "text", "price": "decimal"}
ROWS = [(3, "c", Decimal("1.5")), (1, "a", None), (2, None, Decimal("-7.25")), (-5, "", Decimal(0))]


def test_rows_come_in_the_order_of_the_key_however_they_were_given(tmp_path: Path) -> None:
    found = set()
    for number in range(5):
        rows = random.Random(number).sample(ROWS, len(ROWS))
        frozen = freeze_table(table_rows(KINDS, rows, ("id",), batch=1 + number), tmp_path)
        assert [row[0] for row in values(frozen)] == [-5, 1, 2, 3]
        check(frozen)
        found.add(frozen.content)
    assert found == {replace(frozen.content, records_digest=plain_table.digest(ROWS, [*KINDS.values()], key=[0]))}


def test_without_a_key_whole_rows_are_the_order_and_may_repeat(tmp_path: Path) -> None:
    rows = [(2, "b", None), (1, "z", None), (1, "a", None), (1, "a", None)]
    frozen = freeze_table(table_rows(KINDS, rows), tmp_path)
    assert values(frozen) == [(1, "a", None), (1, "a", None), (1, "z", None), (2, "b", None)]
    assert frozen.content.primary_key == ()
    assert frozen.content.records_digest == plain_table.digest(rows, [*KINDS.values()])
    check(frozen)


def test_a_key_that_does_not_tell_rows_apart_is_none(tmp_path: Path) -> None:
    rows = [(None, "b", None), (1, "a", None), (None, "a", None)]
    frozen = freeze_table(table_rows(KINDS, rows, ("id",)), tmp_path)
    assert frozen.content.primary_key == ()
    assert values(frozen) == [(1, "a", None), (None, "a", None), (None, "b", None)]
    check(frozen)


def test_many_rows_are_sorted_as_few_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_RUN_BYTES", 100_000)  # several runs, as a table of gigabytes has
    rows = [(number, f"name {number}", Decimal(number) / 8) for number in range(70_000)]
    frozen = freeze_table(table_rows(KINDS, random.Random(1).sample(rows, len(rows)), ("id",)), tmp_path)
    assert frozen.content.records_digest == plain_table.digest(rows, [*KINDS.values()], key=[0])
    check(frozen)


def test_rows_in_order_are_never_held_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("all rows in memory")

    monkeypatch.setattr(tables, "_sorted_rows", refuse)
    freeze_table(table_rows(KINDS, sorted(ROWS), ("id",)), tmp_path)
    with pytest.raises(AssertionError):
        freeze_table(table_rows(KINDS, ROWS, ("id",)), tmp_path)


def test_what_an_attempt_left_is_removed(tmp_path: Path) -> None:
    rows = [(number, "x" * 50, None) for number in range(200_000)] + [(-1, "", None)]
    frozen = freeze_table(table_rows(KINDS, rows, ("id",), batch=50_000), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {piece.object for piece in frozen.pieces}


def test_a_big_table_has_several_objects_and_the_same_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(number, f"{number:08}", None) for number in range(30_000)]
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    one = freeze_table(table_rows(KINDS, rows, ("id",)), tmp_path / "one")
    monkeypatch.setattr(table_objects, "_GROUP_ROWS", 4_000)
    monkeypatch.setattr(table_objects, "_OBJECT_BYTES", 300_000)
    many = freeze_table(table_rows(KINDS, rows, ("id",)), tmp_path / "many")
    assert len(one.pieces) == 1
    assert len(many.pieces) > 2
    assert many.content == one.content
    assert sum(piece.rows for piece in many.pieces) == 30_000
    check(many)
    assert pl.concat([pl.scan_parquet(held(many)(piece.object)) for piece in many.pieces]).collect()["id"].is_sorted()


def test_the_digest_does_not_depend_on_how_parquet_is_written(tmp_path: Path) -> None:
    frozen = freeze_table(table_rows(KINDS, ROWS, ("id",)), tmp_path)
    table = pq.read_table(held(frozen)(frozen.pieces[0].object))
    for number, settings in enumerate(({"compression": "none", "row_group_size": 1}, {"use_dictionary": False})):
        other = tmp_path / f"other-{number}"
        pq.write_table(table, other, **settings)
        check_table(frozen.content, read_table_rows(frozen.content, frozen.pieces, lambda _, path=other: path))


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    frozen = freeze_table(table_rows(KINDS, []), tmp_path)
    assert [piece.rows for piece in frozen.pieces] == [0]
    assert frozen.content.records_digest == plain_table.digest([], [])
    assert pl.scan_parquet(held(frozen)(frozen.pieces[0].object)).collect_schema().names() == list(KINDS)
    check(frozen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.slice(1), "fewer rows"),
        (
            lambda table: table.set_column(1, "name", pa.array(["a", None, "c", "d"])),
            "not those of the manifest's digest",
        ),
        (lambda table: table.take([1, 0, 2, 3]), "not in order near row 0"),
        (lambda table: table.take([0, 0, 2, 3]), "not in order near row 0"),
        (lambda table: table.rename_columns(["id", "named", "price"]), "other columns than the manifest says"),
        (lambda table: table.set_column(0, "id", table["id"].cast("int64")), "other columns than the manifest says"),
        (lambda table: table.append_column("more", table["id"]), "other columns than the manifest says"),
    ],
)
def test_rows_that_are_not_those_of_the_manifest_are_found(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    frozen = freeze_table(table_rows(KINDS, ROWS, ("id",)), tmp_path)
    forged = tmp_path / "forged"
    pq.write_table(change(pq.read_table(held(frozen)(frozen.pieces[0].object))), forged)
    with pytest.raises(IntegrityError, match=f"table t: .*{message}"):
        check_table(frozen.content, read_table_rows(frozen.content, frozen.pieces, lambda _: forged))


def test_an_object_that_is_no_parquet_or_not_there_is_named(tmp_path: Path) -> None:
    frozen = freeze_table(table_rows(KINDS, ROWS, ("id",)), tmp_path)
    broken = tmp_path / "broken"
    broken.write_bytes(b"PAR1 no PAR1")
    for path, message in ((broken, "cannot be read"), (tmp_path / "nowhere", "is missing")):
        with pytest.raises(IntegrityError, match=f"table t: object .*{message}"):
            list(read_table_rows(frozen.content, frozen.pieces, lambda _, path=path: path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"columns": [{"name": "a", "type": "varchar"}]}, "not a type of this format"),
        ({"columns": [{"name": "a", "type": "text"}, {"name": "a", "type": "text"}]}, "not those of a table"),
        ({"columns": [{"name": "a", "type": "text"}], "primary_key": ["b"]}, "not those of a table"),
        ({"columns": []}, "not those of a table"),
    ],
)
def test_a_manifest_with_other_types_is_refused(content: dict[str, Any], message: str) -> None:
    found = {"name": "t", "query": None, "primary_key": [], "rows": "0", "records_digest": "0" * 64, **content}
    with pytest.raises(IntegrityError, match=message):
        list(read_table_rows(TableContent.of(found), (), Path))


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "-x", "a b", "x" * 129])
def test_a_manifest_whose_table_has_a_path_for_a_name_is_refused(name: str) -> None:
    found = {"name": name, "query": None, "columns": [], "primary_key": [], "rows": "0", "records_digest": "0" * 64}
    with pytest.raises(ValueError, match="a name holds"):
        TableContent.of(found)


def test_a_query_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    rows = table_rows(KINDS, ROWS, ("id",))
    with pytest.raises(DatabaseError, match="4 rows came where 5 were counted"):
        freeze_table(replace(rows, rows=5), tmp_path)
    assert not list(tmp_path.iterdir())


EVERY_TYPE = """
CREATE TABLE every (
    t text PRIMARY KEY, a bool, b int2, c int8, d float4, e float8, f numeric, g numeric(12,3), h bytea, i date, j time,
    k timestamp, l timestamptz, m interval, n json, o jsonb, p uuid, q mood, r int4[], s text[]
)
"""


def test_every_type_of_postgresql_has_the_digest_of_the_plain_twin(postgres: Postgres, tmp_path: Path) -> None:
    postgres.run(
        "CREATE TYPE mood AS ENUM ('low', 'high')",
        EVERY_TYPE,
        "INSERT INTO every SELECT chr(1000 + (i * 7919) % 5000) || i, i % 2 = 0, i, i * 10^12::int8, i / 7.0, "
        "-i / 7.0, i / 7.0, i / 8.0, decode(md5(i::text), 'hex'), '2024-01-01'::date - i, "
        "'00:00'::time + i * '1.5 s'::interval, '1969-12-01'::timestamp + i * '1 day'::interval, "
        "'2024-01-01 00:00+01'::timestamptz + i * '1 us'::interval, "
        "make_interval(months => -i, days => i, secs => i / 4.0), json_build_object('i', i), "
        "jsonb_build_object('i', i), md5(i::text)::uuid, CASE WHEN i % 2 = 0 THEN 'low' ELSE 'high' END::mood, "
        "array[[i, NULL], [2, 3]], array['', NULL, i::text] FROM generate_series(1, 500) i",
        "INSERT INTO every (t) VALUES ('nothing')",
    )
    with open_database(postgres.url) as database:
        frozen = freeze_table(database.read(parse_table(f"{postgres.url}#every")), tmp_path)
    kinds = [column.type for column in frozen.content.columns]
    rows = [
        tuple(row)
        for batch in read_table_rows(frozen.content, frozen.pieces, held(frozen))
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    ]
    # psycopg has intervals without months, and JSON as objects: these are compared as texts by the type tests.
    names = [column.name for column in frozen.content.columns]
    plain = [name for name in names if name not in "mnopq"]
    there = postgres.rows(f'SELECT {", ".join(plain)} FROM every ORDER BY t COLLATE "C"')
    places = [names.index(name) for name in plain]
    shortened = names.index("d")  # psycopg reads a float4 as its shortest text
    mine = [tuple(pytest.approx(row[n]) if n == shortened else row[n] for n in places) for row in rows]
    assert [tuple(map(unmemory, row)) for row in there] == mine
    assert frozen.content.records_digest == plain_table.digest(rows, kinds, key=[0])
    check(frozen)


def unmemory(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value


def test_postgresql_sorts_what_it_can_as_the_format_does(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("sorted here")

    monkeypatch.setattr(tables, "_sorted_rows", refuse)
    query = (
        "SELECT chr(30 + (i * 7919) % 9000) AS a, CASE WHEN i % 3 = 0 THEN NULL ELSE -i END AS b, (i / 7.0) AS c, "
        "md5(i::text)::uuid AS d, '2024-01-01'::date - i AS e, decode(md5(i::text), 'hex') AS f, i % 2 = 0 AS g, "
        "json_build_object('i', i) AS h, -i / 7.0::float8 AS k FROM generate_series(1, 3000) i"
    )
    with open_database(postgres.url) as database:
        for first in "abcdefghk":
            rest = ", ".join(name for name in "abcdefghk" if name != first)
            asked = parse_query(f"{postgres.url}#q=SELECT {first}, {rest} FROM ({query}) AS q")
            check(freeze_table(database.read(asked), tmp_path))


def test_what_postgresql_sorts_otherwise_is_sorted_here(postgres: Postgres, tmp_path: Path) -> None:
    query = (
        "SELECT '1 mon'::interval AS a, array[i] AS b, CASE WHEN i % 2 = 0 THEN '-0'::float8 ELSE 0 END AS c, i "
        "FROM generate_series(1, 50) i"
    )
    with open_database(postgres.url) as database:
        for columns in ("a, i", "b, i", "c, i"):
            frozen = freeze_table(
                database.read(parse_query(f"{postgres.url}#q=SELECT {columns} FROM ({query}) AS q")), tmp_path
            )
            check(frozen)


def test_the_same_rows_have_the_same_digest_in_postgresql_and_in_sqlite(postgres: Postgres, tmp_path: Path) -> None:
    create = "CREATE TABLE t (id bigint PRIMARY KEY, name text)"
    insert = "INSERT INTO t VALUES (2, 'zwei'), (-1, 'Ähre'), (10, NULL), (3, '')"
    postgres.run(create, insert)
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.execute(create)
        connection.execute(insert)
        connection.commit()
    found = set()
    for url in (postgres.url, f"sqlite:///{tmp_path}/a.db"):
        with open_database(url) as database:
            found.add(freeze_table(database.read(parse_table(f"{url}#t")), tmp_path).content)
    assert len(found) == 1
