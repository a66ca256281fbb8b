"""Coverage: what is missing, doubled or not of the input is counted, and refused unless asked otherwise."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.result import Coverage
from mlstream.errors import ComparisonError, CoverageError, UsageError
from tests.comparison.streams import Stream, binary, experiment

CONFIG = experiment("binary", bootstrap={"resamples": 200}, metrics=["accuracy", "roc_auc"])


@pytest.fixture
def evidence() -> Evidence:
    return binary(Stream(ticks=200, partitions=2), np.random.default_rng(1))


def changed(evidence: Evidence, errors: int = 0, **outputs: pl.DataFrame) -> Evidence:
    return Evidence(evidence.records, {**evidence.predictions, **outputs}, {"v2": errors})


def test_every_record_answered_once_is_complete(evidence: Evidence) -> None:
    found = compare_predictions(CONFIG, evidence)
    assert found.coverage == (Coverage("v1", 400, 400, 0, 0, 0), Coverage("v2", 400, 400, 0, 0, 0))
    assert found.paired == 400


def test_the_order_of_predictions_does_not_matter(evidence: Evidence) -> None:
    shuffled = changed(evidence, v2=evidence.predictions["v2"].sample(fraction=1.0, shuffle=True, seed=3))
    assert compare_predictions(CONFIG, shuffled) == compare_predictions(CONFIG, evidence)


def test_missing_records_are_refused_and_counted(evidence: Evidence) -> None:
    short = changed(evidence, errors=4, v2=evidence.predictions["v2"][10:])
    with pytest.raises(CoverageError, match=r"v2: 6 missing, 4 errors of 400 records.*--allow-missing"):
        compare_predictions(CONFIG, short)


def test_allowing_missing_records_compares_those_that_all_answered(evidence: Evidence) -> None:
    short = changed(evidence, errors=4, v2=evidence.predictions["v2"][10:])
    found = compare_predictions(CONFIG, short, allow_missing=True)
    assert found.coverage[1] == Coverage("v2", 400, 390, 4, 6, 0)
    assert found.paired == 390
    assert found.labels is not None
    assert found.labels.records == 390
    whole = Evidence(evidence.records[10:], {name: frame[10:] for name, frame in evidence.predictions.items()})
    assert found.metrics == compare_predictions(CONFIG, whole).metrics


def test_doubled_records_are_refused_and_left_out_when_missing_ones_are_allowed(evidence: Evidence) -> None:
    output = evidence.predictions["v2"]
    doubled = changed(evidence, v2=pl.concat([output, output[:3]]))
    with pytest.raises(CoverageError, match="v2: 3 doubled of 400 records"):
        compare_predictions(CONFIG, doubled)
    found = compare_predictions(CONFIG, doubled, allow_missing=True)
    assert found.coverage[1] == Coverage("v2", 400, 403, 0, 0, 3)
    assert found.paired == 397


def test_predictions_for_other_records_are_an_error_even_then(evidence: Evidence) -> None:
    strange = evidence.predictions["v2"].with_columns(pl.col("source_offset") + 5)
    with pytest.raises(
        CoverageError, match="v2: 10 of its predictions are for records that the snapshot does not hold"
    ):
        compare_predictions(CONFIG, changed(evidence, v2=strange), allow_missing=True)


def test_a_record_with_a_prediction_and_an_error_is_an_error(evidence: Evidence) -> None:
    with pytest.raises(CoverageError, match="some have both"):
        compare_predictions(CONFIG, changed(evidence, errors=7, v2=evidence.predictions["v2"][5:]))
    with pytest.raises(CoverageError, match="some have both"):
        compare_predictions(CONFIG, changed(evidence, errors=1))


def test_records_without_an_event_time_belong_to_no_block(evidence: Evidence) -> None:
    timeless = evidence.records.with_columns(_timestamp=pl.when(pl.col("_offset") > 2).then(pl.col("_timestamp")))
    with pytest.raises(ComparisonError, match=r"6 records have no event time.*write records with a timestamp"):
        compare_predictions(CONFIG, Evidence(timeless, evidence.predictions))


def test_nothing_in_common_is_an_error(evidence: Evidence) -> None:
    half = {"v1": evidence.predictions["v1"][:200], "v2": evidence.predictions["v2"][200:]}
    with pytest.raises(CoverageError, match="no record was answered by every version"):
        compare_predictions(CONFIG, Evidence(evidence.records, half), allow_missing=True)


def test_an_unknown_baseline_is_a_usage_error(evidence: Evidence) -> None:
    with pytest.raises(UsageError, match=r"baseline 'v9' is not among.*choose one of v1, v2"):
        compare_predictions(CONFIG, evidence, baseline="v9")


def test_the_other_baseline_turns_the_differences_round(evidence: Evidence) -> None:
    one = compare_predictions(CONFIG, evidence).delta("v2", "accuracy")
    other = compare_predictions(CONFIG, evidence, baseline="v2").delta("v1", "accuracy")
    assert one is not None
    assert other is not None
    assert one.delta == pytest.approx(-other.delta)
    assert one.p_value == pytest.approx(other.p_value, abs=0.05)


def test_without_labels_the_agreement_is_still_told(evidence: Evidence) -> None:
    config = experiment("binary", labels=None)
    found = compare_predictions(config, evidence)
    assert (found.metrics, found.deltas, found.labels, found.blocks) == ((), (), None, None)
    scores = {name: frame["score"] for name, frame in evidence.predictions.items()}
    assert found.agreement == {"v2": pytest.approx(((scores["v1"] >= 0.5) == (scores["v2"] >= 0.5)).mean())}
