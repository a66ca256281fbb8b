"""Exported files hold every record, row and byte, as other readers see them; a folder is whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstream import snapshot
from mlstream.config import DecodeConfig
from mlstream.errors import DecodeError, IntegrityError, UnknownTopic, UsageError
from mlstream.home import Home
from mlstream.snapshots.export import export
from tests.snapshots.exporting import ODD, all_files, plain_rows, read_csv, read_json_lines
from tests.snapshots.making import Row, columns, make_snapshot, plain, values

Call = Callable[..., Any]
READERS = {"csv": read_csv, "jsonl": read_json_lines}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_holds_every_byte_of_every_record(home: Home, tmp_path: Path, kind: Any) -> None:
    odd = make_snapshot(home, "odd", {"ticks": {0: columns(ODD), 3: columns(ODD[:2])}})
    odd.export(tmp_path / "out", format=kind)
    folder = tmp_path / "out" / "streams" / "ticks"
    assert READERS[kind](folder / f"partition-00000.{kind}") == plain_rows(ODD)
    assert READERS[kind](folder / f"partition-00003.{kind}") == plain_rows(ODD[:2], 3)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_folder_has_a_folder_a_topic_and_a_file_a_partition_and_says_what_it_is(
    home: Home, tmp_path: Path, kind: Any
) -> None:
    made = make_snapshot(home, "two", {"a": {0: plain(10), 1: columns([])}, "b.c": {2: plain(5)}})
    done = made.export(tmp_path / "deep" / "out", format=kind)
    assert done.folder == tmp_path / "deep" / "out"
    assert (done.rows, done.files, done.format) == (15, 0, kind)
    assert list(all_files(done.folder)) == [
        "README.md",
        "export.json",
        "manifest.json",
        f"streams/a/partition-00000.{kind}",
        f"streams/a/partition-00001.{kind}",
        f"streams/b.c/partition-00002.{kind}",
    ]
    assert hashlib.sha256((done.folder / "manifest.json").read_bytes()).hexdigest() == made.id
    found = json.loads((done.folder / "export.json").read_text())
    assert (found["snapshot"], found["name"], found["format"], found["complete"]) == (made.id, "two", kind, True)
    assert [(part["path"], part["rows"]) for stream in found["streams"] for part in stream["files"]] == [
        (f"streams/a/partition-00000.{kind}", 10),
        (f"streams/a/partition-00001.{kind}", 0),
        (f"streams/b.c/partition-00002.{kind}", 5),
    ]
    text = (done.folder / "README.md").read_text()
    assert made.id in text
    assert "`streams/b.c`: topic `b.c`, 5 rows" in text
    assert ("base64" in text) == (kind != "parquet")


def test_files_are_copied_byte_for_byte_and_are_the_users_own(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "reference"
    (source / "deep").mkdir(parents=True)
    (source / "a.csv").write_bytes(b"a,b\r\n\xff")
    (source / "deep" / "empty").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    made = snapshot("files", files=["reference"], home=home)
    done = made.export(tmp_path / "out")
    assert done.files == 2
    assert (tmp_path / "out" / "files" / "reference" / "a.csv").read_bytes() == b"a,b\r\n\xff"
    assert (tmp_path / "out" / "files" / "reference" / "deep" / "empty").read_bytes() == b""
    copy = (tmp_path / "out" / "files" / "reference" / "a.csv").stat()
    assert copy.st_ino != made.file("reference/a.csv").stat().st_ino
    assert copy.st_mode & 0o200


@pytest.mark.parametrize("name", ["..", "../../evil", "/etc", ".hidden", "a b/ü%"])
def test_a_name_in_a_manifest_leads_nowhere_else(home: Home, tmp_path: Path, name: str) -> None:
    made = make_snapshot(home, "evil", {name: {0: plain(3)}})
    made.export(tmp_path / "in" / "out")
    (folder,) = (tmp_path / "in" / "out" / "streams").iterdir()
    assert [path.name for path in folder.iterdir()] == ["partition-00000.parquet"]
    assert not folder.name.startswith(".")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


def test_partitions_of_several_batches_stay_in_order(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "long", {"ticks": {0: plain(150_000), 1: plain(70_001)}})
    for kind in ("csv", "jsonl"):
        seen: list[tuple[int, int]] = []
        done = export(made, tmp_path / kind, format=kind, progress=lambda *now, seen=seen: seen.append(now))
        assert done.rows == 220_001
        assert seen[-1] == (220_001, 220_001)
        assert seen == sorted(seen)
        found = READERS[kind](done.folder / "streams" / "ticks" / f"partition-00000.{kind}")
        assert [row[1] for row in found] == list(range(150_000))
        assert [row[5] for row in found] == [b"%020d" % n for n in range(150_000)]


# Refused, and whole or not there


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(3)}})
    target = tmp_path / "out"
    target.mkdir()
    assert made.export(target).rows == 3  # an empty one is fine
    with pytest.raises(UsageError, match="out: it is not empty; name a folder that is not there yet"):
        made.export(target)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="it is a file"):
        made.export(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UsageError, match="format 'xlsx' is not known; use one of parquet, csv, jsonl"):
        made.export(tmp_path / "other", format="xlsx")  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_filled_meanwhile_is_left_alone(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(3)}})

    def fill(*_: int) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(UsageError, match="it is not empty"):
        export(made, tmp_path / "out", progress=fill)
    assert list(all_files(tmp_path / "out")) == ["mine"]
    assert not (tmp_path / "out.partial").exists()


def test_two_exports_to_one_folder_at_once_are_refused(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(3)}})

    def again(*_: int) -> None:
        with pytest.raises(UsageError, match="another process is exporting to it"):
            export(made, tmp_path / "out")

    export(made, tmp_path / "out", progress=again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out"]


def test_a_damaged_snapshot_leaves_no_folder(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(3)}})
    (digest,) = made.storage.objects
    made.store.object(digest).unlink()
    with pytest.raises(IntegrityError, match="it is missing"):
        made.export(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


KILLED = """
import os, signal, sys
import mlstream.snapshots.export as module
from mlstream.cli.main import run
from mlstream.snapshots.export_files import ColumnFile

