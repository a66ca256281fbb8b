"""How long `mlstream --help` takes beside the two packages that it prints with: `python benchmarks/startup.py`."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.report import Line, Report, show


def median_ms(command: list[str], *, rounds: int) -> float:
    """The median wall time of a command in milliseconds, after one round that warms the caches."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times[1:])


def measure(*, rounds: int) -> Report:
    """`mlstream --help`, `import click, rich.console`, and a bare interpreter."""
    python = sys.executable
    peer = median_ms([python, "-c", "import click, rich.console"], rounds=rounds)
    own = median_ms([python, "-m", "mlstream.cli.main", "--help"], rounds=rounds)
    script = median_ms([str(Path(python).with_name("mlstream")), "--help"], rounds=rounds)
    bare = median_ms([python, "-c", "pass"], rounds=rounds)
    return Report(
        "start of the command line, median of a process",
        (
            Line("python -c 'import click, rich.console'", peer, "ms", 1.0),
            Line("python -m mlstream.cli.main --help", own, "ms", own / peer),
            Line("mlstream --help", script, "ms", script / peer),
            Line("python -c pass", bare, "ms", bare / peer),
        ),
        (("mlstream --help within 2 x of importing click and rich", script <= 2 * peer),),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    show(measure(rounds=options.rounds), as_json=options.json)
