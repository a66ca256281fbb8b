"""The lines of a comparison on a terminal: what stands in one screen, and how it is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlstream.cli.compare_screen import screen
from mlstream.cli.comparisons.details import disagreement_lines, slice_lines
from mlstream.comparison.result import Comparison, Interval
from mlstream.config.measures import GateConfig
from mlstream.reporting.gates import check_gates
from tests.reporting.detailed import detailed_comparison
from tests.reporting.examples import example_comparison


def lines(found: Comparison, *, width: int = 80, gates: list[GateConfig] | None = None) -> list[str]:
    return [line.plain for line in screen(found, width=width, gates=check_gates(found, gates or []))]


def row(found: Comparison, version: str) -> str:
    return next(line for line in lines(found) if line.startswith(f"    {version} "))


def accuracy(delta: float, low: float, high: float) -> Comparison:
    """The example, whose v2 differs from v1 in accuracy by that, and v3 by much."""
    found = example_comparison()
    bounds = {"v2": (delta, low, high), "v3": (0.4, 0.3, 0.5)}
    deltas = tuple(
        replace(it, delta=bounds[it.version][0], interval=Interval(*bounds[it.version][1:], 0.95), margin=None)
        for it in found.deltas
        if it.metric == "accuracy"
    )
    return replace(found, metrics=tuple(it for it in found.metrics if it.metric == "accuracy"), deltas=deltas)


def test_a_gate_has_its_limit_and_below_it_what_was_found() -> None:
    gates = [
        GateConfig(metric="log_loss", against="v1", version="v3", no_worse_than=0.001),
        GateConfig(metric="log_loss", against="v2", version="v3", better_by=0),
    ]
    found = lines(example_comparison(), gates=gates)
    at = next(number for number, line in enumerate(found) if "gates" in line)
    assert found[at : at + 4] == [
        "  gates      ✓ passed  v3: Log loss at most 0.001 worse than v1",
        "                       −0.0660 (−0.0728 to −0.0592)",
        "             – skipped  v3: Log loss better than v2",
        "                        this comparison is against v1",
    ]


@pytest.mark.parametrize(
    ("delta", "low", "high", "drawn"),
    [
        (0.01, 0.001, 0.02, "│●"),  # close to zero, and not on it
        (-0.01, -0.02, -0.001, "●│"),
        (0.01, -0.15, 0.15, "━●━"),  # holds zero
        (0.2, -0.1, 0.5, "━┿━━━●━"),
    ],
)
def test_an_interval_is_drawn_over_zero_only_if_it_holds_it(delta: float, low: float, high: float, drawn: str) -> None:
    assert drawn in row(accuracy(delta, low, high), "v2")


def test_the_margin_is_explained_where_it_is_drawn() -> None:
    explained = [line for line in lines(example_comparison()) if "marks the margin" in line]
    assert explained == ["  ┊ marks the margin: the difference that would not matter"]
    assert not any("┊" in line for line in lines(accuracy(0.2, 0.1, 0.5)))


def test_versions_that_are_all_better_are_to_be_compared_with_each_other() -> None:
    command = "mlstream compare acba25512100 --baseline v2"
    assert f"  (between v2 and v3: {command})" in lines(example_comparison())
    only = tuple(it for it in example_comparison().deltas if it.version != "v2")
    assert not any("--baseline" in line for line in lines(example_comparison(deltas=only)))


def test_a_p_value_is_not_torn() -> None:
    deltas = tuple(
        replace(it, independent_p=1e-9) if it.metric == "accuracy" else it for it in example_comparison().deltas
    )
    for width in range(76, 100):
        found = lines(example_comparison(deltas=deltas), width=width)
        told = "\n".join(found)
        assert "v2 p < 0.0001," in told
        assert "v3 p < 0.0001" in told
        assert max(map(len, found)) <= width
        assert "\N{NO-BREAK SPACE}" not in "".join(found)


def test_every_column_of_a_disagreement_is_shown() -> None:
    found = [line.plain for line in disagreement_lines(detailed_comparison(), 60)]
    assert max(map(len, found)) <= 60
    told = " ".join("\n".join(found).split())
    assert "carrier=EV origin=EWR hour=19 recent_late=31 label=<b>x</b>" in told


def test_a_slice_that_was_looked_for_may_stand_out_and_be_inconclusive() -> None:
    told = " ".join("\n".join(line.plain for line in slice_lines(detailed_comparison(), 80)).split())
    assert "418 slices × versions of 4 columns tested: 1 stands out as worse, 1 shown" in told
    assert "The verdict is by the interval, which is wider" in told
