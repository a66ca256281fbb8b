"""What versions left in the cache goes when nobody needs it, and is made again when somebody does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlstream.errors import UsageError
from mlstream.home import Home
from mlstream.runs import unused
from mlstream.runs.unused import Kept, find_unused, remove_unused
from mlstream.versions.cached import alone
from mlstream.versions.checkouts import Checkout, check_out
from mlstream.versions.environments import Environment, build_environment
from tests.cli.test_run_cli import narrow
from tests.conftest import Called
from tests.versions.packages import write_wheel
from tests.versions.repository import new_repo


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("MLSTREAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[], Checkout]:
    """Check out the commit of a small project."""
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "rule.py").write_text("def make(): ...\n")
    repo = new_repo(tmp_path / "tiny")
    return lambda: check_out(repo.top, "main", where="v")


def build(tmp_path: Path) -> Environment:
    """An environment of one package that is made by hand."""
    write_wheel(tmp_path / "env" / "wheels", "scales", "1.0")
    (tmp_path / "env" / "requirements.txt").write_text("--no-index\n--find-links wheels\nscales\n")
    return build_environment("requirements.txt", root=tmp_path / "env", where="v", needs=())


def folder_of(found: Checkout) -> Path:
    return found.tree.parent


def aged(folder: Path, days: float = 40) -> Path:
    """The folder, which was used so long ago."""
    at = folder.stat().st_mtime - days * 86_400
    os.utime(folder, (at, at))
    return folder


def only(found: list[Kept]) -> Kept:
    (kept,) = found
    return kept


def test_an_environment_that_was_not_used_for_long_goes_and_is_built_again(
    tmp_path: Path, cache: Path, home: Home
) -> None:
    before = build(tmp_path)
    folder = aged(before.python.parents[2])
    assert only(find_unused(home, unused_days=41)).stays == "used lately"
    found = only(find_unused(home, unused_days=39))
    assert (found.kind, found.folder, found.what, found.stays) == ("environment", folder, "1 packages", None)
    assert found.size_bytes > sum(file.stat().st_size for file in before.site.glob("scales*"))
    assert folder.exists()
    assert remove_unused(home, unused_days=39) == [found]
    assert not folder.exists()
    assert list(cache.rglob("*.json")) == list((cache / "environments" / "pins").iterdir())  # what it was resolved to
    assert find_unused(home, unused_days=0) == []
    write_wheel(tmp_path / "env" / "wheels", "scales", "1.1")
    assert build_environment("requirements.txt", root=tmp_path / "env", where="v", needs=()).digest == before.digest


def test_to_resolve_a_version_is_to_use_it(tmp_path: Path, home: Home, checkout: Callable[[], Checkout]) -> None:
    for folder in (build(tmp_path).python.parents[2], folder_of(checkout())):
        aged(folder)
    assert [kept.stays for kept in find_unused(home, unused_days=30)] == [None, None]
    checkout()
    assert {kept.kind: kept.stays for kept in find_unused(home, unused_days=30)} == {
        "environment": None,
        "checkout": "used lately",
    }
    build(tmp_path)
    assert [kept.stays for kept in remove_unused(home, unused_days=30)] == ["used lately", "used lately"]


@pytest.mark.parametrize("how", ["program", "folder"])
def test_what_a_process_works_in_stays(tmp_path: Path, home: Home, how: str) -> None:
    python = build(tmp_path).python
    folder = aged(python.parents[2])
    waiting = "import sys; print(flush=True); sys.stdin.read()"
    program = str(python) if how == "program" else sys.executable
    with subprocess.Popen(
        [program, "-c", waiting],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=folder if how == "folder" else tmp_path,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert only(remove_unused(home, unused_days=30)).stays == "a process works in it"
        process.communicate()
    assert only(remove_unused(home, unused_days=30)).stays is None
    assert not folder.exists()


def test_what_is_being_made_or_found_meanwhile_stays(
    home: Home, checkout: Callable[[], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = aged(folder_of(checkout()))
    with alone(folder, within_s=0, doing="checking out", where="v"):
        assert only(remove_unused(home, unused_days=30)).stays == "being made"

    @contextmanager
    def slow(held: Path, **settings: Any) -> Iterator[None]:
        with alone(held, **settings):
            checkout()  # by a run that begins at this moment
            yield

    monkeypatch.setattr(unused, "alone", slow)
    assert only(remove_unused(home, unused_days=30)).stays == "used just now"
    assert checkout().root.is_dir()


def test_a_checkout_that_says_nothing_of_itself_goes_like_another(
    home: Home, checkout: Callable[[], Checkout], cache: Path
) -> None:
    folder = folder_of(checkout())
    (folder / "revision.json").write_text("{")
    aged(folder)
    assert only(remove_unused(home, unused_days=30)).stays is None
    assert checkout().root.is_dir()
    assert [path.name for path in (cache / "revisions").iterdir() if path.is_dir()] == [folder.name]


def test_what_was_being_removed_when_the_process_died_is_gone_after_the_next_time(
    home: Home, checkout: Callable[[], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = aged(folder_of(checkout()))

    def die(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unused.shutil, "rmtree", die)
        with pytest.raises(KeyboardInterrupt):
            remove_unused(home, unused_days=30)
    assert not folder.exists()
    (left,) = (path for path in folder.parent.iterdir() if path.is_dir())
    with alone(folder, within_s=0, doing="removing it", where="v"):  # as if it were not dead
        remove_unused(home, unused_days=30)
    assert left.is_dir()
    assert remove_unused(home, unused_days=30) == []
    assert not left.exists()
    assert folder_of(checkout()) == folder


@pytest.mark.parametrize("days", [-1, float("nan"), 1e9])
def test_a_number_of_days_that_is_none_is_refused(home: Home, days: float) -> None:
    with pytest.raises(UsageError, match="name a number of days from 0 to 36500"):
        find_unused(home, unused_days=days)


def test_the_command_shows_what_would_go_and_removes_it_when_it_is_told_to(
    bare_cli: Callable[..., Called], checkout: Callable[[], Checkout]
) -> None:
    found = checkout()
    folder = aged(folder_of(found))
    fresh = bare_cli("version", "gc", "--unused-for", "41", "--yes")
    assert (fresh.exit_code, fresh.stderr) == (0, "")
    assert fresh.stdout == "there is nothing to remove\n1 stay: 1 used lately\n"
    shown = bare_cli("version", "gc")
    assert (shown.exit_code, shown.stderr) == (0, "nothing was removed: add --yes to remove this\n")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["kind", "last", "used", "size", "what"]
    assert lines[1].startswith("checkout  20")
    assert lines[1].rstrip().endswith(f" B  {found.commit[:12]} of tiny")
    assert lines[3].startswith("would remove 1, ")
    assert narrow(shown.stdout)
    assert folder.exists()
    said = bare_cli("version", "gc", "--yes", "--json").json
    assert (said["removed"], said["stays"]) == (True, [])
    assert [(row["kind"], row["folder"], row["stays"]) for row in said["unused"]] == [("checkout", str(folder), None)]
    assert not folder.exists()
    assert bare_cli("version", "gc", "--unused-for", "-1").exit_code == 2
