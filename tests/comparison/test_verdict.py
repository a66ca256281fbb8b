"""Verdicts follow the intervals and the margins; p-values are corrected for how many were asked."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest, t

from mlstream.comparison.bootstrap import Estimate
from mlstream.comparison.verdict import holm, judge, mcnemar

NORMAL = np.array([NormalDist().inv_cdf(share) for share in (np.arange(2000) + 0.5) / 2000])


def estimate(value: float, error: float = 1.0, freedom: int = 10_000) -> Estimate:
    return Estimate(value, error, NORMAL, freedom)


def verdict(value: float, error: float = 1.0, *, margin: float | None = None, higher: bool = True) -> str:
    return judge(estimate(value, error), higher_is_better=higher, confidence=0.95, margin=margin, scale=1.0).verdict


@pytest.mark.parametrize(
    ("value", "higher", "expected"),
    [
        (2.1, True, "better"),
        (-2.1, True, "worse"),
        (2.1, False, "worse"),
        (-2.1, False, "better"),
        (1.8, True, "inconclusive"),
    ],
)
def test_an_interval_that_excludes_zero_tells_the_direction(value: float, higher: bool, expected: str) -> None:
    assert verdict(value, higher=higher) == expected


def test_inside_the_margin_is_equivalent_even_when_it_differs_from_zero() -> None:
    assert verdict(3.0, margin=5.0) == "equivalent"
    assert verdict(3.0, margin=4.5) == "better"
    # The interval at 90 % ends at 3.0 + 1.645.
    assert verdict(3.0, margin=4.64) == "better"
    assert verdict(3.0, margin=4.66) == "equivalent"


def test_inconclusive_says_how_much_more_data_the_margin_needs() -> None:
    found = judge(estimate(0.5), higher_is_better=True, confidence=0.95, margin=0.98, scale=1.0)
    assert found.verdict == "inconclusive"
    assert (
        found.reason
        == "the 95 % interval holds 0; about 4.0 times the data would bring its half-width down to the margin"
    )
    assert found.times == pytest.approx(4.0, rel=1e-2)


def test_without_a_margin_it_says_what_a_difference_as_large_as_the_one_seen_needs() -> None:
    found = judge(estimate(1.0), higher_is_better=True, confidence=0.95, margin=None, scale=1.0)
    # Where 1.96 + 0.84 standard errors are seen there is a power of 80 %
    assert found.times == pytest.approx((1.96 + 0.8416) ** 2, rel=1e-2)
    assert found.reason == (
        "the 95 % interval holds 0; about 7.9 times the data would tell a difference as large as this from 0"
    )
    nothing = judge(estimate(0.0), higher_is_better=True, confidence=0.95, margin=None, scale=1.0)
    assert (nothing.reason, nothing.times) == ("the 95 % interval holds 0", None)


def test_rounding_is_no_difference() -> None:
    found = judge(estimate(1e-16, 1e-17), higher_is_better=True, confidence=0.95, margin=None, scale=0.5)
    assert (found.verdict, found.reason) == ("equivalent", None)


@pytest.mark.parametrize("value", [0.0, 0.7, 1.9, 1.97, 2.5, 9.0, -1.95, -1.98])
def test_the_p_value_and_the_interval_decide_alike(value: float) -> None:
    found = estimate(value, freedom=40)
    interval = found.interval(0.95)
    p_value = found.p_value()
    assert interval is not None
    assert p_value is not None
    assert (p_value < 0.05) == (interval[0] > 0 or interval[1] < 0)


def test_few_blocks_that_differ_get_at_least_students_interval() -> None:
    interval = estimate(0.0, freedom=3).interval(0.95)
    assert interval == pytest.approx((-t.ppf(0.975, 3), t.ppf(0.975, 3)))
    assert estimate(0.0, freedom=0).interval(0.95) is None
    assert estimate(0.0, freedom=0).p_value() is None


def test_a_p_value_is_never_smaller_than_the_resamples_can_tell() -> None:
    assert estimate(50.0).p_value() == pytest.approx(2 / 2001)
    assert estimate(50.0, error=0.0).p_value() == pytest.approx(2 / 2001)
    assert estimate(0.0, error=0.0).p_value() == 1.0


def test_holms_correction() -> None:
    assert holm([0.01, 0.04, 0.03, None, 0.005]) == pytest.approx([0.03, 0.06, 0.06, None, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("own", "other"), [(0, 0), (0, 3), (5, 5), (12, 30), (3000, 3200)])
def test_mcnemars_p_value_is_the_binomial_tests(own: int, other: int) -> None:
    expected = 1.0 if own + other == 0 else binomtest(own, own + other).pvalue
    assert mcnemar(own, other) == pytest.approx(expected)
