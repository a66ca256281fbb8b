"""Checking a snapshot: `python benchmarks/verify.py [--records N] [--json]`.

- mlstream: `verify`, which hashes every object, and `verify --deep`, which also recomputes the digests of all rows
- sha256sum: the same files, in one process and in one for each core; what a careful person would do by hand
- pyarrow: reads all rows of all files on all cores, and looks at none; the least that a deep check costs

The files have just been written, so that they are read from memory, not from the disk.
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

import pyarrow.parquet as pq

from benchmarks.frozen import PARTITIONS, frozen
from benchmarks.report import Line, Report, show
from mlstream.home import Home
from mlstream.snapshots.canonical import payloads_of
from mlstream.snapshots.objects import read_rows
from mlstream.snapshots.snapshot import Snapshot

GOAL_MB_S = 500


def best_of(rounds: int, task: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds; the first also loads the kernels."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        task()
        found.append(time.perf_counter() - began)
    return min(found)


def sha256sum(files: list[Path], processes: int) -> None:
    """The command, over so many shares of the files."""
    shares = [files[number::processes] for number in range(processes)]
    running = [subprocess.Popen(["sha256sum", *share], stdout=subprocess.DEVNULL) for share in shares if share]
    if any(process.wait() != 0 for process in running):
        raise RuntimeError("sha256sum failed")


def read_all(files: list[Path]) -> None:
    """Every row of every file into columns."""
    for file in files:
        pq.read_table(file)


def record_bytes(made: Snapshot) -> int:
    """What the records take in canonical form: keys, values, times, lengths."""
    sizes = (
        len(payloads_of(rows)) + 9 * len(rows)
        for name, found in made.storage.objects.items()
        for rows in read_rows(made.store.object(name), 0, found.rows)
    )
    return sum(sizes)


def measure(made: Snapshot, rounds: int) -> Report:
    """All contenders, one after the other."""
    files = [made.store.object(name) for name in made.storage.objects]
    stored, raw = made.size_bytes / 1e6, record_bytes(made) / 1e6
    cores = os.cpu_count() or 1
    seconds = {
        "mlstream verify": best_of(rounds, made.verify),
        "mlstream verify --deep": best_of(rounds, lambda: made.verify(deep=True)),
        "sha256sum": best_of(rounds, lambda: sha256sum(files, 1)),
        f"sha256sum, {cores} processes": best_of(rounds, lambda: sha256sum(files, cores)),
        "pyarrow reads all rows": best_of(rounds, lambda: read_all(files)),
    }
    base = seconds["mlstream verify"]
    deep = seconds["mlstream verify --deep"]
    lines = [
        Line(name, stored / taken, "MB/s stored", taken / base, f"{taken:.2f} s; {raw / taken:,.0f} MB/s of records")
        for name, taken in seconds.items()
    ]
    goals = [
        (f"verify: at least {GOAL_MB_S} MB/s of what is stored", stored / base >= GOAL_MB_S),
        (f"verify --deep: at least {GOAL_MB_S} MB/s of records", raw / deep >= GOAL_MB_S),
    ]
    title = (
        f"checking {made.rows:,} JSON records in {PARTITIONS} partitions: {stored:,.0f} MB stored, {raw:,.0f} MB raw"
    )
    return Report(title, lines, goals)


def main() -> None:
    """Make a snapshot in a temporary home, and check it in all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = frozen(Home(Path(folder) / "home"), "bench", options.records)
        show(measure(made, options.rounds), as_json=options.json)


if __name__ == "__main__":
    main()
