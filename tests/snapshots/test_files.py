"""Files in a snapshot: which ones a pattern names, what they are called, and that no byte of them is ever another."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.errors import FileChanged, NameTaken, UnknownFile, UsageError
from mlstream.home import Home
from mlstream.snapshots import file_bytes
from mlstream.snapshots.snapshot import Snapshot
from tests.snapshots import oracle
from tests.snapshots.making import left

Freeze = Callable[..., Snapshot]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with some files, in which the test stands."""
    root = tmp_path / "project"
    for path, data in {
        "pyproject.toml": b"",
        "reference/airports.csv": b"code,zone\nJFK,America/New_York\n",
        "reference/planes.csv": bytes(range(256)) * 9000,
        "reference/notes.txt": b"",
        "reference/old/.hidden": b"h",
        "reference/old/airlines.csv": b"AA\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def froze(home: Home) -> Freeze:
    def run(name: str, *files: str | Path) -> Snapshot:
        return mlstream.snapshot(name, files=files, home=home)

    return run


def paths(snapshot: Snapshot) -> list[str]:
    return [file.path for file in snapshot.files]


def test_the_bytes_come_back_as_they_were_and_no_broker_is_needed(project: Path, froze: Freeze) -> None:
    found = froze("ref", "reference")
    assert paths(found) == sorted(
        str(path.relative_to(project)) for path in (project / "reference").rglob("*") if path.is_file()
    )
    for file in found.files:
        stored = found.file(file.path)
        assert stored.read_bytes() == (project / file.path).read_bytes()
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == file.sha256 == stored.name
        assert stat.S_IMODE(stored.stat().st_mode) == 0o444
    assert (found.topics, found.rows, found.complete) == ((), 0, True)
    assert found.size_bytes == sum(file.size_bytes for file in found.files)
    assert oracle.recomputed_id(found.store.path, found.id) == found.id
    (cut,) = found.cuts()
    assert cut.source == ()
    assert [(file.path, file.source) for file in cut.files] == [(path, str(project / path)) for path in paths(found)]
    assert cut.files[0].modified_ms == (project / paths(found)[0]).stat().st_mtime_ns // 1_000_000


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        (["reference/airports.csv"], ["reference/airports.csv"]),
        (["reference/*.csv"], ["reference/airports.csv", "reference/planes.csv"]),
        (["reference/old"], ["reference/old/.hidden", "reference/old/airlines.csv"]),
        (["reference/**/*.csv"], ["reference/airports.csv", "reference/old/airlines.csv", "reference/planes.csv"]),
        (["reference/air*", "./reference/../reference/airports.csv"], ["reference/airports.csv"]),
        (["reference/[ab]*.csv", "reference/note?.txt"], ["reference/airports.csv", "reference/notes.txt"]),
    ],
)
def test_a_path_a_folder_or_a_pattern_names_files(
    project: Path, froze: Freeze, patterns: list[str], found: list[str]
) -> None:
    assert paths(froze("x", *patterns)) == found


