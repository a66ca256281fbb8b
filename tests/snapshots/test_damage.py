"""An object whose bytes have changed, its size not: once found it counts as missing, and whoever has it mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.pull import pull
from mlstream.snapshots.push import push
from mlstream.snapshots.remote_open import open_remote
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from tests.snapshots.making import flip, make_snapshot, plain


@pytest.fixture
def made(home: Home, tmp_path: Path) -> Snapshot:
    """A snapshot of one file."""
    (tmp_path / "rates.csv").write_bytes(b"day,rate\n1,1.5\n")
    return mlstream.snapshot("rates", files=[str(tmp_path / "rates.csv")], home=home)


def object_of(made: Snapshot) -> Path:
    (digest,) = made.storage.objects
    return made.store.object(digest)


def marks(made: Snapshot) -> list[str]:
    return [path.name for path in (made.store.path / "index" / "damaged").glob("*")]


def test_a_damaged_object_is_marked_when_it_is_found_and_mended_by_freezing_again(
    made: Snapshot, home: Home, tmp_path: Path
) -> None:
    path = object_of(made)
    flip(path)
    with pytest.raises(IntegrityError, match=f"object {path.name}: its bytes have changed"):
        made.verify()
    assert marks(made) == [path.name]
    again = mlstream.snapshot("again", files=[str(tmp_path / "rates.csv")], home=home)
    assert again.id == made.id
    assert marks(made) == []
    assert made.verify(deep=True).ok
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_mark_of_an_object_that_is_right_again_is_taken_away_by_a_check(made: Snapshot) -> None:
    flip(object_of(made))
    with pytest.raises(IntegrityError):
        made.verify()
    flip(object_of(made))
    assert made.verify().ok
    assert marks(made) == []


def test_an_object_that_is_missing_needs_no_mark(made: Snapshot) -> None:
    object_of(made).unlink()
    with pytest.raises(IntegrityError, match="it is missing"):
        made.verify()
    assert marks(made) == []


def test_without_a_place_for_marks_a_check_says_what_it_found(made: Snapshot, bare_cli: Callable[..., Any]) -> None:
    (made.store.path / "index").write_text("in the way")
    path = object_of(made)
    flip(path)
    checked = bare_cli("snapshot", "verify", "rates")
    assert (checked.exit_code, checked.stdout.count(f"object {path.name}: its bytes have changed")) == (1, 1)


@pytest.fixture
def ticks(home: Home) -> Snapshot:
    """A snapshot of two topics and three objects."""
    return make_snapshot(home, "ticks", {"a": {0: plain(3000), 1: plain(10, start=70_000)}, "b": {0: plain(500)}})


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where another store may be: its URL."""
    return str(tmp_path / "elsewhere") if request.param == "folder" else str(request.getfixturevalue("s3"))


@pytest.mark.parametrize("found", [True, False])
def test_what_is_damaged_here_is_fetched_and_not_blamed_on_the_other_store(
    ticks: Snapshot, home: Home, place: str, found: bool
) -> None:
    remote = open_remote(place)
    push(ticks, remote, name="ticks")
    shared = make_snapshot(home, "shared", {"a": {0: plain(3000), 1: plain(10, start=70_000)}})
    digest = next(iter(set(shared.storage.objects) & set(ticks.storage.objects)))
    flip(ticks.store.object(digest))
    if found:
        with pytest.raises(IntegrityError, match=digest):
            shared.verify()
    assert pull("ticks", remote, home=home).objects == 1
    assert ticks.verify(deep=True).ok
    assert shared.verify(deep=True).ok
    ticks.store.storage(ticks.id).unlink()  # the snapshot itself is not whole here, and shares a damaged object
    flip(ticks.store.object(digest))
    assert pull("ticks", remote, home=home).objects == 1
    assert ticks.verify(deep=True).ok


def test_an_object_that_was_found_damaged_in_a_folder_is_replaced_by_a_push(ticks: Snapshot, tmp_path: Path) -> None:
    remote = open_remote(tmp_path / "elsewhere")
    push(ticks, remote, name="ticks")
    there = open_snapshot("ticks", home=tmp_path / "elsewhere")
    flip(there.store.object(next(iter(ticks.storage.objects))))
    with pytest.raises(IntegrityError):
        there.verify()
    assert push(ticks, remote, name="ticks").objects == 1
    assert there.verify(deep=True).ok
    assert push(ticks, remote, name="ticks").objects == 0


def test_what_is_damaged_at_the_url_of_a_home_is_marked_and_sent_again(s3: str, tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_bytes(b"day,rate\n1,1.5\n")
    made = mlstream.snapshot("rates", files=[str(tmp_path / "rates.csv")], home=s3)
    (digest,) = made.storage.objects
    damaged = tmp_path / "damaged"
    damaged.write_bytes(made.store.object(digest).read_bytes())
    flip(damaged)
    remote = open_remote(s3)
    remote.delete(f"objects/{digest[:2]}/{digest}")
    remote.upload(f"objects/{digest[:2]}/{digest}", damaged)
    with pytest.raises(IntegrityError, match=digest):
        made.verify()
    mlstream.snapshot("again", files=[str(tmp_path / "rates.csv")], home=s3)
    assert made.verify(deep=True).ok
