"""A real Apache Kafka on this machine: a KRaft node as a background process, on loopback, its data in the home."""

from __future__ import annotations

from mlstream.broker.embedded.lifecycle import EmbeddedBroker, NodeStatus, Status, Stopped, down, status, up
from mlstream.broker.embedded.report import Progress
from mlstream.broker.embedded.state import Node, State, read_state

__all__ = [
    "up",
    "down",
    "status",
    "read_state",
    "EmbeddedBroker",
    "Progress",
    "Status",
    "NodeStatus",
    "Stopped",
    "State",
    "Node",
]
