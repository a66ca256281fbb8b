"""Objects from a store that somebody else filled, with the right rows in other columns or types: they are refused."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlstream
from mlstream.home import Home
from tests.snapshots.forging import OTHER_TYPES, Forged, parquet, refused
from tests.snapshots.making import make_snapshot, plain


@pytest.fixture
def forged(tmp_path: Path) -> Forged:
    made = make_snapshot(Home(tmp_path / "theirs"), "ticks", {"a": {0: plain(3000), 1: plain(3000, start=3000)}})
    return Forged(made)


@pytest.mark.parametrize("change", ["swapped", "renamed", "one less", "one more"])
def test_an_object_whose_columns_are_called_or_ordered_otherwise(
    forged: Forged, home: Home, tmp_path: Path, change: str
) -> None:
    table = pq.read_table(forged.object(forged.objects[0]))
    names = table.column_names
    changed = {
        "swapped": lambda: table.select([*names[:-2], names[-1], names[-2]]),
        "renamed": lambda: table.rename_columns([*names[:-1], "header"]),
        "one less": lambda: table.select(names[:-1]),
        "one more": lambda: table.append_column("more", table.column("offset")),
    }[change]()
    forged.put_object(parquet(tmp_path, changed), forged.objects[0])
    refused(forged, home, "its columns are not those of records")


@pytest.mark.parametrize(("column", "kind"), OTHER_TYPES)
def test_an_object_whose_columns_have_other_types(
    forged: Forged, home: Home, tmp_path: Path, column: str, kind: pa.DataType
) -> None:
    """The values are the same, and so are all digests of rows."""
    table = pq.read_table(forged.object(forged.objects[0]))
    place = table.schema.get_field_index(column)
    table = table.set_column(place, column, table.column(column).cast(kind))
    forged.put_object(parquet(tmp_path, table), forged.objects[0])
    said = str(kind).replace("<item:", "<element:")  # Parquet's name for what is in a list
    refused(forged, home, re.escape(f"its columns are not those of records: {column} is {said} instead of"))


@pytest.mark.parametrize(
    ("column", "kind"),
    [("id", pa.int32()), ("name", pa.large_string()), ("price", pa.float32()), ("price", pa.decimal128(38, 4))],
)
def test_a_table_whose_columns_have_other_types_than_are_declared(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, kind: pa.DataType
) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("shop.db")) as database, database:
        database.execute("CREATE TABLE goods (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
        database.execute("INSERT INTO goods VALUES (1, 'a', 0.5)")
    theirs = Home(tmp_path / "theirs")
    forged = Forged(mlstream.snapshot("ticks", tables=["sqlite:///shop.db#goods"], home=theirs))
    (digest,) = forged.objects
    table = pq.read_table(forged.object(digest))
    place = table.schema.get_field_index(column)
    data = parquet(tmp_path, table.set_column(place, column, table.column(column).cast(kind)))
    forged.put_object(data, digest)
    refused(forged, home, re.escape(f"its columns are not those of table goods: {column} is {kind} instead of"))
