"""What happens to topics: settings that change, partitions that are added. By an independent client; no tests."""

from __future__ import annotations

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from mlstream.broker.connection import Connection

TIMEOUT_S = 30


def set_config(broker: Connection, topic: str, **config: str) -> None:
    """Change settings of a topic: `retention_ms="1"`."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(TIMEOUT_S)


def add_partitions(broker: Connection, topic: str, total: int) -> None:
    """Let a topic have so many partitions."""
    admin = AdminClient({"bootstrap.servers": broker.servers})
    for done in admin.create_partitions([NewPartitions(topic, total)]).values():
        done.result(TIMEOUT_S)
