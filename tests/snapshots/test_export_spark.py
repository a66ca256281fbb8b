"""What Spark makes of exported files. Skipped without pyspark, which `make bench` installs, or Java."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlstream.home import Home
from tests.snapshots.exporting import ODD, plain_rows, record_of
from tests.snapshots.making import columns, make_snapshot, plain

pytest.importorskip("pyspark", reason="pyspark is not installed: `make bench` installs it")

READER = """
import base64, json, sys
from pyspark.sql import SparkSession

session = (
    SparkSession.builder.master("local[1]")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.shuffle.partitions", "1").getOrCreate()
)

def jsonable(value):
    return base64.b64encode(value).decode() if isinstance(value, (bytes, bytearray)) else str(value)

found = {}
for kind, folder in json.loads(sys.argv[1]).items():
    if kind == "parquet":
        frame = session.read.parquet(folder).selectExpr(
            "partition", "offset", "unix_millis(timestamp) AS timestamp", "timestamp_type", "key", "value", "headers"
        )
    elif kind == "csv":
        frame = session.read.csv(folder, header=True, multiLine=True, escape='"', lineSep="\\n")
    else:
        frame = session.read.json(folder, primitivesAsString=True)
    odd = frame.where("partition = 0").orderBy(frame["offset"].cast("long")).collect()
    found[kind] = {"count": frame.count(), "rows": [row.asDict(recursive=True) for row in odd]}
print(json.dumps(found, default=jsonable))
session.stop()
"""


def test_spark_reads_every_format(home: Home, tmp_path: Path) -> None:
    rows = ODD[:-1]  # Spark counts microseconds
    made = make_snapshot(home, "odd", {"ticks": {0: columns(rows), 1: plain(1000)}})
    folders = {
        kind: str(made.export(tmp_path / kind, format=kind).folder / "streams" / "ticks")  # type: ignore[arg-type]
        for kind in ("parquet", "csv", "jsonl")
    }
    done = subprocess.run(
        [sys.executable, "-c", READER, json.dumps(folders)],
        env={**os.environ, "JAVA_HOME": java_home(), "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert {kind: read["count"] for kind, read in found.items()} == dict.fromkeys(folders, 1006)
    wanted = plain_rows(rows)
    for kind in ("csv", "jsonl"):
        assert [record_of(texts(row)) for row in found[kind]["rows"]] == wanted, kind
    parquet = [(row["partition"], row["offset"], row["timestamp"]) for row in found["parquet"]["rows"]]
    assert parquet == [row[:3] for row in wanted]


def texts(row: dict[str, Any]) -> dict[str, Any]:
    """Spark reads an empty field as null."""
    return {name: "" if value is None else value for name, value in row.items()}


def java_home() -> str:
    """A whole Java: the one that comes as a wheel lacks a module that Spark starts with."""
    named = os.environ.get("JAVA_HOME")
    found = shutil.which("java")
    if named is None and found is None:
        pytest.skip("there is no Java for Spark: set JAVA_HOME")
    return named if named is not None else str(Path(str(found)).resolve().parents[1])
