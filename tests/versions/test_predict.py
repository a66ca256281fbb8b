"""What a model may return, and how what it may not return is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlstream.config.models import Task
from mlstream.errors import PredictError
from mlstream.versions import Predictor, Record, missing_columns

ROWS = 3
FRAME = pl.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0, 1, 0]})
FIRST = Record("orders", 2, 1200)
AT = r"version v1, batch that starts at orders\[2\]@1200: "


def predictor(answer: Any, task: Task = "binary", **options: Any) -> Predictor:
    return Predictor("v1", task, options.pop("features", None), lambda frame: answer, **options)


def predict(answer: Any, task: Task = "binary", **options: Any) -> pl.DataFrame:
    return predictor(answer, task, **options).predict(FRAME, first=FIRST)


@pytest.mark.parametrize(
    "answer",
    [
        np.array([0.1, 0.5, 1.0]),
        np.array([0.125, 0.5, 1.0], dtype=np.float32),
        pl.Series([0.1, 0.5, 1.0]),
        pl.DataFrame({"score": [0.1, 0.5, 1.0]}),
    ],
)
def test_floats_of_a_binary_task_are_scores_and_the_threshold_decides(answer: Any) -> None:
    found = predict(answer)
    assert found.schema == {"prediction": pl.Boolean, "score": pl.Float64}
    assert found["prediction"].to_list() == [False, True, True]
    assert predict(answer, threshold=0.6)["prediction"].to_list() == [False, False, True]


@pytest.mark.parametrize(
    "answer",
    [
        np.array([1, 0, 1]),
        np.array([True, False, True]),
        pl.Series([1, 0, 1]),
        pl.DataFrame({"prediction": [1.0, 0.0, 1.0]}),
    ],
)
def test_zeros_and_ones_of_a_binary_task_are_predictions_without_a_score(answer: Any) -> None:
    assert_frame_equal(predict(answer), pl.DataFrame({"prediction": [True, False, True]}))


def test_a_model_may_decide_itself_whatever_its_score() -> None:
    found = predict(pl.DataFrame({"score": [0.9, 0.1, 0.5], "prediction": [False, True, False]}))
    assert found["prediction"].to_list() == [False, True, False]


def test_a_regression_gives_floats_bit_by_bit() -> None:
    values = np.array([0.1 + 0.2, -0.0, 5e-324])
    found = predict(values, "regression")["prediction"].to_numpy()
    assert found.tobytes() == values.tobytes()


def test_scores_of_several_classes_choose_the_likeliest() -> None:
    scores = np.array([[0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.0, 0.0, 1.0]])
    found = predict(scores, "multiclass", classes=("a", "b", "c"))
    assert found.schema == {"prediction": pl.String, "scores": pl.List(pl.Float64)}
    assert found["prediction"].to_list() == ["b", "a", "c"]
    assert found["scores"].to_list() == scores.tolist()
    again = predict(pl.DataFrame({"scores": scores.tolist()}), "multiclass", classes=(4, 5, 6))
    assert again["prediction"].to_list() == [5, 4, 6]


def test_labels_alone_are_enough_for_several_classes() -> None:
    assert predict(np.array(["a", "b", "a"], dtype=object), "multiclass")["prediction"].to_list() == ["a", "b", "a"]
    assert predict(np.array([1, 2, 3], dtype=np.int8), "multiclass").schema == {"prediction": pl.Int64}


def test_the_model_sees_the_features_in_their_order_and_nothing_else() -> None:
    seen: list[list[str]] = []

    def answer(frame: pl.DataFrame) -> pl.Series:
        seen.append(frame.columns)
        return frame["x"] / 10

    Predictor("v1", "binary", ("y", "x"), answer).predict(FRAME)
    assert seen == [["y", "x"]]


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("binary", np.array([0.1, 0.2]), r"predict returned 2 rows for 3 records; return one row for each"),
        ("binary", pl.DataFrame({"score": [0.1] * 4}), r"predict returned 4 rows for 3 records"),
        ("binary", np.array([0.1, np.nan, np.nan]), r"score is nan in row 1 of the batch \(2 of 3 are\); expected fin"),
        ("binary", np.array([0.1, 0.2, np.inf]), r"score is inf in row 2"),
        ("binary", np.array([0.1, 1.5, 0.2]), r"score is 1\.5 in row 1 of the batch; expected a probability"),
        ("binary", np.array([-0.1, 0.5, 0.2]), r"score is -0\.1 in row 0"),
        ("binary", pl.Series([0.1, None, 0.2]), r"predict is null in row 1 .*1 of 3 are.*; expected a value in every"),
        ("binary", pl.DataFrame({"score": [0.1, 0.2, None]}), r"score is null in row 2"),
        ("binary", np.array([0, 1, 2]), r"prediction is 2 in row 2 of the batch; expected 0 or 1"),
        ("binary", np.array(["a", "b", "c"]), r"prediction is String; expected Boolean, or 0 and 1"),
        ("binary", np.zeros((3, 2)), r"predict returned an array of shape \(3, 2\); expected \(3,\)"),
        ("binary", [0.1, 0.2, 0.3], r"predict returned a builtins\.list; expected a polars .* `polars\.Series\(…\)`"),
        ("binary", None, r"predict returned a builtins\.NoneType; expected"),
        ("binary", pl.DataFrame({"proba": [0.1] * 3}), r"predict returned the columns 'proba'; expected prediction"),
        ("binary", pl.DataFrame(), r"predict returned the columns ; expected"),
        ("regression", np.array(["a", "b", "c"]), r"prediction is String; expected numbers"),
        ("regression", np.array([1.0, 2.0, -np.inf]), r"prediction is -inf in row 2"),
        ("multiclass", np.full((3, 2), 0.5), r"predict returned scores, and the model does not say of which cl"),
        ("multiclass", np.array([0.1, 0.2, 0.3]), r"prediction is Float64; expected strings or whole numbers"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named_with_the_batch_and_what_was_expected(task: Task, answer: Any, message: str) -> None:
    with pytest.raises(PredictError, match=AT + message):
        predict(answer, task)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.full((3, 3), 1 / 3), r"scores has 3 numbers in row 0 of the batch; there are 2 classes"),
        (np.array([[0.5, 0.5], [0.9, 0.2], [0.5, 0.5]]), r"scores add up to 1\.1\d* in row 1 of the batch; expected 1"),
        (np.array([[0.5, 0.5], [1.2, -0.2], [0.5, 0.5]]), r"scores is 1\.2 in row 1 "),
        (pl.DataFrame({"scores": [[0.5, None]] * 3}), r"scores holds nulls"),
        (pl.DataFrame({"scores": [[0.5, 0.5]] * 3, "prediction": ["a", "b", "z"]}), r"predict returned 'z' as predic"),
    ],
)  # fmt: skip
def test_wrong_scores_of_several_classes_are_named(answer: Any, message: str) -> None:
    with pytest.raises(PredictError, match=AT + message):
        predict(answer, "multiclass", classes=("a", "b"))


def test_an_exception_in_predict_is_named_with_the_batch() -> None:
    def answer(frame: pl.DataFrame) -> Any:
        raise KeyError("dest")

    with pytest.raises(PredictError, match=AT + r"predict raised KeyError: 'dest'") as caught:
        Predictor("v1", "binary", None, answer).predict(FRAME, first=FIRST)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_missing_column_is_named_with_its_neighbours() -> None:
    message = missing_columns(["dest", "distnce"], ["dest", "distance", "hour"])
    assert message == ("the input has no column 'distnce' (did you mean 'distance'?); it has: dest, distance, hour")
    assert missing_columns(["dest"], ["dest"]) is None
    with pytest.raises(PredictError, match=r"version v1: the input has no column 'z'; it has: x, y"):
        Predictor("v1", "binary", ("z",), lambda frame: frame).predict(FRAME)
