"""What pandas, DuckDB, polars, PostgreSQL and Spark make of exported files, read as the README beside them says."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream import snapshot
from mlstream.databases.arrow import INTERVAL
from mlstream.home import Home
from mlstream.snapshots.export_cells import cells_of
from mlstream.snapshots.export_files import csv_of, json_lines_of
from mlstream.wire.columns import HEADERS
from tests.databases.postgres_server import Postgres
from tests.snapshots.exporting import ODD, bytes_of, plain_rows, record_of
from tests.snapshots.making import columns, make_snapshot, plain

COLUMNS = ("partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers")


@pytest.fixture
def exported(home: Home, tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a topic with a partition of odd and one of many records, in a format."""

    def write(kind: Any) -> Path:
        made = make_snapshot(home, "odd", {"ticks": {0: columns(ODD), 1: plain(1000)}})
        return made.export(tmp_path / "out", format=kind).folder / "streams" / "ticks"

    return write


def as_records(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of a Parquet reader in the form of `plain_rows`."""
    return [
        (
            *(row[name] for name in COLUMNS[:-1]),
            [(bytes(pair["key"]), None if pair["value"] is None else bytes(pair["value"])) for pair in row["headers"]],
        )
        for row in rows
    ]


def test_duckdb_reads_parquet(home: Home, tmp_path: Path) -> None:
    rows = ODD[:-1]  # DuckDB counts microseconds, and refuses times after the year 294246
    made = make_snapshot(home, "odd", {"ticks": {0: columns(rows), 1: plain(1000)}})
    folder = made.export(tmp_path / "out").folder / "streams" / "ticks"
    names = ", ".join(f'"{name}"' for name in COLUMNS if name != "timestamp")
    found = duckdb.sql(
        f"SELECT {names}, epoch_ms(timestamp) AS timestamp FROM '{folder}/*-00000.parquet' ORDER BY \"offset\""
    )
    assert as_records([dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]) == plain_rows(rows)
    assert duckdb.sql(f"SELECT count(*), sum(\"offset\") FROM '{folder}/*.parquet'").fetchall() == [
        (1006, sum(range(1000)) + sum(row.offset for row in rows))
    ]


def test_pandas_and_polars_read_parquet(exported: Callable[[str], Path]) -> None:
    folder = exported("parquet")
    frame = pd.read_parquet(folder)
    assert len(frame) == 1007
    assert list(frame.columns) == list(COLUMNS)
    assert frame["value"].iloc[:7].tolist() == [row.value for row in ODD]
    found = pl.read_parquet(folder / "partition-00000.parquet").with_columns(pl.col("timestamp").cast(pl.Int64))
    assert as_records(found.to_dicts()) == plain_rows(ODD)


def test_duckdb_reads_csv(exported: Callable[[str], Path]) -> None:
    folder = exported("csv")
    rows = duckdb.sql(f"SELECT * FROM read_csv('{folder}/*-00000.csv', all_varchar=true)")
    found = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
    assert [record_of({k: v or "" for k, v in row.items()}) for row in found] == plain_rows(ODD)
    assert duckdb.sql(f"SELECT count(*) FROM read_csv('{folder}/*.csv', all_varchar=true)").fetchall() == [(1007,)]


def test_pandas_reads_csv(exported: Callable[[str], Path]) -> None:
    folder = exported("csv")
    frame = pd.read_csv(folder / "partition-00000.csv", keep_default_na=False, dtype=str, lineterminator="\n")
    assert [record_of(row) for row in frame.to_dict("records")] == plain_rows(ODD)
    many = pd.read_csv(folder / "partition-00001.csv")
    assert many["offset"].tolist() == list(range(1000))
    assert pd.to_datetime(many["timestamp"]).iloc[999] == pd.Timestamp("1970-01-01T00:00:00.999Z")


def test_duckdb_reads_json_lines(exported: Callable[[str], Path]) -> None:
    folder = exported("jsonl")
    text = ", ".join(f"{name}: 'VARCHAR'" for name in ("timestamp", "key", "key_encoding", "value", "value_encoding"))
    pair = "STRUCT(key VARCHAR, key_encoding VARCHAR, value VARCHAR, value_encoding VARCHAR)[]"
    types = f"{{partition: 'INTEGER', \"offset\": 'BIGINT', timestamp_type: 'INTEGER', headers: '{pair}', {text}}}"
    rows = duckdb.sql(f"SELECT * FROM read_json('{folder}/*-00000.jsonl', columns={types})")
    found = [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]
    assert [record_of(row) for row in found] == plain_rows(ODD)
    assert duckdb.sql(f"SELECT count(*) FROM read_json('{folder}/*.jsonl')").fetchall() == [(1007,)]


def test_pandas_reads_json_lines(exported: Callable[[str], Path]) -> None:
    folder = exported("jsonl")
    frame = pd.read_json(folder / "partition-00000.jsonl", lines=True, dtype=False)
    found = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert [record_of(row) for row in found] == plain_rows(ODD)


# Tables

EVERY_TYPE = """CREATE TABLE every (
    id int PRIMARY KEY, yes bool, small smallint, big bigint, f4 real, f8 double precision, exact numeric(30, 4),
    loose numeric, words text, day date, clock time, moment timestamp, instant timestamptz, span interval,
    doc jsonb, raw json, number uuid)"""
ROWS = (
    """INSERT INTO every VALUES (1, true, -32768, 9223372036854775807, 0.1, 1e300, 12345678901234567890123456.7891,
    1e-20, E'a,"b"\\n\\r c', '2013-10-01', '23:59:59.999999', '0099-01-01 00:00:00.000001', '2013-10-01 06:00+02',
    '1 year -2 days 3.5 seconds', '{"a": [1, null]}', '{"a":  1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')""",
    "INSERT INTO every (id, words, f8, f4) VALUES (2, '', 'NaN', '-Infinity')",
    "INSERT INTO every (id, words, exact) VALUES (3, 'NULL', 0), (4, NULL, -0.0001)",
)


def test_postgres_takes_an_exported_table_back_as_it_was(postgres: Postgres, home: Home, tmp_path: Path) -> None:
    postgres.run(EVERY_TYPE, *ROWS)
    made = snapshot("tables", tables=[f"{postgres.url}#every"], home=home)
    done = made.export(tmp_path / "out", format="csv")
    postgres.run("CREATE TABLE again (LIKE every)")
    with postgres.connect() as connection, connection.cursor().copy("COPY again FROM STDIN (FORMAT csv, HEADER)") as to:
        to.write((done.folder / "tables" / "every.csv").read_bytes())
    for column in ("words", "exact", "loose", "f4", "f8", "instant", "moment", "clock", "span", "doc", "number"):
        wrong = f"SELECT * FROM every e JOIN again a USING (id) WHERE e.{column} IS DISTINCT FROM a.{column}"
        assert postgres.rows(wrong) == [], column
    same = "SELECT e.*::text FROM every e EXCEPT SELECT a.*::text FROM again a"
    assert postgres.rows(same.replace("e.*::text", "e::text").replace("a.*::text", "a::text")) == []
    assert postgres.rows("SELECT count(*) FROM again") == [(4,)]


def test_tables_come_out_in_every_format_with_their_rows_in_order(home: Home, tmp_path: Path) -> None:
    rows = [(n, f"n{n}" if n % 3 else None) for n in range(5)]
    with closing(sqlite3.connect(tmp_path / "ref.db")) as connection:
        connection.execute("CREATE TABLE ref (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
        connection.executemany("INSERT INTO ref VALUES (?, ?, x'ff')", rows)
        connection.commit()
    url = f"sqlite:///{tmp_path}/ref.db"
    made = snapshot("t", tables=[f"{url}#ref"], queries=[f"{url}#none=SELECT id FROM ref WHERE id > 99"], home=home)
    for kind in ("parquet", "csv", "jsonl"):
        done = made.export(tmp_path / kind, format=kind)  # type: ignore[arg-type]
        assert done.rows == 5
        assert sorted(path.name for path in (done.folder / "tables").iterdir()) == [f"none.{kind}", f"ref.{kind}"]
    assert duckdb.sql(f"SELECT id, name FROM '{tmp_path}/parquet/tables/ref.parquet'").fetchall() == rows
    assert duckdb.sql(f"SELECT id, name FROM read_csv('{tmp_path}/csv/tables/ref.csv')").fetchall() == rows
    assert duckdb.sql(f"SELECT id, name FROM read_json('{tmp_path}/jsonl/tables/ref.jsonl')").fetchall() == rows
    assert (tmp_path / "csv" / "tables" / "none.csv").read_text() == "id\n"
    text = (tmp_path / "csv" / "README.md").read_text()
    assert "`tables/none.csv`: 0 rows, from `SELECT id FROM ref WHERE id > 99`" in text


# The rules of text, on columns of any kind


def lines(table: pa.Table) -> list[dict[str, Any]]:
    return [json.loads(line) for line in bytes(json_lines_of(cells_of(table))).decode().split("\n")[:-1]]


def test_lists_and_intervals_are_written_as_the_readme_says() -> None:
    table = pa.table(
        {
            "decimals": pa.array([[[Decimal("1.50"), None]], None, []], pa.list_(pa.list_(pa.decimal128(10, 2)))),
            "floats": pa.array([[float("nan"), 0.1], [float("-inf")], None], pa.list_(pa.float64())),
            "bytes": pa.array([[b"\xff", b"a"], [], None], pa.list_(pa.binary())),
            "times": pa.array([[datetime(2013, 10, 1, tzinfo=UTC)], [], None], pa.list_(pa.timestamp("us", "UTC"))),
            "days": pa.array([[date(2013, 10, 1)], [], None], pa.list_(pa.date32())),
            "clocks": pa.array([[time(1, 2, 3)], [], None], pa.list_(pa.time64("us"))),
            "span": pa.array([{"months": 1, "days": -2, "microseconds": 3_500_000}, None, None], INTERVAL),
        }
    )
    first, second, third = lines(table)
    assert first == {
        "decimals": [["1.50", None]],
        "floats": ["NaN", 0.1],
        "bytes": ["/w==", "YQ=="],
        "times": ["2013-10-01T00:00:00.000000Z"],
        "days": ["2013-10-01"],
        "clocks": ["01:02:03.000000"],
        "span": "P1M-2DT3.5S",
    }
    assert (second["decimals"], second["floats"], third["decimals"], third["span"]) == (None, ["-Infinity"], [], None)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.binary(max_size=8), st.text(max_size=8).map(str.encode)),
            st.one_of(st.none(), st.floats(width=64)),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
            st.lists(st.tuples(st.binary(max_size=3), st.one_of(st.none(), st.binary(max_size=3))), max_size=3),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_json_lines_lose_nothing_of_any_column(rows: list[tuple[Any, ...]]) -> None:
    pairs = [[{"key": key, "value": value} for key, value in row[3]] for row in rows]
    table = pa.table(
        {
            "b": pa.array([row[0] for row in rows], pa.binary()),
            "f": pa.array([row[1] for row in rows], pa.float64()),
            "t": pa.array([row[2] for row in rows], pa.timestamp("us")),
            "h": pa.array(pairs, HEADERS),
        }
    )
    for row, found in zip(rows, lines(table), strict=True):
        assert bytes_of(found, "b") == row[0]
        value = None if found["f"] is None else float(found["f"])
        assert (value is None) == (row[1] is None)
        if value is not None:
            assert np.float64(value).tobytes() == np.float64(row[1]).tobytes() or np.isnan([value, row[1]]).all()
        assert (None if found["t"] is None else int(np.datetime64(found["t"], "us").astype(np.int64))) == row[2]
        assert [(bytes_of(pair, "key"), bytes_of(pair, "value")) for pair in found["h"]] == row[3]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=6)), st.integers(0, 9)), min_size=1, max_size=20))
def test_csv_tells_null_from_empty_text(rows: list[tuple[str | None, int]]) -> None:
    rows = [(None if text is None else text.replace("\0", ""), number) for text, number in rows]
    table = pa.table({"t": pa.array([row[0] for row in rows], pa.string()), "n": pa.array([row[1] for row in rows])})
    text = bytes(csv_of(cells_of(table))).decode()
    assert list(postgres_csv(text)) == [(row[0], str(row[1])) for row in rows]


def postgres_csv(text: str) -> Any:
    """CSV as PostgreSQL's COPY reads it, sign by sign: a field that is empty and was not quoted is null."""
    row: list[str | None] = []
    field, quoted, inside = "", False, False
    at = 0
    while at < len(text):
        sign = text[at]
        if inside:
            if text[at : at + 2] == '""':
                field, at = field + '"', at + 1
            elif sign == '"':
                inside = False
            else:
                field += sign
        elif sign == '"':
            quoted = inside = True
        elif sign in ",\n":
            row.append(field if field or quoted else None)
            field, quoted = "", False
            if sign == "\n":
                yield tuple(row)
                row = []
        else:
            field += sign
        at += 1


def test_times_of_day_keep_every_digit() -> None:
    table = pa.table({"ns": pa.array([1], pa.time64("ns")), "ms": pa.array([1], pa.time32("ms"))})
    assert lines(table) == [{"ns": "00:00:00.000000001", "ms": "00:00:00.001"}]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00.000000"),
        ("9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"),
        ("0000-12-31T00:00:00", "0000-12-31T00:00:00.000000"),
        ("10000-01-01T00:00:00", "10000-01-01T00:00:00.000000"),
        ("-0044-03-15T12:00:00", "-0044-03-15T12:00:00.000000"),
    ],
)
def test_times_of_any_year_are_iso(moment: str, text: str) -> None:
    number = int(np.datetime64(moment, "us").astype(np.int64))
    assert lines(pa.table({"t": pa.array([number, None], pa.timestamp("us"))})) == [{"t": text}, {"t": None}]
