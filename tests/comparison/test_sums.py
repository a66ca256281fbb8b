"""Sums do not depend on the order of the records, and places among edges are those of a binary search."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlstream.comparison.sums import add, places

SCORES = {
    "even": lambda rng: rng.random(20_000),
    "near 0": lambda rng: rng.random(20_000) ** 12,
    "near 1": lambda rng: 1 - rng.random(20_000) ** 12,
    "few": lambda rng: np.round(rng.random(20_000), 2),
    "above 1": lambda rng: 10 ** rng.normal(0, 3, 20_000),
    "ends": lambda _: np.array([0.0, -0.0, 5e-324, 2.0**-32, 2.0**-31, 0.5, np.nextafter(1, 0), 1.0, 3.0]),
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("edges", [0, 1, 9, 255])
def test_a_value_is_above_as_many_edges_as_a_binary_search_says(name: str, edges: int) -> None:
    values = SCORES[name](np.random.default_rng(4))
    at = np.unique(np.quantile(values, np.linspace(0, 1, edges))) if edges else np.array([])
    assert np.array_equal(places(values, at), np.searchsorted(at, values, side="right"))


@pytest.mark.parametrize("scale", [1.0, -1e-240, 1e90])
def test_sums_are_those_of_exact_arithmetic_in_any_order(scale: float) -> None:
    rng = np.random.default_rng(5)
    values, block = scale * rng.normal(size=5000) ** 3, rng.integers(0, 7, 5000)
    before = values.copy()
    sums = add(values, block, 7)
    exact = [math.fsum(values[block == number]) for number in range(7)]
    assert sums == pytest.approx(exact, rel=1e-12)
    order = rng.permutation(5000)
    assert np.array_equal(add(values[order], block[order], 7), sums)
    assert np.array_equal(values, before)
