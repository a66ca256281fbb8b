"""What all benchmarks print: the machine, the command, a plain table, the ratios. Measures nothing itself."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a benchmark: a figure with its unit, and its ratio to the line that says 1.00 x."""

    name: str
    figure: float
    unit: str
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's outcome. `goal` says what was to be reached, `reached` whether it was (None: no goal)."""

    title: str
    lines: Sequence[Line]
    goals: Sequence[tuple[str, bool]] = field(default_factory=tuple)


def machine() -> str:
    """Cores, processor, memory, Python: what absolute figures depend on."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {_processor()}, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def show(report: Report, *, as_json: bool) -> None:
    """Print a report: a table for people, or one JSON object."""
    command = shlex.join(["python", *sys.argv])
    if as_json:
        print(json.dumps({**asdict(report), "machine": machine(), "command": _without_path(command)}, indent=2))
        return
    print(f"\n{report.title}\n  {machine()}\n  {_without_path(command)}\n")
    width = max((len(line.name) for line in report.lines), default=0)
    for line in report.lines:
        ratio = "" if line.ratio is None else f"{line.ratio:>9.2f} x"
        print(f"  {line.name:<{width}}  {_figure(line.figure):>12} {line.unit:<12}{ratio:<12} {line.note}".rstrip())
    for goal, reached in report.goals:
        print(f"  {'reached' if reached else 'MISSED '}  {goal}")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _without_path(command: str) -> str:
    """The command as somebody would type it from the project's root."""
    return command.replace(f"{Path.cwd()}{os.sep}", "")


def load(text: str) -> dict[str, Any]:
    """A report that `show(..., as_json=True)` printed."""
    found = json.loads(text[text.index("{") :])
    if not isinstance(found, dict):
        raise ValueError("not a report")
    return found
