"""A real Apache Kafka on this machine: a KRaft node as a background process, on loopback, its data in the home.

Names are loaded on first use: who only reads the state should not pay for what starts a broker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlstream.broker.embedded.health import NodeStatus, Status, status
    from mlstream.broker.embedded.lifecycle import Stopped, down, up
    from mlstream.broker.embedded.nodes import EmbeddedBroker
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

_HOMES = {
    "up": "lifecycle",
    "down": "lifecycle",
    "Stopped": "lifecycle",
    "EmbeddedBroker": "nodes",
    "Progress": "report",
    "read_state": "state",
    "State": "state",
    "Node": "state",
    "status": "health",
    "Status": "health",
    "NodeStatus": "health",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
