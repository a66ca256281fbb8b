"""A record that a model has no usable answer for is refused with the reason; the others get what they would have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.errors import PredictError
from mlstream.versions import Predictor, Record
from mlstream.versions.predictor import Scored

FIRST = Record("orders", 2, 1200)
FRAME = pl.DataFrame({"n": range(100)})


def rule(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
    """A score from a row alone, of exact operations."""
    return (frame["n"].to_numpy() * 0.7310585786300049) % 1.0


def raising_at(bad: set[int], calls: list[int] | None = None) -> Callable[[pl.DataFrame], np.ndarray[Any, Any]]:
    """A model that raises for any batch with one of these records in it."""

    def predict(frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        if calls is not None:
            calls.append(frame.height)
        for number in frame["n"]:
            if number in bad:
                raise ValueError(f"no answer for {number}")
        return rule(frame)

    return predict


def score(answer: Any, task: Any = "binary", *, frame: pl.DataFrame = FRAME, most: int = 10**9, **rest: Any) -> Scored:
    predict = answer if callable(answer) else lambda _: answer
    return Predictor("v1", task, None, predict, **rest).score(frame, most=most, first=FIRST)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 100), bad=st.sets(st.integers(0, 99)))
def test_exactly_the_records_that_raise_are_refused_and_the_others_keep_their_bits(rows: int, bad: set[int]) -> None:
    frame = FRAME.head(rows)
    found = score(raising_at(bad), frame=frame)
    wanted = sorted(number for number in bad if number < rows)
    assert [(each.row, each.error, each.reason) for each in found.refused] == [
        (number, "raised", f"ValueError: no answer for {number}") for number in wanted
    ]
    good = rule(frame.filter(~pl.col("n").is_in(wanted)))
    assert found.predictions.height == len(good)
    if len(good):
        assert found.predictions["score"].to_numpy().tobytes() == good.tobytes()


def test_a_batch_without_bad_records_is_asked_once_and_one_bad_record_costs_two_calls_for_each_halving() -> None:
    calls: list[int] = []
    assert score(raising_at(set(), calls)).refused == ()
    assert calls == [100]
    calls.clear()
    score(raising_at({37}, calls))
    assert calls == [100, 50, 25, 25, 12, 13, 6, 3, 1, 2, 3, 7, 50]


def test_what_raised_is_kept_for_the_log_with_its_traceback() -> None:
    found = score(raising_at({5, 7}))
    assert isinstance(found.raised, ValueError)
    assert str(found.raised) == "no answer for 5"
    assert found.raised.__traceback__ is not None


@pytest.mark.parametrize(
    ("task", "answer", "refused"),
    [
        ("binary", np.array([0.1, np.nan, np.inf, 1.5]), ["score is nan; ", "score is inf; ", "score is 1.5; "]),
        ("binary", pl.Series([0.1, None, -0.1, np.nan]), ["predict is null; ", "score is -0.1; ", "score is nan; "]),
        ("binary", pl.Series([True, None, None, None]), ["predict is null; "] * 3),
        ("binary", np.array([1, 2, 3, -1]), ["prediction is 2; ", "prediction is 3; ", "prediction is -1; "]),
        ("regression", np.array([1e300, -np.inf, np.nan, np.inf]), ["prediction is -inf", "prediction is nan", "pred"]),
    ],
)
def test_rows_without_a_usable_value_are_refused_each_with_its_own(task: str, answer: Any, refused: list[str]) -> None:
    found = score(answer, task, frame=FRAME.head(4))
    assert [(each.row, each.error) for each in found.refused] == [(1, "invalid"), (2, "invalid"), (3, "invalid")]
    assert all(each.reason.startswith(start) for each, start in zip(found.refused, refused, strict=True))
    assert found.predictions.height == 1


def test_nulls_in_two_columns_are_refused_for_the_first_and_their_rows_left_out_of_both() -> None:
    answer = pl.DataFrame({"score": [0.1, None, 0.7, 2.0], "prediction": [True, False, None, True]})
    found = score(answer, frame=FRAME.head(4))
    reasons = {each.row: each.reason.partition(";")[0] for each in found.refused}
    assert reasons == {1: "score is null", 2: "prediction is null", 3: "score is 2.0"}
    assert found.predictions.rows() == [(True, 0.1)]


def test_rows_of_several_classes_are_refused_by_their_scores_and_by_their_class() -> None:
    answer = pl.DataFrame(
        {
            "scores": [[0.5, 0.5], [0.5, None], [0.9, 0.9], [1.2, -0.2], [0.25, 0.75]],
            "prediction": ["a", "a", "a", "a", "z"],
        }
    )
    found = score(answer, "multiclass", frame=FRAME.head(5), classes=("a", "b"))
    reasons = {each.row: each.reason.partition(";")[0] for each in found.refused}
    assert reasons == {
        1: "scores holds nulls",
        2: "scores add up to 1.8",
        3: "scores is 1.2",
        4: "prediction is 'z'",
    }
    assert found.predictions.rows() == [("a", [0.5, 0.5])]


def test_when_all_records_are_refused_nothing_is_left_and_nothing_is_said_of_the_columns() -> None:
    found = score(pl.Series([None] * 4, dtype=pl.Null), frame=FRAME.head(4))
    assert [each.row for each in found.refused] == [0, 1, 2, 3]
    assert found.predictions.shape == (0, 0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(3), "returned 3 rows for 4 records"),
        (pl.DataFrame({"chance": [0.5] * 4}), "returned the columns 'chance'"),
        (pl.Series(["0.5"] * 4), "prediction is String"),
        ([0.5] * 4, "returned a builtins.list"),
    ],
)
def test_an_answer_that_is_wrong_as_a_whole_is_the_version_s_failure(answer: Any, message: str) -> None:
    with pytest.raises(PredictError, match=message):
        score(answer, frame=FRAME.head(4))


def test_no_memory_is_no_matter_of_a_record() -> None:
    def predict(_: pl.DataFrame) -> pl.Series:
        raise MemoryError("too large")

    with pytest.raises(PredictError, match="predict raised MemoryError"):
        score(predict)


def test_a_model_that_refuses_more_than_it_may_is_ended_early() -> None:
    calls: list[int] = []
    with pytest.raises(PredictError, match=r"more records are refused .*\(10 at most\); .* row 0: ValueError: no ans"):
        score(raising_at(set(range(100)), calls), most=10)
    assert len(calls) < 40


def test_parts_that_are_answered_in_different_columns_are_named() -> None:
    def predict(frame: pl.DataFrame) -> pl.DataFrame | pl.Series:
        if 60 in frame["n"]:
            raise ValueError("no answer")
        return pl.DataFrame({"score": rule(frame)}) if frame["n"][0] else pl.Series([True] * frame.height)

    with pytest.raises(PredictError, match="different columns for parts of the batch"):
        score(predict)


def test_a_long_reason_is_cut() -> None:
    def predict(_: pl.DataFrame) -> pl.Series:
        raise ValueError("x" * 50_000)

    (only,) = score(predict, frame=FRAME.head(1)).refused
    assert len(only.reason) == 1000
    assert only.reason.endswith("…")
