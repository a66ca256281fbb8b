"""The store's files: published last and whole, found by name or id, cleaned of what dead processes left."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import mlstream
from mlstream.errors import IntegrityError, NameTaken, UnknownSnapshot
from mlstream.home import Home
from mlstream.snapshots import documents
from mlstream.snapshots.documents import move_into_place
from mlstream.snapshots.publishing import Publication, publish
from mlstream.snapshots.snapshot import Snapshot, list_snapshots
from mlstream.snapshots.store import Store
from tests.snapshots.making import make_snapshot, plain

ROOT = Path(__file__).parents[2]

# Publish a snapshot, and die by SIGKILL at the n-th rename of it.
DIES = """
import os, pickle, signal, sys
from pathlib import Path
from mlstream.home import Home
from mlstream.snapshots import documents, publishing, store

publication = pickle.loads(Path(sys.argv[2]).read_bytes())
at = int(sys.argv[3])
real, renames = documents.move_into_place, []

def counted(file, target, *, mode):
    if len(renames) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    renames.append(target)
    real(file, target, mode=mode)

documents.move_into_place = counted
opened = store.Store(Home(Path(sys.argv[1])))
with opened.claim(publication.name), opened.staging() as staged:
    for digest, file in publication.objects.items():
        (staged / digest).write_bytes(file.read_bytes())
    publication = publishing.Publication(**{
        **{name: getattr(publication, name) for name in publication.__slots__},
        "objects": {digest: staged / digest for digest in publication.objects},
    })
    publishing.publish(opened, publication, staged=staged)
"""


def publication_from(made: Snapshot, name: str) -> Publication:
    """All that makes a snapshot, to be published elsewhere."""
    store = made.store
    return Publication(
        snapshot_id=made.id,
        name=name,
        objects={digest: store.object(digest) for digest in made.storage.objects},
        sizes={digest: found.size_bytes for digest, found in made.storage.objects.items()},
        manifest=store.read(store.manifest(made.id)),
        storage=store.read(store.storage(made.id)),
        cut=store.read(store.cuts(made.id)[0]),
        created_at_ms=1_700_000_000_000,
    )


def test_a_process_killed_at_any_step_of_publishing_leaves_the_old_or_the_new_never_half(
    home: Home, tmp_path: Path
) -> None:
    old = make_snapshot(home, "old", {"t": {0: plain(10)}})
    elsewhere = make_snapshot(Home(tmp_path / "elsewhere"), "jan", {"t": {0: plain(20)}})
    prepared = tmp_path / "publication"
    prepared.write_bytes(pickle.dumps(publication_from(elsewhere, "jan")))
    for step in range(20):
        died = subprocess.run(
            [sys.executable, "-c", DIES, str(home.path), str(prepared), str(step)], cwd=ROOT, check=False
        )
        for found in list_snapshots(home):
            found.verify(deep=True)
        assert old in list_snapshots(home)
        if died.returncode == 0:
            break
        assert died.returncode == -signal.SIGKILL
        with pytest.raises(UnknownSnapshot):
            mlstream.open_snapshot("jan", home=home)
    assert step == 5  # one object, the storage map, the cut, the manifest, the name; then nothing is left to die at
    assert mlstream.open_snapshot("jan", home=home) == elsewhere
    assert [path.name for path in (home.path / "tmp").iterdir() if path.is_dir()] == ["names"]


@pytest.mark.parametrize("moment", ["objects", "manifests", "cuts"])
def test_publishing_leaves_a_name_that_was_given_to_another_snapshot_meanwhile(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    other = make_snapshot(home, "other", {"t": {0: plain(10)}})
    publication = publication_from(make_snapshot(Home(tmp_path / "there"), "jan", {"t": {0: plain(20)}}), "jan")
    store, real = Store(home), documents.move_into_place
    given: list[Path] = []

    def first_comes_another(file: Path, target: Path, *, mode: int) -> None:
        if target.is_relative_to(home.path / moment) and not given:
            given.append(target)
            (home.path / "refs" / "jan").write_text(f"{other.id}\n")
        real(file, target, mode=mode)

    monkeypatch.setattr(documents, "move_into_place", first_comes_another)
    with store.staging() as staged, pytest.raises(NameTaken, match=f"exists already .* .id {other.id[:12]}"):
        publish(store, publication, staged=staged)
    assert given
    assert store.refs() == {"jan": other.id, "other": other.id}
    assert store.find(publication.snapshot_id)[1] is None  # it is there by its id
    with store.staging() as staged, pytest.raises(NameTaken):
        publish(store, publication, staged=staged)


def test_leftovers_of_dead_processes_are_removed_and_those_of_live_ones_are_not(home: Home) -> None:
    store = Store(home)
    with store.staging() as live:
        (live / "work").write_text("in progress")
        dead = home.path / "tmp" / "0123456789abcdef"
        dead.mkdir()
        (dead / "half").write_text("never finished")
        with store.staging():
            assert not dead.exists()
            assert (live / "work").read_text() == "in progress"
    assert not live.exists()


def test_a_name_is_held_by_one_process_at_a_time(home: Home) -> None:
    store = Store(home)
    with store.claim("jan"):
        with pytest.raises(NameTaken, match="'jan' is being made by another process; wait for it"), store.claim("jan"):
            pass
        with store.claim("feb"):
            pass
    with store.claim("jan"):
        pass


def test_published_objects_cannot_be_written(home: Home) -> None:
    store = Store(home)
    with store.staging() as staged:
        (staged / "new").write_bytes(b"x")
        move_into_place(staged / "new", store.object("ab" * 32), mode=0o444)
    assert stat.S_IMODE(os.stat(store.object("ab" * 32)).st_mode) == 0o444


def test_a_beginning_that_fits_two_ids_is_refused(home: Home) -> None:
    store = Store(home)
    (home.path / "manifests").mkdir(parents=True)
    for last in "ab":
        (home.path / "manifests" / f"{'0' * 63}{last}.json").write_text("{}")
    with pytest.raises(UnknownSnapshot, match="2 snapshots begin so; give more digits"):
        store.find("00000000")


@pytest.mark.parametrize("name", ["nothing", "../manifests", "a/b", "", ".."])
def test_what_is_no_snapshot_is_not_found(home: Home, name: str) -> None:
    make_snapshot(home, "one", {"t": {0: plain(3)}})
    with pytest.raises(UnknownSnapshot, match="there are: one"):
        mlstream.open_snapshot(name, home=home)


def test_a_ref_that_holds_no_id_is_named(home: Home) -> None:
    make_snapshot(home, "one", {"t": {0: plain(3)}})
    (home.path / "refs" / "one").write_text("garbage")
    with pytest.raises(IntegrityError, match="refs/one: it holds no id"):
        mlstream.open_snapshot("one", home=home)


def test_a_home_that_does_not_exist_has_no_snapshots_and_is_not_made(home: Home) -> None:
    assert list_snapshots(home) == []
    assert not home.path.exists()


def test_snapshots_are_listed_with_the_newest_cut_first_and_damaged_ones_left_out(home: Home) -> None:
    one = make_snapshot(home, "one", {"t": {0: plain(3)}})
    two = make_snapshot(home, "two", {"t": {0: plain(4)}})
    for path in Store(home).cuts(one.id):
        path.rename(path.with_name(f"{one.id}-29991231T000000-abcdef.json"))
    assert [found.name for found in list_snapshots(home)] == ["one", "two"]
    two.store.manifest(two.id).write_text("{}")
    assert [found.name for found in list_snapshots(home)] == ["one"]
