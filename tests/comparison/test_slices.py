"""Parts of the records are compared like all of them; a planted bad slice is found, and chance finds stay rare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.comparison.conditions import cut_column, evaluate
from mlstream.comparison.result import Comparison, SliceResult
from mlstream.comparison.slice_search import benjamini_yekutieli
from mlstream.errors import ComparisonError
from tests.comparison.streams import Stream, binary, experiment

STREAM = Stream(ticks=1200, partitions=3, memory=0.4, shock=0.2)
FAST = {"resamples": 200}


def described(rng: np.random.Generator, stream: Stream = STREAM, *, edge: float = 0.0) -> Evidence:
    """Exchangeable versions over records with columns that have nothing to do with them."""
    evidence = binary(stream, rng, edge=edge)
    rows = evidence.records.height
    records = evidence.records.with_columns(
        origin=pl.Series(rng.choice(list("ABCDE"), rows)),
        hour=pl.Series(rng.integers(0, 24, rows)),
        weight=pl.Series(rng.lognormal(size=rows)),
        late=pl.Series(rng.random(rows) < 0.5),
    )
    return replace(evidence, records=records)


def spoiled(evidence: Evidence, where: pl.Series) -> Evidence:
    """v2 says the opposite of what it would say, on those records."""
    score = evidence.predictions["v2"]["score"].to_numpy()
    changed = pl.Series("score", np.where(where.to_numpy(), 1 - score, score))
    return replace(
        evidence, predictions={**evidence.predictions, "v2": evidence.predictions["v2"].with_columns(changed)}
    )


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    made = described(np.random.default_rng(5))
    return spoiled(made, (made.records["origin"] == "C") & (made.records["hour"] > 3))


@pytest.fixture(scope="module")
def found(evidence: Evidence) -> Comparison:
    slices = ["origin", "hour > 18", "origin == 'C' AND late", "weight > 1e9"]
    return compare_predictions(experiment("binary", slices=slices, bootstrap=FAST), evidence)


def of(found: Comparison, name: str, metric: str) -> SliceResult:
    (one,) = (item for item in found.slices if (item.slice, item.metric, item.kind) == (name, metric, "named"))
    return one


def test_a_slices_figures_are_those_of_its_records(found: Comparison, evidence: Evidence) -> None:
    for name, mask in (
        ("origin = 'B'", evidence.records["origin"] == "B"),
        ("hour > 18", evidence.records["hour"] > 18),
        ("origin == 'C' AND late", (evidence.records["origin"] == "C") & evidence.records["late"]),
    ):
        label = evidence.records["label"].filter(mask).to_numpy()
        for metric, twin in (("log_loss", log_loss), ("roc_auc", roc_auc_score)):
            own, base = (
                twin(label, evidence.predictions[version]["score"].filter(mask).to_numpy()) for version in ("v2", "v1")
            )
            one = of(found, name, metric)
            assert one.records == mask.sum()
            assert one.share == pytest.approx(mask.mean())
            assert one.value == pytest.approx(own, abs=1e-9)
            assert one.baseline_value == pytest.approx(base, abs=1e-9)
            assert one.delta == pytest.approx(own - base, abs=1e-9)


def test_a_column_makes_a_slice_of_each_value(found: Comparison) -> None:
    names = list(dict.fromkeys(item.slice for item in found.slices if item.kind == "named"))
    assert names == [*(f"origin = '{name}'" for name in "ABCDE"), "hour > 18", "origin == 'C' AND late", "weight > 1e9"]


def test_named_slices_get_verdicts_with_p_values_corrected_over_all_of_them(found: Comparison) -> None:
    assert of(found, "origin = 'C'", "log_loss").verdict == "worse"
    assert of(found, "origin = 'A'", "log_loss").verdict == "inconclusive"
    named = [item for item in found.slices if item.kind == "named" and item.p_value is not None]
    least = min(named, key=lambda item: item.p_value or 0)
    assert least.p_adjusted == pytest.approx(min(1, (least.p_value or 0) * len(named)))


def test_an_empty_slice_says_so(found: Comparison) -> None:
    one = of(found, "weight > 1e9", "accuracy")
    assert (one.records, one.value, one.delta, one.interval, one.verdict) == (0, None, None, None, "inconclusive")
    assert one.reason == "no labelled record is in it"


def test_a_slice_of_one_class_has_no_ranking_and_a_log_loss(evidence: Evidence) -> None:
    config = experiment("binary", slices=["label"], bootstrap=FAST)
    result = compare_predictions(config, evidence)
    assert of(result, "label", "roc_auc").reason == "every label is positive"
    assert of(result, "label", "log_loss").value is not None


def test_the_planted_slice_is_found_as_a_condition_that_can_be_written_down(found: Comparison) -> None:
    searched = [item for item in found.slices if item.kind == "searched"]
    assert searched[0].slice == "origin = 'C'"
    assert searched[0].verdict == "worse"
    assert searched[0].metric == "log_loss"
    assert searched[0].p_adjusted is not None
    assert searched[0].p_adjusted < 1e-6
    search = found.slice_search
    assert search is not None
    assert search.columns == ("origin", "hour", "weight", "late")
    assert search.tested == 5 + 24 + 5 + 2
    # As a named slice it has the same figures; its interval is wider for having been looked for.
    named = of(found, searched[0].slice, "log_loss")
    assert named.delta == searched[0].delta
    assert searched[0].interval is not None
    assert named.interval is not None
    assert searched[0].interval.confidence > named.interval.confidence


def test_versions_that_differ_in_nothing_have_bad_slices_at_the_rate_at_most() -> None:
    rng = np.random.default_rng(8)
    config = experiment("binary", metrics=["log_loss"], bootstrap=FAST)
    stream = Stream(ticks=600, partitions=2, memory=0.5, shock=0.3)
    tries = 60
    hits = 0
    for _ in range(tries):
        search = compare_predictions(config, described(rng, stream)).slice_search
        assert search is not None
        hits += search.found > 0
    # 10 % are allowed; more than 12 of 60 has probability 0.01 at that rate.
    assert hits <= 12


def test_the_search_can_be_narrowed_and_turned_off(evidence: Evidence) -> None:
    def search(**settings: object) -> Comparison:
        return compare_predictions(experiment("binary", slice_search=settings, bootstrap=FAST), evidence)

    narrow = search(columns=["hour"], metric="accuracy", show=2).slice_search
    assert narrow is not None
    assert (narrow.columns, narrow.metric) == (("hour",), "accuracy")
    assert search(columns=[]).slice_search is None
    large = search(least_records=10_000)
    assert large.slices == ()
    with pytest.raises(ComparisonError, match=r"slice_search.columns: the record has no column 'airport'; it has"):
        search(columns=["airport"])
    with pytest.raises(ComparisonError, match=r"'roc_auc' is no mean over records .*; use one of accuracy, log_loss"):
        search(metric="roc_auc")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("orign = 'C'", "slices: the record has no column 'orign'; did you mean 'origin'?"),
        ("origin =", "slices: 'origin =' is not a SQL expression"),
        ("MAX(hour) > 3", "gives 1 values for"),
        ("origin > 3", "slices: 'origin > 3' cannot be computed"),
    ],
)
def test_a_wrong_slice_is_named(evidence: Evidence, expression: str, message: str) -> None:
    with pytest.raises(ComparisonError) as caught:
        compare_predictions(experiment("binary", slices=[expression], bootstrap=FAST), evidence)
    assert message in str(caught.value)


def test_conditions_hold_for_the_records_that_they_are_true_of() -> None:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "x": pl.Series(rng.normal(size=500) * 1000),
            "at_ms": pl.Series(rng.integers(1_380_585_600_000, 1_380_585_700_000, 500)),
            "tiny": pl.Series(rng.normal(size=500) * 1e-12),
            "few": pl.Series(rng.choice([1.5, 2.0, None], 500).tolist()),
            "it's": pl.Series(rng.choice(["a'b", "c", None], 500).tolist()),
            "flag": pl.Series(rng.choice([True, False, None], 500).tolist()),
        }
    )
    for name in frame.columns:
        sql = name if name != "it's" else '"it\'s"'
        cut = cut_column(sql, frame[name])
        assert len(cut.names) >= 3
        covered = np.zeros(500, dtype=bool)
        for condition, mask in cut.masks():
            again = evaluate(condition, frame).codes == 0
            assert np.array_equal(mask, again), condition
            covered |= mask
        assert covered.all()


def test_benjamini_yekutielis_adjustment() -> None:
    # The harmonic sum of three is 11/6.
    assert benjamini_yekutieli([0.02, 0.001, 0.9]) == pytest.approx([0.02 * 3 * 11 / 12, 0.001 * 3 * 11 / 6, 1.0])
    assert benjamini_yekutieli([]) == []


def test_slices_of_classes_and_of_numbers() -> None:
    rng = np.random.default_rng(3)
    made = described(rng)
    label = rng.choice(["a", "b", "c"], made.records.height)
    records = made.records.with_columns(label=pl.Series(label))
    outputs = {
        version: made.predictions[version].select(
            "source_partition",
            "source_offset",
            prediction=pl.Series(np.where(rng.random(label.size) < share, label, "a")),
        )
        for version, share in (("v1", 0.8), ("v2", 0.5))
    }
    config = experiment("multiclass", slices=["label <> 'c'"], bootstrap=FAST)
    result = compare_predictions(config, Evidence(records, outputs))
    one = of(result, "label <> 'c'", "balanced_accuracy")
    kept = label != "c"
    said = outputs["v2"]["prediction"].to_numpy()
    twin = np.mean([(said[label == name] == name).mean() for name in ("a", "b")])
    assert one.records == kept.sum()
    assert one.value == pytest.approx(twin, abs=1e-12)
    assert one.verdict == "worse"
