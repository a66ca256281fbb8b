"""What a run says of where it ran: hardware, git state, its process's memory and CPU time. Changes nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_GIT_TIMEOUT_S = 10.0
# Pools whose size changes results in their last bits, because sums are split otherwise: one thread, whatever else runs
# beside it, so that a version answers the same alone and among others. The versions run in parallel, not the sums.
MATH_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
POOL_VARIABLES = ("NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "LOKY_MAX_CPU_COUNT")


@dataclass(frozen=True, slots=True)
class GitState:
    """The commit of the project at a run; `dirty` when files differed from it."""

    commit: str
    branch: str | None
    dirty: bool


def cpus() -> int:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_for(workers: int) -> int:
    """How many threads each of so many processes gets, so that together they do not ask for more than there is."""
    return max(1, cpus() // max(1, workers))


def math_threads() -> str:
    """The size of a worker's BLAS and OpenMP pools: what the user's environment says, else 1."""
    return os.environ.get("OMP_NUM_THREADS", "1")


def limited_environment(threads: int, seed: int) -> dict[str, str]:
    """The environment of a worker: limits of its thread pools unless the user set them, hashing by the seed."""
    found = dict(os.environ)
    for name in MATH_VARIABLES:
        found.setdefault(name, math_threads())
    for name in POOL_VARIABLES:
        found.setdefault(name, str(threads))
    found["PYTHONHASHSEED"] = str(seed % 2**32)
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory and system, for a run's record."""
    return {
        "cpu": _cpu_name(),
        "cpus": cpus(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": platform.platform(),
    }


def git_state(folder: Path) -> GitState | None:
    """The commit that `folder` is at; None when it is not in a git repository or has no commit."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    status = _git(folder, "status", "--porcelain")
    return GitState(commit, branch, dirty=bool(status))


def cpu_seconds() -> float:
    """CPU time of this process and its ended children, user and system."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def family_usage() -> tuple[float, int]:
    """CPU seconds and resident bytes of this process and all that it started: those that have ended and those that run.

    What is gone or may not be asked about counts for nothing.
    """
    seconds = cpu_seconds()
    this = psutil.Process()
    resident = int(this.memory_info().rss)
    for child in this.children(recursive=True):
        with suppress(psutil.Error):
            with child.oneshot():
                times, memory = child.cpu_times(), child.memory_info()
            seconds += times.user + times.system
            resident += int(memory.rss)
    return seconds, resident


def peak_memory_bytes() -> int:
    """The most memory that this process has had resident."""
    try:
        # Not getrusage: its maximum survives exec, so a child would begin with its parent's.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # there is none on Windows

    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else maximum * 1024


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git(folder: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
