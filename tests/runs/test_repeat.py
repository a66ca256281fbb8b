"""The baseline computed again: equal bit by bit, or where it first differs; kept in the run's record."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from mlstream import Run, open_run, run
from mlstream.comparison.result import Floor
from mlstream.errors import RunError, UsageError, VersionLoadError
from mlstream.reporting.compare import choose_run
from mlstream.reporting.evidence import read_evidence
from mlstream.runs.attempt import Progress
from mlstream.runs.removing import remove_run
from mlstream.runs.repeat import differences, repeat_baseline
from mlstream.runs.run import list_runs
from tests.runs.conftest import ROWS, Shop
from tests.runs.readers import topics

MOODS = '''\
"""A model that answers one record as it likes."""

import time
from pathlib import Path

import numpy as np
import polars as pl

from shop.models import Linear


class Moody(Linear):
    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = super().predict(frame)
        found[frame["n"].to_numpy() == 100] = (time.time_ns() % 1_000_000_007) / 1_000_000_007
        return found


class Once(Linear):
    """Answers one record in its first life only."""

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        found = super().predict(frame)
        seen = Path(__file__).with_name("seen")
        if (frame["n"] == 100).any():
            if seen.exists():
                found[frame["n"].to_numpy() == 100] = np.nan
            seen.touch()
        return found
'''


@pytest.mark.broker
def test_a_baseline_that_answers_the_same_is_said_to_be_equal_and_computed_no_more_often_than_asked(
    shop: Shop,
) -> None:
    config = shop.config(
        {"v1": {"model": "shop/models.py:Linear"}, "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 2}}},
        baseline="v2",
    )
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    told: list[Progress] = []

    def again(times: int) -> Run:
        told.clear()
        return repeat_baseline(done, times=times, connection=shop.connection, progress=told.append)

    twice = again(2)
    assert {progress.version for progress in told if progress.stage == "scoring"} == {"v2 again"}
    repeat = twice.repeat
    assert repeat is not None
    assert (repeat.version, repeat.rows, repeat.differing, repeat.largest) == ("v2", ROWS, 0, 0.0)
    assert repeat.equal
    assert open_run(done.id, home=shop.home) == twice
    other = open_run(repeat.run_ids[0], home=shop.home)
    assert (other.repeats, list(other.versions), other.status) == (done.id, ["v2"], "complete")
    assert other.versions["v2"].topic != done.versions["v2"].topic

    # what is there is not computed again, and does not stand in the way of anything
    assert again(2).repeat == repeat
    assert {progress.stage for progress in told} == {"decoding"}
    assert [found.id for found in list_runs(shop.home)] == [done.id]
    assert open_run(home=shop.home).id == choose_run(None, home=shop.home, allow_missing=False).id == done.id
    alone = run(config, snapshot=shop.snapshot, versions=["v2"], connection=shop.connection, home=shop.home)
    assert alone.versions["v2"].reused == done.id
    remove_run(alone, connection=shop.connection)

    thrice = again(3).repeat
    assert thrice is not None
    assert len(thrice.run_ids) == 2
    assert repeat.run_ids[0] in thrice.run_ids
    written = {str(found.topic) for each in list_runs(shop.home, repeats=True) for found in each.versions.values()}
    assert len(written) == 4
    removed = remove_run(done, connection=shop.connection)
    assert {each.run_id for each in removed} == {done.id, *thrice.run_ids}
    assert list_runs(shop.home, repeats=True) == []
    assert written.isdisjoint(topics(shop.connection))


@pytest.mark.broker
def test_a_baseline_that_answers_otherwise_is_shown_with_the_first_record_where_it_does(shop: Shop) -> None:
    (shop.root / "shop" / "moods.py").write_text(MOODS)
    config = shop.config({"v1": {"model": "shop/moods.py:Moody"}})
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    repeat = repeat_baseline(done, connection=shop.connection).repeat
    assert repeat is not None
    assert not repeat.equal
    assert repeat.differing == 1
    assert repeat.difference is not None
    records = done.snapshot.scan(shop.topic, decode=config.input.decode).filter(pl.col("n") == 100).collect()
    assert (repeat.difference.partition, repeat.difference.offset) == records.select("_partition", "_offset").row(0)
    scores = [
        open_run(run_id, home=shop.home)
        .predictions("v1")
        .filter(pl.col("source_partition") == repeat.difference.partition)
        .filter(pl.col("source_offset") == repeat.difference.offset)
        .collect()["score"][0]
        for run_id in (done.id, repeat.run_ids[0])
    ]
    assert repeat.largest == abs(scores[0] - scores[1])
    if repeat.difference.column == "score":  # else the decision changed, too, and comes first
        assert [repeat.difference.first, repeat.difference.second] == scores

    # a comparison is told of it, and of what was answered instead
    evidence = read_evidence(open_run(done.id, home=shop.home))
    assert evidence.floor == Floor("v1", 2, ROWS, 1, repeat.largest)
    again = open_run(repeat.run_ids[0], home=shop.home).predictions("v1").collect()["score"]
    assert [frame["score"].to_list() for frame in evidence.repeats] == [again.to_list()]

    (shop.root / "shop" / "moods.py").write_text(MOODS.replace("100", "101"))
    with pytest.raises(VersionLoadError, match=r"version v1 .* changed after run .*; run the experiment again"):
        repeat_baseline(done, times=3, connection=shop.connection)
    with pytest.raises(UsageError, match=r"1 computations cannot be compared; ask for 2 or more"):
        repeat_baseline(done, times=1, connection=shop.connection)


@pytest.mark.broker
def test_a_record_that_only_one_computation_refuses_is_a_difference(shop: Shop) -> None:
    (shop.root / "shop" / "moods.py").write_text(MOODS)
    config = shop.config({"v1": {"model": "shop/moods.py:Once", "on_error": "errors"}})
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    repeat = repeat_baseline(done, connection=shop.connection).repeat
    assert repeat is not None
    assert (repeat.equal, repeat.differing, repeat.largest) == (False, 1, 0.0)
    assert repeat.difference is not None
    assert (repeat.difference.column, repeat.difference.first, repeat.difference.second) == ("refused", False, True)
    refused = open_run(repeat.run_ids[0], home=shop.home).errors("v1").collect()
    place = (repeat.difference.partition, repeat.difference.offset)
    assert refused.select("source_partition", "source_offset").rows() == [place]


@pytest.mark.broker
def test_a_baseline_that_failed_is_not_repeated(shop: Shop) -> None:
    bad = {"model": "shop/models.py:Bad", "parameters": {"how": "raise"}}
    config = shop.config({"bad": bad, "v1": {"model": "shop/models.py:Linear"}})
    done = run(config, snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    with pytest.raises(RunError, match=r"its baseline bad is not complete, so there is nothing to repeat; see `mls"):
        repeat_baseline(done, connection=shop.connection)


def predictions(**columns: list[Any]) -> pl.LazyFrame:
    rows = len(next(iter(columns.values())))
    place = {"source_partition": pl.Series([0] * rows, dtype=pl.Int32), "source_offset": list(range(10, 10 + rows))}
    return pl.LazyFrame({**place, **columns})


@pytest.mark.parametrize(
    ("columns", "changed", "rows", "largest", "first"),
    [
        ({"score": [0.5, 0.0]}, {"score": [0.5, 0.0]}, [], 0.0, None),
        ({"score": [0.5, 0.0]}, {"score": [0.5, -0.0]}, [1], 0.0, (1, "score", 0.0, -0.0)),
        ({"score": [0.1 + 0.2, 1.0]}, {"score": [0.3, 1.5]}, [0, 1], 0.5, (0, "score", 0.1 + 0.2, 0.3)),
        ({"prediction": ["a", "b"]}, {"prediction": ["a", "c"]}, [1], 0.0, (1, "prediction", "b", "c")),
        ({"prediction": [True, True]}, {"prediction": [False, True]}, [0], 0.0, (0, "prediction", True, False)),
        (
            {"scores": [[0.5, 0.5], [0.25, 0.75]]},
            {"scores": [[0.5, 0.5], [0.5, 0.5]]},
            [1],
            0.25,
            (1, "scores", [0.25, 0.75], [0.5, 0.5]),
        ),
        ({"scores": [[0.5], [1.0]]}, {"scores": [[0.5], [0.5, 0.5]]}, [1], 0.0, (1, "scores", [1.0], [0.5, 0.5])),
    ],
)
def test_predictions_are_compared_bit_by_bit(
    columns: dict[str, list[Any]],
    changed: dict[str, list[Any]],
    rows: list[int],
    largest: float,
    first: tuple[int, str, Any, Any] | None,
) -> None:
    found = differences(predictions(**columns), predictions(**changed))
    assert found.rows.nonzero()[0].tolist() == rows
    assert found.largest == pytest.approx(largest)
    assert repr(found.first) == repr(first)


def test_predictions_for_other_records_are_no_repetition() -> None:
    one = predictions(score=[0.5, 0.5])
    with pytest.raises(RunError, match=r"answered other records or other columns"):
        differences(one, one.with_columns(pl.col("source_offset") + 1))
    with pytest.raises(RunError, match=r"answered other records or other columns"):
        differences(one, predictions(prediction=[0.5, 0.5]))
