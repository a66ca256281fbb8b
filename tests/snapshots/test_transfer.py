"""Moving snapshots between stores: a folder, a real S3 server, and a URL of fsspec's. One behaviour, three places."""

from __future__ import annotations

import random
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock, Timeout

import mlstream
from mlstream.errors import IntegrityError, MlstreamError, NameTaken, Protected, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots.protection import keep
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote import Remote
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from mlstream.snapshots.store import Store
from mlstream.snapshots.transfer import find_there
from tests.conftest import Called
from tests.snapshots.making import Row, columns, flip, make_snapshot, plain
from tests.snapshots.oracle import recomputed_id


@pytest.fixture(params=["folder", "s3", "fsspec"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store may be: its URL."""
    if request.param == "folder":
        yield str(tmp_path / "elsewhere")
    elif request.param == "s3":
        yield str(request.getfixturevalue("s3"))
    else:
        yield f"memory://{secrets.token_hex(6)}/store"


@pytest.fixture
def other(tmp_path: Path) -> Home:
    """A second home."""
    return Home(tmp_path / "other-home")


@pytest.fixture
def ticks(home: Home) -> Snapshot:
    """Two topics, three partitions, three objects; one of them is large."""
    large = columns(Row(offset, random.Random(offset).randbytes(200)) for offset in range(500))
    return make_snapshot(home, "ticks", {"a": {0: plain(3000), 1: plain(10, start=70_000)}, "b": {0: large}})


def rows_of(found: Snapshot, topic: str) -> pl.DataFrame:
    return found.scan(topic).collect()


def test_a_pushed_snapshot_can_be_pulled_elsewhere_and_is_the_same(ticks: Snapshot, other: Home, place: str) -> None:
    sent = push(ticks, open_remote(place), name="ticks")
    came = pull("ticks", open_remote(place), home=other)
    assert (sent.objects, came.objects) == (len(ticks.storage.objects),) * 2
    assert sent.size_bytes == came.size_bytes == ticks.size_bytes
    found = open_snapshot("ticks", home=other)
    assert found == ticks
    assert found.cuts() == ticks.cuts()
    for topic in ("a", "b"):
        assert rows_of(found, topic).equals(rows_of(ticks, topic))
    assert found.verify(deep=True).rows == 3510
    assert recomputed_id(other.path, found.id) == found.id


def test_what_was_pushed_to_a_folder_is_a_store(ticks: Snapshot, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    push(ticks, open_remote(folder), name="ticks")
    there = open_snapshot("ticks", home=folder)
    assert rows_of(there, "b").equals(rows_of(ticks, "b"))
    assert recomputed_id(folder, there.id) == ticks.id
    modes = {path.stat().st_mode & 0o777 for path in (folder / "objects").rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert [path for path in (folder / "tmp").rglob("*") if path.is_file() and path.suffix == ".arriving"] == []


def test_only_missing_objects_travel(ticks: Snapshot, home: Home, other: Home, place: str) -> None:
    push(ticks, open_remote(place), name="ticks")
    again = push(ticks, open_remote(place), name="ticks")
    assert (again.objects, again.size_bytes, again.there) == (0, 0, len(ticks.storage.objects))
    more = make_snapshot(home, "more", {"a": {0: plain(3000), 1: plain(10, start=70_000)}, "c": {0: plain(7)}})
    shared = set(more.storage.objects) & set(ticks.storage.objects)
    assert shared
    sent = push(more, open_remote(place), name="more")
    assert (sent.objects, sent.there) == (1, len(shared))
    pull("ticks", open_remote(place), home=other)
    came = pull("more", open_remote(place), home=other)
    assert (came.objects, came.there) == (1, len(shared))
    assert pull("more", open_remote(place), home=other).objects == 0


def test_a_snapshot_moves_by_its_id_and_then_has_no_name(ticks: Snapshot, other: Home, place: str) -> None:
    remote = open_remote(place)
    push(ticks, remote)
    moved = pull(ticks.id[:10], remote, home=other)
    assert (moved.snapshot_id, moved.name) == (ticks.id, None)
    assert open_snapshot(ticks.id, home=other).names == ()
    with pytest.raises(UnknownSnapshot, match="no snapshot is called 'ticks'"):
        pull("ticks", remote, home=other)


def test_a_name_that_stands_for_something_else_is_refused_there_and_here(
    ticks: Snapshot, home: Home, other: Home, place: str
) -> None:
    remote = open_remote(place)
    push(ticks, remote, name="ticks")
    changed = make_snapshot(other, "ticks", {"a": {0: plain(5)}})
    with pytest.raises(NameTaken, match=f"'ticks' stands for another snapshot there .id {ticks.id[:12]}"):
        push(changed, remote, name="ticks")
    with pytest.raises(UnknownSnapshot):  # it was refused before anything travelled
        pull(changed.id, remote, home=home)
    with pytest.raises(NameTaken, match="--force moves the name"):
        pull("ticks", remote, home=other)
    assert open_snapshot("ticks", home=other) == changed

    push(changed, remote, name="ticks", force=True)
    pull("ticks", remote, home=home, force=True)
    assert open_snapshot("ticks", home=home) == changed
    assert open_snapshot(ticks.id, home=home) == ticks  # what the name stood for stays


def test_an_object_that_is_damaged_here_is_not_pushed(ticks: Snapshot, place: str) -> None:
    remote = open_remote(place)
    digest = next(iter(ticks.storage.objects))
    flip(ticks.store.object(digest))
    with pytest.raises(IntegrityError, match=f"object {digest}: its bytes have changed"):
        push(ticks, remote, name="ticks")
    assert remote.list("manifests") == []
    assert remote.list("refs") == []


def test_what_is_missing_or_damaged_there_is_mended_by_a_push(ticks: Snapshot, other: Home, place: str) -> None:
    remote = open_remote(place)
    push(ticks, remote, name="ticks")
    digest = next(iter(ticks.storage.objects))
    remote.delete(f"objects/{digest[:2]}/{digest}")
    remote.put(f"manifests/{ticks.id}.json", b"{}")
    remote.put(f"storage/{ticks.id}.json", b"{}")
    with pytest.raises(IntegrityError):
        pull("ticks", remote, home=other)
    assert push(ticks, remote, name="ticks").objects == 1
    pull("ticks", remote, home=other)
    assert open_snapshot("ticks", home=other) == ticks


def test_a_place_that_holds_the_content_in_other_objects_keeps_them(home: Home, other: Home, place: str) -> None:
    rows = plain(70_000)
    one = make_snapshot(home, "one", {"t": {0: rows}})
    other_rows = [rows.slice(first, 5_000) for first in range(0, 70_000, 5_000)]
    two = make_snapshot(other, "two", {"t": {0: other_rows}})
    assert one == two
    remote = open_remote(place)
    push(one, remote, name="one")
    assert push(two, remote, name="two").objects == 0
    assert {found.path for found in remote.list("refs")} == {"refs/one", "refs/two"}


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


@pytest.fixture(params=["folder", "s3"])
def lasting_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that outlives a process."""
    return str(tmp_path / "elsewhere") if request.param == "folder" else str(request.getfixturevalue("s3"))


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


def test_the_command_line_moves_snapshots(
    bare_cli: Callable[..., Called], ticks: Snapshot, lasting_place: str, other: Home
) -> None:
    sent = bare_cli("snapshot", "push", "ticks", lasting_place)
    assert sent.exit_code == 0, sent.stderr
    assert re.fullmatch(rf"pushed ticks \({ticks.id[:12]}\): 3 objects, \d+\.\d kB\n", sent.stdout)
    again = bare_cli("snapshot", "push", "--all", lasting_place, "--json").json
    assert [(each["name"], each["objects"], each["there"]) for each in again["snapshots"]] == [("ticks", 0, 3)]
    came = bare_cli("--home", other.path, "snapshot", "pull", "--all", lasting_place)
    assert came.exit_code == 0, came.stderr
    assert came.stdout.startswith(f"pulled ticks ({ticks.id[:12]}): 3 objects, ")
    assert open_snapshot("ticks", home=other) == ticks

    for words in (("push", lasting_place), ("pull", lasting_place), ("push", "ticks", "--all", lasting_place)):
        wrong = bare_cli("snapshot", *words)
        assert (wrong.exit_code, wrong.stdout) == (2, "")
        assert "name the snapshots to" in wrong.stderr
    unknown = bare_cli("snapshot", "pull", "nothing", lasting_place)
    assert unknown.exit_code == 1
    assert "no snapshot is called 'nothing'" in unknown.stderr


def test_the_public_functions_move_snapshots(ticks: Snapshot, other: Home, lasting_place: str) -> None:
    assert ticks.push(lasting_place).objects == 3
    assert mlstream.pull_snapshot("ticks", lasting_place, home=other) == ticks
    assert mlstream.pull_snapshot(ticks.id[:8], lasting_place, home=other).verify(deep=True).ok


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nope://x", "Protocol not known: nope"),
        ("s3://key:secret@bucket/x", "a URL with a password would be written into records"),
        ("s3://bucket/x?versionId=1", "a store's URL has no"),
        ("file://elsewhere/x", "it names the host elsewhere"),
    ],
)
def test_what_is_no_url_of_a_store_is_named(url: str, why: str) -> None:
    with pytest.raises(MlstreamError, match=why):
        open_remote(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://geheim@host/store",
        "s3://key:geheim@bucket/x",
        "s3://key:x/geheim@bucket/x",
        "s3://geheim@bucket/x",
        "S3://key:x?geheim@bucket/x",
        "abfs://box@account.dfs.core.windows.net/x?sig=geheim",
        "s3://bucket/x?secret_access_key=geheim",
        "s3://bucket/x#geheim",
        "https://[geheim@host/store",
        "https://me:geheim\N{ACCOUNT OF}@host/store",
        "file://geheim@elsewhere/x",
        "nope://geheim@host/x",
    ],
)
def test_no_message_repeats_what_may_be_secret_in_a_url(
    bare_cli: Callable[..., Called], url: str, ticks: Snapshot
) -> None:
    with pytest.raises(MlstreamError) as caught:
        open_remote(url)
    assert "geheim" not in str(caught.value)
    for words in (("snapshot", "push", "ticks", url), ("snapshot", "pull", "ticks", url), ("--home", url, "run", "ls")):
        called = bare_cli(*words)
        assert called.exit_code in (1, 2)
        assert "geheim" not in called.stdout + called.stderr


def test_a_url_that_stands_where_none_is_expected_is_shown_without_its_password(
    bare_cli: Callable[..., Called], tmp_path: Path
) -> None:
    url = "postgresql://me:geheim@host/db?sslpassword=geheim"
    file = tmp_path / "freeze.yaml"
    file.write_text(f"snapshot:\n  tables: {url}\n  topics: ['{url}']\n")
    for words in (
        ("create", "x", "--config", str(file)),
        ("create", "x", "--topic", url),
        ("create", "x", "--from", url, "--topic", "t"),
        ("show", url),
        ("show", "ticks", url),
        ("tag", "ticks", url),
    ):
        called = bare_cli("snapshot", *words)
        assert called.exit_code in (1, 2)
        assert "geheim" not in called.stdout + called.stderr


def test_a_web_server_of_plain_files_can_be_pulled_from(ticks: Snapshot, other: Home) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(ticks.store.path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            pull("ticks", open_remote(f"http://127.0.0.1:{server.server_address[1]}"), home=other)
        finally:
            server.shutdown()
            thread.join()
    assert open_snapshot("ticks", home=other) == ticks
