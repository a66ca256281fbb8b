"""Labels, metrics and gates are the experiment's file's as it is when somebody compares; predictions are the run's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlstream
from mlstream.broker.connection import Connection
from mlstream.config import RULES, ExperimentConfig
from mlstream.errors import ConfigError
from mlstream.home import Home
from mlstream.reporting.compare import compare
from mlstream.reporting.verify import verify_comparison
from tests.comparison.project import VERSIONS, Project, copy_project, make_project

pytestmark = pytest.mark.broker
# What decides predictions, how versions are made, or where things are.
NO_RULES = {
    "experiment",
    "task",
    "snapshot",
    "input",
    "features",
    "versions",
    "threshold",
    "batch_rows",
    "seed",
    "dirty",
    "connection",
    "schema_registry",
}
GATE = {"metric": "accuracy", "version": "v3", "better_by": 0}


@pytest.fixture
def project(broker: Connection, tmp_path_factory: pytest.TempPathFactory, home: Home, tmp_path: Path) -> Project:
    """The project in a home and with a file of the test's own."""
    own = copy_project(make_project(broker, tmp_path_factory.mktemp("compare")), home, tmp_path / "project")
    own.config()
    return own


def test_every_part_of_an_experiment_is_a_rule_or_the_runs() -> None:
    assert set(RULES) | NO_RULES == set(ExperimentConfig.model_fields)
    assert not set(RULES) & NO_RULES


def test_a_file_that_was_changed_after_the_run_counts_and_is_named(project: Project, cli: Callable[..., Any]) -> None:
    before = compare(project.done.id, home=project.home, track=False)
    labels = project.done.config.labels
    assert labels is not None
    changed = labels.model_dump(mode="json") | {"value": "delay > 1"}
    project.config(labels=changed, gates=[GATE], metrics=["accuracy"])
    done = cli("compare", "--no-track", "--json")
    assert done.exit_code == 3
    assert done.stderr.startswith("labels, metrics, gates: as in parcels.yaml now, changed since the run\n")
    assert done.json["labels"]["rule"].startswith("delay > 1, from ")
    assert done.json["labels"]["positives"] < before.labels.positives
    assert {found["metric"] for found in done.json["metrics"]} == {"accuracy"}
    recorded = cli("compare", "--no-track", "--json", "--as-run")
    assert (recorded.exit_code, recorded.json["id"], recorded.stderr) == (0, before.id, "")


def test_secrets_of_the_cluster_are_not_asked_for(project: Project) -> None:
    values = json.loads((project.root / "parcels.yaml").read_text())
    secret = {"connection": {"sasl_plain_password": "${NO_SUCH_PASSWORD}"}, "metrics": ["accuracy"]}
    (project.root / "parcels.yaml").write_text(json.dumps(values | secret))
    assert len(compare(project.done.id, home=project.home, track=False).deltas) == 2


def test_a_run_that_is_given_is_compared_by_what_it_holds(project: Project) -> None:
    project.config(metrics=["accuracy"])
    assert len(compare(project.done, track=False).deltas) == 12
    assert len(compare(project.done.id, home=project.home, track=False).deltas) == 2


def test_a_comparison_keeps_its_rules(project: Project, cli: Callable[..., Any]) -> None:
    project.config(gates=[GATE], metrics=["accuracy"])
    kept = cli("compare", "--no-track", "--json").json["id"]
    project.config(metrics=["brier_score"])
    assert verify_comparison(kept, home=project.home).same
    shown = cli("compare", "show", kept)
    assert "v3: Accuracy better than v1" in shown.stdout
    shutil.rmtree(project.home.runs)
    assert "v3: Accuracy better than v1" in cli("compare", "show", kept).stdout


def test_an_old_record_without_rules_is_computed_again_by_those_of_the_run(project: Project) -> None:
    kept = compare(project.done, track=False)
    path = project.home.comparisons / f"{kept.id}.json"
    record = json.loads(path.read_text())
    del record["settings"]["rules"], record["settings"]["left_out"]
    path.write_text(json.dumps(record))
    found = verify_comparison(kept.id, home=project.home)
    assert all(item.figure.startswith(("settings.rules", "settings.left_out")) for item in found.differences)


def test_where_the_file_is_gone_or_of_another_task_the_run_counts(project: Project, cli: Callable[..., Any]) -> None:
    before = compare(project.done, track=False)
    project.config(task="regression", metrics=["mae"], margins={})
    done = cli("compare", "--no-track", "--json")
    assert done.json["id"] == before.id
    assert "parcels.yaml has the task regression by now, and the run binary: compared by what the" in done.stderr
    (project.root / "parcels.yaml").unlink()
    assert compare(project.done.id, home=project.home, track=False).id == before.id


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ["accurcy"]}, r"parcels.yaml:1: 'accurcy' is not a metric of a binary task; use 'accuracy'\?"),
        ({"metrics": ["mae"]}, "'mae' is not a metric of a binary task; use one of accuracy, "),
        ({"metrics": ["accuracy", "accuracy"]}, "metrics: 'accuracy' is there more than once"),
        (
            {"versions": {**VERSIONS, "v4": VERSIONS["v1"]}, "baseline": "v4"},
            r"changed since run \w+, and does not fit it: .*'v4' is not a version.*--as-run",
        ),
    ],
)
def test_a_file_that_is_wrong_or_does_not_fit_the_run_is_named(
    project: Project, settings: dict[str, Any], message: str
) -> None:
    values = json.loads((project.root / "parcels.yaml").read_text())
    (project.root / "parcels.yaml").write_text(json.dumps(values | settings))
    with pytest.raises(ConfigError, match=message):
        compare(project.done.id, home=project.home, track=False)


def test_a_run_that_is_asked_for_again_has_the_rules_of_now_and_is_the_newest(project: Project) -> None:
    other = project.run({"v1": VERSIONS["v1"]})
    assert mlstream.open_run(home=project.home).id == other.id
    again = project.run(metrics=["accuracy"])
    assert (again.id, again.config.metrics) == (project.done.id, ["accuracy"])
    newest = mlstream.open_run(home=project.home)
    assert (newest.id, newest.config.metrics) == (project.done.id, ["accuracy"])
    assert [delta.metric for delta in compare(again, track=False).deltas] == ["accuracy", "accuracy"]


def test_a_newer_run_that_failed_is_not_passed_over_in_silence(project: Project, cli: Callable[..., Any]) -> None:
    failed = project.run({"v1": {"model": "guess.py:Guess", "parameters": {"fails": True}}, "v2": VERSIONS["v2"]})
    done = cli("compare", "--no-track")
    assert done.exit_code == 0
    assert f"run {failed.id[:12]} is newer, and partial: this is run {project.done.id[:12]}" in done.stderr
