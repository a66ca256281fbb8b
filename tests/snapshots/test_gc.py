"""gc: deletes what nothing refers to, says why everything else stays, and refuses when it cannot tell."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mlstream.config import DecodeConfig
from mlstream.errors import StoreError, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots import names
from mlstream.snapshots.gc import collect_garbage, find_garbage
from mlstream.snapshots.index import Holding, holdings, remember
from mlstream.snapshots.leases import Held, live_leases
from mlstream.snapshots.snapshot import Snapshot, list_snapshots, open_snapshot
from mlstream.snapshots.store import Store
from tests.snapshots.making import columns, make_snapshot, plain, values

Call = Callable[..., Any]


def files(home: Home) -> dict[str, bytes]:
    """Every file of the store that is not a lock."""
    found = (path for path in home.path.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(home.path)): path.read_bytes() for path in found}


def of(snapshot: Snapshot) -> set[str]:
    """The files that make up a snapshot, without its names."""
    store = snapshot.store
    paths = [
        store.manifest(snapshot.id),
        store.storage(snapshot.id),
        *store.cuts(snapshot.id),
        *map(store.object, snapshot.storage.objects),
    ]
    return {str(path.relative_to(store.path)) for path in paths}


def record(folder: Path, name: str, content: object) -> Path:
    """A record of a run or a comparison."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2))
    return path


@pytest.fixture
def named(home: Home) -> Snapshot:
    """A snapshot of `ticks` and `quotes` that is called named."""
    return make_snapshot(home, "named", {"ticks": {0: plain(10)}, "quotes": {0: plain(30)}})


@pytest.fixture
def nameless(home: Home) -> Snapshot:
    """A snapshot that was called old; its `ticks` are those of `named`, its `quotes` are its own."""
    made = make_snapshot(home, "old", {"ticks": {0: plain(10)}, "quotes": {0: plain(40)}})
    (home.path / "refs" / "old").unlink()
    return made


def test_without_yes_gc_says_what_it_would_delete_and_why_the_rest_stays(
    bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot
) -> None:
    before = files(home)
    said = bare_cli("snapshot", "gc")
    assert said.exit_code == 0
    assert said.stdout.splitlines()[0] == f"delete   {nameless.id[:12]}  was old, 50 rows"
    assert f"{named.id[:12]}  name named" in said.stdout
    assert max(map(len, said.stdout.splitlines())) <= 80
    assert "nothing was deleted: add --yes" in said.stderr
    found = bare_cli("snapshot", "gc", "--json").json
    assert found["deleted"] is False
    assert found["snapshots"] == [
        {"id": nameless.id, "names": ["old"], "topics": ["quotes", "ticks"], "rows": 50},
    ]
    assert found["stays"] == [{"id": named.id, "why": ["name named"]}]
    own = set(nameless.storage.objects) - set(named.storage.objects)
    assert (found["objects"], len(own)) == (1, 1)
    assert found["size_bytes"] == sum(nameless.storage.objects[digest].size_bytes for digest in own)
    assert files(home) == before


def test_gc_deletes_exactly_what_nothing_refers_to(
    bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot
) -> None:
    before, gone = files(home), of(nameless) - of(named)
    said = bare_cli("snapshot", "gc", "--yes")
    assert said.stdout.startswith(f"deleted  {nameless.id[:12]}")
    after = files(home)
    assert set(before) - set(after) == gone
    assert all(before[path] == data for path, data in after.items())
    assert list_snapshots(home) == [named]
    assert named.verify(deep=True).rows == 40
    assert bare_cli("snapshot", "gc", "--yes").stdout.startswith("there is nothing to delete")


@pytest.mark.parametrize("kind", ["runs", "comparisons"])
def test_a_record_that_mentions_a_snapshot_anywhere_keeps_it(
    bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot, kind: str
) -> None:
    content = {"versions": [{"name": "v1", "inputs": [f"snapshot:{nameless.id}"]}], "other": "cd" * 32}
    path = record(home.path / kind, "ab" * 32, content)
    bare_cli("snapshot", "gc", "--yes")
    assert nameless.verify(deep=True).rows == 50
    stays = bare_cli("snapshot", "gc", "--json").json["stays"]
    assert {"id": nameless.id, "why": [f"{kind[:-1]} abababababab"]} in stays
    path.unlink()
    assert [each["id"] for each in bare_cli("snapshot", "gc", "--yes", "--json").json["snapshots"]] == [nameless.id]


