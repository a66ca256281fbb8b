"""Gates: they read the bounds of intervals; failed, passed and not shown are told apart, with their exit codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from mlstream.comparison.result import DeltaResult, Interval, MetricResult
from mlstream.config import ExperimentConfig
from mlstream.config.measures import GateConfig
from mlstream.errors import GateFailed, Inconclusive, UsageError
from mlstream.reporting.gates import GateResult, check_conditions, check_gates, gate_error
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import example_comparison


def one(low: float, high: float, gate: dict[str, Any], *, higher: bool = True, **changes: Any) -> GateResult:
    """The gate on a comparison of v2 with v1 whose difference has that interval."""
    middle = (low + high) / 2
    name = "accuracy" if higher else "log_loss"
    delta = DeltaResult("v2", "v1", name, middle, Interval(low, high, 0.95), 0.01, 0.01, None, "better")
    comparison = example_comparison(
        versions=("v1", "v2"),
        metrics=tuple(
            MetricResult(version, name, 0.5 + middle * (version == "v2"), Interval(0.4, 0.6, 0.95), higher)
            for version in ("v1", "v2")
        ),
        deltas=(replace(delta, **changes),),
    )
    (found,) = check_gates(comparison, [GateConfig(metric=name, **gate)])
    return found


@pytest.mark.parametrize(
    ("low", "high", "higher", "status"),
    [
        (-0.004, 0.02, True, "passed"),
        (-0.006, 0.02, True, "failed"),  # not shown
        (-0.02, -0.006, True, "failed"),
        (-0.02, 0.004, False, "passed"),
        (-0.02, 0.006, False, "failed"),
        (-0.005, 0.02, True, "passed"),  # on the limit is inside
    ],
)
def test_no_worse_than_holds_when_even_the_worse_bound_is_inside(
    low: float, high: float, higher: bool, status: str
) -> None:
    assert one(low, high, {"no_worse_than": 0.005}, higher=higher).status == status


def test_what_was_not_shown_is_told_from_what_was_shown_to_be_wrong() -> None:
    open_ = one(-0.006, 0.02, {"no_worse_than": 0.005})
    broken = one(-0.02, -0.006, {"no_worse_than": 0.005})
    assert open_.found == "not shown: +0.0070 (−0.0060 to +0.0200)"
    assert broken.found == "−0.0130 (−0.0200 to −0.0060)"
    assert one(-0.006, 0.02, {"no_worse_than": 0.005, "require": "verdict"}).status == "inconclusive"
    assert one(-0.02, -0.006, {"no_worse_than": 0.005, "require": "verdict"}).status == "failed"


@pytest.mark.parametrize(
    ("low", "limit", "status"),
    [(0.001, 0, "passed"), (0.0, 0, "failed"), (0.02, 0.02, "passed"), (0.019, 0.02, "failed")],
)
def test_better_by_needs_the_worse_bound_beyond_the_limit_and_better_by_nothing_is_not_better(
    low: float, limit: float, status: str
) -> None:
    assert one(low, low + 0.01, {"better_by": limit}).status == status


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        ({"at_least": 0.4}, "passed"),
        ({"at_least": 0.41}, "failed"),
        ({"at_least": 0.41, "require": "verdict"}, "inconclusive"),
        ({"at_most": 0.6}, "passed"),
        ({"at_most": 0.39, "require": "verdict"}, "failed"),
    ],
)
def test_limits_on_the_value_itself_read_its_own_interval(gate: dict[str, Any], status: str) -> None:
    assert one(0.0, 0.1, gate).status == status


def test_an_interval_over_too_few_blocks_decides_nothing() -> None:
    few = {"p_value": None, "verdict": "inconclusive", "reason": "12 blocks; 30 are needed"}
    found = one(0.1, 0.2, {"no_worse_than": 0.005}, **few)
    assert (found.status, found.found) == ("failed", "not shown: 12 blocks; 30 are needed")
    assert one(0.1, 0.2, {"better_by": 0, "require": "verdict"}, **few).status == "inconclusive"


def test_equal_figures_are_no_worse_and_no_better() -> None:
    equal = {"delta": 0.0, "interval": None, "p_value": None, "verdict": "equivalent"}
    assert one(0, 0, {"no_worse_than": 0}, **equal).status == "passed"
    assert one(0, 0, {"better_by": 0}, **equal).status == "failed"


def test_a_figure_that_is_not_defined_passes_no_gate() -> None:
    found = one(0, 0, {"no_worse_than": 1}, delta=None, interval=None, verdict="inconclusive", reason="one class")
    assert (found.status, found.found) == ("failed", "not shown: one class")


def test_a_verdict_alone_may_be_asked_for() -> None:
    assert one(0.1, 0.2, {"require": "verdict"}).status == "passed"
    found = one(-0.1, 0.2, {"require": "verdict"}, verdict="inconclusive", reason="the interval holds 0")
    assert (found.status, found.found) == ("inconclusive", "+0.0500 (−0.1000 to +0.2000)")


def test_a_gate_is_for_every_challenger_unless_it_names_one() -> None:
    comparison = example_comparison()
    assert [it.version for it in check_gates(comparison, [GateConfig(metric="log_loss", better_by=0)])] == ["v2", "v3"]
    named = [GateConfig(metric="log_loss", better_by=0, version="v3")]
    assert [it.version for it in check_gates(comparison, named)] == ["v3"]


def test_a_gate_may_be_on_a_slice_that_the_experiment_named() -> None:
    comparison = detailed_comparison()
    (first, second) = check_gates(comparison, [GateConfig(metric="log_loss", slice="origin = 'JFK'", better_by=0.04)])
    assert (first.status, second.status) == ("failed", "passed")
    assert second.gate == "Log loss better than v1 by 0.04 or more where origin = 'JFK'"
    assert second.found == "−0.0710 (−0.0790 to −0.0630)"
    near = GateConfig(metric="log_loss", slice="origin == 'JFK'", better_by=0)
    with pytest.raises(UsageError, match="was not compared; did you mean \"origin = 'JFK'\""):
        check_gates(comparison, [near])
    with pytest.raises(UsageError, match="name it in `slices:`"):
        check_gates(example_comparison(), [near])


def test_a_gate_against_another_baseline_is_skipped_and_says_so() -> None:
    gate = GateConfig(metric="log_loss", against="v2", version="v3", no_worse_than=0.001)
    (found,) = check_gates(example_comparison(), [gate])
    assert (found.status, found.found) == ("skipped", "this comparison is against v1")
    assert found.gate == "Log loss at most 0.001 worse than v2"
    assert gate_error([found]) is None


def test_a_gate_on_a_version_that_was_left_out_is_not_passed() -> None:
    (found,) = check_gates(example_comparison(), [GateConfig(metric="log_loss", version="v9", better_by=0)])
    assert (found.status, found.found) == ("failed", "not shown: v9 is not in this comparison")


def test_gates_without_labels_say_that_there_are_no_metrics() -> None:
    bare = example_comparison(labels=None, metrics=(), deltas=())
    gates = [GateConfig(metric="log_loss", better_by=0), GateConfig(metric="log_loss", require="verdict")]
    found = check_gates(bare, gates)
    assert [(it.version, it.status) for it in found] == [
        ("v2", "failed"), ("v3", "failed"), ("v2", "inconclusive"), ("v3", "inconclusive"),
    ]  # fmt: skip
    assert {it.found for it in found} == {"not shown: without labels there are no metrics"}


def test_a_gate_on_a_metric_that_was_not_computed_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'mae' was not computed; there are: accuracy, "):
        check_gates(example_comparison(), [GateConfig(metric="mae", better_by=0)])


def test_a_failed_gate_ends_with_3_before_an_inconclusive_one_with_4() -> None:
    failed = GateResult("v2", "mae", "MAE at most 1", "failed", "2.0")
    open_ = GateResult("v2", "mae", "MAE has a verdict", "inconclusive", "the interval holds 0")
    passed = GateResult("v2", "mae", "MAE at most 3", "passed", "2.0")
    error = gate_error([open_, failed, passed])
    assert isinstance(error, GateFailed)
    assert (error.exit_code, error.message) == (3, "1 gate failed\n  ✗ v2: MAE at most 1: 2.0")
    error = gate_error([open_, passed])
    assert isinstance(error, Inconclusive)
    assert error.exit_code == 4
    assert gate_error([passed]) is None


def test_conditions_answer_with_what_applies() -> None:
    comparison = example_comparison()
    assert check_conditions(comparison, ["worse"]) == ()
    found = check_conditions(comparison, ["inconclusive"])
    assert [(it.version, it.metric, it.status) for it in found] == [
        ("v2", "brier_score", "inconclusive"),
        ("v2", "average_precision", "inconclusive"),
    ]
    assert {it.status for it in check_conditions(comparison, ["average_precision:not-better"])} == {"failed"}
    assert [it.version for it in check_conditions(comparison, ["average_precision: worse > 0.005"])] == ["v2"]
    assert check_conditions(comparison, ["average_precision:worse>0.03"]) == ()


@pytest.mark.parametrize("condition", ["better", "", "log_loss", "log_loss:worse>x", "worse>1", "log_loss:worse>-1"])
def test_a_condition_that_cannot_be_read_is_refused(condition: str) -> None:
    with pytest.raises(UsageError, match="--fail-if"):
        check_conditions(example_comparison(), [condition])


def test_a_condition_on_a_metric_that_was_not_computed_names_those_that_were() -> None:
    with pytest.raises(UsageError, match=r"'mae' is not computed; computed: accuracy, average_precision"):
        check_conditions(example_comparison(), ["mae:worse"])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ({"metric": "log_loss"}, "a gate needs one limit"),
        ({"metric": "log_loss", "better_by": 0, "at_most": 1}, "a gate needs one limit"),
        ({"metric": "logloss", "better_by": 0}, "'logloss' is not computed; use 'log_loss'"),
        ({"metric": "log_loss", "against": "v7", "better_by": 0}, "'v7' is not a version"),
        ({"metric": "log_loss", "version": "v1", "better_by": 0}, "v1 is the baseline"),
        ({"metric": "log_loss", "slice": "x > 1", "at_most": 1}, "a gate on a slice is on the difference"),
        ({"metric": "log_loss", "no_worse_than": -1}, "greater than or equal to 0"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused_with_the_file(gate: dict[str, Any], message: str) -> None:
    versions = {"v1": {"model": "a.py:f"}, "v2": {"model": "a.py:f"}}
    values = {"experiment": "x", "input": {"topic": "t"}, "versions": versions, "gates": [gate]}
    with pytest.raises(ValidationError, match=message):
        ExperimentConfig.model_validate(values)
