"""What is taken out of a run for its record."""

from __future__ import annotations

from pathlib import Path

from mlstream.config import ExperimentConfig
from mlstream.home import Home
from mlstream.ranges import PartitionRange
from mlstream.reporting.facts import run_facts
from mlstream.runs.machine import GitState
from mlstream.runs.outcome import Input, VersionOutcome
from mlstream.runs.run import Run
from mlstream.runs.spec import Latency, Measured
from tests.reporting.examples import digest

DESCRIBED = {
    "digest": digest("v1"),
    "code_digest": digest("code"),
    "weights_digest": None,
    "environment_digest": digest("environment"),
    "model": "rule.py:make",
    "description": "a rule",
    "parameters": {"threshold": 15},
    "features": ["carrier", "hour"],
}


def example(home: Home, root: Path) -> Run:
    config = ExperimentConfig.model_validate(
        {
            "experiment": "flights",
            "input": {"topic": "flights"},
            "versions": {"v1": {"model": "rule.py:make"}, "v2": {"model": "rule.py:other"}},
            "connection": {"sasl_plain_password": "secret"},
        }
    ).located(root / "configs" / "flights.yaml", root)
    measured = Measured(
        rows=1000,
        load_seconds=0.5,
        seconds=2.0,
        predict_seconds=1.0,
        cpu_seconds=1.5,
        memory_bytes=200_000_000,
        latency=Latency(p50_ms=1.0, p95_ms=2.0, p99_ms=3.0, batches=4),
    )
    failed = {**DESCRIBED, "digest": digest("v2"), "features": None}
    return Run(
        id=digest("run"),
        key=digest("key"),
        attempt=1,
        status="partial",
        config=config,
        snapshot_id=digest("snapshot"),
        snapshot_name="flights-q4",
        input=Input("flights", {"carrier": "string"}, digest("view"), (PartitionRange("flights", 0, 5, 1005),), 1000),
        versions={
            "v1": VersionOutcome(
                "v1", "complete", DESCRIBED, "flights.v1.abc", "id", Path("v1.log"), rows=1000, measured=measured,
                output_id=digest("output"),
            ),
            "v2": VersionOutcome("v2", "failed", failed, None, None, Path("v2.log"), error="no"),
        },
        started_at="2026-01-01T00:00:00Z",
        finished_at="2026-01-01T00:01:00Z",
        timings={},
        settings={},
        environment={"python": "CPython 3.11.7", "packages": {"numpy": "2.0"}},
        hardware={"platform": "Linux"},
        git=GitState("abc", "main", dirty=True),
        home=home,
    )  # fmt: skip


def test_the_facts_of_a_run_are_its_versions_its_input_and_where_it_ran(home: Home, tmp_path: Path) -> None:
    facts = run_facts(example(home, tmp_path))
    assert (facts.id, facts.experiment, facts.snapshot_name) == (digest("run"), "flights", "flights-q4")
    assert facts.config_path == "configs/flights.yaml"
    assert (facts.python, facts.environment, facts.platform) == ("CPython 3.11.7", {"numpy": "2.0"}, "Linux")
    assert facts.git == GitState("abc", "main", dirty=True)
    first, second = facts.version("v1"), facts.version("v2")
    assert first.digests == {"code": digest("code"), "environment": digest("environment")}
    assert (first.model, first.description, first.parameters) == ("rule.py:make", "a rule", {"threshold": 15})
    assert first.features == ("carrier", "hour")
    assert (first.topic, first.output_id) == ("flights.v1.abc", digest("output"))
    assert first.figures["records_per_second"] == 500
    assert (second.status, second.features, second.figures) == ("failed", None, {})


def test_a_run_whose_snapshot_is_gone_says_what_it_scored(home: Home, tmp_path: Path) -> None:
    facts = run_facts(example(home, tmp_path))
    assert facts.streams == (PartitionRange("flights", 0, 5, 1005),)
    assert (facts.rows, facts.size_bytes) == (1000, None)


def test_no_password_is_among_them(home: Home, tmp_path: Path) -> None:
    assert "secret" not in repr(run_facts(example(home, tmp_path)))


def test_a_version_that_the_run_does_not_know_is_only_a_name(home: Home, tmp_path: Path) -> None:
    assert run_facts(example(home, tmp_path)).version("v9").digest is None
