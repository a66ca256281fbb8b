"""Blocks are intervals of event time, and as long as the series remembers."""

from __future__ import annotations

import numpy as np
import pytest

from mlstream.comparison.blocks import (
    MIN_BLOCKS,
    Grid,
    choose_factor,
    cut,
    cut_finely,
    describe_length,
    optimal_length,
)
from mlstream.errors import ComparisonError
from tests.comparison.streams import Stream

DAY = 86_400_000


def autoregression(memory: float, length: int, seed: int) -> np.ndarray:
    return Stream(ticks=length, partitions=1, memory=memory, shock=0.0).noise(np.random.default_rng(seed))[:, 0]


@pytest.mark.parametrize("memory", [0.3, 0.5, 0.7])
def test_the_rule_finds_the_length_that_theory_gives_for_an_autoregression(memory: float) -> None:
    length = 20_000
    # Lahiri 1999: (G / g)^2 n under the cube root, with G / g = 2 * memory / (1 - memory^2) for this process.
    expected = ((2 * memory / (1 - memory**2)) ** 2 * length) ** (1 / 3)
    found = [optimal_length(autoregression(memory, length, seed)) for seed in range(12)]
    assert np.mean(found) == pytest.approx(expected, rel=0.15)


def test_independent_records_need_no_long_blocks() -> None:
    found = [optimal_length(np.random.default_rng(seed).standard_normal(1000)) for seed in range(40)]
    assert np.median(found) < 2


@pytest.mark.parametrize("series", [np.zeros(100), np.full(100, 3.5), np.arange(5.0)])
def test_a_series_that_tells_nothing_gives_single_intervals(series: np.ndarray) -> None:
    assert optimal_length(series) == 1.0


def test_a_trend_asks_for_long_blocks_within_bounds() -> None:
    assert 30 < optimal_length(np.arange(900.0)) <= 90.0


def test_the_longest_of_the_series_decides_and_is_rounded_up_to_a_usual_length() -> None:
    grid = Grid(3_600_000, np.arange(1000))
    slow, quick = autoregression(0.7, 1000, 1), np.random.default_rng(1).standard_normal(1000)
    factor = choose_factor(grid, np.stack([quick, slow]))
    assert factor in (24, 48)
    assert factor >= optimal_length(slow) > optimal_length(quick)


def test_rounding_up_does_not_go_below_the_least_number_of_blocks() -> None:
    grid = Grid(DAY, np.arange(400))
    series = autoregression(0.6, 400, 3)[None]
    factor = choose_factor(grid, series)
    assert optimal_length(series[0]) <= factor < 14
    assert len(grid.coarser(factor)[0]) >= MIN_BLOCKS


def test_blocks_start_at_multiples_of_their_length_and_skip_empty_time() -> None:
    times = np.array([DAY + 1, 2 * DAY - 1, 2 * DAY, 9 * DAY])
    grid, block = cut(times, DAY)
    assert grid.numbers.tolist() == [1, 2, 9]
    assert block.tolist() == [0, 0, 1, 2]
    assert grid.span == 9
    coarse, inside = grid.coarser(2)
    assert coarse.numbers.tolist() == [0, 1, 4]
    assert inside.tolist() == [0, 1, 2]


def test_only_intervals_that_touch_are_neighbours() -> None:
    grid = Grid(DAY, np.array([1, 2, 9]))
    assert grid.neighbours(np.array([2.0, 3.0, 5.0])) == 6.0


def test_the_same_records_in_other_partitions_are_in_the_same_blocks() -> None:
    times = np.random.default_rng(0).integers(0, 90 * DAY, 5000)
    grid, block = cut_finely(times)
    shuffled = np.random.default_rng(1).permutation(times.size)
    again, moved = cut_finely(times[shuffled])
    assert again.length_ms == grid.length_ms
    assert (moved == block[shuffled]).all()
    assert len(grid) <= 1000


@pytest.mark.parametrize("times", [[5], [5, 5, 5], [0, 10**15]], ids=["one", "one time", "ages apart"])
def test_odd_times_still_make_cells(times: list[int]) -> None:
    grid, block = cut_finely(np.array(times))
    assert 1 <= len(grid) <= len(times)
    assert block.size == len(times)


def test_too_many_blocks_are_refused_with_the_fix() -> None:
    with pytest.raises(
        ComparisonError, match=r"blocks of 1 second cut .* into 20,000 blocks; .*longer bootstrap.block"
    ):
        cut(np.arange(20_000) * 1000, 1000)


@pytest.mark.parametrize(
    ("length_ms", "words"),
    [(DAY, "1 day"), (7 * DAY, "7 days"), (6 * 3_600_000, "6 hours"), (90_000, "90 seconds"), (250, "250 ms")],
)
def test_lengths_are_worded_in_their_largest_whole_unit(length_ms: int, words: str) -> None:
    assert describe_length(length_ms) == words


@pytest.mark.parametrize("gap", [1_000, 1 << 21])
def test_empty_intervals_are_none_of_the_blocks_however_many_there_are(gap: int) -> None:
    times = np.array([7 + gap, 3, 4, 4, 7 + gap, 7])
    grid, block = cut(times, 2)
    assert grid.numbers.tolist() == sorted({1, 2, 3, (7 + gap) // 2})
    assert np.array_equal(grid.numbers[block], times // 2)
    assert np.array_equal(times, [7 + gap, 3, 4, 4, 7 + gap, 7])
