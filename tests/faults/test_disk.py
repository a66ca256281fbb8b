"""Disks that are full, limited or read-only: an error that names the fix, the old state; and with room it works.

The disks are real where the machine lets us have them: a tmpfs of a few pages needs root. The limit on a file's size
(RLIMIT_FSIZE) needs nothing.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mlstream
from mlstream.config import DecodeConfig
from mlstream.errors import StoreError
from mlstream.snapshots.snapshot import list_snapshots
from tests.faults.scene import Outcome, Scene

pytestmark = [pytest.mark.broker, pytest.mark.timeout(1800)]

PAGE = os.sysconf("SC_PAGE_SIZE")
FIX = "set MLSTREAM_HOME to a folder that can be written"


def _may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def needs_mount() -> None:
    if not _may_mount():
        pytest.skip("only root may mount; the limit on files and the permissions are tested in any case")


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Something mounted at a folder for a while."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def failed_well(found: Outcome, *words: str) -> None:
    """An expected error that names the fix."""
    assert found.exit_code == 1, found.stderr
    assert "unexpected" not in found.stderr
    assert "fix: " in found.stderr
    assert any(word in found.stderr for word in words), found.stderr


@pytest.mark.usefixtures("needs_mount")
def test_a_disk_that_is_full_at_any_page_leaves_the_old_state_and_create_works_once_there_is_room(
    scene: Scene, dice: random.Random, rounds: int
) -> None:
    refused = worked = 0
    with mounted(scene.work / "small", "-t", "tmpfs", "-o", "size=4m", "none") as disk:
        # None free is never enough, and so many always are.
        for free in (0, *sorted(dice.sample(range(1, 13), min(rounds, 12))), 64):
            home = disk / f"store-{free}"
            shutil.copytree(scene.home, home)
            left = os.statvfs(disk).f_bavail - free
            (disk / "ballast").write_bytes(bytes(left * PAGE))
            found = scene.create(home)
            if scene.state(home) == "old":
                failed_well(found, "free some space, or ")
                refused += 1
            else:
                assert found.exit_code == 0
                worked += 1
            (disk / "ballast").unlink()
            scene.recover(home)
    assert refused > 0
    assert worked > 0


@pytest.mark.usefixtures("needs_mount")
def test_a_store_on_a_full_disk_can_be_read_and_cleaned(scene: Scene) -> None:
    with mounted(scene.work / "small", "-t", "tmpfs", "-o", "size=4m", "none") as disk:
        home = disk / "store"
        shutil.copytree(scene.home, home)
        assert scene.create(home).exit_code == 0
        (disk / "ballast").write_bytes(bytes(os.statvfs(disk).f_bavail * PAGE))
        for command in (["ls"], ["show", "old"], ["verify", "--deep", "old"], ["diff", "old", "new"]):
            found = scene.run(home, "snapshot", *command)
            assert (found.exit_code, found.stderr) == (0, ""), command
        assert scene.run(home, "snapshot", "rm", "new").exit_code == 0
        cleaned = scene.run(home, "snapshot", "gc", "--yes")
        assert cleaned.exit_code == 0, cleaned.stderr
        assert [found.id for found in list_snapshots(home)] == [scene.old]
        assert scene.state(home) == "old"


@pytest.mark.parametrize("size", [0, 700])
def test_a_limit_on_the_size_of_files_leaves_the_old_state(scene: Scene, size: int) -> None:
    home = scene.copy()
    found = scene.create(home, file_size=size)
    failed_well(found, "allow larger files (`ulimit -f`)", "the limit on the size of files")
    assert scene.state(home) == "old"
    scene.recover(home)


def files_of(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


@pytest.fixture(params=["mount", "permissions"])
def read_only(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Callable[..., Outcome]]:
    """Run commands on a store that cannot be written: by its mount, or by its permissions."""
    home = scene.copy()
    before = files_of(home)
    if request.param == "mount":
        request.getfixturevalue("needs_mount")
        with mounted(home, "--bind", str(home)):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
            yield lambda *args: scene.run(home, *args)
    else:
        for path in (home, *home.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield lambda *args: scene.run(home, *args, mortal=True)
        for path in (home, *home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert files_of(home) == before


def test_a_store_that_is_read_only_refuses_create_and_can_be_read(
    read_only: Callable[..., Outcome], scene: Scene
) -> None:
    failed_well(
        read_only("snapshot", "create", "new", "--topic", scene.topic),
        "set MLSTREAM_HOME to a folder that can be written",
    )
    for command in (["ls"], ["ls", "--json"], ["show", "old"], ["verify", "old"], ["verify", "--deep", "old"]):
        found = read_only("snapshot", *command)
        assert (found.exit_code, found.stderr) == (0, ""), command


@pytest.mark.usefixtures("needs_mount")
def test_the_rows_of_a_read_only_store_can_be_scanned_and_a_view_of_them_says_what_it_needs(scene: Scene) -> None:
    home = scene.copy()
    with mounted(home, "--bind", str(home)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(home)], check=True)
        (found,) = list_snapshots(home)
        assert found.scan(scene.topic).collect().height == 100
        with pytest.raises(StoreError, match=FIX):
            found.scan(scene.topic, DecodeConfig(format="raw"))
        with pytest.raises(StoreError, match=FIX):
            mlstream.snapshot("new", topics=[scene.topic], home=home, connection=scene.connection)
