"""Moving snapshots between stores: a folder, a real S3 server, and a URL of fsspec's. One behaviour, three places."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

import mlstream
from mlstream.errors import IntegrityError, MlstreamError, NameTaken, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from tests.conftest import Called
from tests.snapshots.making import flip, make_snapshot, plain
from tests.snapshots.oracle import recomputed_id


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
