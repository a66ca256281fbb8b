"""A frozen output is checked against the input: whatever is missing, doubled or out of place is noticed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Literal

import polars as pl
import pytest
from confluent_kafka import Producer

from mlstream import Connection, open_snapshot, publish
from mlstream.broker.admin import create_topic, delete_topic_by_id
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection as BrokerConnection
from mlstream.config import DecodeConfig
from mlstream.errors import RunError, UsageError
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import freeze_output
from mlstream.runs.replay import run
from tests.runs.conftest import Shop
from tests.runs.readers import read_topic, topics

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def shop(make_shop: Callable[[str], Shop], broker: Connection) -> Shop:
    """A shop over a topic of two partitions with three and two records."""
    topic = f"small-{secrets.token_hex(4)}"
    rows = {"value": ["{}"] * 5, "partition": [0, 0, 0, 1, 1]}
    publish(topic, pl.DataFrame(rows), partitions=2, connection=broker)
    return make_shop(topic)


ALL = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (ALL, None),
        (ALL[:-1], r"\[1\] holds 1 predictions for 2 records; the first that is missing is for offset 1"),
        (ALL[:3], r"\[1\] holds 0 predictions for 2 records; the first that is missing is for offset 0"),
        ([*ALL, (0, 1)], r"\[0\] holds 4 predictions for 3 records"),
        ([*ALL, (0, 7)], r"\[0\] holds 4 predictions for 3 records; the first that is too much is for offset 7"),
        ([(0, 1), (0, 0), *ALL[2:]], r"\[0\] has the prediction for offset 1 where 0 is due"),
        ([(0, 0), (0, 0), *ALL[2:]], r"\[0\] has the prediction for offset 0 where 1 is due"),
    ],
    ids=["all", "one-missing", "partition-missing", "doubled", "too-much", "swapped", "doubled-for-another"],
)
def test_an_output_must_answer_each_record_once_in_order(
    shop: Shop, client: Client, topic: str, answers: list[tuple[int, int]], message: str | None
) -> None:
    write(shop, topic, answers, [partition for partition, _ in answers])
    if message is None:
        assert freeze(shop, client, topic) == 5
    else:
        with pytest.raises(RunError, match=message):
            freeze(shop, client, topic)


def test_a_prediction_in_another_partition_is_noticed(shop: Shop, client: Client, topic: str) -> None:
    write(shop, topic, ALL, [0, 0, 1, 0, 1])
    with pytest.raises(RunError, match=r"\[0\] holds 1 predictions of other partitions"):
        freeze(shop, client, topic)


def test_a_topic_that_was_made_again_is_not_ours_to_delete(client: Client, broker: Connection, topic: str) -> None:
    publish(topic, pl.DataFrame({"value": ["theirs"]}), partitions=1, connection=broker)
    delete_topic_by_id(client, topic, "another-topic-s-id")
    assert topic in topics(broker)
    delete_topic_by_id(client, topic, client.topic(topic).topic_id)
    assert topic not in topics(broker)
    delete_topic_by_id(client, topic, "gone")


def test_a_setting_that_no_other_process_can_have_is_refused(shop: Shop, broker: Connection) -> None:
    class Provider:
        def token(self) -> str:
            return ""

    connection = BrokerConnection(broker.bootstrap_servers, {"sasl_oauth_token_provider": Provider()})
    config = shop.config({"v1": {"model": "shop/models.py:Linear"}}, features=None, input={"topic": shop.topic})
    with pytest.raises(UsageError, match=r"sasl_oauth_token_provider: a Provider cannot be given to another process"):
        run(config, snapshot=shop.snapshot, connection=connection, home=shop.home)


@pytest.fixture(scope="module")
def ragged(make_shop: Callable[[str], Shop], broker: Connection) -> Shop:
    """A shop over a topic of two partitions with three and two records, of which the second ones do not decode."""
    name = f"ragged-{secrets.token_hex(4)}"
    rows = {"value": ["{}", "?", "{}", "{}", "?"], "partition": [0, 0, 0, 1, 1]}
    publish(name, pl.DataFrame(rows), partitions=2, connection=broker)
    return make_shop(name)


@pytest.mark.parametrize(
    ("predictions", "errors", "message"),
    [
        ([(0, 0), (1, 0)], [(0, 1, "?"), (0, 2, "raised"), (1, 1, "?")], None),
        ([(0, 0), (0, 2), (1, 0)], [(0, 1, "?")], r"errors\[1\] holds 0 records that did not decode, where 1 did not"),
        (
            [(0, 0), (1, 0)],
            [(0, 1, "?"), (1, 1, "?")],
            r"\[0\] holds 1 predictions for 2 records; the first .* offset 2",
        ),
        (
            [(0, 0), (0, 2), (1, 0)],
            [(0, 1, "?"), (0, 2, "raised"), (1, 1, "?")],
            r"\[0\] holds 2 predictions for 1 records; the first that is too much is for offset 2",
        ),
        (
            [(0, 0), (1, 0)],
            [(0, 2, "raised"), (0, 1, "?"), (1, 1, "?")],
            r"has the error for offset 1 after that for 2",
        ),
        ([(0, 0), (0, 2), (1, 0)], [(0, 1, "?"), (0, 1, "?"), (1, 1, "?")], r"error for offset 1 after that for 1"),
        ([(0, 0), (0, 2), (1, 0)], [(0, 1, "?"), (0, 9, "raised"), (1, 1, "?")], r"offset 9, which is no record of"),
        ([(0, 0), (0, 2), (1, 0)], [(0, 1, "raised"), (1, 1, "?")], r"errors\[0\] holds 0 records that did not decode"),
    ],
    ids=["all", "dead-missing", "in-neither", "in-both", "swapped", "doubled", "of-nothing", "of-another-kind"],
)
def test_predictions_and_errors_must_be_each_record_once_in_order(
    ragged: Shop,
    client: Client,
    topic: str,
    predictions: list[tuple[int, int]],
    errors: list[tuple[int, int, str]],
    message: str | None,
) -> None:
    write(ragged, topic, predictions, [partition for partition, _ in predictions])
    producer = Producer({"bootstrap.servers": ragged.connection.servers})
    create_topic(client, f"{topic}.errors", partitions=2)
    for partition, offset, error in errors:
        told = (ragged.topic, partition, offset, {"?": "undecodable"}.get(error, error), "made up")
        names = ("topic", "partition", "offset")
        keys = ["run", "version", *(f"source-{name}" for name in names), "error", "reason"]
        headers = [(f"mlstream-{key}", str(value)) for key, value in zip(keys, ("r", "v1", *told), strict=True)]
        producer.produce(f"{topic}.errors", value=b"?", partition=partition, headers=headers)  # type: ignore[arg-type]
    producer.flush()
    if message is None:
        assert freeze(ragged, client, topic, on_error="dead-letter") == 2
    else:
        with pytest.raises(RunError, match=message):
            freeze(ragged, client, topic, on_error="dead-letter")


def write(shop: Shop, topic: str, answers: list[tuple[int, int]], partitions: list[int]) -> None:
    values = [
        json.dumps({"source_topic": shop.topic, "source_partition": p, "source_offset": o, "prediction": True})
        for p, o in answers
    ]
    frame = pl.DataFrame({"value": values, "partition": partitions})
    publish(topic, frame, partitions=2, connection=shop.connection)


def freeze(shop: Shop, client: Client, topic: str, *, on_error: Literal["fail", "dead-letter"] = "fail") -> int:
    decode = DecodeConfig(columns={"x": "float"}, on_error=on_error)
    view = open_snapshot(shop.snapshot, home=shop.home).view(shop.topic, decode)
    columns = {"prediction": "bool"}
    topic_id = client.topic(topic).topic_id
    outcome = VersionOutcome("v1", "incomplete", {}, topic, topic_id, shop.home.path / "v1.log")
    return freeze_output(client, shop.home, outcome, source=shop.topic, view=view, columns=columns).rows


def test_a_key_that_is_larger_than_a_usual_message_comes_back_with_its_prediction(
    make_shop: Callable[[str], Shop], client: Client, topic: str
) -> None:
    create_topic(client, topic, partitions=1, config={"max.message.bytes": "3000000"})
    producer = Producer({"bootstrap.servers": client.connection.servers, "message.max.bytes": 3_000_000})
    keys = [secrets.token_bytes(size) for size in (1_400_000, 3)]
    for n, key in enumerate(keys):
        producer.produce(topic, key=key, value=json.dumps({"x": 0.5, "n": n, "s": ""}))
    producer.flush()
    large = make_shop(topic)
    config = large.config({"v1": {"model": "shop/models.py:Linear"}})
    done = run(config, snapshot=large.snapshot, connection=large.connection, home=large.home)
    done.check()
    assert [found.key for found in read_topic(large.connection, str(done.versions["v1"].topic))] == keys
