"""Topics written by a registry's serializers: frozen with their schemas, and decoded when the registry is gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from mlstream.broker.connection import Connection
from mlstream.config import DecodeConfig
from mlstream.errors import DecodeError
from mlstream.home import Home
from mlstream.snapshots.capture import Frozen
from mlstream.snapshots.snapshot import Snapshot, open_snapshot
from tests.snapshots.kafka import Sent, produce
from tests.snapshots.registries import running_registry

pytestmark = pytest.mark.broker

Freeze = Callable[..., Frozen]
AVRO = DecodeConfig(format="avro")

V1: dict[str, Any] = {
    "type": "record",
    "name": "Trade",
    "namespace": "exchange",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 4}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "receivers", "type": {"type": "array", "items": "int"}},
    ],
}
DATE = {"type": "int", "logicalType": "date"}
V2: dict[str, Any] = {
    **V1,
    "fields": [
        *V1["fields"],
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None},
    ],
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running registry."""
    with running_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def registrar(registry: str) -> Iterator[SchemaRegistryClient]:
    """The independent client that registers schemas."""
    with SchemaRegistryClient({"url": registry, "timeout": 60}) as opened:
        yield opened


def serializer(registrar: SchemaRegistryClient, schema: Any) -> AvroSerializer:
    return AvroSerializer(registrar, json.dumps(schema))


def trade(n: int, **more: Any) -> dict[str, Any]:
    return {
        "symbol": f"S{n % 3}",
        "price": Decimal(n) / 4 - 10,
        "at": datetime(2013, 10, 1, tzinfo=UTC) + timedelta(microseconds=n),
        "receivers": list(range(n % 4)),
        **more,
    }


def test_a_snapshot_decodes_when_the_registry_is_gone(
    broker: Connection,
    registry: str,
    registrar: SchemaRegistryClient,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    home: Home,
    tmp_path: Path,
) -> None:
    make(2)
    context = SerializationContext(topic, MessageField.VALUE)
    old, new = serializer(registrar, V1), serializer(registrar, V2)
    produce(broker, topic, [Sent(old(trade(n), context), partition=n % 2) for n in range(300)])
    first = froze("first", topic, registry=registry).snapshot
    days = [Sent(new(trade(n, day=date(2013, 10, n % 9 + 1)), context), partition=n % 2) for n in range(300, 400)]
    produce(broker, topic, days)
    second = froze("second", topic, registry=registry).snapshot
    bare = froze("bare", topic).snapshot
    assert [len(each.streams[0].schemas) for each in (first, second, bare)] == [1, 2, 0]
    assert [json.loads(schema.text)["name"] for schema in second.streams[0].schemas] == ["Trade", "Trade"]
    # The registry takes no part in what follows: only the store is read.
    for snapshot, rows, names in ((first, 300, ["symbol", "price", "at", "receivers"]), (second, 400, None)):
        frame = open_snapshot(snapshot.id, home=home).scan(topic, AVRO).collect().sort("at")
        assert frame["price"].to_list() == [trade(n)["price"] for n in range(rows)]
        assert frame["at"].to_list() == [trade(n)["at"] for n in range(rows)]
        assert frame["receivers"].to_list() == [trade(n)["receivers"] for n in range(rows)]
        assert frame.schema["price"] == pl.Decimal(12, 4)
        assert frame.columns[4:] == (names if names is not None else [*names_of(first), "day"])
    assert frame["day"].to_list() == [None] * 300 + [date(2013, 10, n % 9 + 1) for n in range(300, 400)]
    with pytest.raises(DecodeError, match="the snapshot holds no schemas for it; freeze it with --schema-registry"):
        bare.scan(topic, AVRO)


def test_reused_records_keep_their_schemas_and_the_same_content_has_the_same_id(
    broker: Connection,
    registry: str,
    registrar: SchemaRegistryClient,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
    tmp_path: Path,
) -> None:
    make()
    context = SerializationContext(topic, MessageField.VALUE)
    send = serializer(registrar, V1)
    produce(broker, topic, [Sent(send(trade(n), context)) for n in range(100)])
    first = froze("first", topic, registry=registry)
    again = froze("again", topic, registry=registry)
    assert (again.fetched, again.snapshot.id) == (0, first.snapshot.id)
    elsewhere = froze("elsewhere", topic, registry=registry, at=Home(tmp_path / "elsewhere"))
    assert (elsewhere.fetched, elsewhere.snapshot.id) == (100, first.snapshot.id)


