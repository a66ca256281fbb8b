"""Pushes and pulls that are killed, that meet one another, and that meet a freeze or a gc."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from mlstream.errors import NameTaken, Protected
from mlstream.home import Home
from mlstream.snapshots.protection import keep
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote import Remote
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store
from mlstream.snapshots.transfer import find_there
from tests.snapshots.making import make_snapshot, plain

# A push or pull in a process of its own, which kills itself at the N-th call of a method of its remote store.
DOOMED = """
import os, signal, sys
from mlstream.home import Home
from mlstream.snapshots import remote_fetch
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import open_snapshot

verb, url, home, method, last = sys.argv[1:]
remote_fetch._BLOCK_BYTES = 4096
remote = open_remote(url)
left = [int(last)]
real = getattr(remote, method)

def deadly(*args, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **options)

setattr(remote, method, deadly)
if verb == "push":
    push(open_snapshot("ticks", home=home), remote, name="ticks", jobs=1)
else:
    pull("ticks", remote, home=Home(__import__("pathlib").Path(home)), jobs=1)
"""


def killed(verb: str, url: str, home: Home, method: str, calls: int) -> bool:
    """Whether the process was killed; False when it came to its end."""
    command = [sys.executable, "-c", DOOMED, verb, url, str(home.path), method, str(calls)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == -signal.SIGKILL:
        return True
    assert done.returncode == 0, done.stderr
    return False


def test_a_push_that_was_killed_anywhere_is_gone_on_with(
    ticks: Snapshot, home: Home, other: Home, lasting_place: str
) -> None:
    remote = open_remote(lasting_place)
    for method, calls in (("upload", 0), ("upload", 1), ("put", 0), ("put_new", 0), ("put_new", 1), ("put_new", 2)):
        assert killed("push", lasting_place, home, method, calls), (method, calls)
        if "refs/ticks" in {found.path for found in remote.list("refs")}:
            pull("ticks", remote, home=other)  # there or not there, never half
    before = len(remote.list("objects"))
    assert before == len(ticks.storage.objects)  # nothing has to travel twice
    assert push(ticks, remote, name="ticks").objects == 0
    pull("ticks", remote, home=other)
    assert open_snapshot("ticks", home=other).verify(deep=True).rows == ticks.rows


def test_a_pull_that_was_killed_in_the_middle_of_an_object_goes_on_there(
    ticks: Snapshot, other: Home, lasting_place: str
) -> None:
    push(ticks, open_remote(lasting_place), name="ticks")
    assert killed("pull", lasting_place, other, "read_range", 4)
    assert not (other.path / "manifests").exists()
    left = [path for path in (other.path / "tmp" / "incoming").rglob("*") if path.parent.parent.name == "objects"]
    arrived = sum(path.stat().st_size for path in left)
    assert 0 < arrived <= 4 * 4096
    remote = counting(open_remote(lasting_place))
    pull("ticks", remote, home=other)
    assert remote.fetched == ticks.size_bytes - arrived
    assert open_snapshot("ticks", home=other) == ticks
    assert [path for path in (other.path / "tmp" / "incoming").rglob("*") if path.suffix != ".lock"] == []


class counting:  # noqa: N801
    """A remote store that counts the bytes of objects that are read."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.fetched = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._remote, name)

    def read_range(self, path: str, start: int, length: int) -> bytes:
        data = self._remote.read_range(path, start, length)
        self.fetched += len(data)
        return data


def test_two_who_push_at_once_leave_both_snapshots_whole(
    ticks: Snapshot, other: Home, lasting_place: str, tmp_path: Path
) -> None:
    shared = make_snapshot(other, "more", {"a": {0: plain(3000), 1: plain(10, start=70_000)}, "c": {0: plain(9)}})
    assert set(shared.storage.objects) & set(ticks.storage.objects)
    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(push, found, open_remote(lasting_place), name=name)
            for found, name in ((ticks, "ticks"), (shared, "more"), (ticks, "ticks"), (shared, "again"))
        ]
        for future in futures:
            future.result()
    third = Home(tmp_path / "third")
    for name, rows in (("ticks", ticks.rows), ("more", shared.rows), ("again", shared.rows)):
        pull(name, open_remote(lasting_place), home=third)
        assert open_snapshot(name, home=third).verify(deep=True).rows == rows


