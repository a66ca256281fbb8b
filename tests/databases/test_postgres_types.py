"""Every type of PostgreSQL survives exactly, or is refused by name. psycopg says what is there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from mlstream.databases import open_database, parse_query, parse_table
from mlstream.errors import DatabaseError
from tests.databases.postgres_server import Postgres, fresh_database
from tests.databases.reading import read, read_query

# SQL type, values as SQL, and the word of the snapshot's type. All values are compared with what psycopg reads.
SAME_AS_PSYCOPG = [
    ("bool", ["true", "false"], "bool"),
    ("int2", ["-32768", "32767"], "int16"),
    ("int4", ["-2147483648", "2147483647"], "int32"),
    ("int8", ["-9223372036854775808", "9223372036854775807"], "int64"),
    ("oid", ["0", "4294967295"], "int64"),
    ("float4", ["1.1", "-3.4028235e38", "1e-45", "'Infinity'"], "float32"),
    ("float8", ["0.1", "-1.7976931348623157e308", "5e-324", "'-Infinity'"], "float64"),
    ("numeric", ["1.5", "-123456789012345678.12345", "0", "1/3.0", "1e17"], "decimal"),
    ("numeric(12,2)", ["1.5", "-9999999999.99"], "decimal"),
    ("text", ["''", "'käse\t🧀'", "repeat('x', 100000)"], "text"),
    ("varchar(3)", ["''", "'abc'"], "text"),
    ("char(4)", ["'ab'"], "text"),
    ("name", ["'n'"], "text"),
    ("bytea", ["''", r"'\x00ff01'"], "binary"),
    ("date", ["'0001-01-01'", "'9999-12-31'", "'1969-12-31'"], "date"),
    ("time", ["'00:00'", "'23:59:59.999999'"], "time"),
    ("timestamp", ["'0001-01-01'", "'9999-12-31 23:59:59.999999'"], "timestamp"),
    ("timestamptz", ["'0001-01-02 00:00+00'", "'2024-03-31 02:30:00.000001+02'"], "timestamptz"),
    ("int4[]", ["'{}'", "'{1,NULL,3}'"], "list(int32)"),
    ("int4[]", ["'{}'", "'{{1,NULL},{3,4}}'", "'{{5}}'"], "list(list(int32))"),
    ("int8[]", ["'{{{1,2}},{{3,4}}}'"], "list(list(list(int64)))"),
    ("text[]", ["'{}'", """'{"",NULL,"a,b","NULL"}'"""], "list(text)"),
    ("numeric[]", ["'{1.50,NULL,-3}'"], "list(decimal)"),
    ("timestamptz[]", ["'{2024-03-31 02:30+02,NULL}'"], "list(timestamptz)"),
    ("bytea[]", [r"array['\x00'::bytea, '']"], "list(binary)"),
    ("bool[]", ["'{t,f,NULL}'"], "list(bool)"),
]
AS_TEXT = [
    ("json", ["""'{"b": 1.0, "a":  [1, 1e400]}'""", "'null'", """'""'"""], "json"),
    ("jsonb", ["""'{"b": 1.0, "a":  [1]}'""", "'null'"], "jsonb"),
    ("uuid", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"], "uuid"),
    ("mood", ["'so so'", "'it''s ok'"], "enum('so so','it''s ok')"),
    ("uuid[]", ["'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}'"], "list(uuid)"),
    ("mood[]", ["""'{so so,NULL}'"""], "list(enum('so so','it''s ok'))"),
]


@pytest.fixture(scope="module")
def shared(postgres_server: str) -> Iterator[Postgres]:
    """A database for tests that change nothing in it."""
    with fresh_database(postgres_server) as database:
        database.run("CREATE TYPE mood AS ENUM ('so so', 'it''s ok')")
        yield database


def values_of(values: list[str], kind: str) -> str:
    rows = [f"({number}, ({value})::{kind})" for number, value in enumerate([*values, "NULL"])]
    return f"SELECT number, value FROM (VALUES {', '.join(rows)}) AS v(number, value)"


@pytest.mark.parametrize(("kind", "values", "word"), SAME_AS_PSYCOPG, ids=[f"{k} {w}" for k, _, w in SAME_AS_PSYCOPG])
def test_values_are_those_that_another_client_reads(shared: Postgres, kind: str, values: list[str], word: str) -> None:
    query = values_of(values, kind)
    rows, found = read_query(shared.url, query)
    assert rows.columns[1].type == word
    # psycopg reads a float4 as the shortest text of it; as a float8 it is the number.
    there = dict(shared.rows(f"SELECT number, value::float8 FROM ({query}) AS q" if kind == "float4" else query))
    assert dict(zip(found["number"], found["value"], strict=True)) == there
    assert there[len(values)] is None


@pytest.mark.parametrize(("kind", "values", "word"), AS_TEXT, ids=[kind for kind, _, _ in AS_TEXT])
def test_what_arrow_has_no_type_for_is_its_text(shared: Postgres, kind: str, values: list[str], word: str) -> None:
    query = values_of(values, kind)
    rows, found = read_query(shared.url, query)
    assert rows.columns[1].type == word
    cast = "text[]" if kind.endswith("[]") else "text"
    there = dict(shared.rows(f"SELECT number, value::{cast} FROM ({query}) AS q"))
    assert dict(zip(found["number"], found["value"], strict=True)) == there


def test_nan_and_negative_zero_stay(shared: Postgres) -> None:
    _, found = read_query(shared.url, "SELECT 1 AS n, 'NaN'::float8 AS x UNION SELECT 2, '-0'::float8")
    nan, zero = (dict(zip(found["n"], found["x"], strict=True))[n] for n in (1, 2))
    assert math.isnan(nan)
    assert math.copysign(1, zero) == -1


def test_an_interval_keeps_months_days_and_microseconds_apart(shared: Postgres) -> None:
    rows, found = read_query(
        shared.url, "SELECT '-5 mon 40 days 36:00:00.000001'::interval AS x, array['1 mon'::interval, NULL] AS y"
    )
    assert [column.type for column in rows.columns] == ["interval", "list(interval)"]
    assert found["x"] == [{"months": -5, "days": 40, "microseconds": 129_600_000_001}]
    assert found["y"] == [[{"months": 1, "days": 0, "microseconds": 0}, None]]


def test_days_and_moments_before_christ_are_exact(shared: Postgres) -> None:
    query = "SELECT d, d::timestamp AS t, d - '1970-01-01'::date AS n FROM (VALUES ('4713-01-01 BC'::date)) AS v(d)"
    with open_database(shared.url) as database:
        (batch,) = database.read(parse_query(f"{shared.url}#old={query}")).batches()
    days = shared.rows(f"SELECT n FROM ({query}) AS q")[0][0]
    assert batch["n"].to_pylist() == batch["d"].cast(pa.int32()).to_pylist() == [days]
    assert batch["t"].cast(pa.int64()).to_pylist() == [days * 86_400_000_000]


def test_a_column_that_declares_its_digits_has_them_in_its_type(postgres: Postgres) -> None:
    postgres.run(
        "CREATE DOMAIN euros AS numeric(10,2)",
        "CREATE TABLE t (a numeric(12,4), b numeric, c euros, d numeric(50,2), e numeric(3,-1), f numeric(8,2)[])",
        "INSERT INTO t VALUES (1.5, 1.50, 2, 3, 120, '{1}')",
    )
    rows, found = read(parse_table(f"{postgres.url}#t"))
    words = ["decimal(12,4)", "decimal", "decimal(10,2)", "decimal(50,2)", "decimal", "list(decimal(8,2))"]
    assert [column.type for column in rows.columns] == words
    assert [str(found[name][0]) for name in "abcde"] == ["1.5000", "1.5", "2.00", "3", "120"]
    assert found["f"] == [[Decimal("1.00")]]


def test_a_domain_is_what_it_is_made_of(postgres: Postgres) -> None:
    postgres.run("CREATE DOMAIN age AS int2 CHECK (value > 0)", "CREATE DOMAIN ages AS age[]")
    rows, found = read_query(postgres.url, "SELECT 3::age AS a, array[4]::age[] AS b, array[5]::ages AS c")
    assert [column.type for column in rows.columns] == ["int16", "list(int16)", "list(int16)"]
    assert found == {"a": [3], "b": [[4]], "c": [[5]]}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("'NaN'::numeric", "column 'x' holds NaN, which is no decimal"),
        ("'-Infinity'::numeric", "column 'x' holds -Infinity, which is no decimal"),
        ("array[1, 'NaN']::numeric[]", "column 'x' holds NaN, which is no decimal"),
        ("1e38::numeric", "decimals with 39 digits before and 0 after the point"),
        ("'infinity'::timestamptz", "column 'x' holds infinity, -infinity or what is past Arrow's last day"),
        ("'-infinity'::timestamp", "holds infinity, -infinity"),
        ("'infinity'::date", "holds infinity, -infinity"),
        ("'-infinity'::date", "holds infinity, -infinity"),
        ("array['infinity'::date]", "holds infinity, -infinity"),
        ("'294276-12-31'::timestamp", "past Arrow's last day"),
        ("'24:00'::time", "column 'x' holds 24:00:00"),
        ("'3000000 hours'::interval", "cast what is odd in it to text"),
        ("'[0:1]={1,2}'::int[]", r"arrays that do not begin at 1 \(\[0:1\]\)"),
        ("'[2:3]={1,2}'::int[]", "lower bound"),
        ("1::money", "column 'x' has the type money"),
        ("'10.0.0.1'::inet", "column 'x' has the type inet.*cast it in a query"),
        ("'[1,2)'::int4range", "column 'x' has the type int4range"),
        ("row(1, 2)", "column 'x' has the type record"),
        ("point(1, 2)", "column 'x' has the type point"),
        ("'12:00+02'::timetz", "column 'x' has the type time with time zone"),
        ("array['10.0.0.1'::inet]", r"column 'x' has the type inet\[\]"),
    ],
)
def test_what_has_no_exact_form_is_refused_by_name(shared: Postgres, value: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message):
        read_query(shared.url, f"SELECT {value} AS x")


def test_arrays_of_one_and_of_two_dimensions_are_not_one_column(shared: Postgres) -> None:
    with pytest.raises(DatabaseError, match=r"arrays of one dimension and of more.*to_jsonb"):
        read_query(shared.url, "SELECT '{1}'::int[] AS x UNION ALL SELECT '{{1}}'")


def test_decimals_that_fit_one_by_one_but_not_in_one_column_are_refused(shared: Postgres) -> None:
    with pytest.raises(DatabaseError, match="30 digits before and 10 after the point"):
        read_query(shared.url, "SELECT 1e29 AS x UNION ALL SELECT 0.0000000001")


def test_rows_that_cannot_be_kept_are_named_by_their_key(postgres: Postgres) -> None:
    postgres.run(
        "CREATE TABLE t (id int PRIMARY KEY, day date)",
        "INSERT INTO t SELECT i, CASE WHEN i % 100 = 7 THEN 'infinity' ELSE '2024-01-01' END::date "
        "FROM generate_series(1, 1000) i",
    )
    with pytest.raises(DatabaseError) as caught:
        read(parse_table(f"{postgres.url}#t"))
    assert "where id = 7; id = 107; id = 207 and in 7 more rows at least" in caught.value.message
    fixed = 'SELECT id, CASE WHEN isfinite("day") THEN "day" END AS "day" FROM t'
    assert """SELECT …, CASE WHEN isfinite("day") THEN "day" END AS "day" FROM""" in str(caught.value.hint)
    _, found = read_query(postgres.url, fixed)
    assert found["day"].count(None) == 10


def test_a_query_means_the_same_whoever_asks(postgres: Postgres) -> None:
    odd = [
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "IntervalStyle = 'sql_standard'",
        "bytea_output = 'escape'",
    ]
    query = (
        "SELECT '2024-01-01 00:00+00'::timestamptz::text AS a, '1 mon 2 d'::interval::text AS b, "
        "'\\x00'::bytea::text AS c, '2024-01-02'::date::text AS d"
    )
    expected: dict[str, list[Any]] = {
        "a": ["2024-01-01 00:00:00+00"],
        "b": ["P1M2D"],
        "c": ["\\x00"],
        "d": ["2024-01-02"],
    }
    for setting in odd:
        name = postgres.rows("SELECT current_database()")[0][0]
        postgres.run(f"ALTER DATABASE {name} SET {setting}")
    assert postgres.rows(query) != [tuple(values[0] for values in expected.values())]
    assert read_query(postgres.url, query)[1] == expected
