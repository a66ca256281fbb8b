"""Run every benchmark one after the other, each in a process of its own: `make bench` or `python -m benchmarks`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# In order of length; each prints its own table.
BENCHMARKS = (
    "startup",
    "ls",
    "cut",
    "wire",
    "decode",
    "clients",
    "host",
    "verify",
    "compare",
    "growth",
    "diff",
    "restore",
    "freeze",
    "runs",
)


def main() -> int:
    """Exit with 1 when a benchmark could not run; a goal that is missed is printed, not an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    failed = []
    for name in options.only or BENCHMARKS:
        if subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"could not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