name, number, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
calls = 0
holder = ColumnFile if name == "write" else module
original = getattr(holder, name)

def killing(*args, **settings):
    global calls
    calls += 1
    if calls == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **settings)
    if calls == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(holder, name, killing)
sys.exit(run(sys.argv[4:]))
"""


@pytest.mark.parametrize(
    ("name", "number", "when", "there"),
    [
        ("write", 1, "after", False),
        ("write", 2, "after", False),
        ("write_flushed", 3, "before", False),
        ("publish_folder", 1, "before", False),
        ("publish_folder", 1, "after", True),
    ],
)
def test_an_export_that_was_killed_left_a_whole_folder_or_none(
    home: Home, tmp_path: Path, name: str, number: int, when: str, there: bool
) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(70_000)}})
    command = [sys.executable, "-c", KILLED, name, str(number), when, "snapshot", "export", "jan"]
    target = tmp_path / "out"
    environment = {**os.environ, "MLSTREAM_HOME": str(home.path)}
    done = subprocess.run([*command, str(target)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.exists() == there
    if not there:
        assert made.export(target).rows == 70_000
    assert (target / "export.json").exists()
    assert "out.partial" not in [path.name for path in tmp_path.iterdir()]


def test_a_full_disk_leaves_no_folder_and_says_what_to_do(home: Home, tmp_path: Path) -> None:
    make_snapshot(home, "jan", {"ticks": {0: plain(200_000)}})
    program = "from mlstream.cli.main import main; main()"
    command = [sys.executable, "-c", program, "snapshot", "export", "jan", str(tmp_path / "out"), "--format", "csv"]
    done = subprocess.run(
        command,
        env={**os.environ, "MLSTREAM_HOME": str(home.path)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 1
    assert "out: it cannot be written: File too large" in done.stderr
    assert "free some space, or choose another folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


# Decoded

JSON = [b'{"a": 1, "b": "x", "c": 0.1}', b'{"a": null, "b": "\\u00e4,\\"", "c": 1e300}', b'{"a": -5, "c": 2}']


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_decoded_values_become_columns(home: Home, tmp_path: Path, kind: Any) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: columns(values(JSON))}, "other": {0: plain(2)}})
    done = made.export(tmp_path / "out", format=kind, decode={"ticks": DecodeConfig(format="json")})
    lines = (done.folder / "streams" / "ticks" / f"partition-00000.{kind}").read_text().splitlines()
    if kind == "csv":
        assert lines == [
            "_partition,_offset,_timestamp,_key,_key_encoding,a,b,c",
            "0,0,2023-11-14T22:13:20.000Z,k0,utf-8,1,x,0.1",
            '0,1,2023-11-14T22:13:20.001Z,k1,utf-8,,"ä,""",1e+300',
            "0,2,2023-11-14T22:13:20.002Z,k2,utf-8,-5,,2.0",
        ]
    else:
        assert [{name: row[name] for name in "abc"} for row in map(json.loads, lines)] == [
            {"a": 1, "b": "x", "c": 0.1},
            {"a": None, "b": 'ä,"', "c": 1e300},
            {"a": -5, "b": None, "c": 2.0},
        ]
    assert READERS[kind](done.folder / "streams" / "other" / f"partition-00000.{kind}")[1][5] == b"%020d" % 1
    assert "`a` int, `b` string, `c` float" in (done.folder / "README.md").read_text()


