"""Freezing with a schema registry: the schemas that records name go into the manifest, and so into the id."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlstream.broker.connection import Connection
from mlstream.config import load_snapshot_config
from mlstream.errors import RegistryError
from mlstream.home import Home
from mlstream.snapshots.capture import Frozen
from mlstream.snapshots.content import SchemaContent
from mlstream.snapshots.registry import RegistryAddress
from tests.snapshots import oracle
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.making import left

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]

TEXTS = {3: '{"type": "record", "name": "A", "fields": [{"name": "n", "type": "int"}]}', 8: '"string"'}


class Answers(BaseHTTPRequestHandler):
    """What a registry answers to the question for an id."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        text = TEXTS.get(int(self.path.rpartition("/")[2]))
        answer = {"error_code": 40403, "message": "Schema not found"} if text is None else {"schema": text}
        body = json.dumps(answer).encode()
        self.send_response(404 if text is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Not on the screen."""


@pytest.fixture
def registry() -> Iterator[tuple[str, list[str]]]:
    """The URL of a registry that knows `TEXTS`, and what it was asked."""
    asked: list[str] = []
    handler = type("Handler", (Answers,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def framed(schema_id: int, body: bytes = b"body") -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + body


def test_the_schemas_that_records_name_are_in_the_snapshot(
    broker: Connection,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    registry: tuple[str, list[str]],
    tmp_path: Path,
) -> None:
    make(2)
    url, asked = registry
    values = [framed(3), framed(8), b"plain", None, b"", framed(3)]
    produce(broker, topic, [Sent(value, partition=n % 2) for n, value in enumerate(values)])
    bare = froze("bare", topic)
    found = froze("with", topic, registry=RegistryAddress(url))
    (stream,) = found.snapshot.streams
    assert stream.schemas == (SchemaContent(3, "AVRO", TEXTS[3]), SchemaContent(8, "AVRO", TEXTS[8]))
    assert bare.snapshot.streams[0].schemas == ()
    assert found.snapshot.id != bare.snapshot.id
    assert sorted(asked) == ["/schemas/ids/3", "/schemas/ids/8"]
    assert oracle.recomputed_id(found.snapshot.store.path, found.snapshot.id) == found.snapshot.id
    # What was frozen before is not fetched for it; and a freeze elsewhere, of everything, comes to the same.
    assert (found.fetched, found.reused) == (0, 6)
    anew = froze("with", topic, at=Home(tmp_path / "anew"), registry=RegistryAddress(url))
    assert (anew.snapshot.id, anew.fetched) == (found.snapshot.id, 6)


def test_an_id_that_the_registry_does_not_know_is_told_with_its_first_record(
    broker: Connection, make: Callable[..., None], cli: Callable[..., Any], topic: str, registry: tuple[str, list[str]]
) -> None:
    make()
    produce(broker, topic, [Sent(framed(8)), Sent(framed(9)), Sent(framed(9))])
    made = cli("snapshot", "create", "x", "--topic", topic, "--schema-registry", registry[0])
    assert made.exit_code == 0
    assert f"{topic}[0]@1 names schema 9, which the registry does not know" in made.stderr
    found = cli("snapshot", "create", "x", "--topic", topic, "--schema-registry", registry[0], "--json").json
    assert found["existed"] is True
    assert [unknown["id"] for unknown in found["unknown_schemas"]] == [9]
    assert [schema["id"] for schema in found["streams"][0]["schemas"]] == [8]


def test_a_configuration_names_the_registry_and_keeps_its_password_to_itself(
    broker: Connection,
    make: Callable[..., None],
    cli: Callable[..., Any],
    topic: str,
    registry: tuple[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make()
    produce(broker, topic, [Sent(framed(8))])
    text = f"snapshot:\n  topics: [{topic}]\nschema_registry: "
    for name, section in (
        ("url", registry[0]),
        ("map", f"{{url: '{registry[0]}', user: u, password: '${{PASSWORD}}'}}"),
    ):
        (tmp_path / "c.yaml").write_text(text + section + "\n")
        if name == "map":
            said = cli("snapshot", "create", name, "--config", tmp_path / "c.yaml")
            assert said.exit_code == 1
            assert "c.yaml:3: schema_registry.password: the environment has no PASSWORD" in said.stderr
            monkeypatch.setenv("PASSWORD", "Sesame-4711")
        made = cli("snapshot", "create", name, "--config", tmp_path / "c.yaml", "--json")
        assert [schema["id"] for schema in made.json["streams"][0]["schemas"]] == [8]
    assert "Sesame" not in str(load_snapshot_config(tmp_path / "c.yaml").model_dump(mode="json"))


def test_a_registry_that_does_not_answer_is_an_error_and_nothing_is_kept(
    broker: Connection, make: Callable[..., None], froze: Freeze, topic: str, home: Home
) -> None:
    make()
    produce(broker, topic, [Sent(framed(3))])
    with pytest.raises(RegistryError, match="it does not answer"):
        froze("x", topic, registry=RegistryAddress("http://127.0.0.1:1"))
    assert [path for path in left(home) if not path.startswith("index/")] == []
