"""Cases of bad input that need no run: made-up columns, given to the statistics, shown as the terminal shows them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from mlstream.cli.compare_screen import screen
from mlstream.comparison.compare import Evidence, compare_predictions
from mlstream.errors import MlstreamError
from tests.comparison.streams import START_MS, Stream, binary, experiment

QUICK = {"bootstrap": {"resamples": 200}, "slice_search": {"columns": []}}


@dataclass(frozen=True)
class Answer:
    """An exit code, and all that was said."""

    exit_code: int
    text: str


def pure(evidence: Evidence, task: str = "binary", **settings: Any) -> Answer:
    """What the statistics answer, on the screen."""
    versions = {name: {"model": "a.py:f"} for name in evidence.predictions}
    config = experiment(task, **({"versions": versions} | QUICK | settings))
    try:
        found = compare_predictions(config, evidence)
    except MlstreamError as exc:
        return Answer(exc.exit_code, str(exc))
    lines = [line.plain for line in screen(found, width=80)]
    assert max(map(len, lines)) <= 80
    assert "nan" not in json.dumps(found.to_dict(), allow_nan=False).lower().split()
    return Answer(0, "\n".join(lines))


def stream(ticks: int = 800) -> Evidence:
    return binary(Stream(ticks=ticks, partitions=2, memory=0.3, shock=0.2), np.random.default_rng(1))


def columns(label: Any, **said: Any) -> Evidence:
    """Labels, and the predictions of versions for them, a record a minute."""
    n = len(label)
    records = pl.DataFrame(
        {
            "_partition": np.zeros(n, np.int32),
            "_offset": np.arange(n),
            "_timestamp": pl.Series(START_MS + 60_000 * np.arange(n)).cast(pl.Datetime("ms", "UTC")),
            "label": label,
        }
    )
    source = records.select(source_partition="_partition", source_offset="_offset")
    return Evidence(records, {name: source.with_columns(prediction=pl.Series(of)) for name, of in said.items()})


def doubled(**origin: str) -> Answer:
    labels = pl.DataFrame({"_partition": pl.Series([0, 0], dtype=pl.Int32), "_offset": [0, 1], "n": [7, 7]})
    came = pl.Series([START_MS, START_MS]).cast(pl.Datetime("ms", "UTC"))
    labels = labels.with_columns(_timestamp=came, label=pl.Series([True, False]))
    made = columns([True] * 40, v1=[True] * 40)
    records = made.records.with_columns(n=pl.int_range(40, dtype=pl.Int64))
    rule = {**origin, "on": ["n"], "value": "label", "missing": "exclude"}
    return pure(replace(made, records=records, labels=labels), labels=rule)


def timeless() -> Answer:
    made = stream()
    return pure(replace(made, records=made.records.with_columns(_timestamp=pl.lit(None, pl.Datetime("ms", "UTC")))))


def at_once() -> Answer:
    made = stream()
    return pure(replace(made, records=made.records.with_columns(pl.col("_timestamp").min())))


def refusing() -> Answer:
    made = stream()
    return pure(replace(made, predictions={**made.predictions, "v2": made.predictions["v2"][25:]}, errors={"v2": 25}))


def strange() -> Answer:
    made = stream()
    row = made.predictions["v2"].head(1).with_columns(source_offset=pl.lit(9_999, pl.Int64))
    return pure(replace(made, predictions={**made.predictions, "v2": pl.concat([made.predictions["v2"], row])}))


def ungrouped() -> Answer:
    made = columns([1.0] * 40, v1=[1.0] * 40)
    records = made.records.with_columns(session=pl.lit(None, pl.String))
    return pure(replace(made, records=records), "ranking", ranking={"group": "session"})


def many_classes() -> Answer:
    label = np.arange(2_000_000)
    return pure(columns(label, v1=label, v2=label), "multiclass")