def test_a_value_that_does_not_decode_is_named_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: columns(values([b"{}", b"{"]))}})
    with pytest.raises(DecodeError, match=r"ticks\[0\]@1"):
        made.export(tmp_path / "out", decode=DecodeConfig(format="json"))
    with pytest.raises(UnknownTopic, match="holds no topic 'tocks'"):
        made.export(tmp_path / "out", decode={"tocks": DecodeConfig(format="json")})
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_records_that_do_not_decode_are_kept_apart(home: Home, tmp_path: Path, kind: Any) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: columns(values([b'{"a": 1}', b"\xff", b'{"a": 2}']))}})
    done = made.export(tmp_path / "out", format=kind, decode=DecodeConfig(format="json", on_error="dead-letter"))
    (stream,) = json.loads((done.folder / "export.json").read_text())["streams"]
    assert [part["rows"] for part in stream["files"]] == [2]
    assert (stream["dead_letters"]["path"], stream["dead_letters"]["rows"]) == (f"dead-letters/ticks.{kind}", 1)
    assert "records of it that do not decode (1)" in (done.folder / "README.md").read_text()
    if kind == "jsonl":
        (letter,) = map(json.loads, (done.folder / "dead-letters" / "ticks.jsonl").read_text().splitlines())
        assert (letter["offset"], letter["value"], letter["value_encoding"]) == (1, "/w==", "base64")
        assert "UTF-8" in letter["reason"]


def test_text_that_a_format_cannot_hold_is_refused_with_the_fix(home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: columns(values([b'{"a": "x\\u0000y"}']))}})
    decode = DecodeConfig(format="json")
    with pytest.raises(UsageError, match=r"csv: column 'a': a text holds a NUL .* use --format jsonl or parquet"):
        made.export(tmp_path / "csv", format="csv", decode=decode)
    done = made.export(tmp_path / "jsonl", format="jsonl", decode=decode)
    assert json.loads((done.folder / "streams/ticks/partition-00000.jsonl").read_text())["a"] == "x\0y"
    taken = make_snapshot(home, "feb", {"ticks": {0: columns([Row(0, b'{"_key_encoding": 1}')])}})
    with pytest.raises(UsageError, match="column '_key_encoding': another column needs that name"):
        taken.export(tmp_path / "feb", format="csv", decode=decode)


# On the command line


def test_the_command_says_what_it_wrote(bare_cli: Call, home: Home, tmp_path: Path) -> None:
    made = make_snapshot(home, "jan", {"ticks": {0: plain(50)}})
    said = bare_cli("snapshot", "export", "jan", tmp_path / "out", "--format", "csv")
    assert said.exit_code == 0
    assert "50 rows as csv" in said.stdout
    assert str(tmp_path / "out") in said.stdout
    found = bare_cli("snapshot", "export", made.id[:12], tmp_path / "json", "--format", "jsonl", "--json").json
    assert (found["rows"], found["format"], found["snapshot_id"]) == (50, "jsonl", made.id)
    said = bare_cli("snapshot", "export", "jan", tmp_path / "out")
    assert (said.exit_code, said.stdout) == (2, "")
    assert "it is not empty" in said.stderr


def test_an_experiments_file_says_how_values_are_decoded(bare_cli: Call, home: Home, tmp_path: Path) -> None:
    make_snapshot(home, "jan", {"ticks": {0: columns(values(JSON))}, "labels": {0: columns(values([b'{"y": 1}']))}})
    config = tmp_path / "experiment.yaml"
    config.write_text(
        "experiment: e\ninput:\n  topic: ticks\n  decode:\n    columns: {a: float}\n"
        "labels: {topic: labels, on: [a], value: y}\nversions:\n  v1: {model: 'x.py:f'}\n"
    )
    said = bare_cli("snapshot", "export", "jan", tmp_path / "out", "--format", "csv", "--decode", config)
    assert said.exit_code == 0, said.stderr
    ticks = (tmp_path / "out/streams/ticks/partition-00000.csv").read_text().splitlines()
    assert ticks[0] == "_partition,_offset,_timestamp,_key,_key_encoding,a"
    assert ticks[1].endswith(",1.0")
    assert (tmp_path / "out/streams/labels/partition-00000.csv").read_text().splitlines()[0].endswith(",y")
    config.write_text(config.read_text().replace("ticks", "tocks").replace("labels,", "lobels,"))
    said = bare_cli("snapshot", "export", "jan", tmp_path / "other", "--decode", config)
    assert said.exit_code == 2
    assert "it decodes tocks, lobels, and the snapshot holds none of these topics" in said.stderr
    said = bare_cli("snapshot", "export", "jan", tmp_path / "all", "--format", "jsonl", "--decode", "json")
    assert json.loads((tmp_path / "all/streams/labels/partition-00000.jsonl").read_text())["y"] == 1
