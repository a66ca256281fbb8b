"""Where a run ran: git, threads, memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlstream.runs import machine


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=trunk"]
    done = subprocess.run(["git", *identity, "-C", str(folder), *args], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_git_state_is_the_commit_the_branch_and_whether_files_differ(tmp_path: Path) -> None:
    assert machine.git_state(tmp_path) is None
    git(tmp_path, "init")
    assert machine.git_state(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert machine.git_state(tmp_path) == machine.GitState(commit, "trunk", dirty=False)
    (tmp_path / "a").write_text("2")
    assert machine.git_state(tmp_path) == machine.GitState(commit, "trunk", dirty=True)
    git(tmp_path, "checkout", "-f", "--detach")
    assert machine.git_state(tmp_path) == machine.GitState(commit, None, dirty=False)


def test_threads_together_are_no_more_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpus", lambda: 8)
    assert [machine.threads_for(workers) for workers in (1, 3, 8, 20)] == [8, 2, 1, 1]


def test_a_worker_s_pools_are_limited_unless_the_user_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*machine.MATH_VARIABLES, *machine.POOL_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    found = machine.limited_environment(4, seed=-1)
    assert {found[name] for name in machine.MATH_VARIABLES} == {"1"}
    assert {found[name] for name in machine.POOL_VARIABLES} == {"4"}
    assert found["PYTHONHASHSEED"] == str(2**32 - 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert machine.math_threads() == "3"
    assert machine.limited_environment(4, seed=0)["MKL_NUM_THREADS"] == "3"


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module there")
def test_peak_memory_is_a_process_s_own_and_grows_with_what_it_takes() -> None:
    # In processes of their own: this one's peak depends on the tests before.
    measure = "from mlstream.runs.machine import peak_memory_bytes as peak; import numpy as np; before = peak(); "
    large = f"{measure}block = np.ones(80_000_000, np.uint8); print(before, peak(), block.sum())"
    parent = f"{measure}block = np.ones(80_000_000, np.uint8); import subprocess, sys; "
    child = "subprocess.run([sys.executable, '-c', 'from mlstream.runs.machine import *; print(peak_memory_bytes())'])"

    def printed(program: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    before, after, taken = printed(large)
    assert taken == 80_000_000
    assert 70_000_000 < after - before < 120_000_000
    assert printed(parent + child)[0] < after - 40_000_000
