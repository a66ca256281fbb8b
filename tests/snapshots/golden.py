"""What the golden ids are made of, as a program that an environment with other libraries can run. No test is here.

python -m tests.snapshots.golden HOME          make the snapshots in an empty home; print their ids as JSON
python -m tests.snapshots.golden HOME --check  recompute every row's digest of those that are there instead
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import chdir, closing
from pathlib import Path

import polars as pl
import pyarrow as pa

import mlstream
from mlstream.home import Home
from mlstream.snapshots.verify import check
from tests.snapshots.making import Row, columns, make_snapshot

# The records are arbitrary, but depend on nothing except their number.
EXAMPLE = [
    Row(0, b"v", key=b"k", timestamp=0),
    Row(2, None, key=None, timestamp=None, timestamp_type=1),
    Row(3, b"", key=b"", timestamp=1_700_000_000_123, headers=((b"trace", b"\x01"), (b"", None))),
]
SPARSE = [
    Row(
        7 * n,
        None if n % 11 == 0 else b"%d" % (n * n),
        key=None if n % 5 == 0 else b"key %d" % (n % 3),
        timestamp=None if n % 13 == 0 else 1_600_000_000_000 - 977 * n,
        timestamp_type=n % 2,
        headers=((b"n", b"%d" % n),) * (n % 3),
    )
    for n in range(30_000)
]
THINGS = [
    (n, None if n % 7 == 0 else f"name {n} ü\x00", n / 8 if n % 3 else None, bytes([n % 256, 0]) if n % 2 else b"")
    for n in range(5000)
]


def make(home: Home) -> dict[str, str]:
    """The snapshots, and their ids by name."""
    made = [
        make_snapshot(home, "example", {"ticks": {0: columns(EXAMPLE)}}),
        make_snapshot(home, "sparse", {"other": {3: columns(SPARSE)}, "ticks": {0: columns(EXAMPLE)}}),
    ]
    source = home.path / "source"
    source.mkdir()
    with closing(sqlite3.connect(source / "shop.db")) as database, database:
        database.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, share REAL, raw BLOB)")
        database.executemany("INSERT INTO things VALUES (?, ?, ?, ?)", THINGS)
    (source / "notes.txt").write_bytes(b"some bytes\n")
    with chdir(source):  # files are called as they are from here
        made.append(
            mlstream.snapshot(
                "mixed",
                files=["notes.txt"],
                tables=["sqlite:///shop.db#things"],
                queries=["sqlite:///shop.db#names=SELECT name, count(*) AS many FROM things GROUP BY name"],
                home=home,
            )
        )
    return {str(found.name): found.id for found in made}


def checked(home: Home) -> dict[str, str]:
    """The ids of the snapshots that are in a home, every row of which has its digest, and what a scan reads of one."""
    ids = {}
    for name in ("example", "sparse", "mixed"):
        found = mlstream.open_snapshot(name, home=home)
        wrong = check(found.store, found.id, deep=True).findings
        ids[name] = found.id if not wrong else f"{wrong[0].name}: {wrong[0].problem}"
    sparse = mlstream.open_snapshot("sparse", home=home).scan("other").collect()
    ids["rows"] = str((sparse.height, sparse["offset"].sum(), sparse["value"].null_count()))
    table = mlstream.open_snapshot("mixed", home=home).table("things").collect()
    ids["table"] = str((table.height, table["share"].sum(), table["name"].null_count()))
    return ids


def main() -> None:
    """Print the ids, and by which libraries."""
    home = Home(Path(sys.argv[1]))
    ids = checked(home) if "--check" in sys.argv else make(home)
    print(json.dumps({"ids": ids, "pyarrow": pa.__version__, "polars": pl.__version__}))


if __name__ == "__main__":
    main()
