"""Rankings by group: figures are scikit-learn's, groups stay whole, differences get verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError
from sklearn.metrics import average_precision_score, ndcg_score

from mlstream.comparison.answers import Truth
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.groups import first_times
from mlstream.comparison.ranked import mean_precision, ndcg, precision, reciprocal_rank
from mlstream.comparison.result import Comparison
from mlstream.errors import ComparisonError, LabelError
from mlstream.reporting import wording
from tests.comparison.streams import Stream, experiment

SIZE = 8


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    rng = np.random.default_rng(5)
    stream = Stream(1200, 2)
    shape = (stream.ticks, stream.partitions)
    label = rng.integers(0, 4, shape).astype(float)
    scores = {name: np.round(label + rng.normal(0, noise, shape), 1) for name, noise in (("v1", 3.0), ("v2", 1.0))}
    group = np.repeat(np.arange(stream.ticks // SIZE * 2), SIZE // 2)[: stream.ticks, None].repeat(2, axis=1)
    frame = stream.frame(label=label, search=group, **scores)
    outputs = {
        name: frame.select(
            pl.col("_partition").alias("source_partition"), pl.col("_offset").alias("source_offset"), prediction=name
        )
        for name in scores
    }
    return Evidence(frame.drop(*scores), outputs)


def compared(evidence: Evidence, **changes: object) -> Comparison:
    settings = {"ranking": {"group": "search", "k": 5}, "bootstrap": {"resamples": 200}, **changes}
    return compare_predictions(experiment("ranking", **settings), evidence)


def test_figures_are_means_over_groups_and_equal_to_scikit_learns(evidence: Evidence) -> None:
    found = compared(evidence)
    for version, frame in evidence.predictions.items():
        groups = evidence.records.with_columns(frame["prediction"]).partition_by("search")
        label = [part["label"].to_numpy() for part in groups]
        said = [part["prediction"].to_numpy() for part in groups]
        pairs = list(zip(label, said, strict=True))
        expected = np.mean([ndcg_score([own], [of], k=5) for own, of in pairs])
        assert found.metric(version, "ndcg_at_k").value == pytest.approx(expected, abs=1e-9)
        expected = np.mean([average_precision_score(own > 0, of) for own, of in pairs])
        assert found.metric(version, "map").value == pytest.approx(expected, abs=1e-9)
    assert all(delta.verdict == "better" for delta in found.deltas if delta.metric in ("ndcg_at_k", "map"))
    assert found.settings["ranking"] == {"group": "search", "k": 5}
    assert Comparison.from_dict(found.to_dict()) == found


def test_the_order_of_records_changes_no_bit(evidence: Evidence) -> None:
    order = np.random.default_rng(0).permutation(evidence.records.height)
    assert compared(replace(evidence, records=evidence.records[order])).metrics == compared(evidence).metrics


def test_small_groups_give_what_is_counted_by_hand() -> None:
    truth = Truth("ranking", np.array([0.0, 1, 0, 1, 0, 0, 2]), groups=np.array([0, 0, 0, 0, 1, 1, 2]))
    said = np.array([4.0, 3, 2, 1, 5, 5, 7])
    assert reciprocal_rank(truth, said).tolist() == [0.5, 0.0, 1.0]
    assert mean_precision(truth, said).tolist() == [0.5, 0.0, 1.0]
    assert precision(truth, said, 2).tolist() == [0.5, 0.0, 0.5]
    assert ndcg(truth, said, 4)[1:].tolist() == [0.0, 1.0]


def test_equal_answers_have_no_order_that_helps() -> None:
    truth = Truth("ranking", np.array([1.0, 0, 0, 0]), groups=np.zeros(4, np.int64))
    assert reciprocal_rank(truth, np.ones(4)).tolist() == [0.25]
    assert precision(truth, np.ones(4), 2).tolist() == [0.25]


def test_a_group_is_in_the_block_of_its_first_record_as_a_whole() -> None:
    truth = Truth("ranking", np.zeros(4), groups=np.array([0, 1, 0, 1]))
    assert first_times(truth, np.array([7, 3, 2, 9])).tolist() == [2, 3, 2, 3]


def test_disagreements_go_by_places_whatever_the_scale_and_equal_answers_share_theirs(evidence: Evidence) -> None:
    found = compared(evidence)
    v2 = evidence.predictions["v2"]
    scaled = replace(
        evidence,
        predictions={**evidence.predictions, "v2": v2.with_columns(prediction=1000 * pl.col("prediction") - 7)},
    )
    assert [(it.offset, it.distance) for it in compared(scaled).disagreements] == [
        (it.offset, it.distance) for it in found.disagreements
    ]
    constant = replace(evidence, predictions={"v1": v2.with_columns(prediction=pl.lit(1.0)), "v2": v2})
    # Of eight that are equal each has the mean place, 4.5; the first of the other is 3.5 from it.
    assert compared(constant).disagreements[0].distance == (SIZE - 1) / 2
    assert {it.right for it in found.disagreements} == {None}
    assert found.changes == ()


def test_a_ranking_without_labels_still_says_where_versions_differ(evidence: Evidence) -> None:
    found = compared(evidence, labels=None)
    assert (found.metrics, found.agreement) == ((), {})
    assert len(found.disagreements) == 20
    assert wording.headline(found) == ["v2 was not measured against v1"]
    words = evidence.predictions["v2"].with_columns(prediction=pl.lit("first"))
    with pytest.raises(ComparisonError, match="v2: predictions are strings, for example 'first'; expected numbers"):
        compared(replace(evidence, predictions={**evidence.predictions, "v2": words}), labels=None)


def test_what_a_ranking_cannot_use_is_named(evidence: Evidence) -> None:
    with pytest.raises(ComparisonError, match=r"no column 'serch'; did you mean 'search'\?"):
        compared(evidence, ranking={"group": "serch"})
    gone = evidence.records.with_columns(pl.when(pl.col("_offset") > 5).then("search").alias("search"))
    with pytest.raises(
        ComparisonError, match="search is null in 12 labelled records; the first is partition 0, offset 0"
    ):
        compared(replace(evidence, records=gone))
    with pytest.raises(LabelError, match="labels are below 0"):
        compared(evidence, labels={"value": "label - 1"})
    with pytest.raises(ValidationError, match="give both or neither"):
        experiment("ranking")
    with pytest.raises(ValidationError, match="ndcg_at_k"):
        experiment("ranking", ranking={"group": "search"}, metrics=["ndgc_at_k"])
