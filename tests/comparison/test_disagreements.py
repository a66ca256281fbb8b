"""The records on which versions differ most, found as a plain sort finds them; the cross table counts every record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.result import Comparison
from tests.comparison.streams import Stream, binary, experiment, regression
from tests.comparison.test_metrics import compare_columns

STREAM = Stream(ticks=300, partitions=2)
FAST = {"resamples": 200}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    made = binary(STREAM, np.random.default_rng(2))
    rows = made.records.height
    return replace(
        made,
        records=made.records.with_columns(
            carrier=pl.Series([None if row % 7 == 0 else f"c{row % 3}" for row in range(rows)]),
            delay=pl.Series([float("inf") if row % 5 == 0 else row / 4 for row in range(rows)]),
            note=pl.lit("x" * 1000),
        ),
    )


@pytest.fixture(scope="module")
def found(evidence: Evidence) -> Comparison:
    return compare_predictions(experiment("binary", bootstrap=FAST), evidence)


def test_the_farthest_records_come_first_with_all_that_is_known_of_them(found: Comparison, evidence: Evidence) -> None:
    table = evidence.records.with_columns(
        own=evidence.predictions["v2"]["score"], base=evidence.predictions["v1"]["score"]
    )
    twin = (
        table.with_columns(apart=(pl.col("own") - pl.col("base")).abs())
        .sort(["apart", "_partition", "_offset"], descending=[True, False, False])
        .head(20)
    )
    assert len(found.disagreements) == 20
    for one, row in zip(found.disagreements, twin.iter_rows(named=True), strict=True):
        assert (one.version, one.baseline) == ("v2", "v1")
        assert (one.partition, one.offset, one.label) == (row["_partition"], row["_offset"], row["label"])
        assert one.timestamp_ms == row["_timestamp"].timestamp() * 1000
        assert (one.score, one.baseline_score) == (row["own"], row["base"])
        assert (one.prediction, one.baseline_prediction) == (row["own"] >= 0.5, row["base"] >= 0.5)
        assert one.distance == pytest.approx(row["apart"], abs=1e-15)
        assert one.columns["carrier"] == row["carrier"]
        assert one.columns["delay"] == (row["delay"] if np.isfinite(row["delay"]) else "inf")
        assert len(str(one.columns["note"])) == 200
        right = (one.prediction == one.label, one.baseline_prediction == one.label)
        words = {(True, True): "both", (True, False): "version", (False, True): "baseline", (False, False): "neither"}
        assert one.right == words[right]


def test_the_cross_table_counts_every_labelled_record_once(found: Comparison, evidence: Evidence) -> None:
    table = pl.DataFrame(
        {
            "label": evidence.records["label"],
            "before": evidence.predictions["v1"]["score"] >= 0.5,
            "after": evidence.predictions["v2"]["score"] >= 0.5,
        }
    )
    twin = {
        (str(label).lower(), str(before).lower(), str(after).lower()): records
        for label, before, after, records in table.group_by("label", "before", "after").len().iter_rows()
    }
    assert {(item.label, item.baseline_answer, item.answer): item.records for item in found.changes} == twin


def test_without_labels_versions_still_disagree(evidence: Evidence) -> None:
    config = experiment("binary").model_copy(update={"labels": None})
    found = compare_predictions(config, evidence)
    assert found.disagreements[0].label is None
    assert found.disagreements[0].right is None
    assert {item.label for item in found.changes} == {None}
    assert sum(item.records for item in found.changes) == evidence.records.height
    assert found.shifts[0].column == "score"
    assert (found.calibration, found.curves, found.slices, found.slice_search) == ((), (), (), None)


def test_versions_that_say_the_same_disagree_nowhere(evidence: Evidence) -> None:
    same = {"v1": evidence.predictions["v1"], "v2": evidence.predictions["v1"]}
    found = compare_predictions(experiment("binary", bootstrap=FAST), replace(evidence, predictions=same))
    assert found.disagreements == ()
    assert all(item.answer == item.baseline_answer for item in found.changes)
    assert found.shifts[0].ks == found.shifts[0].psi == 0.0


def test_numbers_are_as_far_apart_as_they_are() -> None:
    evidence = regression(STREAM, np.random.default_rng(4), factor=2.0)
    found = compare_predictions(experiment("regression", bootstrap=FAST), evidence)
    apart = (evidence.predictions["v2"]["prediction"] - evidence.predictions["v1"]["prediction"]).abs()
    assert found.disagreements[0].distance == apart.max()
    assert found.disagreements[0].score is None
    label = evidence.records["label"]
    nearer = sum(
        abs(own - truth) < abs(base - truth)
        for own, base, truth in zip(
            evidence.predictions["v2"]["prediction"], evidence.predictions["v1"]["prediction"], label, strict=True
        )
    )
    assert {(item.baseline_answer, item.answer): item.records for item in found.changes} == {
        ("farther", "nearer"): nearer,
        ("nearer", "farther"): label.len() - nearer,
    }


def test_classes_are_as_far_apart_as_their_scores_or_one() -> None:
    label = np.array(["a", "b", "c"] * 40)
    v1 = pl.DataFrame({"prediction": ["a"] * 120, "scores": [[0.6, 0.3, 0.1]] * 120})
    v2 = pl.DataFrame({"prediction": ["a"] * 119 + ["b"], "scores": [[0.6, 0.3, 0.1]] * 119 + [[0.1, 0.9, 0.0]]})
    found = compare_columns("multiclass", label, ("a", "b", "c"), v1=v1, v2=v2)
    (one,) = found.disagreements
    assert one.distance == pytest.approx(0.6)
    assert (one.prediction, one.score, one.baseline_score, one.right) == ("b", 0.9, 0.6, "neither")
    plain = compare_columns("multiclass", label, v1=v1.select("prediction"), v2=v2.select("prediction"))
    assert [item.distance for item in plain.disagreements] == [1.0]


def test_a_comparison_with_everything_in_it_survives_json(found: Comparison) -> None:
    assert Comparison.from_dict(found.to_dict()) == found
