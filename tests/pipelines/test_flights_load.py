"""Loading: exactly the records, once, whatever happened before; nothing of somebody else's is touched."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

import mlstream
from mlstream import Connection, MlstreamError
from pipelines.flights import load

ROWS = 5_000


@pytest.fixture(scope="module")
def records(landings: pl.DataFrame) -> pl.DataFrame:
    """The first landings of the year."""
    return landings.head(ROWS)


@pytest.mark.broker
def test_a_topic_is_made_filled_and_left_alone_the_second_time(
    records: pl.DataFrame, broker: Connection, topic: str
) -> None:
    assert load.fill(topic, records, broker) == f"{topic}: published 5,000 records to 4 partitions and read them back"
    first = load.held(topic, broker)
    assert load.fill(topic, records, broker) == f"{topic}: holds these 5,000 records already; nothing to do"
    assert load.held(topic, broker).equals(first)


@pytest.mark.broker
def test_each_partition_is_in_order_of_time_and_each_key_in_one_partition(
    records: pl.DataFrame, broker: Connection, topic: str
) -> None:
    load.fill(topic, records, broker)
    found = load.held(topic, broker).sort("partition", "offset")
    assert sorted(found["partition"].unique()) == [0, 1, 2, 3]
    assert found.select((pl.col("timestamp").diff().over("partition") >= pl.duration()).all()).item()
    assert found.group_by("key").agg(pl.col("partition").n_unique())["partition"].max() == 1
    assert found.select("key", "timestamp", "value").sort("timestamp", "key").equals(records.sort("timestamp", "key"))


@pytest.mark.broker
def test_a_load_that_was_cut_off_gets_the_rest(records: pl.DataFrame, broker: Connection, topic: str) -> None:
    mlstream.publish(topic, records.head(1_800), partitions=4, connection=broker)
    assert load.fill(topic, records, broker) == f"{topic}: published 3,200 records to 4 partitions and read them back"
    assert load.fill(topic, records, broker).endswith("nothing to do")


@pytest.mark.broker
def test_an_empty_topic_is_filled(records: pl.DataFrame, broker: Connection, topic: str) -> None:
    mlstream.publish(topic, records.head(0), partitions=4, connection=broker)
    assert "published 5,000 records" in load.fill(topic, records, broker)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("others", "what"),
    [
        (lambda few: few.with_columns(value=pl.lit("{}")), "10 records that are not of this data"),
        (lambda few: few.with_columns(timestamp=pl.col("timestamp").dt.offset_by("1ms")), "10 records that are not"),
        (lambda few: pl.concat([few, few.head(3)]), "3 records twice"),
        (lambda few: few.reverse(), "its records in another order"),
    ],
    ids=["other values", "other times", "doubled", "disordered"],
)
def test_a_topic_that_holds_something_else_is_refused_and_left_as_it_is(
    others: object, what: str, records: pl.DataFrame, broker: Connection, topic: str
) -> None:
    assert callable(others)
    mlstream.publish(topic, others(records.head(10)), partitions=4, connection=broker)
    before = load.held(topic, broker)
    with pytest.raises(MlstreamError, match=what) as caught:
        load.fill(topic, records, broker)
    assert f"topic {topic} holds" in str(caught.value)
    assert "delete the topic, or load into another cluster" in str(caught.value)
    assert load.held(topic, broker).equals(before)


@pytest.mark.broker
def test_a_topic_with_another_number_of_partitions_is_refused(
    records: pl.DataFrame, broker: Connection, topic: str
) -> None:
    mlstream.publish(topic, records.head(0), partitions=3, connection=broker)
    with pytest.raises(mlstream.errors.TopicExists):
        load.fill(topic, records, broker)


def test_what_is_missing_is_told_in_the_order_of_publishing(records: pl.DataFrame) -> None:
    few = records.head(100)
    kept = sorted(random.Random(0).sample(range(100), 40))
    found = few[kept].with_columns(partition=pl.lit(0), offset=pl.int_range(40))
    rest = load.missing("t", few, found)
    assert rest.equals(few[[row for row in range(100) if row not in kept]])


def test_without_a_broker_the_script_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLSTREAM_HOME", str(tmp_path))
    monkeypatch.delenv("MLSTREAM_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("MLSTREAM_KAFKA_CONFIG", raising=False)
    assert load.main() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: no Kafka cluster is configured")
    assert "fix: start one: mlstream broker up" in printed.err
