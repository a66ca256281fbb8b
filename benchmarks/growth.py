"""Freezing a topic again: `python benchmarks/growth.py [--records N] [--json]`.

A topic is frozen, frozen again as it is, and frozen again when it has grown by 1 %. Beside it: freezing all of the
grown topic into an empty store, and the loop that one would write (confluent-kafka and pyarrow), which copies all of
it, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.freeze import NAMES, PARTITIONS, TOPIC, CouldNotRun, fill, measure
from benchmarks.report import Line, Report, show
from mlstream.broker import embedded
from mlstream.broker.admin import KEEP_EVERYTHING, create_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection, find_connection
from mlstream.home import Home
from mlstream.ranges import TopicSelection
from mlstream.snapshots.capture import Frozen, freeze
from mlstream.snapshots.manifest import CELL_OFFSETS
from mlstream.snapshots.store import Store

GROWTH = 0.01
GOAL_UNCHANGED_S = 2.0


@dataclass(frozen=True, slots=True)
class Timed:
    """A freeze and its seconds."""

    frozen: Frozen
    seconds: float

    def line(self, name: str, first: Timed) -> Line:
        """With what it fetched and wrote."""
        note = f"{self.frozen.fetched:,} records fetched, {self.frozen.written_bytes / 1e6:,.2f} MB written"
        return Line(name, self.seconds, "s", self.seconds / first.seconds, note)


def timed(connection: Connection, home: Home, name: str) -> Timed:
    """Freeze the topic with a client of its own."""
    with Client(connection) as client:
        began = time.perf_counter()
        frozen = freeze(client, Store(home), name, [TopicSelection(TOPIC)])
        return Timed(frozen, time.perf_counter() - began)


def grow(connection: Connection, folder: Path, records: int) -> Report:
    """All of it, once each: what is measured changes the store."""
    home, servers = Home(folder / "home"), ",".join(connection.bootstrap_servers)
    with Client(connection) as client:
        create_topic(client, TOPIC, partitions=PARTITIONS, config=KEEP_EVERYTHING)
        fill(servers, records, "lz4")
        freeze(client, Store(Home(folder / "warm")), "warm", [TopicSelection(TOPIC)])  # loads the kernels
    first = timed(connection, home, "first")
    unchanged = timed(connection, home, "unchanged")
    more = max(int(records * GROWTH), PARTITIONS)
    fill(servers, more, "lz4")
    grown = timed(connection, home, "grown")
    anew = timed(connection, Home(folder / "anew"), "anew")
    if anew.frozen.snapshot.id != grown.frozen.snapshot.id or unchanged.frozen.snapshot.id != first.frozen.snapshot.id:
        raise RuntimeError("the same content has another id")
    lines = [
        first.line("first freeze", first),
        unchanged.line("again, unchanged", first),
        grown.line("again, grown by 1 %", first),
        anew.line("the grown topic, into an empty store", first),
    ]
    try:
        peer = measure("confluent", servers, folder)
        note = f"{peer.rows:,} records fetched, {peer.size_bytes / 1e6:,.2f} MB written"
        lines.append(Line(NAMES["confluent"], peer.seconds, "s", peer.seconds / first.seconds, note))
    except CouldNotRun as exc:
        lines.append(Line(NAMES["confluent"], 0.0, "s", None, f"could not run: {exc}"))
    share = grown.frozen.written_bytes / first.frozen.written_bytes
    # The rest of a cell is fetched with its tail: at most one cell a partition more than what is new.
    most = more + PARTITIONS * CELL_OFFSETS
    goals = [
        (f"unchanged in under {GOAL_UNCHANGED_S:g} s, nothing fetched", _is_free(unchanged)),
        (f"1 % more: {grown.frozen.fetched:,} of at most {most:,} records fetched", grown.frozen.fetched <= most),
        (f"1 % more: {share:.1%} of the first freeze's bytes written", share <= 2 * GROWTH),
    ]
    return Report(f"freezing {records:,} JSON records in {PARTITIONS} partitions again", lines, goals)


def _is_free(found: Timed) -> bool:
    return found.seconds < GOAL_UNCHANGED_S and found.frozen.fetched == 0 and found.frozen.written_bytes == 0


def main() -> None:
    """Start a broker of its own, measure, stop the broker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "kafka")
        embedded.up(home, profile="bench", heap_mb=1024)
        try:
            show(grow(find_connection(home), Path(folder), options.records), as_json=options.json)
        finally:
            embedded.down(home)


if __name__ == "__main__":
    main()