@pytest.mark.parametrize("kind", ["runs", "comparisons"])
def test_a_record_that_cannot_be_read_stops_gc(bare_cli: Call, home: Home, nameless: Snapshot, kind: str) -> None:
    path = record(home.path / kind, "ab" * 32, {})
    path.write_text('{"snapshot_id": "ab')
    before = files(home)
    refused = bare_cli("snapshot", "gc", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert f"the record of this {kind[:-1]} is damaged" in refused.stderr
    assert path.name in refused.stderr.replace("\n", "")
    assert files(home) == before


def test_a_kept_snapshot_stays_until_its_time_is_over(bare_cli: Call, home: Home, nameless: Snapshot) -> None:
    bare_cli("snapshot", "keep", nameless.id, "--for", "1h")
    (stays,) = bare_cli("snapshot", "gc", "--yes", "--json").json["stays"]
    assert stays["id"] == nameless.id
    assert stays["why"][0].startswith("kept until 20")
    (path,) = (home.path / "keeps").iterdir()
    path.rename(path.with_name(f"{nameless.id}-{time.time_ns() // 1_000_000 - 1}.json"))  # an hour later
    bare_cli("snapshot", "gc", "--yes")
    assert [path for path in files(home) if nameless.id in path] == []


def test_a_storage_map_that_is_needed_and_damaged_stops_gc(
    bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot
) -> None:
    path = named.store.storage(named.id)
    path.write_bytes(path.read_bytes()[:-20])
    before = files(home)
    refused = bare_cli("snapshot", "gc", "--yes")
    assert refused.exit_code == 1
    assert f"storage/{named.id}.json cannot be read" in refused.stderr.replace("\n", "")
    assert "name named" in refused.stderr
    assert files(home) == before
    bare_cli("snapshot", "rm", "named")
    assert bare_cli("snapshot", "gc", "--yes").exit_code == 0
    assert list_snapshots(home) == []


def test_a_name_that_holds_no_id_stops_gc(bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot) -> None:
    (home.path / "refs" / "named").write_text("garbage")
    before = files(home)
    assert "refs/named: it holds no id" in bare_cli("snapshot", "gc", "--yes").stderr
    assert files(home) == before


def test_what_a_killed_publish_left_is_deleted(home: Home, named: Snapshot) -> None:
    store, wanted = named.store, files(home)
    strange = "ef" * 32
    store.object(strange).parent.mkdir(parents=True)
    store.object(strange).write_bytes(b"an object of no snapshot")
    store.storage(strange).write_text("half a snapshot")
    (home.path / "cuts" / f"{strange}-20240101T000000-abcdef.json").write_text("{}")
    (home.path / "tmp" / "0123456789abcdef").mkdir()
    (home.path / "tmp" / "0123456789abcdef" / "work").write_text("never finished")
    (home.path / "leases" / "0123456789abcdef.json").write_text(json.dumps({"snapshots": [strange]}))
    found = collect_garbage(store)
    assert (len(found.objects), len(found.documents), len(found.leftovers)) == (1, 2, 1)
    assert files(home) == wanted
    assert find_garbage(store).empty


def test_views_and_index_entries_go_with_the_records_that_they_are_of(home: Home) -> None:
    decode, raw = DecodeConfig(format="json"), DecodeConfig(format="raw")
    here = make_snapshot(home, "here", {"t": {0: columns(values([b'{"a":1}'] * 5))}})
    same = make_snapshot(home, "same", {"t": {0: columns(values([b'{"a":1}'] * 5))}, "u": {0: plain(9)}})
    gone = make_snapshot(home, "gone", {"t": {0: columns(values([b'{"a":2}'] * 5))}})
    store = here.store
    kept_view, lost_view = here.view("t", decode), gone.view("t", decode)
    shared_view = same.view("t", raw)
    with store.staging() as staged:
        for made in (here, same, gone):
            remember(store, "c", "i", 0, Holding(made.id, 0, 4, 0), staged=staged)
        remember(store, "c", "other", 0, Holding(gone.id, 0, 4, 0), staged=staged)
    for name in ("same", "gone"):
        store.ref(name).unlink()
    found = collect_garbage(store)
    assert [path.name for path in found.views] == [lost_view.digest]
    assert {path.name for path in store.views.iterdir()} == {kept_view.digest, shared_view.digest}
    assert [holding.snapshot_id for holding in holdings(store, "c", "i", 0)] == [here.id]
    assert not (store.index / "streams" / "c" / "other").exists()
    assert here.scan("t", decode).collect()["a"].to_list() == [1] * 5


def test_what_the_index_and_restores_say_of_a_snapshot_goes_with_it(home: Home) -> None:
    stays = make_snapshot(home, "stays", {"t": {0: plain(10)}})
    goes = make_snapshot(home, "goes", {"t": {0: plain(20)}})
    store = stays.store
    expected = []
    for made in (stays, goes):
        cell = made.storage.streams[0].partitions[0].cells[0].cell
        (digest,) = made.storage.objects
        files = [
            record(
                home.path / "index" / "schemas" / "of-t", made.id[:8], {"format": 1, "cells": {cell.records.hex(): []}}
            ),
            record(home.path / "restores", made.id[:8], {"format": 1, "snapshot": made.id}),
            home.path / "restores" / f"{made.id[:8]}.parquet",
            home.path / "index" / "damaged" / digest,
        ]
        files[2].touch()
        store.mark(digest, damaged=True)
        expected.append(files)
    unreadable = record(home.path / "restores", "unreadable", [])
    orphan = home.path / "restores" / "orphan.parquet"
    orphan.touch()
    store.ref("goes").unlink()
    assert sum(path.exists() for path in expected[1]) == 4
    collect_garbage(store)
    assert all(path.exists() for path in (*expected[0], unreadable))
    assert not any(path.exists() for path in (*expected[1], orphan))
    assert find_garbage(store).empty


def test_a_pull_that_nobody_goes_on_with_is_left_for_a_day(home: Home, named: Snapshot) -> None:
    incoming = home.path / "tmp" / "incoming"
    young, old, busy = (incoming / (letter * 64) for letter in "abc")
    for folder in (young, old, busy):
        (folder / "objects").mkdir(parents=True)
    for folder in (old, busy):
        os.utime(folder, (time.time() - 90_000,) * 2)
    with FileLock(incoming / f"{busy.name}.lock"):
        assert find_garbage(named.store).leftovers == (old,)
        assert old.exists()
        collect_garbage(named.store)
        assert (young.exists(), old.exists(), busy.exists()) == (True, False, True)


def test_files_that_are_no_names_are_passed_over_and_named_by_verify(
    bare_cli: Call, home: Home, named: Snapshot, nameless: Snapshot
) -> None:
    stray = home.path / "refs" / ".DS_Store"
    stray.write_bytes(b"\x00\x01Bud1")
    (home.path / "refs" / "Thumbs.db").write_bytes(b"")
    assert set(bare_cli("snapshot", "ls", "-q").stdout.split()) == {nameless.id, "named"}
    assert [gone.snapshot_id for gone in collect_garbage(named.store).snapshots] == [nameless.id]
    checked = bare_cli("snapshot", "verify", "--all")
    assert checked.exit_code == 1
    assert "refs/.DS_Store: it is no name of a snapshot; delete it" in checked.stdout
    assert "refs/Thumbs.db: it is no name" in checked.stdout
    for path in (home.path / "refs").glob("*[DT]*"):
        path.unlink()
    assert bare_cli("snapshot", "verify", "--all").exit_code == 0


def test_work_in_progress_and_what_is_held_stay(home: Home, named: Snapshot, nameless: Snapshot) -> None:
    store = Store(home)
    with store.staging() as staged, store.in_use(nameless.id, "reading"):
        (staged / "work").write_text("in progress")
        found = collect_garbage(store)
        assert (staged / "work").exists()
        assert found.empty
        (why,) = next(each.why for each in found.stays if each.snapshot_id == nameless.id)
        assert why.startswith("in use: reading (pid ")
    assert nameless.verify(deep=True).rows == 50
    assert [gone.snapshot_id for gone in collect_garbage(store).snapshots] == [nameless.id]
    assert [path.name for path in (home.path / "leases").iterdir()] == ["gate.lock"]


def test_what_is_handed_on_from_a_lease_to_a_name_while_gc_reads_is_not_lost(
    home: Home, named: Snapshot, nameless: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(home)
    with ExitStack() as held:
        held.enter_context(store.in_use(nameless.id, "publishing"))

        def handed_on(root: Path) -> list[Held]:
            store.ref("late").write_text(f"{nameless.id}\n")
            held.close()
            return live_leases(root)

        monkeypatch.setattr("mlstream.snapshots.references.live_leases", handed_on)
        assert collect_garbage(store).empty
    assert open_snapshot("late", home=home).verify(deep=True).rows == 50


def test_nothing_is_held_and_no_name_changes_while_gc_deletes(home: Home, named: Snapshot) -> None:
    store = Store(home)
    done: list[str] = []

    def hold() -> None:
        with store.in_use(named.id, "reading"):
            done.append("held")

    def tag() -> None:
        names.tag(store, "named", "other")
        done.append("tagged")

    def rm() -> None:
        names.remove(store, ["other"])
        done.append("removed")

    for change in (hold, tag, rm):
        thread = threading.Thread(target=change)
        with store.gate():
            thread.start()
            thread.join(0.2)
            before = list(done)
        thread.join(10)
        assert len(done) == len(before) + 1  # it waited, and then it went on
    assert done == ["held", "tagged", "removed"]


def test_a_snapshot_that_is_not_there_any_more_cannot_be_held(home: Home, named: Snapshot, nameless: Snapshot) -> None:
    store = Store(home)
    collect_garbage(store)
    gone = pytest.raises(UnknownSnapshot, match=f"snapshot {nameless.id[:12]} was deleted just now")
    with gone, store.in_use(nameless.id, "reading"):
        pass


def test_the_same_content_can_be_frozen_again_after_gc(home: Home, named: Snapshot, nameless: Snapshot) -> None:
    collect_garbage(named.store)
    again = make_snapshot(home, "again", {"ticks": {0: plain(10)}, "quotes": {0: plain(40)}})
    assert again == nameless
    assert open_snapshot("again", home=home).verify(deep=True).rows == 50


def test_gc_of_a_store_at_a_url_is_refused(home: Home) -> None:
    store = Store(home)
    object.__setattr__(store, "home", Home(home.path, "s3://bucket/store"))  # without asking a server
    with pytest.raises(StoreError, match="s3://bucket/store: gc works in a store that is a folder"):
        find_garbage(store)
