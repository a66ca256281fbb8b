"""The client on a cluster with TLS, passwords and access lists."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import mlstream
from mlstream.broker.admin import create_topic, topic_config
from mlstream.broker.client import Client
from mlstream.broker.offsets import committed
from mlstream.broker.positions import resolve
from mlstream.broker.produce import Producer
from mlstream.errors import BrokerError, BrokerRefused, BrokerUnavailable, ConfigError
from mlstream.ranges import TopicSelection
from mlstream.streams.read import read
from tests.broker.sasl_broker import SaslBroker

pytestmark = pytest.mark.broker


def test_what_is_published_over_tls_is_read_over_tls(sasl_broker: SaslBroker, topic: str) -> None:
    connection = sasl_broker.connection()
    values = [b"%d" % row * 200 for row in range(20_000)]
    mlstream.publish(topic, pl.DataFrame({"value": values}), partitions=2, connection=connection, codec="none")
    with Client(connection) as client:
        blocks = list(read(client, resolve(client, [TopicSelection(topic)])))
    found = pa.concat_arrays([block.columns["value"] for block in blocks]).to_pylist()
    assert sorted(found) == sorted(values)
    assert sum(map(len, found)) > 15_000_000


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"sasl_plain_password": "wrong"}, BrokerRefused, r"refused the credentials: .*; check sasl_mechanism, "),
        ({"sasl_plain_username": "nobody"}, BrokerRefused, r"the broker refused the credentials"),
        ({"sasl_mechanism": "PLAIN"}, BrokerRefused, r"UNSUPPORTED_SASL_MECHANISM.*; set another sasl_mechanism"),
        ({"security_protocol": "SASL_PLAINTEXT"}, BrokerUnavailable, r"no Kafka broker answers"),
        ({"ssl_cafile": None}, BrokerUnavailable, r"its certificate is not trusted: .*; set ssl_cafile to the"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_keeps_the_client_out_is_told_at_once(
    sasl_broker: SaslBroker, changes: dict[str, str], kind: type[BrokerError], message: str
) -> None:
    started = time.monotonic()
    with pytest.raises(kind, match=message) as caught:
        Client(sasl_broker.connection(**changes), timeout_s=5.0)
    assert time.monotonic() - started < 6
    assert sasl_broker.passwords["admin"] not in str(caught.value)


def test_tls_settings_that_do_not_fit_are_an_error(sasl_broker: SaslBroker, tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"the TLS settings do not fit: .*; check ssl_cafile"):
        Client(sasl_broker.connection(ssl_cafile=str(wrong)))


def test_what_a_user_may_not_do_is_refused(sasl_broker: SaslBroker, topic: str) -> None:
    with Client(sasl_broker.connection()) as admin:
        create_topic(admin, topic, partitions=1)
    with Client(sasl_broker.connection("guest")) as guest:
        for attempt in (
            lambda: guest.topic(topic),
            lambda: create_topic(guest, f"{topic}-2", partitions=1),
            lambda: topic_config(guest, topic),
            lambda: committed(guest, "group", topic, [0]),
            lambda: Producer(guest),
        ):
            with pytest.raises(BrokerRefused, match=r"not allowed \(.*AUTHORIZATION_FAILED\); ask for the right"):
                attempt()
