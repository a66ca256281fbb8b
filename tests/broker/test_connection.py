"""Which cluster is used, how its settings are checked, and that no secret is printed."""

from __future__ import annotations

import pickle
import ssl
from pathlib import Path
from typing import Any

import pytest

from mlstream.broker.connection import Connection, find_connection, read_settings
from mlstream.broker.embedded.state import Node, State, write_state
from mlstream.errors import BrokerUnavailable, ConfigError
from mlstream.home import Home

SASL = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": "ada",
    "sasl_plain_password": "sesame",
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLSTREAM_BOOTSTRAP_SERVERS", "MLSTREAM_KAFKA_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_printing_a_connection_shows_no_secret() -> None:
    connection = Connection(("a:9092",), SASL | {"ssl_password": "open", "proxy_url": "http://u:pw@p:1"})
    for shown in (repr(connection), str(connection), f"{connection}"):
        assert "ada" in shown
        assert all(secret not in shown for secret in ("sesame", "open", "pw"))
        assert "sasl_plain_password=***" in shown


def test_a_connection_travels_between_processes() -> None:
    connection = Connection(("a:9092", "b:9092"), SASL, "here")
    again = pickle.loads(pickle.dumps(connection))
    assert (again, again.source) == (connection, "here")
    assert again.settings["sasl_plain_password"] == "sesame"


@pytest.mark.parametrize(
    ("given", "servers"),
    [
        ("a:9092,b:9093", ("a:9092", "b:9093")),
        (" a , b:1 ,", ("a:9092", "b:1")),
        (("127.0.0.1:5", "[::1]:6"), ("127.0.0.1:5", "[::1]:6")),
        (["kafka.example.org"], ("kafka.example.org:9092",)),
    ],
)
def test_servers_are_host_and_port(given: Any, servers: tuple[str, ...]) -> None:
    assert Connection(given).bootstrap_servers == servers


@pytest.mark.parametrize("given", ["a:x", "a:0", "a:70000", "http://a:9092", "a b:1", ":9092", "::1", "", ",", ()])
def test_what_is_no_server_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port; write for example|no bootstrap server is named"):
        Connection(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sasl_mechansim": "PLAIN"}, r"'sasl_mechansim' is unknown; did you mean 'sasl_mechanism'\?"),
        ({"auto_offset_reset": "latest"}, r"'auto_offset_reset' is unknown; known: client_dns_lookup, client_id, "),
        ({"security_protocol": "TLS"}, r"security_protocol 'TLS'; use one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        ({"security_protocol": "SASL_SSL"}, r"SASL_SSL needs sasl_mechanism; set sasl_mechanism: SCRAM-SHA-512"),
        ({"request_timeout_ms": "soon"}, r"request_timeout_ms: 'soon' is no whole number"),
        ({"ssl_check_hostname": "maybe"}, r"ssl_check_hostname: 'maybe' is neither true nor false"),
        ({"sasl_plain_password": 123}, r"sasl_plain_password is no text; put its value in quotes"),
    ],
)
def test_a_wrong_setting_is_named_with_the_fix(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Connection(("a:1",), settings)


def test_a_wrong_secret_is_not_in_the_message() -> None:
    with pytest.raises(ConfigError) as caught:
        Connection(("a:1",), {"sasl_plain_password": 4711})
    assert "4711" not in str(caught.value)


def test_settings_get_their_types_and_nothing_means_the_default() -> None:
    connection = Connection(("a:1",), {"request_timeout_ms": "500", "ssl_check_hostname": "False", "ssl_cafile": None})
    assert connection.settings == {"request_timeout_ms": 500, "ssl_check_hostname": False}
    context = ssl.create_default_context()
    assert Connection(("a:1",), {"ssl_context": context}).settings["ssl_context"] is context


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "kafka.yaml"
    path.write_text(text)
    return path


def test_a_file_keeps_texts_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "p: #0123")
    path = settings_file(
        tmp_path,
        "bootstrap_servers: [a:9092, b:9092]\nsecurity_protocol: SASL_SSL\nsasl_mechanism: PLAIN\n"
        "sasl_plain_username: 0123\nsasl_plain_password: ${KAFKA_PASSWORD}\nrequest_timeout_ms: 700\n",
    )
    connection = find_connection(Home(tmp_path), settings_file=path)
    assert connection.bootstrap_servers == ("a:9092", "b:9092")
    assert connection.settings["sasl_plain_username"] == "0123"
    assert connection.settings["sasl_plain_password"] == "p: #0123"
    assert connection.settings["request_timeout_ms"] == 700
    assert connection.source == str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"kafka.yaml:1: not YAML"),
        ("- a", r"client settings are a mapping of keys"),
        ("sasl_plain_password: ${NOT_SET}", r"sasl_plain_password: the environment has no NOT_SET; export NOT_SET=…"),
        ("ssl_cafiel: x", r"'ssl_cafiel' \(.*kafka.yaml\) is unknown; did you mean 'ssl_cafile'\?"),
        ("client_id: x", None),
    ],
)
def test_a_wrong_file_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str | None
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    path = settings_file(tmp_path, text)
    if message is None:
        assert read_settings(path) == {"client_id": "x"}
    else:
        with pytest.raises(ConfigError, match=message):
            read_settings(path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: there is no such file; write one"):
        find_connection(Home(tmp_path), settings_file=tmp_path / "none.yaml")


def run_embedded(home: Home, *, pid: int | None = 1) -> None:
    node = Node(node_id=1, port=29092, controller_port=29093, pid=pid, started=0.0, token="t")
    write_state(home, State("cluster", "4.3.1", 512, "quick", "java", (node,)))


def test_servers_win_over_the_file_and_that_over_the_experiment_and_that_over_the_embedded_broker(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = settings_file(tmp_path, "bootstrap_servers: file:1\nclient_id: from-file\n")
    settings = {"bootstrap_servers": "experiment:1", "client_id": "from-experiment"}
    run_embedded(home)
    assert find_connection(home).bootstrap_servers == ("127.0.0.1:29092",)
    assert find_connection(home).source == "the embedded broker"
    assert find_connection(home, settings=settings).bootstrap_servers == ("experiment:1",)
    both = find_connection(home, settings_file=path, settings=settings)
    assert (both.bootstrap_servers, both.settings) == (("file:1",), {"client_id": "from-file"})
    monkeypatch.setenv("MLSTREAM_BOOTSTRAP_SERVERS", "variable:1")
    monkeypatch.setenv("MLSTREAM_KAFKA_CONFIG", str(path))
    named = find_connection(home, settings=settings)
    assert (named.bootstrap_servers, named.settings) == (("variable:1",), {"client_id": "from-file"})
    assert find_connection(home, servers="option:1").bootstrap_servers == ("option:1",)


def test_without_any_cluster_the_fix_is_named(home: Home) -> None:
    with pytest.raises(BrokerUnavailable, match=r"no Kafka cluster is configured.*mlstream broker up.*MLSTREAM_BOOT"):
        find_connection(home)


def test_an_embedded_broker_that_was_stopped_is_none(home: Home) -> None:
    run_embedded(home, pid=None)
    with pytest.raises(BrokerUnavailable, match="mlstream broker up"):
        find_connection(home)


def test_credentials_without_servers_are_not_sent_to_the_embedded_broker(home: Home) -> None:
    run_embedded(home)
    with pytest.raises(ConfigError, match="name no bootstrap_servers; add bootstrap_servers: host:port"):
        find_connection(home, settings=SASL)
    assert find_connection(home, settings={"client_id": "x"}).settings == {"client_id": "x"}
