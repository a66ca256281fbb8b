"""Names of snapshots: given, moved, taken away and protected. Removing a name removes no data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.home import Home
from mlstream.snapshots.snapshot import Snapshot
from mlstream.snapshots.store import Store
from tests.snapshots.making import make_snapshot, plain

Call = Callable[..., Any]


@pytest.fixture
def jan(home: Home) -> Snapshot:
    """A snapshot called jan."""
    return make_snapshot(home, "jan", {"ticks": {0: plain(10)}})


@pytest.fixture
def feb(home: Home) -> Snapshot:
    """A snapshot called feb."""
    return make_snapshot(home, "feb", {"ticks": {0: plain(20)}})


def refs(home: Home) -> dict[str, str]:
    """The names as they are on the disk."""
    return {path.name: path.read_text().strip() for path in (home.path / "refs").iterdir()}


def data(home: Home) -> set[Path]:
    """Every file that is not a name, a lock or a protection."""
    folders = ("objects", "manifests", "storage", "cuts")
    return {path for folder in folders for path in (home.path / folder).rglob("*") if path.is_file()}


def test_a_tag_is_another_name_and_the_first_stays(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    said = bare_cli("snapshot", "tag", "jan", "golden")
    assert (said.exit_code, said.stdout) == (0, f"golden is a name of {jan.id[:12]}\n")
    assert refs(home) == {"jan": jan.id, "golden": jan.id}
    assert bare_cli("snapshot", "tag", jan.id[:8], "by-id").exit_code == 0
    assert mlstream.open_snapshot("by-id", home=home) == jan
    again = bare_cli("snapshot", "tag", "jan", "golden", "--json")
    assert again.json == {"name": "golden", "snapshot_id": jan.id, "before": jan.id}


def test_a_name_of_another_snapshot_is_moved_only_by_force(
    bare_cli: Call, home: Home, jan: Snapshot, feb: Snapshot
) -> None:
    refused = bare_cli("snapshot", "tag", "jan", "feb")
    assert refused.exit_code == 1
    assert f"'feb' is the name of another snapshot (id {feb.id[:12]})" in refused.stderr
    assert refs(home) == {"jan": jan.id, "feb": feb.id}
    before = data(home)
    assert bare_cli("snapshot", "tag", "jan", "feb", "--force", "--json").json["before"] == feb.id
    assert refs(home) == {"jan": jan.id, "feb": jan.id}
    assert data(home) == before
    assert mlstream.open_snapshot(feb.id, home=home).verify(deep=True).rows == 20


@pytest.mark.parametrize("new", ["Not A Name", "../up", "0123456789abcdef", ""])
def test_what_is_no_name_is_refused(bare_cli: Call, home: Home, jan: Snapshot, new: str) -> None:
    assert bare_cli("snapshot", "tag", "jan", new).exit_code == 2
    assert refs(home) == {"jan": jan.id}


def test_a_snapshot_whose_manifest_is_gone_gets_no_name(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    jan.store.manifest(jan.id).unlink()
    refused = bare_cli("snapshot", "tag", "jan", "golden")
    assert (refused.exit_code, refs(home)) == (1, {"jan": jan.id})
    assert "it is missing" in refused.stderr


def test_untag_takes_a_name_away_but_never_the_last(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    bare_cli("snapshot", "tag", "jan", "golden")
    assert "is still called golden" in bare_cli("snapshot", "untag", "jan").stdout
    refused = bare_cli("snapshot", "untag", "golden")
    assert refused.exit_code == 1
    assert "'golden' is the last name of its snapshot" in refused.stderr
    assert "mlstream snapshot rm golden" in refused.stderr
    assert refs(home) == {"golden": jan.id}


def test_rm_removes_names_and_no_data(bare_cli: Call, home: Home, jan: Snapshot, feb: Snapshot) -> None:
    bare_cli("snapshot", "tag", "jan", "golden")
    before = data(home)
    said = bare_cli("snapshot", "rm", "jan", "feb")
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        f"removed jan; its data ({jan.id[:12]}) stays: name golden",
        f"removed feb; its data ({feb.id[:12]}) goes with the next `mlstream snapshot gc --yes`",
    ]
    assert refs(home) == {"golden": jan.id}
    assert data(home) == before
    bare_cli("snapshot", "tag", feb.id, "feb")
    assert mlstream.open_snapshot("feb", home=home).verify(deep=True).rows == 20


def test_rm_says_which_runs_keep_the_data(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    home.runs.mkdir(parents=True)
    (home.runs / f"{'ab' * 32}.json").write_text(json.dumps({"id": "ab" * 32, "input": {"deep": [jan.id]}}))
    removed = bare_cli("snapshot", "rm", "jan", "--json").json["removed"]
    assert removed == [{"name": "jan", "snapshot_id": jan.id, "stays": ["run abababababab"]}]


def test_rm_removes_all_names_or_none(bare_cli: Call, home: Home, jan: Snapshot, feb: Snapshot) -> None:
    refused = bare_cli("snapshot", "rm", "jan", "febb")
    assert refused.exit_code == 1
    assert "no snapshot is called 'febb'" in refused.stderr
    assert "did you mean 'feb'?" in refused.stderr
    by_id = bare_cli("snapshot", "rm", "jan", feb.id)
    assert by_id.exit_code == 1
    assert "is the id of a snapshot, not a name" in by_id.stderr
    assert "its names: feb" in by_id.stderr
    assert refs(home) == {"jan": jan.id, "feb": feb.id}


def test_a_name_under_which_a_snapshot_is_being_made_is_left_alone(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    with Store(home).claim("jan"):
        assert "is being made by another process" in bare_cli("snapshot", "rm", "jan").stderr
        assert "is being made by another process" in bare_cli("snapshot", "tag", "jan", "jan").stderr
    assert refs(home) == {"jan": jan.id}


def test_a_kept_snapshot_keeps_its_last_name_and_no_force_changes_that(
    bare_cli: Call, home: Home, jan: Snapshot, feb: Snapshot
) -> None:
    kept = bare_cli("snapshot", "keep", "jan", "--for", "90d", "--json").json
    assert (kept["snapshot_id"], kept["extended"]) == (jan.id, True)
    assert abs(kept["until_ms"] / 1000 - time.time() - 90 * 86_400) < 60
    for call in (
        ("rm", "jan"),
        ("rm", "jan", "feb"),
        ("tag", "feb", "jan", "--force"),
    ):
        refused = bare_cli("snapshot", *call)
        assert refused.exit_code == 1
        assert "snapshot jan: it is kept until 20" in refused.stderr
    assert refs(home) == {"jan": jan.id, "feb": feb.id}
    bare_cli("snapshot", "tag", "jan", "golden")
    assert bare_cli("snapshot", "rm", "jan").exit_code == 0
    assert bare_cli("snapshot", "rm", "golden").exit_code == 1


def test_a_protection_can_be_made_longer_and_never_shorter(bare_cli: Call, home: Home, jan: Snapshot) -> None:
    first = bare_cli("snapshot", "keep", "jan", "--for", "30d", "--json").json
    shorter = bare_cli("snapshot", "keep", jan.id, "--for", "1s", "--json").json
    assert (shorter["until_ms"], shorter["extended"]) == (first["until_ms"], False)
    assert "already" in bare_cli("snapshot", "keep", "jan", "--for", "1s").stdout
    longer = bare_cli("snapshot", "keep", "jan", "--for", "8w", "--json").json
    assert (longer["until_ms"] > first["until_ms"], longer["extended"]) == (True, True)
    (found,) = bare_cli("snapshot", "ls", "--json").json["snapshots"]
    assert found["kept_until_ms"] == longer["until_ms"]
    assert "jan (kept)" in bare_cli("snapshot", "ls").stdout


@pytest.mark.parametrize("text", ["0s", "-5d", "soon", "90", "9999999w"])
def test_a_time_that_is_none_protects_nothing(bare_cli: Call, home: Home, jan: Snapshot, text: str) -> None:
    assert bare_cli("snapshot", "keep", "jan", f"--for={text}").exit_code == 2
    assert not (home.path / "keeps").exists()


def test_commands_on_a_store_that_is_not_there_make_none(bare_cli: Call, home: Home) -> None:
    for call in (("rm", "x"), ("untag", "x"), ("gc",), ("ls",)):
        bare_cli("snapshot", *call)
    assert not home.path.exists()
