"""Topics as the cluster knows them, and clusters that cannot be reached."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from kafka.protocol.metadata import MetadataResponse

from mlstream.broker.admin import create_topic, delete_topic
from mlstream.broker.client import Client
from mlstream.broker.connection import Connection
from mlstream.broker.offsets import bounds
from mlstream.errors import BrokerUnavailable, ConfigError, UnknownPartition, UnknownTopic
from tests.broker.topics import make
from tests.proxy import FaultProxy


@pytest.mark.broker
def test_a_topic_has_an_id_that_is_new_when_it_is_made_anew(client: Client, topic: str) -> None:
    make(client, topic, 3)
    first = client.topic(topic)
    assert (first.name, first.partitions) == (topic, (0, 1, 2))
    assert len(first.topic_id) == 22
    assert topic in client.topics()
    delete_topic(client, topic)
    assert topic not in client.topics()
    make(client, topic, 3)
    assert client.topic(topic).topic_id != first.topic_id


@pytest.mark.broker
def test_the_cluster_and_its_brokers_are_known(client: Client) -> None:
    assert len(client.cluster_id) > 10
    assert len(client.brokers) >= 1
    assert not any(name.startswith("__") for name in client.topics())


@pytest.mark.broker
def test_an_unknown_topic_is_named_with_what_is_near(client: Client, topic: str) -> None:
    make(client, topic)
    with pytest.raises(UnknownTopic, match=rf"there is no topic '{topic}x' on .*; did you mean '{topic}'\?") as caught:
        client.topic(f"{topic}x")
    assert caught.value.topic == f"{topic}x"
    assert f"{topic}x" not in client.topics()


@pytest.mark.broker
def test_an_unknown_partition_is_named_with_those_that_are_there(client: Client, topic: str) -> None:
    make(client, topic, 2)
    with pytest.raises(UnknownPartition, match=rf"topic {topic} has no partition 2; it has 0 to 1"):
        bounds(client, topic, [0, 2])


def refused_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def chatty_port() -> Iterator[int]:
    """A port that answers, but not as Kafka does."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                taken, _ = server.accept()
            except OSError:
                return
            with taken:
                taken.recv(1000)
                taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


def test_a_broker_that_is_not_there_is_an_error_with_the_fix() -> None:
    port = refused_port()
    started = time.monotonic()
    with pytest.raises(
        BrokerUnavailable,
        match=rf"no Kafka broker answers: 127.0.0.1:{port}: connection refused; check the servers \(they come from "
        r"the test\), or start a local broker: mlstream broker up",
    ):
        Client(Connection((f"127.0.0.1:{port}",), {}, "the test"))
    assert time.monotonic() - started < 10


def test_a_host_that_nobody_knows_is_an_error_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"no-such-host.invalid:9092: the host's name is not known"):
        Client(Connection(("no-such-host.invalid:9092",)))
    assert time.monotonic() - started < 10


def test_a_broker_that_does_not_answer_is_an_error_in_time(silent_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=rf"127.0.0.1:{silent_port}"):
        Client(Connection((f"127.0.0.1:{silent_port}",)), timeout_s=2.0)
    assert time.monotonic() - started < 4


def test_a_port_that_is_not_kafkas_is_an_error_at_once(chatty_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"the answer is not Kafka's protocol; check the port, and secur"):
        Client(Connection((f"127.0.0.1:{chatty_port}",)))
    assert time.monotonic() - started < 3


@pytest.mark.broker
def test_one_server_that_answers_is_enough(broker: Connection) -> None:
    servers = (f"127.0.0.1:{refused_port()}", "no-such-host.invalid:1", *broker.bootstrap_servers)
    with Client(Connection(servers)) as client:
        assert client.cluster_id


@pytest.mark.broker
def test_tls_on_a_plain_port_is_an_error_with_the_fix(broker: Connection) -> None:
    with pytest.raises(BrokerUnavailable, match=r"the TLS handshake failed: .*; check the port, and security_protocol"):
        Client(Connection(broker.bootstrap_servers, {"security_protocol": "SSL"}))


