"""Comparing two snapshots that differ in one record: `python benchmarks/diff.py [--records N] [--json]`.

- mlstream: `Snapshot.diff` of the same topic, by offset, and of two topics, by content; and the whole command
- DuckDB: EXCEPT over the Parquet files of both
- polars: an anti-join over the Parquet files of both
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import polars as pl

from benchmarks.frozen import PARTITIONS, TOPIC, frozen
from benchmarks.report import Line, Report, show
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot

GOAL_S = 2.0
_COLUMNS = ("partition", "offset", "timestamp", "key", "value")


def by_diff(old: Snapshot, new: Snapshot) -> int:
    """Records that differ, on both sides."""
    parts = [part for stream in old.diff(new).streams for part in stream.partitions]
    return sum(2 * part.changed + part.removed + part.added for part in parts)


def by_command(old: Snapshot, new: Snapshot) -> int:
    """The same in a process of its own, from its start to its end; what it finds is not read."""
    command = [sys.executable, "-m", "mlstream.cli.main", "--home", str(old.store.path), "snapshot", "diff"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([*command, old.id, new.id], check=True, stdout=subprocess.DEVNULL, env=environment)
    return 2


def by_duckdb(old: Snapshot, new: Snapshot) -> int:
    """Rows that only one of the two has."""
    import duckdb

    columns = ", ".join(f'"{name}"' for name in _COLUMNS)
    tables = [f"(SELECT {columns} FROM read_parquet({files(found)}))" for found in (old, new)]
    (row,) = duckdb.sql(
        f"SELECT (SELECT count(*) FROM ({tables[0]} EXCEPT ALL {tables[1]}))"
        f" + (SELECT count(*) FROM ({tables[1]} EXCEPT ALL {tables[0]}))"
    ).fetchall()
    return int(row[0])


def by_polars(old: Snapshot, new: Snapshot) -> int:
    """Rows that only one of the two has."""
    left, right = (found.scan(TOPIC).select(_COLUMNS) for found in (old, new))
    there = left.join(right, on=_COLUMNS, how="anti", nulls_equal=True).select(pl.len()).collect().item()
    return int(there + right.join(left, on=_COLUMNS, how="anti", nulls_equal=True).select(pl.len()).collect().item())


def files(found: Snapshot) -> list[str]:
    """The objects of a snapshot."""
    return [str(found.store.object(name)) for name in found.storage.objects]


def timed(task: Callable[[Snapshot, Snapshot], int], old: Snapshot, new: Snapshot) -> float:
    """Seconds; the answer has to be right: one record on either side."""
    began = time.perf_counter()
    found = task(old, new)
    seconds = time.perf_counter() - began
    if found != 2:
        raise RuntimeError(f"{found} records differ instead of 2")
    return seconds


def measure(old: Snapshot, new: Snapshot, mirrored: Snapshot, *, peers: bool) -> Report:
    """All contenders, one after the other."""
    timed(by_diff, old, new)  # loads the kernels
    seconds = {
        "mlstream diff": timed(by_diff, old, new),
        "mlstream snapshot diff, the whole command": timed(by_command, old, new),
        "mlstream diff with another topic, by content": timed(by_diff, old, mirrored),
    }
    if peers:
        seconds["DuckDB EXCEPT ALL"] = timed(by_duckdb, old, new)
        seconds["polars anti-joins"] = timed(by_polars, old, new)
    base = seconds["mlstream diff"]
    lines = [Line(name, taken, "s", taken / base) for name, taken in seconds.items()]
    goals = [(f"the whole command in under {GOAL_S:g} s", list(seconds.values())[1] < GOAL_S)]
    title = f"two snapshots of {old.rows:,} records in {PARTITIONS} partitions that differ in one"
    return Report(title, lines, goals)


def main() -> None:
    """Make the snapshots in a temporary home, and compare them in all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--no-peers", action="store_true", help="DuckDB and polars hold all records in memory")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        old = frozen(home, "old", options.records)
        middle = options.records // PARTITIONS // 2
        new = frozen(home, "new", options.records, changed=middle)
        mirrored = frozen(home, "mirrored", options.records, changed=middle, cluster_id="another")
        show(measure(old, new, mirrored, peers=not options.no_peers), as_json=options.json)


if __name__ == "__main__":
    main()
