"""What decides a run's key, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlstream.config import ExperimentConfig
from mlstream.errors import UsageError, VersionLoadError
from mlstream.runs.plan import Plan, chosen_versions, make_plan
from mlstream.versions import resolve_version

SCHEMA = {"x": "float", "n": "int"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "m.py").write_text("def make():\n    return 1\n")
    return tmp_path


def plan(root: Path, *, names: tuple[str, ...] = ("v1", "v2"), **settings: Any) -> Plan:
    made = {"snapshot_id": "a" * 64, "view_digest": "b" * 64, "schema": SCHEMA}
    given = {key: settings.pop(key) for key in tuple(settings) if key in made}
    values = {
        "experiment": "shop",
        "input": {"topic": "orders"},
        "features": ["x"],
        "versions": {"v1": {"model": "m.py:make"}, "v2": {"model": "m.py:make"}},
        **settings,
    }
    config = ExperimentConfig.model_validate(values).located(root / "c.yaml", root)
    return make_plan(config, [resolve_version(config, name) for name in names], **{**made, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changed",
    [
        {"snapshot_id": "c" * 64},
        {"schema": {"x": "int", "n": "int"}},
        {"schema": {"n": "int", "x": "float"}},
        {"names": ("v1",)},
        {"seed": 1},
        {"batch_rows": 100},
        {"threshold": 0.4},
        {"task": "regression"},
        {"features": ["x", "n"]},
        {"experiment": "shop2"},
        {"input": {"topic": "orders", "decode": {"on_error": "null"}}},
        {"versions": {"v1": {"model": "m.py:make", "parameters": {"a": 1}}, "v2": {"model": "m.py:make"}}},
        {"versions": {"v1": {"model": "m.py:make", "features": ["n"]}, "v2": {"model": "m.py:make"}}},
        {"versions": {"v1": {"model": "m.py:make", "on_error": "errors"}, "v2": {"model": "m.py:make"}}},
    ],
    ids=str,
)
def test_what_may_change_predictions_is_another_run(root: Path, changed: dict[str, Any]) -> None:
    assert plan(root, **changed).key != plan(root).key


@pytest.mark.parametrize(
    "changed",
    [
        {"baseline": "v2"},
        {"metrics": ["accuracy"]},
        {"margins": {"accuracy": 0.1}},
        {"labels": {"value": "n > 1"}},
        {"bootstrap": {"seed": 5}},
        {"question": "?"},
        {"connection": {"bootstrap_servers": "127.0.0.1:1"}},
        {"names": ("v2", "v1")},
        {"versions": {"v2": {"model": "m.py:make"}, "v1": {"model": "m.py:make", "description": "first"}}},
        {"versions": {"v1": {"model": "m.py:make", "on_error": "fail"}, "v2": {"model": "m.py:make"}}},
    ],
    ids=str,
)
def test_how_predictions_are_judged_is_no_part_of_the_run(root: Path, changed: dict[str, Any]) -> None:
    assert plan(root, **changed).key == plan(root).key


def test_each_attempt_has_an_id_and_topics_of_its_own(root: Path) -> None:
    made = plan(root)
    assert made.run_id(1) != made.run_id(2)
    assert made.topics(2) == {name: f"shop.{name}.{made.run_id(2)[:12]}" for name in ("v1", "v2")}


def test_a_missing_column_names_the_key_that_asks_for_it(root: Path) -> None:
    with pytest.raises(VersionLoadError, match=r"^features: the input has no column 'y'; it has: x, n"):
        plan(root, features=["x", "y"])
    versions = {"v1": {"model": "m.py:make", "features": ["m"]}, "v2": {"model": "m.py:make"}}
    with pytest.raises(VersionLoadError, match=r"^versions\.v1\.features: the input has no column 'm'"):
        plan(root, versions=versions)


def test_versions_run_in_the_configuration_s_order(root: Path) -> None:
    config = plan(root).config
    assert chosen_versions(config, None) == ("v1", "v2")
    assert chosen_versions(config, ["v2", "v1", "v2"]) == ("v1", "v2")
    assert chosen_versions(config, ["v3", "v2"]) == ("v2", "v3")  # unknown: for whoever resolves it to refuse
    with pytest.raises(UsageError, match="no version to run"):
        chosen_versions(config, [])
