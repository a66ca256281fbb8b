"""A frozen output is checked against the input: whatever is missing, doubled or out of place is noticed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import polars as pl
import pytest

from mlstream import Connection, open_snapshot, publish
from mlstream.broker.admin import delete_topic_by_id
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection as BrokerConnection
from mlstream.config import DecodeConfig
from mlstream.errors import RunError, UsageError
from mlstream.runs.outcome import VersionOutcome
from mlstream.runs.outputs import freeze_output
from mlstream.runs.replay import run
from tests.runs.conftest import Shop
from tests.runs.readers import topics

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


def write(shop: Shop, topic: str, answers: list[tuple[int, int]], partitions: list[int]) -> None:
    values = [
        json.dumps({"source_topic": shop.topic, "source_partition": p, "source_offset": o, "prediction": True})
        for p, o in answers
    ]
    frame = pl.DataFrame({"value": values, "partition": partitions})
    publish(topic, frame, partitions=2, connection=shop.connection)


def freeze(shop: Shop, client: Client, topic: str) -> int:
    view = open_snapshot(shop.snapshot, home=shop.home).view(shop.topic, DecodeConfig(columns={"x": "float"}))
    columns = {"prediction": "bool"}
    topic_id = client.topic(topic).topic_id
    outcome = VersionOutcome("v1", "incomplete", {}, topic, topic_id, shop.home.path / "v1.log")
    return freeze_output(client, shop.home, outcome, source=shop.topic, view=view, columns=columns).rows
