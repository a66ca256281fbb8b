"""`run rm`: what goes with a run, what stays because another needs it, and what is refused."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mlstream import Connection, Run, open_run, open_snapshot, run
from mlstream.broker.admin import create_topic, delete_topic_by_id
from mlstream.broker.client import Client
from mlstream.broker.groups import delete_group
from mlstream.errors import BrokerError, RunError, UnknownRun, UnknownSnapshot
from mlstream.runs.record import alone, is_computed, write_record
from mlstream.runs.removing import remove_run
from mlstream.runs.run import list_runs
from mlstream.snapshots.protection import keep
from mlstream.snapshots.store import Store
from tests.runs.conftest import Shop
from tests.runs.readers import topics

pytestmark = pytest.mark.broker
TWO: dict[str, dict[str, Any]] = {
    "v1": {"model": "shop/models.py:Linear"},
    "v2": {"model": "shop/models.py:Linear", "parameters": {"by": 3.0}},
}


def groups(connection: Connection) -> set[str]:
    """The names of all consumer groups, as librdkafka lists them."""
    admin = AdminClient({"bootstrap.servers": connection.servers})
    return {found.group_id for found in admin.list_consumer_groups(request_timeout=10).result().valid}


def wait_until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def once(shop: Shop, versions: dict[str, dict[str, Any]], *names: str) -> Run:
    return run(
        shop.config(versions),
        snapshot=shop.snapshot,
        versions=names or None,
        connection=shop.connection,
        home=shop.home,
    )


def test_a_run_goes_with_its_topics_groups_names_logs_and_record(shop: Shop) -> None:
    done = once(shop, TWO)
    own = {str(found.topic) for found in done.versions.values()}
    ours = {f"{done.id[:12]}.v1", f"{done.id[:12]}.v2"}
    assert own <= topics(shop.connection)
    assert ours <= groups(shop.connection)
    [removed] = remove_run(done, connection=shop.connection)
    assert (set(removed.topics), set(removed.groups), set(removed.names)) == (own, ours, own)
    assert (removed.stays, removed.comparisons) == ((), ())
    assert own.isdisjoint(topics(shop.connection))
    assert ours.isdisjoint(groups(shop.connection))
    assert not done.path.exists()
    assert not done.versions["v1"].log.parent.exists()
    with pytest.raises(UnknownRun):
        open_run(done.id, home=shop.home)
    for name in own:
        with pytest.raises(UnknownSnapshot):
            open_snapshot(name, home=shop.home)
    assert open_snapshot(str(done.versions["v1"].output_id), home=shop.home).rows  # data is gc's
    assert open_snapshot(shop.snapshot, home=shop.home).rows  # the input is nobody's to remove here
    assert shop.topic in topics(shop.connection)


def test_what_another_run_has_taken_stays_until_that_one_goes_too(shop: Shop) -> None:
    first = once(shop, TWO)
    second = once(shop, TWO, "v1")
    assert second.versions["v1"].reused == first.id
    taken, other = str(first.versions["v1"].topic), str(first.versions["v2"].topic)
    [removed] = remove_run(first, connection=shop.connection)
    assert (removed.topics, removed.names) == ((other,), (other,))
    assert removed.groups == (f"{first.id[:12]}.v2",)
    assert removed.stays == (f"{taken}: run {second.id[:12]} has taken it",)
    assert taken in topics(shop.connection)
    assert second.predictions("v1").collect().height
    [removed] = remove_run(second, connection=shop.connection)
    assert (removed.topics, removed.names, removed.stays) == ((taken,), (taken,), ())
    assert removed.groups == (f"{first.id[:12]}.v1",)
    assert taken not in topics(shop.connection)


def test_a_comparison_that_refers_to_a_run_keeps_it_unless_that_is_forced(shop: Shop) -> None:
    done = once(shop, TWO, "v1")
    shop.home.comparisons.mkdir()
    record = shop.home.comparisons / f"{'c' * 64}.json"
    record.write_text(json.dumps({"run_id": done.id}))
    (shop.home.comparisons / f"{'d' * 64}.json").write_text(json.dumps({"run_id": "e" * 64}))
    with pytest.raises(RunError, match=r"comparisons refer to it: cccccccccccc; keep it, or .* --force"):
        remove_run(done, connection=shop.connection)
    assert done.path.exists()
    assert str(done.versions["v1"].topic) in topics(shop.connection)
    [removed] = remove_run(done, connection=shop.connection, force=True)
    assert removed.comparisons == ("c" * 64,)
    assert record.exists()
    assert not done.path.exists()


def test_a_topic_that_was_made_anew_and_a_name_that_stands_for_something_else_stay(shop: Shop, client: Client) -> None:
    done = once(shop, TWO)
    anew, kept = str(done.versions["v1"].topic), str(done.versions["v2"].topic)
    admin = AdminClient({"bootstrap.servers": shop.connection.servers})
    admin.delete_topics([anew])[anew].result(10)
    client.forget(anew)
    wait_until(lambda: anew not in topics(shop.connection))
    admin.create_topics([NewTopic(anew, 1, 1)])[anew].result(10)
    keep(Store(shop.home), kept, for_s=3600)
    [removed] = remove_run(done, connection=shop.connection)
    assert removed.topics == (kept,)
    assert removed.names == (anew,)
    assert removed.stays[0] == f"{anew}: the cluster has no topic of that name and id"
    assert removed.stays[1].startswith(f"snapshot {kept}: it is kept until")
    assert anew in topics(shop.connection)
    assert open_snapshot(kept, home=shop.home).rows


def test_a_run_that_is_being_computed_is_not_removed(shop: Shop) -> None:
    done = once(shop, TWO, "v1")
    assert not is_computed(shop.home, done.key)
    with alone(shop.home, done.key):
        assert is_computed(shop.home, done.key)
        with pytest.raises(RunError, match=rf"run {done.id[:12]} is being computed by another process"):
            remove_run(done, connection=shop.connection)
    assert done.path.exists()


def test_without_its_cluster_a_run_is_removed_only_when_its_topics_may_stay(shop: Shop) -> None:
    done = once(shop, TWO, "v1")
    topic = str(done.versions["v1"].topic)
    elsewhere = replace(done, cluster_id="another-cluster-0000000")
    write_record(shop.home, elsewhere.to_dict())
    with pytest.raises(RunError, match=r"its topics are on the cluster another-cluster-0000000, and .* is .*--keep-"):
        remove_run(elsewhere, connection=shop.connection)
    nobody = Connection(bootstrap_servers=("127.0.0.1:1",), settings={})
    with pytest.raises(BrokerError, match=r"`--keep-topics` removes the rest of the run"):
        remove_run(done, connection=nobody)
    assert [found.id for found in list_runs(shop.home)] == [done.id]
    [removed] = remove_run(elsewhere, connection=nobody, keep_topics=True)
    assert (removed.topics, removed.groups, removed.names) == ((), (), (topic,))
    assert removed.stays == (f"{topic}: topics are kept",)
    assert topic in topics(shop.connection)
    assert list_runs(shop.home) == []


def test_a_group_is_deleted_once_and_a_topic_by_its_id(client: Client) -> None:
    name = f"gone-{secrets.token_hex(4)}"
    assert not delete_group(client, f"group-of-{name}")
    assert not delete_topic_by_id(client, name, "A" * 22)
    made = create_topic(client, name, partitions=1)
    assert not delete_topic_by_id(client, name, "A" * 22)
    assert name in client.topics()
    assert delete_topic_by_id(client, name, made.topic_id)
    assert name not in client.topics()
    assert not delete_topic_by_id(client, name, made.topic_id)
