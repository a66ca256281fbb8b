"""`--dry-run`: it says what the run then does, and makes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from mlstream import Connection, run
from mlstream.broker.client import Client
from mlstream.errors import BrokerError, VersionLoadError
from mlstream.runs.attempt import Attempt
from mlstream.runs.outputs import free_attempt
from mlstream.runs.prepare import prepare
from mlstream.runs.preview import Preview, preview
from mlstream.runs.record import alone
from mlstream.runs.run import list_runs
from tests.runs.conftest import ROWS, Shop, frame
from tests.runs.readers import topics

pytestmark = pytest.mark.broker
TWO: dict[str, dict[str, Any]] = {
    "v1": {"model": "shop/models.py:Linear"},
    "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 3.0}},
}


def ask(shop: Shop, models: dict[str, dict[str, Any]], **options: Any) -> Preview:
    given = {"connection": shop.connection, **options}
    return preview(shop.config(models), snapshot=shop.snapshot, home=shop.home, **given)


def own_topics(shop: Shop) -> set[str]:
    """All but Kafka's own."""
    return {name for name in topics(shop.connection) if not name.startswith("__")}


def test_it_says_what_the_run_then_does_and_makes_no_topic_and_no_record(shop: Shop) -> None:
    before = own_topics(shop)
    found = ask(shop, TWO, workers=2)
    assert own_topics(shop) == before
    assert not shop.home.runs.exists()
    assert (found.action, found.rows, found.partitions, found.workers) == ("compute", ROWS, 3, 2)
    sizes = frame()["partition"].value_counts()["count"].to_list()
    batches = sum(-(-size // 64) for size in sizes)
    assert [(each.action, each.rows, each.batches) for each in found.versions] == [("compute", ROWS, batches)] * 2
    first = run(shop.config(TWO), snapshot=shop.snapshot, connection=shop.connection, home=shop.home, versions=["v1"])

    # a version that was computed is reused, the other computed
    found = ask(shop, TWO)
    assert [(each.name, each.action, each.rows) for each in found.versions] == [
        ("v1", "reuse", 0),
        ("v2", "compute", ROWS),
    ]
    assert found.versions[0].reused == first.id
    done = run(shop.config(TWO), snapshot=shop.snapshot, connection=shop.connection, home=shop.home)
    assert (found.run_id, found.key) == (done.id, done.key)
    assert [each.topic for each in found.versions] == [outcome.topic for outcome in done.versions.values()]
    assert [each.digest for each in found.versions] == [outcome.digest for outcome in done.versions.values()]
    assert done.versions["v2"].measured is not None
    assert done.versions["v2"].measured.latency.batches == found.versions[1].batches

    # then all of it is there; no cluster is needed to know that
    nobody = Connection(bootstrap_servers=("127.0.0.1:1",), settings={})
    found = ask(shop, TWO, connection=nobody)
    assert (found.action, found.run_id) == ("reuse", done.id)
    assert [each.reused for each in found.versions] == [first.id, done.id]
    forced = ask(shop, TWO, force=True)
    assert forced.action == "compute"
    assert forced.run_id != done.id
    assert [each.rows for each in forced.versions] == [ROWS, ROWS]
    with pytest.raises(BrokerError):
        ask(shop, TWO, connection=nobody, force=True)


def test_of_a_run_that_was_cut_off_it_counts_what_is_left(shop: Shop) -> None:
    found = prepare(
        shop.config(TWO), snapshot=shop.snapshot, versions=["v1"], home=shop.home, on_decoding=lambda _rows: None
    )
    with Client(shop.connection) as client:
        attempt = free_attempt(client, found.plan, ())
        begun = Attempt(
            client, found.home, found.plan, attempt, found.source, found.view, lambda _progress: None, 1
        ).begin({})
    said = ask(shop, TWO, versions=["v1"])
    assert (said.action, said.run_id, said.computed_now) == ("resume", begun.id, False)
    assert (said.versions[0].rows, said.versions[0].topic) == (ROWS, begun.versions["v1"].topic)

    consumer = Consumer({"bootstrap.servers": shop.connection.servers, "group.id": f"{begun.id[:12]}.v1"})
    consumer.commit(offsets=[TopicPartition(str(begun.versions["v1"].topic), 0, 128)], asynchronous=False)
    consumer.close()
    said = ask(shop, TWO, versions=["v1"])
    offsets = frame().filter(partition=0).height
    assert offsets > 128
    assert said.versions[0].rows == ROWS - 128
    with alone(shop.home, begun.key):
        assert ask(shop, TWO, versions=["v1"]).computed_now
    assert [run.status for run in list_runs(shop.home)] == ["incomplete"]


def test_what_the_run_would_refuse_is_refused(shop: Shop) -> None:
    with pytest.raises(VersionLoadError, match=r"shop/nothing\.py"):
        ask(shop, {"v1": {"model": "shop/nothing.py:Linear"}})
