"""The items of a record: names and values that MLflow takes, each once. MLflow's own checks are the oracle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstream.comparison.result import DeltaResult, MetricResult
from mlstream.reporting.dataset import snapshot_dataset
from mlstream.reporting.facts import RunFacts
from mlstream.reporting.items import Artifact, Item, Metric, Param, Tag, comparison_items, version_items
from mlstream.reporting.report import write_report
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import VERSIONS, digest, example_comparison, example_run


@pytest.fixture(scope="module", autouse=True)
def imported(empty_store: Path) -> None:
    """MLflow, imported with our settings."""


def check(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each taken by MLflow's own checks, no key twice within a kind."""
    from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

    seen: set[tuple[type[Item], str]] = set()
    for item in items:
        if isinstance(item, Artifact):
            key = str(item.path)
        else:
            key = item.key
            if isinstance(item, Metric):
                _validate_metric(key, item.value, 0, item.step)
                key = f"{key} {item.step}"
            elif isinstance(item, Param):
                _validate_param(key, item.value)
            else:
                _validate_tag(key, item.value)
        assert (type(item), key) not in seen
        seen.add((type(item), key))
        yield item


def test_every_item_of_the_example_is_taken_by_mlflow() -> None:
    comparison, run = example_comparison(), example_run()
    assert len(list(check(comparison_items(comparison, run)))) > 40
    for version in VERSIONS:
        assert len(list(check(version_items(comparison, run, version)))) > 40


def test_a_version_is_tagged_with_the_commit_that_its_files_are_from() -> None:
    run = example_run()
    states: dict[str, dict[str, object]] = {
        VERSIONS[0]: {"commit": "a" * 40, "revision": "main~3", "changed": [], "diff_digest": None},
        VERSIONS[1]: {"commit": "b" * 40, "revision": None, "changed": ["rule.py"], "diff_digest": digest("diff")},
    }
    known = {name: replace(facts, git=states.get(name)) for name, facts in run.versions.items()}
    run = RunFacts.from_dict(json.loads(json.dumps(replace(run, versions=known).to_dict())))

    def tags(version: str) -> dict[str, str]:
        items = check(version_items(example_comparison(), run, version))
        return {item.key: item.value for item in items if isinstance(item, Tag) and "git" in item.key}

    assert tags(VERSIONS[0]) == {
        "mlflow.source.git.commit": "a" * 40,
        "mlstream.git.dirty": "false",
        "mlstream.git.revision": "main~3",
    }
    assert tags(VERSIONS[1]) == {
        "mlflow.source.git.commit": "b" * 40,
        "mlstream.git.dirty": "true",
        "mlstream.git.diff": digest("diff"),
    }
    assert run.git is not None
    assert tags(VERSIONS[2])["mlflow.source.git.commit"] == run.git.commit
    page = write_report(example_comparison(), run)
    assert f"main~3, commit {'a' * 40}" in page
    assert "changed since the commit" in page


def test_disagreements_and_slices_are_tables_that_mlflow_finds() -> None:
    items = list(check(comparison_items(detailed_comparison(), example_run())))
    (tag,) = (item for item in items if isinstance(item, Tag) and item.key == "mlflow.loggedArtifacts")
    assert json.loads(tag.value) == [
        {"path": "disagreements.json", "type": "table"},
        {"path": "slices.json", "type": "table"},
    ]
    files = {
        str(item.path): json.loads(item.data) for item in items if str(getattr(item, "path", "")).endswith("s.json")
    }
    table = files["disagreements.json"]
    assert table["columns"][:4] == ["version", "partition", "offset", "timestamp"]
    assert [row[1:3] for row in table["data"]] == [[0, 61234], [1, 61235], [2, 61236]]
    assert len(files["slices.json"]["data"]) == 4


def test_figures_over_time_are_steps_at_the_time_that_they_are_about() -> None:
    items = list(check(version_items(detailed_comparison(), example_run(), "v2")))
    points = [item for item in items if isinstance(item, Metric) and item.key == "over_time/log_loss"]
    assert [(point.step, point.time_ms) for point in points[:2]] == [(0, 1_380_585_600_000), (2, 1_380_758_400_000)]
    assert len(points) == 59
    assert not any(point.of_model for point in points)


@given(st.dictionaries(st.text(max_size=300), st.integers() | st.text() | st.lists(st.none()), max_size=5))
def test_any_parameters_are_taken_and_none_is_lost(parameters: dict[str, object]) -> None:
    run = example_run()
    versions = {**run.versions, "v2": replace(run.versions["v2"], parameters=parameters)}
    items = check(version_items(example_comparison(), replace(run, versions=versions), "v2"))
    found = [item for item in items if isinstance(item, Param) and item.key.startswith("parameters")]
    assert len(found) == len(parameters)


def test_a_figure_that_is_not_defined_is_a_tag_with_the_reason_and_no_metric() -> None:
    metrics = tuple(
        MetricResult(version, "roc_auc", None, None, True, undefined="only one class") for version in VERSIONS
    )
    deltas = tuple(
        DeltaResult(version, "v1", "roc_auc", None, None, None, None, None, "inconclusive", "not defined")
        for version in VERSIONS[1:]
    )
    items = list(check(version_items(example_comparison(metrics=metrics, deltas=deltas), example_run(), "v2")))
    assert Tag("mlstream.undefined.roc_auc", "only one class") in items
    assert Tag("mlstream.verdict.roc_auc", "inconclusive") in items
    assert not any("roc_auc" in item.key for item in items if isinstance(item, Metric))


def test_figures_of_the_version_are_marked_and_those_of_the_run_are_not() -> None:
    items = [item for item in version_items(example_comparison(), example_run(), "v2") if isinstance(item, Metric)]
    marked = {item.key for item in items if item.of_model}
    assert marked == {found.metric for found in example_comparison().metrics}


def test_a_version_that_the_run_knows_nothing_of_is_recorded_with_its_figures() -> None:
    items = list(check(version_items(example_comparison(), example_run(versions={}), "v3")))
    assert Tag("mlstream.output", digest("output v3")) in items
    assert Metric("roc_auc", 0.7468, of_model=True) in items


def test_the_source_of_the_dataset_holds_the_whole_digest_and_the_ranges() -> None:
    found = snapshot_dataset(example_comparison(), example_run())
    assert (found.name, found.digest) == ("flights-q4", digest("snapshot")[:32])
    source = json.loads(found.source)
    assert source["snapshot"] == digest("snapshot")
    assert list(source["streams"]) == ["flights", "landings"]
    assert snapshot_dataset(example_comparison(), example_run(schema={})).schema is None
