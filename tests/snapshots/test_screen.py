"""What comes from outside is shown as it is: its markup is not obeyed, and its signs do nothing to a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import mlstream
from mlstream.cli.plain import plain
from mlstream.home import Home
from tests.conftest import Called
from tests.snapshots.making import make_snapshot
from tests.snapshots.making import plain as rows

Call = Callable[..., Called]
BIDI = "\N{RIGHT-TO-LEFT OVERRIDE}"
C1 = "\x9b2J"  # clears a screen


@pytest.fixture
def files(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A snapshot of one file, the name of which is markup; the name."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "data" / "[red]d[" / f"nope]:smile:{BIDI}.csv"
    file.parent.mkdir(parents=True)
    file.write_text("x")
    mlstream.snapshot("files", files=["data"], home=home)
    return r"data/[red]d[/nope]:smile:\u202e.csv"


def test_names_of_files_are_shown_as_they_are(bare_cli: Call, home: Home, tmp_path: Path, files: str) -> None:
    make_snapshot(home, "none", {"t": {0: rows(3)}})
    for words in (("show", "files"), ("diff", "none", "files")):
        shown = bare_cli("snapshot", *words)
        assert shown.exit_code == 0, shown.stderr
        assert files in "".join(shown.stdout.split())
    found = mlstream.open_snapshot("files", home=home)
    digest = found.files[0].sha256
    found.store.object(digest).unlink()
    shown = bare_cli("snapshot", "verify", "files")
    assert shown.exit_code == 1
    assert files in shown.stdout
    assert BIDI not in bare_cli("snapshot", "show", "files", "--json").stdout
    assert BIDI in bare_cli("snapshot", "show", "files", "--json").json["files"][0]["path"]


def test_what_a_cut_says_of_users_and_hosts_is_shown_as_it_is(bare_cli: Call, home: Home) -> None:
    made = make_snapshot(home, "ticks", {"t": {0: rows(3)}})
    path = made.store.cuts(made.id)[0]
    cut = json.loads(path.read_bytes())
    cut |= {"user": "[bold]eve[/nope]", "host": f"h:smile:{BIDI}x", "source": [f"[link=x]b{C1}:9092"]}
    path.write_text(json.dumps(cut))
    shown = bare_cli("snapshot", "show", "ticks")
    assert shown.exit_code == 0, shown.stderr
    assert r"[bold]eve[/nope]@h:smile:\u202ex from [link=x]b\x9b2J:9092" in shown.stdout


def test_a_name_that_does_not_exist_is_named_without_moving_the_cursor(bare_cli: Call, home: Home) -> None:
    make_snapshot(home, "ticks", {"t": {0: rows(3)}})
    missing = bare_cli("--home", f"{home.path}/no{C1}{BIDI}[red]", "snapshot", "export", "ticks", f"x{C1}")
    assert missing.exit_code == 1
    assert C1 not in missing.stderr
    assert BIDI not in missing.stderr


def test_a_ref_of_any_name_does_nothing_to_a_terminal(bare_cli: Call, home: Home) -> None:
    made = make_snapshot(home, "ticks", {"t": {0: rows(3)}})
    (home.path / "refs" / f"[red]{BIDI}\x1b[2J").write_text(made.id)
    for words in ((), ("-q",), ("--json",)):
        shown = bare_cli("snapshot", "ls", *words)
        assert shown.exit_code == 0
        assert not {BIDI, "\x1b"} & set(shown.stdout)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain tëxt 日本", "plain tëxt 日本"),
        ("a\x1b[31mb\r\n", r"a\x1b[31mb\x0d\x0a"),
        ("a\x7f\x9b\u202e\u2066b", r"a\x7f\x9b\u202e\u2066b"),
        ("\udcff\U000e0001", r"\udcff\U000e0001"),
    ],
)
def test_signs_that_cannot_be_seen_are_written_out(text: str, shown: str) -> None:
    assert plain(text) == shown
