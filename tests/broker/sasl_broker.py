"""A Kafka that lets nobody in without TLS and a password, with certificates made on the spot.

Two users, both with SCRAM-SHA-512: `admin` may do everything, `guest` may log in and do nothing (no ACL names it).
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlstream.broker.embedded import logs, process
from mlstream.broker.embedded.archive import with_archive
from mlstream.broker.embedded.jars import cache_root, find_jars
from mlstream.broker.embedded.java import find_java, jvm_flags
from mlstream.broker.embedded.nodes import Launch
from mlstream.broker.embedded.ports import pick_free
from mlstream.broker.embedded.report import silent
from mlstream.broker.embedded.settings import JVM_LOG, log4j_properties
from mlstream.broker.embedded.state import HOST
from mlstream.home import Home
from tests.guard import guarded

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

MECHANISM = "SCRAM-SHA-512"
START_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class SaslBroker:
    """A running broker and the passwords to it."""

    bootstrap_servers: tuple[str, ...]
    ca_file: Path
    passwords: dict[str, str]

    def settings(self, user: str = "admin", **changes: Any) -> dict[str, Any]:
        """kafka-python's settings for `user`; `changes` make them wrong, for tests."""
        return {
            "security_protocol": "SASL_SSL",
            "ssl_cafile": str(self.ca_file),
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": user,
            "sasl_plain_password": self.passwords[user],
        } | changes

    def connection(self, user: str = "admin", **changes: Any) -> Connection:
        """The connection of `user`."""
        from mlstream.broker.connection import Connection

        return Connection(bootstrap_servers=self.bootstrap_servers, settings=self.settings(user, **changes))


@contextmanager
def running_sasl_broker(folder: Path) -> Iterator[SaslBroker]:
    """Start such a broker in `folder`, and stop it at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    port = pick_free()
    controller = pick_free(besides=frozenset({port}))
    passwords = {name: secrets.token_urlsafe(12) for name in ("admin", "guest", "broker")}
    ca_file = _write_certificates(folder)
    (folder / "logs").mkdir()
    (folder / "log4j2.properties").write_text(log4j_properties())
    (folder / "server.properties").write_text(_properties(port, controller, passwords["broker"]))
    launch = Launch(
        Home(folder), find_java(), jvm_flags(heap_mb=384, profile="quick"), find_jars(), silent, START_TIMEOUT_S
    )
    scram = [f"--add-scram={MECHANISM}=[name={name},password={word}]" for name, word in passwords.items()]
    launch = with_archive(launch, cache_root())
    launch.format(folder, "sasl-cluster-for-tests", folder / "server.properties", extra=scram)
    token = secrets.token_hex(16)
    command = [*launch.jvm(f"-D{process.MARK}={token}"), "kafka.Kafka", "server.properties"]
    pid = process.spawn(command, folder=folder, log=folder / JVM_LOG)
    try:
        with guarded(pid, token):
            _await_start(folder, pid, token)
            yield SaslBroker((f"{HOST}:{port}",), ca_file, passwords)
            process.stop(pid, token, timeout_s=20)
    finally:
        if process.is_alive(pid, token):
            process.stop(pid, token, timeout_s=20)


def _await_start(folder: Path, pid: int, token: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    log = logs.log_path(folder)
    while not (log.exists() and "Kafka Server started" in log.read_text()):
        if not process.is_alive(pid, token) or time.monotonic() > deadline:
            raise RuntimeError("the broker with SASL_SSL did not start:\n" + "\n".join(logs.recent_lines(folder, 40)))
        time.sleep(0.05)


def _properties(port: int, controller: int, password: str) -> str:
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"SASL_SSL://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"SASL_SSL://{HOST}:{port}",
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.mechanism.inter.broker.protocol": MECHANISM,
        "sasl.enabled.mechanisms": MECHANISM,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f'{login} username="broker" password="{password}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "server.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "ca.pem",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The broker itself speaks to its controller without a name, on loopback.
        "super.users": "User:admin;User:broker;User:ANONYMOUS",
        "log.dirs": "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _write_certificates(folder: Path) -> Path:
    """A certificate authority (`ca.pem`) and the server's key and certificate for loopback (`server.pem`)."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mlstream tests")])
    authority = (
        _certificate(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))])
    server = (
        _certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kafka")]), authority_name, server_key)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    key = server_key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key + server.public_bytes(encoding) + authority.public_bytes(encoding))
    (folder / "ca.pem").write_bytes(authority.public_bytes(encoding))
    return folder / "ca.pem"


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
    )
