"""Figures over event time: those of the records of each interval, never NaN, and never too many."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss

from mlstream.comparison.compare import compare_predictions
from mlstream.comparison.result import Comparison
from mlstream.comparison.series import MAX_POINTS
from tests.comparison.streams import START_MS, Stream, binary, experiment

STREAM = Stream(ticks=900, partitions=2, memory=0.3, shock=0.2)


def found(block: str) -> tuple[Comparison, pl.DataFrame]:
    """The comparison, and its records with label and score of v2."""
    evidence = binary(STREAM, np.random.default_rng(5), edge=0.2)
    config = experiment(
        "binary",
        metrics=["log_loss", "roc_auc"],
        bootstrap={"resamples": 200, "block": block},
        slice_search={"columns": []},
    )
    place = ["_partition", "_offset"]
    scores = evidence.predictions["v2"].rename({"source_partition": "_partition", "source_offset": "_offset"})
    return compare_predictions(config, evidence), evidence.records.join(scores, on=place)


def test_each_point_is_the_figure_of_the_records_of_its_interval() -> None:
    comparison, records = found("30m")
    (series,) = (it for it in comparison.series if (it.version, it.metric) == ("v2", "log_loss"))
    assert series.length_s == 1800
    assert len(series.starts_ms) == len(series.values) == 30  # 900 minutes
    assert series.starts_ms[0] == START_MS
    third = records.filter(
        pl.col("_timestamp").dt.epoch("ms").is_between(series.starts_ms[3], series.starts_ms[4], closed="left")
    )
    assert series.values[3] == pytest.approx(log_loss(third["label"], third["score"]), abs=1e-9)


def test_there_are_never_too_many_points_and_what_is_undefined_is_none() -> None:
    comparison, _ = found("1m")
    assert {(it.version, it.metric) for it in comparison.series} == {
        (version, metric) for version in ("v1", "v2") for metric in ("log_loss", "roc_auc")
    }
    for series in comparison.series:
        assert 60 < len(series.values) <= MAX_POINTS + 1
    json.dumps(comparison.to_dict(), allow_nan=False)
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