def test_of_two_who_push_different_snapshots_under_one_name_one_is_refused(
    ticks: Snapshot, other: Home, lasting_place: str
) -> None:
    changed = make_snapshot(other, "ticks", {"a": {0: plain(5)}})
    late = open_remote(lasting_place)
    real = late.put_new

    def first_comes_another(path: str, data: bytes) -> bool:
        if path.startswith("manifests/"):
            push(ticks, open_remote(lasting_place), name="ticks")
        return real(path, data)

    late.put_new = first_comes_another  # type: ignore[method-assign]
    with pytest.raises(NameTaken, match=f"stands for another snapshot there .id {ticks.id[:12]}"):
        push(changed, late, name="ticks")
    assert pull(changed.id, open_remote(lasting_place), home=ticks.store.home).name is None  # it is there by its id


def test_of_two_who_give_one_name_at_the_same_time_exactly_one_is_refused(
    ticks: Snapshot, home: Home, lasting_place: str
) -> None:
    changed = make_snapshot(home, "changed", {"a": {0: plain(5)}})
    for found in (ticks, changed):
        push(found, open_remote(lasting_place))
    for number in range(5):
        with ThreadPoolExecutor(2) as pool:
            futures = [
                pool.submit(push, found, open_remote(lasting_place), name=f"name-{number}")
                for found in (ticks, changed)
            ]
            refused = [future.exception() for future in futures]
        assert [type(each) for each in refused if each is not None] == [NameTaken]
        winner = (ticks, changed)[refused.index(None)]
        assert find_there(open_remote(lasting_place), f"name-{number}")[0] == winner.id


def test_no_force_takes_the_last_name_of_a_snapshot_that_is_kept_there(
    ticks: Snapshot, home: Home, other: Home, lasting_place: str
) -> None:
    remote = open_remote(lasting_place)
    keep(ticks.store, "ticks", for_s=3600)
    push(ticks, remote, name="ticks")
    for record in (home.path / "keeps").iterdir():
        remote.put_new(f"keeps/{record.name}", record.read_bytes())
    changed = make_snapshot(other, "ticks", {"a": {0: plain(5)}})
    with pytest.raises(Protected, match=r"it is kept until .*, so it keeps its last name"):
        push(changed, remote, name="ticks", force=True)
    assert find_there(remote, "ticks")[0] == ticks.id
    assert remote.list("manifests", beginning=changed.id) == []  # it was refused before anything travelled
    push(ticks, remote, name="golden")
    push(changed, remote, name="ticks", force=True)
    assert [find_there(remote, name)[0] for name in ("ticks", "golden")] == [changed.id, ticks.id]


def test_a_name_that_is_being_frozen_in_a_folder_is_not_given_by_a_push(
    ticks: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlstream.snapshots.push._CLAIM_S", 0.1)
    there = Store(Home(tmp_path / "elsewhere"))
    with there.claim("ticks"), pytest.raises(NameTaken, match="is being made by another process"):
        push(ticks, open_remote(there.path), name="ticks")
    assert there.names() == []
    push(ticks, open_remote(there.path), name="ticks")
    assert there.refs() == {"ticks": ticks.id}


def test_a_push_names_nothing_while_the_folder_is_collected(ticks: Snapshot, tmp_path: Path) -> None:
    there = Store(Home(tmp_path / "elsewhere"))
    push(ticks, open_remote(there.path))
    remote = open_remote(there.path)
    real, gates = remote.put_new, []

    def watched(path: str, data: bytes) -> bool:
        gates.append((path, _is_shut(there)))
        return real(path, data)

    remote.put_new = watched  # type: ignore[method-assign]
    push(ticks, remote, name="ticks")
    assert ("refs/ticks", True) in gates


def _is_shut(store: Store) -> bool:
    """Whether somebody is in the gate of a store."""
    lock = FileLock(store.path / "leases" / "gate.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
