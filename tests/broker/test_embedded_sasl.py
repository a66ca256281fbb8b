"""The broker that asks for TLS and a password: the fixture lets the right ones in and nobody else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.broker.sasl_broker import MECHANISM, SaslBroker

pytestmark = pytest.mark.broker


def admin(broker: SaslBroker, user: str, *, password: str | None = None, ca_file: Path | None = None) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": broker.bootstrap_servers[0],
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(broker.ca_file if ca_file is None else ca_file),
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": broker.passwords[user] if password is None else password,
            "log_level": 0,
        }
    )


def test_the_administrator_may_create_a_topic_and_the_guest_may_not(sasl_broker: SaslBroker, topic: str) -> None:
    allowed, refused = admin(sasl_broker, "admin"), admin(sasl_broker, "guest")
    allowed.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    assert topic in allowed.list_topics(timeout=20).topics
    assert topic not in refused.list_topics(timeout=20).topics
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        refused.create_topics([NewTopic(f"{topic}-2", 1, 1)])[f"{topic}-2"].result(20)


def test_a_wrong_password_gets_nothing(sasl_broker: SaslBroker) -> None:
    with pytest.raises(KafkaException):
        admin(sasl_broker, "admin", password="guess").list_topics(timeout=3)


def test_without_tls_there_is_no_word_from_it(sasl_broker: SaslBroker) -> None:
    host, port = sasl_broker.bootstrap_servers[0].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\x00\x00")
        answer = plain.recv(1000)
    assert answer == b"" or answer[0] == 0x15  # closed, or a TLS alert


def test_the_settings_are_those_of_the_user_and_may_be_made_wrong(sasl_broker: SaslBroker) -> None:
    settings = sasl_broker.settings("guest", sasl_plain_password="wrong")
    assert settings["sasl_plain_username"] == "guest"
    assert settings["sasl_plain_password"] == "wrong"
    assert os.path.exists(settings["ssl_cafile"])
    connection = sasl_broker.connection()
    assert connection.bootstrap_servers == sasl_broker.bootstrap_servers
    assert sasl_broker.passwords["admin"] not in repr(connection)
