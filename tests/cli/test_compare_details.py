"""`mlstream compare` on request: slices, disagreements, drift, everything; and a comparison that is computed again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstream import open_run
from mlstream.broker.connection import Connection
from mlstream.home import Home
from mlstream.reporting.kept import open_comparison
from tests.comparison.project import ROWS, Project, copy_project, make_project

pytestmark = pytest.mark.broker
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, its store copied to a home of this module's."""
    made = make_project(broker, tmp_path_factory.mktemp("compare"))
    home = Home(tmp_path_factory.mktemp("details") / "home")
    return copy_project(made, home)


@pytest.fixture
def call(bare_cli: Call, project: Project, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A call in the project's home."""
    monkeypatch.setenv("MLSTREAM_HOME", str(project.home.path))
    return bare_cli


def lines_of(done: Any) -> list[str]:
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    return [line.strip() for line in lines]


def test_slices_are_shown_on_request(call: Call) -> None:
    lines = lines_of(call("compare", "--no-track", "--slices", "--slice", "noise > 0", "--slice", "x > 100"))
    assert "slices of the experiment" in lines
    head = next(line for line in lines if line.startswith("noise > 0 "))
    assert "records, 5" in head
    after = lines[lines.index(head) + 1]
    assert after.startswith("v2 Accuracy")
    assert "the worst slices by Log loss" in lines
    assert "no labelled record is in it" in " ".join(lines)
    assert "slices of the experiment" not in lines_of(call("compare", "--no-track"))


def test_disagreements_are_shown_on_request_with_the_record(call: Call, project: Project) -> None:
    lines = lines_of(call("compare", "--no-track", "--disagreements"))
    assert "what changed from v1 to v2" in lines
    at = lines.index("where v2 and v1 are farthest apart")
    place, said, columns = lines[at + 1 : at + 4]
    found = open_comparison(home=project.home)
    first = next(item for item in found.disagreements if item.version == "v2")
    assert place.startswith(f"partition {first.partition} offset {first.offset}  2013-10-0")
    assert f"({first.score:.3f})" in said
    assert columns.startswith(f"parcel={first.columns['parcel']}  x=")
    assert "nowhere: they say the same of every record" in lines  # v3 is v1


def test_everything_is_shown_on_request_and_the_input_against_another_snapshot(call: Call) -> None:
    lines = lines_of(call("compare", "--no-track", "--full", "--against", "parcels"))
    for head in ("what it costs", "are v1's scores probabilities?", "how answers are distributed beside v1's"):
        assert head in lines
    drift = lines[lines.index("the input beside parcels") :]
    assert any(line.startswith("noise  ") and "0.0000" in line for line in drift)
    assert f"{ROWS:,} records here, {ROWS:,} there" in " ".join(drift)


def test_costs_are_those_of_the_run(call: Call, project: Project) -> None:
    done = call("compare", "--no-track", "--json")
    costs = {item["version"]: item for item in json.loads(done.stdout)["costs"]}
    for name, outcome in open_run(project.done.id, home=project.home).versions.items():
        assert costs[name]["latency_p99_ms"] == outcome.figures["latency_p99_ms"]
        assert costs[name]["records"] == ROWS
        assert costs[name]["cpu_seconds_per_million"] == pytest.approx(outcome.figures["cpu_seconds"] / ROWS * 1e6)


def test_a_snapshot_that_is_not_there_or_a_wrong_slice_is_an_error_before_anything_is_kept(
    call: Call, project: Project
) -> None:
    kept = len(list(project.home.comparisons.glob("*.json")))
    for args, message in (
        (["--against", "nothing"], "nothing"),
        (["--slice", "nois > 0"], "did you mean 'noise'?"),
    ):
        done = call("compare", "--no-track", *args)
        assert done.exit_code == 1
        assert message in done.stderr
    assert len(list(project.home.comparisons.glob("*.json"))) == kept


def test_a_comparison_that_is_computed_again_is_the_same_in_every_figure(call: Call, project: Project) -> None:
    made = call("compare", "--no-track", "--json", "--slice", "noise > 0", "--against", "parcels", "--baseline", "v2")
    kept = json.loads(made.stdout)["id"]
    done = call("compare", "--verify", kept[:12])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"comparison {kept[:12]}: all ")
    assert done.stdout.endswith(" figures are the same\n")
    same = call("compare", "verify", kept, "--json")
    assert json.loads(same.stdout)["same"] is True


def test_a_figure_that_was_changed_is_found_out(call: Call, project: Project) -> None:
    kept = json.loads(call("compare", "--no-track", "--json", "--slice", "noise > 1").stdout)["id"]
    path: Path = project.home.comparisons / f"{kept}.json"
    record = json.loads(path.read_text())
    was = record["deltas"][0]["delta"]
    record["deltas"][0]["delta"] = 0.125
    path.write_text(json.dumps(record))
    try:
        done = call("compare", "--verify", kept)
        assert done.exit_code == 1
        assert done.stdout == f"deltas[0].delta: 0.125 then, {was!r} now\n"
        assert "1 of " in done.stderr
        assert "the first is deltas[0].delta" in done.stderr
    finally:
        path.unlink()