@pytest.mark.broker
def test_sasl_on_a_plain_port_is_an_error_with_the_fix(broker: Connection) -> None:
    settings = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "ada",
        "sasl_plain_password": "sesame",
    }
    with pytest.raises(BrokerUnavailable, match=r"ILLEGAL_SASL_STATE.*this port does not ask for SASL") as caught:
        Client(Connection(broker.bootstrap_servers, settings))
    assert "sesame" not in str(caught.value)


def test_a_certificate_that_is_not_there_is_an_error_before_anything_is_sent() -> None:
    settings = {"security_protocol": "SSL", "ssl_cafile": "/none/ca.pem"}
    with pytest.raises(ConfigError, match=r"ssl_cafile /none/ca.pem: cannot be read: No such file"):
        Client(Connection(("127.0.0.1:1",), settings))


@pytest.mark.broker
def test_a_client_survives_broken_connections(broker: Connection, topic: str) -> None:
    with FaultProxy() as proxy, Client(proxy.through(broker)) as client:
        make(client, topic)
        for _ in range(3):
            assert proxy.drop() > 0
            assert client.topic(topic).partitions == (0,)


@pytest.mark.broker
def test_brokers_that_go_away_are_an_error_in_time(broker: Connection, topic: str) -> None:
    with FaultProxy() as proxy, Client(proxy.through(broker), timeout_s=1.5) as client:
        proxy.refuse()
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"topic .*: no answer from"):
            client.topic(topic)
        assert time.monotonic() - started < 4
        proxy.accept()
        with pytest.raises(UnknownTopic):
            client.topic(topic)


@pytest.mark.broker
def test_a_broker_that_cannot_be_reached_is_named_with_what_it_advertises(broker: Connection) -> None:
    """As when `advertised.listeners` names a host that only the brokers know."""
    port = refused_port()
    kind = MetadataResponse.MetadataResponseBroker
    hidden = MetadataResponse(
        version=12,
        throttle_time_ms=0,
        brokers=[kind(version=12, node_id=1, host="127.0.0.1", port=port, rack=None)],
        cluster_id="hidden",
        controller_id=1,
        topics=[],
    )

    with Client(broker, timeout_s=1.5) as client:

        async def learn() -> None:
            client.network.learn(hidden)

        client.network.run(learn)
        with pytest.raises(BrokerUnavailable, match=rf"broker 1, which advertises 127.0.0.1:{port}: connection ref"):
            client.topic("any")


@pytest.mark.broker
def test_several_threads_may_ask_at_once(client: Client, topic: str) -> None:
    make(client, topic, 4)
    found = []
    threads = [threading.Thread(target=lambda: found.append(bounds(client, topic))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert all(set(each) == {0, 1, 2, 3} for each in found)


@pytest.mark.broker
def test_a_client_that_is_closed_leaves_no_thread_and_no_socket(broker: Connection) -> None:
    before = set(threading.enumerate())
    with Client(broker) as client:
        assert set(threading.enumerate()) > before
        assert client.topics() is not None
    client.close()
    time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def test_nothing_is_printed_while_connections_fail() -> None:
    program = (
        "from mlstream.broker.client import Client\n"
        "from mlstream.broker.connection import Connection\n"
        "from mlstream.errors import BrokerUnavailable\n"
        f"try: Client(Connection(('127.0.0.1:{refused_port()}', 'no-such-host.invalid:1')), timeout_s=1.0)\n"
        "except BrokerUnavailable: print('unavailable')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("unavailable\n", "")


@pytest.mark.broker
def test_a_topic_is_never_made_by_asking_for_it(client: Client, topic: str) -> None:
    for ask in (client.topic, lambda name: bounds(client, name), lambda name: delete_topic(client, name)):
        with pytest.raises(UnknownTopic):
            ask(topic)
    assert topic not in client.topics()
    create_topic(client, topic, partitions=1)
    assert topic in client.topics()
