"""Intervals hold what they promise on streams that remember, where resampled rows do not; and figures repeat.

The long form of these simulations, with the table of docs/statistics.md, is `python -m tests.comparison.simulate`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mlstream.comparison.compare import Evidence, Origin, compare_predictions
from mlstream.comparison.result import Comparison
from tests.comparison.simulate import coverage, false_verdicts
from tests.comparison.streams import Stream, binary, experiment, regression

SHORT = Stream(ticks=800, partitions=4, memory=0.7, shock=0.5)


def test_intervals_cover_the_truth_where_a_bootstrap_of_rows_does_not() -> None:
    found = coverage(SHORT, replications=250, seed=11)
    # At 95 % the share of 250 replications is inside [0.92, 0.98] with probability 0.97.
    assert 0.915 <= found.blocks <= 0.985, found
    assert found.rows < 0.6, found
    assert found.told >= 0.9, found


def test_equal_versions_are_rarely_told_apart() -> None:
    found = false_verdicts(SHORT, replications=100, seed=12)
    assert found.single <= 0.085, found
    assert found.family <= 0.085, found


def test_a_real_difference_is_found() -> None:
    evidence = regression(SHORT, np.random.default_rng(5), factor=1.5)
    delta = compare_predictions(experiment("regression", metrics=["mae"]), evidence).delta("v2", "mae")
    assert delta is not None
    assert (delta.verdict, delta.reason) == ("worse", None)
    assert delta.p_value == pytest.approx(2 / 2001)


@pytest.mark.parametrize(("block", "count", "shown"), [("30m", 27, True), ("1h", 14, False)])
def test_under_thirty_blocks_there_is_no_verdict_and_under_fifteen_no_interval(
    block: str, count: int, shown: bool
) -> None:
    evidence = regression(SHORT, np.random.default_rng(5), factor=3.0)
    found = compare_predictions(experiment("regression", bootstrap={"block": block}), evidence)
    assert found.blocks is not None
    assert (found.blocks.count, found.blocks.chosen) == (count, "given")
    for delta in found.deltas:
        assert (delta.verdict, delta.p_value, delta.p_adjusted) == ("inconclusive", None, None)
        assert (delta.interval is not None) == shown
        assert delta.reason == f"{count} blocks; 30 are needed: freeze a longer range"
        assert delta.delta is not None
    assert all((result.interval is not None) == shown for result in found.metrics)


def test_blocks_without_a_positive_label_do_not_count_for_what_needs_one() -> None:
    evidence = binary(Stream(ticks=400, partitions=1, memory=0.0), np.random.default_rng(1))
    rare = evidence.records.with_columns(label=pl.int_range(pl.len()) % 37 == 0)
    config = experiment("binary", bootstrap={"block": "10m"})
    found = compare_predictions(config, Evidence(rare, evidence.predictions))
    accuracy, auc = found.delta("v2", "accuracy"), found.delta("v2", "roc_auc")
    assert accuracy is not None
    assert auc is not None
    assert accuracy.interval is not None
    assert auc.reason == "positive labels are in 11 blocks only; 30 are needed: freeze a longer range"


def test_a_version_compared_with_itself_is_equivalent() -> None:
    evidence = binary(SHORT, np.random.default_rng(2))
    twice = Evidence(evidence.records, {"v1": evidence.predictions["v1"], "v2": evidence.predictions["v1"]})
    found = compare_predictions(experiment("binary"), twice)
    assert found.agreement == {"v2": 1.0}
    for delta in found.deltas:
        assert (delta.delta, delta.p_value, delta.verdict) == (0.0, 1.0, "equivalent"), delta
    accuracy = found.delta("v2", "accuracy")
    assert accuracy is not None
    assert accuracy.independent_p == 1.0


def test_versions_that_differ_on_one_record_only_are_not_told_apart() -> None:
    evidence = binary(SHORT, np.random.default_rng(2))
    output = evidence.predictions["v1"]
    flipped = output.with_columns(
        score=pl.when(pl.int_range(pl.len()) == 7).then(1 - pl.col("score")).otherwise(pl.col("score"))
    )
    found = compare_predictions(
        experiment("binary", metrics=["accuracy"]), Evidence(evidence.records, {"v1": output, "v2": flipped})
    )
    (delta,) = found.deltas
    assert (delta.verdict, delta.interval) == ("inconclusive", None)
    assert delta.reason == "the two versions differ in fewer than two blocks"


def test_the_margin_is_what_makes_versions_equivalent() -> None:
    evidence = binary(SHORT, np.random.default_rng(3))
    wide = compare_predictions(experiment("binary", margins={"accuracy": 0.2}), evidence).delta("v2", "accuracy")
    narrow = compare_predictions(experiment("binary", margins={"accuracy": 1e-6}), evidence).delta("v2", "accuracy")
    assert wide is not None
    assert narrow is not None
    assert (wide.verdict, wide.margin) == ("equivalent", 0.2)
    assert narrow.verdict == "inconclusive"
    assert narrow.reason is not None
    assert "times the data" in narrow.reason


def test_p_values_are_corrected_over_all_versions_and_metrics() -> None:
    found = compare_predictions(experiment("binary"), binary(SHORT, np.random.default_rng(3), edge=0.05))
    pairs = sorted((delta.p_value, delta.p_adjusted) for delta in found.deltas)
    assert pairs[0][1] == pytest.approx(min(1.0, pairs[0][0] * len(pairs)))
    assert all(adjusted >= single for single, adjusted in pairs)


def test_the_same_seed_gives_the_same_comparison_and_another_seed_other_intervals() -> None:
    evidence = binary(SHORT, np.random.default_rng(3))
    first, second = (compare_predictions(experiment("binary"), evidence) for _ in range(2))
    assert first == second
    assert len(first.id) == 64
    other = compare_predictions(experiment("binary", bootstrap={"seed": 1}), evidence)
    assert other.id != first.id
    assert [delta.delta for delta in other.deltas] == [delta.delta for delta in first.deltas]
    assert [delta.interval for delta in other.deltas] != [delta.interval for delta in first.deltas]


def test_partitioning_and_order_change_no_figure() -> None:
    evidence = binary(SHORT, np.random.default_rng(3))
    total = evidence.records.height
    order = np.random.default_rng(0).permutation(total)
    place = pl.DataFrame(
        {"_partition": (np.arange(total) % 7).astype(np.int32), "_offset": np.arange(total, dtype=np.int64) // 7}
    )
    records = evidence.records[order].with_columns(place.get_columns())
    sources = place.rename({"_partition": "source_partition", "_offset": "source_offset"}).get_columns()
    outputs = {name: frame[order].with_columns(sources) for name, frame in evidence.predictions.items()}
    config = experiment("binary")
    both = [compare_predictions(config, found) for found in (Evidence(records, outputs), evidence)]
    # Where records are is another matter; what they say is the same.
    moved, kept = (replace(found, id="", disagreements=()) for found in both)
    assert moved == kept
    assert [found.distance for found in both[0].disagreements] == [found.distance for found in both[1].disagreements]


PROGRAM = """
import numpy as np
from mlstream.comparison.compare import compare_predictions
from tests.comparison.streams import Stream, binary, experiment
print(compare_predictions(experiment("binary"), binary(Stream(800, 4), np.random.default_rng(3), edge=0.1)).id)
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    ids = set()
    for threads in ("1", "3"):
        settings = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=settings | {"POLARS_MAX_THREADS": threads, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        ids.add(done.stdout.strip())
    assert len(ids) == 1


def test_a_comparison_survives_json() -> None:
    evidence = binary(SHORT, np.random.default_rng(3))
    origin = Origin(run_id="r" * 64, snapshot_id="s" * 64, snapshot_name="q4", outputs={"v1": "a", "v2": "b"})
    for config in (experiment("binary"), experiment("binary", labels=None)):
        found = compare_predictions(config, evidence, origin=origin)
        text = json.dumps(found.to_dict(), allow_nan=False)
        assert Comparison.from_dict(json.loads(text)) == found