def test_a_file_is_called_the_same_wherever_in_the_project_one_stands(
    project: Path, froze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = froze("whole", "reference/airports.csv")
    monkeypatch.chdir(project / "reference" / "old")
    assert froze("inside", "../airports.csv") == whole
    assert froze("absolute", project / "reference" / "airports.csv") == whole


def test_files_from_elsewhere_are_called_by_their_own_name_or_their_folder_s(
    project: Path, froze: Freeze, tmp_path: Path
) -> None:
    for path in ("share/a/x.csv", "share/b/x.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    assert paths(froze("file", tmp_path / "share/a/x.csv")) == ["x.csv"]
    assert paths(froze("folder", tmp_path / "share")) == ["share/a/x.csv", "share/b/x.csv"]
    assert paths(froze("both", tmp_path / "share/a", "../share/b")) == ["a/x.csv", "b/x.csv"]
    with pytest.raises(UsageError, match=r"both would be 'x.csv' in the snapshot; name the folders"):
        froze("clash", tmp_path / "share/a/x.csv", tmp_path / "share/b/x.csv")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("share", ["share/a/b/x.csv", "share/a/x.csv", "share/x.csv", "share/y.txt"]),
        ("share/**", ["share/a/b/x.csv", "share/a/x.csv", "share/x.csv", "share/y.txt"]),
        ("share/*", ["share/a/b/x.csv", "share/a/x.csv", "share/x.csv", "share/y.txt"]),
        ("share/**/*.csv", ["share/a/b/x.csv", "share/a/x.csv", "share/x.csv"]),
        ("share/*/x.csv", ["share/a/x.csv"]),
        ("share/a/*.csv", ["a/x.csv"]),
        ("share/[ab]/**/*.csv", ["share/a/b/x.csv", "share/a/x.csv"]),
        ("share/*/../y.txt", ["share/y.txt"]),
        ("share/*/../../other.csv", ["other.csv"]),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_files_of_a_pattern_from_elsewhere_are_called_from_the_last_folder_before_its_first_wildcard(
    project: Path, froze: Freeze, tmp_path: Path, pattern: str, found: list[str], relative: bool
) -> None:
    for path in ("share/a/b/x.csv", "share/a/x.csv", "share/x.csv", "share/y.txt", "other.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    frozen = froze("x", f"../{pattern}" if relative else tmp_path / pattern)
    assert paths(frozen) == found
    assert all(frozen.file(path).read_text().endswith(path) for path in found)


def test_a_path_that_exists_is_no_pattern(project: Path, froze: Freeze) -> None:
    (project / "run[1].csv").write_text("1")
    (project / "run1.csv").write_text("another")
    assert paths(froze("x", "run[1].csv")) == ["run[1].csv"]


def test_the_store_is_left_out_of_a_folder_that_it_is_in(
    project: Path, froze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(project / ".mlstream")
    first = mlstream.snapshot("one", files=["."], home=home)
    assert "reference/airports.csv" in paths(first)
    assert not [path for path in paths(first) if path.startswith(".mlstream")]
    assert mlstream.snapshot("two", files=["."], home=home) == first


def test_the_same_bytes_are_one_object_and_known_ones_are_not_written_again(
    project: Path, froze: Freeze, home: Home
) -> None:
    (project / "copy.csv").write_bytes((project / "reference/planes.csv").read_bytes())
    one = froze("one", "copy.csv", "reference/planes.csv")
    assert (len(one.files), len(one.storage.objects)) == (2, 1)
    before = {path: path.stat().st_mtime_ns for path in (home.path / "objects").rglob("*") if path.is_file()}
    two = froze("two", "reference")
    assert set(one.storage.objects) < set(two.storage.objects)
    assert before.items() <= {p: p.stat().st_mtime_ns for p in (home.path / "objects").rglob("*")}.items()


def test_symbolic_links_are_stored_as_what_they_lead_to(project: Path, froze: Freeze, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "far.csv").write_text("far")
    (project / "reference" / "link.csv").symlink_to("airports.csv")
    (project / "reference" / "away").symlink_to(tmp_path / "outside")
    found = froze("x", "reference")
    assert found.file("reference/link.csv").read_bytes() == (project / "reference/airports.csv").read_bytes()
    assert found.file("reference/away/far.csv").read_text() == "far"
    assert not found.file("reference/link.csv").is_symlink()


@pytest.mark.parametrize(
    ("prepare", "pattern", "message"),
    [
        (None, "reference/airport.csv", r"no such file; did you mean 'airports.csv'\?"),
        (None, "reference/*.parquet", r"reference/\*.parquet: no file fits; the folder holds: airports.csv, notes"),
        (None, "nowhere/x", "no such file; check the path"),
        (lambda p: (p / "empty" / "below").mkdir(parents=True), "empty", "empty: no file is in it"),
        (
            lambda p: (p / "gone").symlink_to("nothing"),
            "gone",
            "gone: a symbolic link that leads nowhere; it names nothi",
        ),
        (lambda p: (p / "reference" / "up").symlink_to("../reference"), "reference", "up: .*it has no end"),
        (lambda p: os.mkfifo(p / "pipe"), "pipe", "pipe: it is no file and no folder"),
        (lambda p: os.mkfifo(p / "reference" / "pipe"), "reference", "pipe: it is no file and no folder"),
    ],
)
def test_what_is_not_there_or_no_file_is_named(
    project: Path, froze: Freeze, home: Home, prepare: Callable[[Path], None] | None, pattern: str, message: str
) -> None:
    if prepare is not None:
        prepare(project)
    with pytest.raises(UnknownFile, match=message):
        froze("x", pattern)
    assert left(home) == []


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"\xff\xfe"])
def test_a_name_that_no_snapshot_can_hold_is_refused(project: Path, froze: Freeze, name: bytes) -> None:
    try:
        (project / "odd").mkdir()
        Path(os.fsdecode(os.fsencode(project / "odd") + b"/" + name)).write_text("x")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(UsageError, match="no snapshot can hold a file of that name"):
        froze("x", "odd")


def test_nothing_to_freeze_is_a_wrong_call(home: Home) -> None:
    with pytest.raises(UsageError, match="there is nothing to freeze; name topics, files"):
        mlstream.snapshot("x", home=home)


# --- a file that is written to while it is frozen ---


def during(monkeypatch: pytest.MonkeyPatch, which: int, change: Callable[[], object]) -> None:
    """Make a change just before a file is read for the n-th time; it is read for its digest, then for the copy."""
    real, calls = file_bytes._read, []

    def read(*args: object) -> str:
        calls.append(args)
        if len(calls) == which:
            change()
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(file_bytes, "_read", read)


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("how", ["longer", "shorter", "same size", "same size and time", "replaced", "deleted"])
def test_a_file_that_changes_between_the_cut_and_its_copy_is_an_error_and_nothing_is_kept(
    project: Path, froze: Freeze, home: Home, monkeypatch: pytest.MonkeyPatch, how: str, which: int
) -> None:
    file = project / "reference/airports.csv"
    data = file.read_bytes()

    def change() -> None:
        times = file.stat()
        if how == "deleted":
            file.unlink()
        elif how == "replaced":
            (project / "other").write_bytes(data)
            (project / "other").replace(file)
        else:
            file.write_bytes({"longer": data + b"x", "shorter": data[:-1]}.get(how, data[::-1]))
        if how == "same size and time":
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    during(monkeypatch, which, change)
    with pytest.raises(FileChanged, match=r"airports.csv: it (changed|was deleted) while it was copied; noth"):
        froze("x", file)
    assert left(home) == []
    monkeypatch.undo()
    monkeypatch.chdir(project)
    if how != "deleted":
        assert froze("x", file).files  # the next one just works


def test_a_file_that_grows_while_it_is_read_is_an_error(
    project: Path, froze: Freeze, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = project / "growing.log"
    log.write_bytes(b"line\n" * 2_000_000)
    stop = threading.Event()

    def write() -> None:
        with log.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(b"line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(FileChanged, match=r"growing.log: it changed while it was copied"):
            froze("x", "growing.log")
    finally:
        stop.set()
        writer.join()
    assert left(home) == []
    assert froze("x", "growing.log").file("growing.log").read_bytes() == log.read_bytes()


# --- names ---


def test_a_taken_name_is_refused_before_anything_is_copied_unless_all_is_the_same(
    project: Path, froze: Freeze, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = froze("ref", "reference")
    assert froze("ref", "reference") == first
    assert len(first.cuts()) == 2
    before = left(home)
    copied: list[object] = []
    monkeypatch.setattr("mlstream.snapshots.gather.copy_files", lambda *args, **_: copied.append(args))
    (project / "reference/airports.csv").write_text("other")
    for files in (["reference"], ["reference/planes.csv"], ["reference", "pyproject.toml"]):
        with pytest.raises(NameTaken, match="'ref' exists already and holds something else"):
            froze("ref", *files)
    assert (copied, left(home)) == ([], before)
