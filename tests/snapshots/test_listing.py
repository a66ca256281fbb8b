"""The list of snapshots says what opening each would say, however it was come by."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mlstream.home import Home
from mlstream.snapshots.listing import Entry, list_entries
from mlstream.snapshots.snapshot import Snapshot, list_snapshots
from mlstream.snapshots.store import Store
from tests.snapshots.making import make_snapshot, plain

Call = Callable[..., Any]


def facts(entry: Entry | Snapshot) -> tuple[object, ...]:
    """What both say of a snapshot."""
    cut_at_ms = entry.cut_at_ms if isinstance(entry, Entry) else entry.cuts()[-1].created_at_ms
    return entry.id, entry.names, entry.complete, entry.rows, entry.topics, entry.size_bytes, cut_at_ms


@pytest.fixture
def store(home: Home) -> Store:
    """A store of three snapshots; one has two names, one has none."""
    make_snapshot(home, "one", {"t": {0: plain(10)}})
    make_snapshot(home, "two", {"t": {0: plain(10)}, "u": {0: plain(20), 3: plain(5)}})
    make_snapshot(home, "zero", {"t": {0: plain(1)}, "empty": {0: []}})
    (home.path / "refs" / "uno").write_text((home.path / "refs" / "one").read_text())
    (home.path / "refs" / "zero").unlink()
    return Store(home)


def test_the_list_says_what_the_snapshots_say_with_and_without_its_summary(store: Store) -> None:
    expected = {facts(found) for found in list_snapshots(store.home)}
    assert {facts(found) for found in list_entries(store).entries} == expected
    summary = store.index / "listing.json"
    first = json.loads(summary.read_bytes())
    assert {facts(found) for found in list_entries(store).entries} == expected
    for damage in ("", "[]", '{"format": 1, "snapshots": 5}', '{"format": 1, "snapshots": {"a": {}}}', '{"format": 9}'):
        summary.write_text(damage)
        assert {facts(found) for found in list_entries(store).entries} == expected
        assert json.loads(summary.read_bytes()) == first


def test_what_changes_shows(store: Store) -> None:
    before = {found.id: found for found in list_entries(store).entries}
    new = make_snapshot(store.home, "new", {"t": {0: plain(11)}})
    changed = next(found for found in before.values() if "one" in found.names)
    path = store.storage(changed.id)
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=3))  # not as we write it
    after = {found.id: found for found in list_entries(store).entries}
    assert after[new.id].names == ("new",)
    assert after[changed.id] == changed
    path.write_bytes(path.read_bytes()[:-30])
    store.manifest(new.id).write_bytes(store.manifest(new.id).read_bytes().replace(b"t", b"x", 1))
    store.ref("two").unlink()
    listing = list_entries(store)
    found = {entry.id: entry for entry in listing.entries}
    assert found[changed.id].size_bytes is None
    assert list(listing.damaged) == [new.id]
    assert "not its name" in listing.damaged[new.id]
    assert [entry.names for entry in found.values() if entry.rows == 35] == [()]


def test_a_truncated_storage_map_is_shown_as_damaged(bare_cli: Call, home: Home) -> None:
    made = make_snapshot(home, "one", {"t": {0: plain(10)}})
    path = made.store.storage(made.id)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        (found,) = bare_cli("snapshot", "ls", "--json").json["snapshots"]
        assert found["size_bytes"] is None or whole[length - 1 : length] == b"}"
    path.write_bytes(whole[:100])
    assert "damaged" in bare_cli("snapshot", "ls").stdout


def test_a_summary_that_cannot_be_written_is_done_without(store: Store) -> None:
    store.index.mkdir(exist_ok=True)
    (store.index / "listing.json").mkdir()
    assert len(list_entries(store).entries) == 3
    assert [path.name for path in store.index.iterdir() if path.is_file()] == []


def test_quiet_prints_a_name_or_an_id_a_line(bare_cli: Call, store: Store) -> None:
    said = bare_cli("snapshot", "ls", "-q")
    (nameless,) = [found.id for found in list_entries(store).entries if not found.names]
    assert sorted(said.stdout.splitlines()) == sorted(["one", "two", nameless])
    assert said.stderr == ""


def test_long_names_and_many_topics_fit_80_columns(bare_cli: Call, home: Home) -> None:
    topics = {f"a-topic-with-a-long-name-{number}": {0: plain(3)} for number in range(5)}
    made = make_snapshot(home, "n" * 128, topics)
    said = bare_cli("snapshot", "ls").stdout.splitlines()
    assert max(map(len, said)) <= 80
    assert said[-1].startswith("n" * 23)
    assert "… " in said[-1]
    assert made.id[:12] in said[-1]
    assert bare_cli("snapshot", "ls", "-q").stdout == "n" * 128 + "\n"
