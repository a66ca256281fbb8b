"""The rule by hand, and estimators that learn something, load without pickle and come out the same every time."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from skops import io as skops_io
from threadpoolctl import threadpool_limits

import mlstream
from mlstream import Connection, MlstreamError, load_config
from pipelines.flights import data, rule, train

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FILE = Path(__file__).parents[2] / "configs" / "flights.yaml"
CONFIG = load_config(FILE)
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
    dumped = skops_io.dumps(estimators[version])
    asked_for = skops_io.get_untrusted_types(data=dumped)
    assert [name for name in asked_for if name.split(".")[0] not in ("sklearn", "numpy")] == []
    # The trees themselves: skops leaves it to the reader to trust them.
    assert asked_for == (
        [] if version == "v2" else ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    )


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_estimator_read_back_scores_the_same_bits(
    version: str, estimators: dict[str, Pipeline], sample: Sample
) -> None:
    dumped = skops_io.dumps(estimators[version])
    again = skops_io.loads(dumped, trusted=skops_io.get_untrusted_types(data=dumped))
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


@pytest.fixture
def experiment(topic: str, tmp_path: Path) -> mlstream.ExperimentConfig:
    """The demo's experiment over topics of the test's own."""
    text = FILE.read_text(encoding="utf-8")
    for name in ("flights", "landings"):
        text = text.replace(f"topic: {name}\n", f"topic: {topic}-{name}\n")
    file = tmp_path / "flights.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file)


@pytest.mark.broker
def test_training_takes_the_flights_that_are_due_and_have_landed(
    table: pl.DataFrame, experiment: mlstream.ExperimentConfig, broker: Connection, tmp_path: Path
) -> None:
    week = table.filter((pl.col("month") == 2) & (pl.col("day") < 8))
    flights, landings = experiment.input.topic, experiment.labels.topic if experiment.labels else None
    assert landings is not None
    mlstream.publish(flights, data.flights(week), partitions=4, connection=broker)
    mlstream.publish(landings, data.landings(week), partitions=4, connection=broker)
    frozen = mlstream.snapshot("week", topics=[flights, landings], connection=broker, home=tmp_path / "home")
    found, late = train.examples(frozen, experiment)
    due = week["landed"].max() - timedelta(hours=36)
    expected = week.filter((pl.col("departure") <= due) & pl.col("landed").is_not_null())
    assert 0 < expected.height < week["landed"].count() < week.height
    assert found.columns == list(experiment.features or ())
    columns = [*found.columns, "late"]
    wanted = expected.with_columns(late=pl.col("arr_delay") > 15).select(columns)
    assert found.with_columns(late).sort(columns).equals(wanted.sort(columns))


@pytest.mark.broker
def test_training_on_a_snapshot_without_any_label_says_what_to_freeze(
    table: pl.DataFrame, experiment: mlstream.ExperimentConfig, broker: Connection, tmp_path: Path
) -> None:
    flights, landings = experiment.input.topic, experiment.labels.topic if experiment.labels else None
    assert landings is not None
    day = table.filter(month=2, day=8)
    mlstream.publish(flights, data.flights(day), partitions=4, connection=broker)
    mlstream.publish(landings, data.landings(table.filter(month=2, day=3)), partitions=4, connection=broker)
    frozen = mlstream.snapshot("apart", topics=[flights, landings], connection=broker, home=tmp_path / "home")
    with pytest.raises(
        MlstreamError, match=r"no record of .* has a label in .*; freeze both topics over the same time"
    ):
        train.examples(frozen, experiment)


def test_training_without_labels_of_their_own_topic_says_what_to_add(tmp_path: Path) -> None:
    file = tmp_path / "bare.yaml"
    file.write_text("experiment: bare\ninput: {topic: t}\nversions: {v1: {model: a.skops}}\n", encoding="utf-8")
    with pytest.raises(MlstreamError, match="experiment bare: training needs features and labels; add `features:`"):
        train.examples(None, load_config(file))  # type: ignore[arg-type]
