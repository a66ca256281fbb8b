"""How versions did from one comparison to the next."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from mlstream.comparison.result import Comparison
from mlstream.errors import UsageError
from mlstream.home import Home
from mlstream.reporting.history import histories
from mlstream.reporting.kept import keep
from tests.reporting.examples import digest, example_comparison


def over_time() -> list[Comparison]:
    """The newest first: flights over two quarters, the older without v3; another experiment; one without labels."""
    whole = example_comparison(id=digest("q4"))
    older = example_comparison(
        id=digest("q3"),
        snapshot_name="flights-q3",
        versions=("v1", "v2"),
        metrics=tuple(found for found in whole.metrics if found.version != "v3"),
        deltas=tuple(found for found in whole.deltas if found.version != "v3"),
    )
    other = example_comparison(id=digest("other"), experiment="parcels")
    bare = example_comparison(id=digest("bare"), experiment="bare", metrics=(), deltas=())
    return [whole, bare, other, older]


def test_moments_are_in_order_with_values_and_verdicts() -> None:
    flights, parcels = histories(over_time(), metric="log_loss")
    assert (flights.experiment, parcels.experiment) == ("flights", "parcels")
    assert [moment.snapshot_name for moment in flights.moments] == ["flights-q3", "flights-q4"]
    assert flights.versions == ("v1", "v2", "v3")
    old, new = flights.moments
    assert old.standing("v3") is None
    standing = new.standing("v3")
    assert standing is not None
    assert (standing.value, standing.verdict) == (0.4528, "better")
    baseline = new.standing("v1")
    assert baseline is not None
    assert baseline.verdict is None


def test_the_first_metric_is_the_default() -> None:
    assert {found.metric for found in histories(over_time())} == {"accuracy"}


def test_what_there_is_not_is_named_with_a_near_one() -> None:
    with pytest.raises(UsageError, match="experiment 'flight'; did you mean 'flights'"):
        histories(over_time(), experiment="flight")
    with pytest.raises(UsageError, match="metric 'logloss'; did you mean 'log_loss'"):
        histories(over_time(), metric="logloss")
    assert histories([]) == ()


def test_the_command_shows_a_line_for_each_comparison(bare_cli: Callable[..., Any], home: Home) -> None:
    for age, comparison in enumerate(over_time()):
        keep(comparison, home)
        os.utime(home.comparisons / f"{comparison.id}.json", (1000 - age, 1000 - age))
    done = bare_cli("compare", "--history", "flights", "--metric", "log_loss")
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines == [
        ["flights:", "Log", "loss", "↓"],
        ["snapshot", "comparison", "baseline", "v1", "v2", "v3"],
        ["flights-q3", digest("q3")[:12], "v1", "0.5188", "0.4901", "▲"],
        ["flights-q4", digest("q4")[:12], "v1", "0.5188", "0.4901", "▲", "0.4528", "▲"],
    ]
    assert max(map(len, done.stdout.splitlines())) <= 80
    found = bare_cli("compare", "history", "--json").json["histories"]
    assert [one["experiment"] for one in found] == ["flights", "parcels"]
    assert bare_cli("compare", "history", "trains").exit_code == 2
