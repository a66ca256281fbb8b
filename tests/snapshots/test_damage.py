"""An object whose bytes have changed, its size not: once found it counts as missing, and whoever has it mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.errors import IntegrityError
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots.making import flip


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