def test_schemas_that_others_refer_to_come_along(
    broker: Connection,
    registry: str,
    registrar: SchemaRegistryClient,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
) -> None:
    make()
    leg = {"type": "record", "name": "Leg", "namespace": "x", "fields": [{"name": "n", "type": "long"}]}
    deal = {"type": "record", "name": "Deal", "namespace": "x", "fields": [{"name": "leg", "type": "x.Leg"}]}
    registrar.register_schema(f"{topic}-leg", Schema(json.dumps(leg), "AVRO"))
    references = [SchemaReference("x.Leg", f"{topic}-leg", 1)]
    send = AvroSerializer(registrar, Schema(json.dumps(deal), "AVRO", references))
    context = SerializationContext(topic, MessageField.VALUE)
    produce(broker, topic, [Sent(send({"leg": {"n": n}}, context)) for n in range(20)])
    snapshot = froze("deals", topic, registry=registry).snapshot
    assert [reference.name for reference in snapshot.streams[0].schemas[0].references] == ["x.Leg"]
    assert snapshot.scan(topic, AVRO).collect()["leg"].to_list() == [{"n": n} for n in range(20)]


def test_json_schema_values_are_typed_columns(
    broker: Connection,
    registry: str,
    registrar: SchemaRegistryClient,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
) -> None:
    make()
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "integer"}, "price": {"type": "number"}, "note": {"type": "string"}},
    }
    send = JSONSerializer(json.dumps(schema), registrar)
    context = SerializationContext(topic, MessageField.VALUE)
    orders = [{"id": n, "price": n / 4, **({"note": f"é{n}"} if n % 2 else {})} for n in range(50)]
    produce(broker, topic, [Sent(send(order, context)) for order in orders])
    snapshot = froze("orders", topic, registry=registry).snapshot
    frame = snapshot.scan(topic, DecodeConfig(format="json-schema")).collect()
    assert frame.select("id", "price", "note").to_dicts() == [{"note": None, **order} for order in orders]


def test_a_record_of_an_unknown_schema_does_not_stop_the_freeze_and_is_named(
    broker: Connection,
    registry: str,
    registrar: SchemaRegistryClient,
    make: Callable[..., None],
    froze: Freeze,
    topic: str,
) -> None:
    make()
    send = serializer(registrar, V1)
    context = SerializationContext(topic, MessageField.VALUE)
    produce(broker, topic, [Sent(send(trade(0), context)), Sent(b"\0\x7f\xff\xff\xff!"), Sent(None), Sent(b"plain")])
    frozen = froze("odd", topic, registry=registry)
    assert frozen.collected is not None
    assert [str(each) for each in frozen.collected.unknown] == [
        f"{topic}[0]@1 names schema 2147483647, which the registry does not know"
    ]
    decode = DecodeConfig(format="avro", on_error="dead-letter")
    assert frozen.snapshot.scan(topic, decode).collect().height == 1
    assert frozen.snapshot.dead_letters(topic, decode).collect()["reason"].to_list() == [
        "it names schema 2147483647, which the snapshot does not hold",
        "it has no value (null)",
        "it names no schema: it begins with 70 6c 61 69 6e",
    ]


def test_binary_values_that_only_happen_to_begin_with_a_zero_are_passed_over(
    broker: Connection, registry: str, make: Callable[..., None], froze: Freeze, topic: str
) -> None:
    make()
    produce(broker, topic, [Sent(b"\0" + n.to_bytes(4, "big") + b"x") for n in range(100_000, 102_000)])
    frozen = froze("binary", topic, registry=registry)
    assert frozen.collected is not None
    assert (frozen.collected.passed_over, frozen.collected.unknown) == ((topic,), ())
    assert frozen.snapshot.streams[0].schemas == ()


def names_of(snapshot: Snapshot) -> list[str]:
    return [name for name, _ in snapshot.view(snapshot.topics[0], AVRO).columns]
