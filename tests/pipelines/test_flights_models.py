"""The rule by hand, and estimators that learn something, load without pickle and come out the same every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from skops import io as skops_io
from threadpoolctl import threadpool_limits

from mlstream import load_config
from pipelines.flights import rule, train

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

CONFIG = load_config(Path(__file__).parents[2] / "configs" / "flights.yaml")
BY_HAND = pl.DataFrame({"carrier": ["UA", "UA", "UA", "UA", "B6", "B6"], "hour": [6, 6, 6, 17, 17, 17]})
LATE = pl.Series("late", [False, False, True, True, True, False])

Sample = tuple[pl.DataFrame, pl.Series]


@pytest.fixture(scope="module")
def sample(table: pl.DataFrame) -> Sample:
    """The features and labels of some 25,000 flights, spread over January to September."""
    assert CONFIG.features is not None
    rows = table.filter((pl.col("month") < 10) & pl.col("arr_delay").is_not_null()).gather_every(10)
    return rows.select(CONFIG.features), rows.select(late=pl.col("arr_delay") > 15)["late"]


@pytest.fixture(scope="module")
def estimators(sample: Sample) -> dict[str, Pipeline]:
    """v2 and v3, fitted on the sample."""
    return {"v2": train.fit_logistic(*sample), "v3": train.fit_boosting(*sample, seed=0)}


def scores(estimator: Any, flights: pl.DataFrame) -> np.ndarray[Any, Any]:
    # One thread: more of them wait for each other when other tests run beside.
    with threadpool_limits(1):
        found: np.ndarray[Any, Any] = estimator.predict_proba(flights.to_pandas())[:, 1]
    return found


def test_the_table_counts_flights_and_late_ones_by_carrier_and_hour() -> None:
    assert train.count(BY_HAND, LATE) == {
        "flights": 6,
        "late": 3,
        "smoothing": 50,
        "hours": {
            "B6": {"17": {"flights": 2, "late": 1}},
            "UA": {"6": {"flights": 3, "late": 1}, "17": {"flights": 1, "late": 1}},
        },
    }


def test_the_rule_pulls_a_rate_towards_the_average_and_knows_no_more_than_it_of_the_unseen() -> None:
    table = train.count(BY_HAND, LATE)
    table["smoothing"] = 2
    asked = pl.DataFrame({"hour": [6, 17, 17, 5, 6], "carrier": ["UA", "UA", "B6", "UA", "HA"]})
    found = rule.LateRate(table).predict(asked)
    # The average is 1/2, so two average flights bring one late one.
    assert found["score"].to_list() == [(1 + 1) / (3 + 2), (1 + 1) / (1 + 2), (1 + 1) / (2 + 2), 0.5, 0.5]
    assert found["prediction"].to_list() == [False, True, False, False, False]


def test_the_rule_answers_in_the_order_of_its_questions() -> None:
    asked = pl.concat([BY_HAND] * 1_000).sample(fraction=1.0, shuffle=True, seed=2)
    known = rule.LateRate(train.count(BY_HAND, LATE))
    one_by_one = {
        row: known.predict(pl.DataFrame([row], schema=asked.schema, orient="row")) for row in set(asked.rows())
    }
    expected = [one_by_one[row]["score"].item() for row in asked.rows()]
    assert known.predict(asked)["score"].to_list() == expected


def test_the_rule_reads_the_table_that_training_wrote(tmp_path: Path) -> None:
    file = tmp_path / "late_rate.json"
    file.write_text(json.dumps(train.count(BY_HAND, LATE)), encoding="utf-8")
    assert rule.late_rate(str(file)).predict(BY_HAND).height == BY_HAND.height


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_estimators_file_holds_types_of_sklearn_and_numpy_only(
    version: str, estimators: dict[str, Pipeline]
) -> None:
    data = skops_io.dumps(estimators[version])
    asked_for = skops_io.get_untrusted_types(data=data)
    assert [name for name in asked_for if name.split(".")[0] not in ("sklearn", "numpy")] == []
    # The trees themselves: skops leaves it to the reader to trust them.
    assert asked_for == (
        [] if version == "v2" else ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    )


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_estimator_read_back_scores_the_same_bits(
    version: str, estimators: dict[str, Pipeline], sample: Sample
) -> None:
    data = skops_io.dumps(estimators[version])
    again = skops_io.loads(data, trusted=skops_io.get_untrusted_types(data=data))
    assert (scores(again, sample[0]) == scores(estimators[version], sample[0])).all()


def test_training_again_gives_the_same_bits(estimators: dict[str, Pipeline], sample: Sample) -> None:
    assert (scores(train.fit_logistic(*sample), sample[0]) == scores(estimators["v2"], sample[0])).all()
    assert (scores(train.fit_boosting(*sample, seed=0), sample[0]) == scores(estimators["v3"], sample[0])).all()


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_estimator_scores_names_that_training_has_not_seen(
    version: str, estimators: dict[str, Pipeline], sample: Sample
) -> None:
    unseen = sample[0].head(5).with_columns(carrier=pl.lit("ZZ"), dest=pl.lit("XXX"))
    found = scores(estimators[version], unseen)
    assert ((found > 0) & (found < 1)).all()


def test_the_versions_learn_something_about_flights_of_the_same_months(
    estimators: dict[str, Pipeline], table: pl.DataFrame, sample: Sample
) -> None:
    from sklearn.metrics import log_loss

    assert CONFIG.features is not None
    others = table.filter((pl.col("month") < 10) & pl.col("arr_delay").is_not_null()).gather_every(10, 5)
    flights, late = others.select(CONFIG.features), (others["arr_delay"] > 15).to_numpy()
    guess = np.full(late.size, sample[1].mean())
    by_rule = rule.LateRate(train.count(*sample)).predict(flights)["score"].to_numpy()
    losses = [
        log_loss(late, guess),
        log_loss(late, by_rule),
        *(log_loss(late, scores(e, flights)) for e in estimators.values()),
    ]
    assert losses == sorted(losses, reverse=True)
