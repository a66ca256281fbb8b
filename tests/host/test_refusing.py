"""A model's process refuses the records that the model has no answer for, where it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlstream.errors import PredictError
from mlstream.versions.predictor import INVALID, RAISED
from tests.host.conftest import COORDINATES, FIRST, MakeHost, frame

MODELS = '''

class Picky(Plain):
    """Has no answer for every hundredth record and raises for the one after it."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        if (frame["n"] % 100 == 1).any():
            raise LookupError("no such customer")
        found = frame["x"].to_numpy() * 0.5
        found[frame["n"].to_numpy() % 100 == 0] = np.nan
        return found
'''


@pytest.fixture(autouse=True)
def _models(project: Path) -> None:
    path = project / "shop" / "models.py"
    path.write_text(path.read_text() + MODELS)


def test_the_records_without_an_answer_are_named_and_the_others_are_answered(make_host: MakeHost, log: Path) -> None:
    rows = frame()
    answer = make_host("Picky").predict(rows.drop(COORDINATES), first=FIRST, most_refused=100)
    number = rows["n"].to_numpy()
    bad = (number % 100 == 0) | (number % 100 == 1)
    assert [each.row for each in answer.refused] == bad.nonzero()[0].tolist()
    kinds = {INVALID: "prediction is nan; expected finite numbers", RAISED: "LookupError: no such customer"}
    assert all(each.reason == kinds[each.error] for each in answer.refused)
    assert {each.error for each in answer.refused} == set(kinds)
    expected = rows["x"].to_numpy()[~bad] * 0.5
    assert answer.predictions["prediction"].to_numpy().tobytes() == expected.tobytes()
    assert log.read_text().count("Traceback (most recent call last)") == 1
    assert 'raise LookupError("no such customer")' in log.read_text()


def test_too_many_refusals_and_refusals_where_none_are_allowed_are_failures(make_host: MakeHost) -> None:
    rows = frame().drop(COORDINATES)
    with pytest.raises(PredictError, match=r"more records are refused .*\(3 at most\).*; correct the model; or let"):
        make_host("Picky").predict(rows, first=FIRST, most_refused=3)
    with pytest.raises(PredictError, match="predict raised LookupError"):
        make_host("Picky").predict(rows, first=FIRST)
