"""How long `mlstream snapshot ls` takes in a store of 1,000 snapshots: `python benchmarks/ls.py`.

Beside it: git listing as many annotated tags by date, and reading every snapshot through the public API.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Line, Report, show
from mlstream.home import Home
from mlstream.snapshots.cuts import Cut
from mlstream.snapshots.manifest import CELL_OFFSETS, Cell, Content, StreamContent, partition_content
from mlstream.snapshots.storage import Piece, Storage, StoredCell, StoredObject, StoredPartition, StoredStream
from mlstream.snapshots.store import Store

PARTITIONS = 4
CELLS = 38  # of a partition: ten million records in all
GOAL_S = 0.5


def digest(*parts: object) -> bytes:
    """A digest that depends on nothing else."""
    return hashlib.sha256(repr(parts).encode()).digest()


def fill(store: Store, count: int) -> None:
    """The documents of that many snapshots of a growing topic; their objects are not there, `ls` does not ask."""
    for folder in ("manifests", "storage", "cuts", "refs"):
        (store.path / folder).mkdir(parents=True)
    for number in range(count):
        contents, stored = [], []
        objects = {}
        for part in range(PARTITIONS):
            cells = []
            for cell in range(CELLS):
                start, name = (
                    cell * CELL_OFFSETS,
                    digest("object", part, cell, number if cell == CELLS - 1 else 0).hex(),
                )
                seed = (part, cell, number if cell == CELLS - 1 else 0)
                found = Cell(start, start + CELL_OFFSETS, CELL_OFFSETS, digest(seed), digest("p", seed), 0, 1, 1)
                cells.append(StoredCell(found, (Piece(name, 0, CELL_OFFSETS),)))
                objects[name] = StoredObject(3_000_000, CELL_OFFSETS)
            groups = tuple(each.cell.payloads for each in cells)
            plain = [each.cell for each in cells]
            contents.append(partition_content(part, 0, CELLS * CELL_OFFSETS, cells=plain, groups=groups))
            stored.append(StoredPartition(part, tuple(cells), groups))
        content = Content((StreamContent("cluster", "ticks", "topic-id", tuple(contents)),))
        moment = 1_700_000_000_000 + number * 60_000
        cut = Cut(f"ticks-{number:04}", moment, 12, 3.4, "someone", "here", ("127.0.0.1:9092",), {}, ())
        text = time.strftime("%Y%m%dT%H%M%S", time.gmtime(moment / 1000))
        storage = Storage((StoredStream("cluster", "ticks", tuple(stored)),), objects)
        store.manifest(content.id).write_bytes(content.to_bytes())
        store.storage(content.id).write_bytes(storage.to_bytes(content.id))
        cut_file = store.path / "cuts" / f"{content.id}-{text}-{number:06x}.json"
        cut_file.write_bytes(cut.to_bytes(content.id))
        store.ref(cut.name).write_text(f"{content.id}\n")


def tag(repository: Path, count: int) -> None:
    """As many annotated tags in a new git repository, packed."""
    environment = {**os.environ, "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@localhost"}
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True, env=environment)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    blocks = (
        f"tag ticks-{number:04}\nfrom {commit}\ntagger x <x@localhost> {1_700_000_000 + number} +0000\ndata 1\nx\n"
        for number in range(count)
    )
    subprocess.run([*git, "fast-import", "--quiet"], check=True, input="".join(blocks), text=True)
    subprocess.run([*git, "pack-refs", "--all"], check=True)


def median_s(work: Callable[[], object], *, rounds: int) -> float:
    """The median wall time."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(*, count: int, rounds: int) -> Report:
    """`snapshot ls` without and with its summary, and its peers."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        fill(Store(Home(home)), count)
        tag(Path(folder) / "git", count)
        script = str(Path(sys.executable).with_name("mlstream"))
        command = [script, "--home", str(home), "snapshot", "ls"]
        summary = home / "index" / "listing.json"

        def call(*arguments: str) -> None:
            subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def first() -> None:
            summary.unlink(missing_ok=True)
            call()

        call()
        cold = median_s(first, rounds=max(rounds // 3, 1))
        own = {option: median_s(partial(call, *option.split()), rounds=rounds) for option in ("", "--json", "-q")}
        git = ["git", "-C", str(Path(folder) / "git"), "for-each-ref", "--sort=-creatordate", "refs/tags"]
        peer = median_s(lambda: subprocess.run(git, check=True, stdout=subprocess.DEVNULL), rounds=rounds)
        program = (
            "import sys\nfrom mlstream.snapshots.snapshot import list_snapshots\n"
            "print(sum(found.rows for found in list_snapshots(sys.argv[1])))"
        )
        public = [sys.executable, "-c", program, str(home)]
        api = median_s(lambda: subprocess.run(public, check=True, stdout=subprocess.DEVNULL), rounds=1)
    return Report(
        f"list {count:,} snapshots of {PARTITIONS} partitions and {PARTITIONS * CELLS} cells, median of a process",
        (
            Line("mlstream snapshot ls", own[""], "s", 1.0),
            Line("mlstream snapshot ls --json", own["--json"], "s", own["--json"] / own[""]),
            Line("mlstream snapshot ls -q", own["-q"], "s", own["-q"] / own[""]),
            Line("the same, without its summary", cold, "s", cold / own[""], "the first time"),
            Line("git for-each-ref --sort=-creatordate", peer, "s", peer / own[""], "annotated tags"),
            Line("list_snapshots in Python", api, "s", api / own[""], "checks every manifest"),
        ),
        ((f"snapshot ls of {count:,} snapshots within {GOAL_S} s", own[""] < GOAL_S),),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(measure(count=options.snapshots, rounds=options.rounds), as_json=options.json)
