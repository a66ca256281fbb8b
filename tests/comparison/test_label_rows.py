"""Labels that are rows of a table or a file of the snapshot: joined like those of a topic, due by their own times."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

import mlstream
from mlstream import Snapshot
from mlstream.comparison.labels import Labelled, find_labels
from mlstream.config import LabelConfig
from mlstream.errors import LabelError, UnknownFile, UnknownTable
from mlstream.home import Home
from mlstream.reporting.label_rows import read_label_rows
from tests.comparison.test_labels import HOUR, START, flights

RECORDS = flights((0, 7), (1, 8), (2, 9), (40, 10))
LANDED = pl.DataFrame({"flight": [8, 7, 10, 99], "delay": [30, 10, 60, 0], "at_ms": [START + 5 * HOUR] * 4})


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("labels")
    late = LANDED.with_columns(at_ms=pl.Series([START + 5 * HOUR, START + 36 * HOUR, START + 41 * HOUR, START]))
    late.write_parquet(folder / "landed.parquet")
    texts = late.with_columns(at=pl.from_epoch("at_ms", time_unit="ms").dt.to_string("%Y-%m-%dT%H:%M:%S")).drop("at_ms")
    texts.write_csv(folder / "landed.csv")
    texts.with_columns(at=pl.col("at") + "Z").write_ndjson(folder / "landed.jsonl")
    (folder / "landed.txt").write_text("none")
    (folder / "broken.parquet").write_bytes(b"no parquet")
    database = sqlite3.connect(folder / "landings.db")
    with database:
        database.execute("CREATE TABLE landed (flight INTEGER PRIMARY KEY, delay INTEGER, at_ms INTEGER)")
        database.executemany("INSERT INTO landed VALUES (?, ?, ?)", late.iter_rows())
    database.close()
    return mlstream.snapshot(
        "labels",
        files=[str(folder / name) for name in ("landed.parquet", "landed.csv", "landed.jsonl", "landed.txt")]
        + [str(folder / "broken.parquet")],
        tables=[f"sqlite:///{folder}/landings.db#landed"],
        home=Home(folder / "home"),
    )


def find(frozen: Snapshot, **rule: Any) -> Labelled:
    asked = {"on": ["flight"], "value": "delay > 15", "missing": "exclude", **rule}
    parsed = LabelConfig.model_validate(asked)
    return find_labels(parsed, RECORDS, read_label_rows(parsed, frozen))


def file_named(frozen: Snapshot, name: str) -> str:
    (path,) = (found.path for found in frozen.files if Path(found.path).name == name)
    return path


def test_rows_of_a_table_are_labels(frozen: Snapshot) -> None:
    found = find(frozen, table="landed")
    assert found.chosen.tolist() == [True, True, False, True]
    assert found.values.to_list() == [False, True, True]
    assert (found.coverage.missing, found.coverage.not_yet_due, found.coverage.cut_ms) == (1, 0, None)
    assert found.coverage.rule == "delay > 15, from table landed on flight"


@pytest.mark.parametrize(
    ("name", "time"), [("landed.parquet", "at_ms"), ("landed.csv", "at"), ("landed.jsonl", "at"), (None, "at_ms")]
)
def test_with_a_column_of_times_a_label_counts_within_its_window(frozen: Snapshot, name: str | None, time: str) -> None:
    where = {"table": "landed"} if name is None else {"file": file_named(frozen, name)}
    found = find(frozen, **where, time=time, within="36h")
    # Flight 7 landed at the end of its window; that of 10 had not passed at the last label.
    assert found.chosen.tolist() == [True, True, False, False]
    assert (found.coverage.missing, found.coverage.not_yet_due) == (1, 1)
    assert found.coverage.cut_ms == START + 41 * HOUR


def test_two_rows_for_one_record_are_an_error_that_names_them(frozen: Snapshot) -> None:
    rule = LabelConfig.model_validate({"table": "landed", "on": ["flight"], "value": "delay > 15"})
    rows = read_label_rows(rule, frozen)
    twice = pl.concat([rows, rows]).with_columns(_offset=pl.int_range(pl.len()))
    with pytest.raises(LabelError, match=r"with table landed row 0, row 4; add a column to labels.on"):
        find_labels(rule, RECORDS, twice)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"table": "landed", "time": "when"}, "labels.time: table landed has no column 'when'; it has: flight"),
        ({"file": "landed.csv", "time": "delay_text"}, "has no column 'delay_text'"),
        ({"file": "broken.parquet"}, "broken.parquet cannot be read"),
        ({"file": "landed.txt"}, "write one of .csv, .parquet, .jsonl, .ndjson"),
    ],
)
def test_what_cannot_be_read_is_named(frozen: Snapshot, rule: dict[str, str], message: str) -> None:
    if "file" in rule:
        rule = {**rule, "file": file_named(frozen, rule["file"])}
    with pytest.raises(LabelError) as caught:
        find(frozen, **rule)
    assert message in str(caught.value)


def test_a_table_or_file_that_the_snapshot_does_not_hold_is_named(frozen: Snapshot) -> None:
    with pytest.raises(UnknownTable, match="'lnded'"):
        find(frozen, table="lnded")
    with pytest.raises(UnknownFile, match=r"landed\.xls"):
        find(frozen, file="landed.xls")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"table": "a", "topic": "b"}, "one of topic, table and file"),
        ({"table": "a", "on": []}, "need `on:`"),
        ({"topic": "a", "time": "at"}, "`time:` is for labels from a table or a file"),
        ({"table": "a", "within": "1h"}, "`within:` needs `time:`"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LabelConfig.model_validate({"on": ["flight"], "value": "delay", **rule})
    assert message in str(caught.value)
