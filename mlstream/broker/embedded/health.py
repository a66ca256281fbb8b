"""How the embedded broker is. Asks processes and ports; changes nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from mlstream.broker.embedded.nodes import known_state, runs
from mlstream.broker.embedded.probe import ask_cluster_id
from mlstream.broker.embedded.settings import DATA
from mlstream.broker.embedded.state import Node, State, node_folder
from mlstream.home import Home


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: `state` is "running", "unresponsive", "died" or "stopped"."""

    node_id: int
    state: str
    pid: int | None
    address: str
    uptime_s: float | None
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Status:
    """The broker of a home: `state` is a node's worst, or "absent" when it was never started."""

    state: str
    bootstrap_servers: tuple[str, ...] = ()
    cluster_id: str | None = None
    kafka_version: str | None = None
    heap_mb: int | None = None
    profile: str | None = None
    java: str | None = None
    nodes: tuple[NodeStatus, ...] = ()

    @property
    def pid(self) -> int | None:
        """The first node's process, None when it does not run."""
        return self.nodes[0].pid if self.nodes else None

    @property
    def uptime_s(self) -> float | None:
        """Since when the first node runs, None when it does not."""
        return self.nodes[0].uptime_s if self.nodes else None

    @property
    def data_bytes(self) -> int:
        """Disk space of all nodes' data."""
        return sum(node.data_bytes for node in self.nodes)


def status(home: Home) -> Status:
    """How the broker of `home` is.

    Raises:
        BrokerError: when its state cannot be read.
    """
    state = known_state(home)
    if state is None:
        return Status("absent")
    nodes = tuple(_node_status(home, state, node) for node in state.nodes)
    kinds = [node.state for node in nodes]
    return Status(
        state=next((kind for kind in ("died", "unresponsive", "stopped") if kind in kinds), "running"),
        bootstrap_servers=state.bootstrap_servers,
        cluster_id=state.cluster_id,
        kafka_version=state.kafka_version,
        heap_mb=state.heap_mb,
        profile=state.profile,
        java=state.java,
        nodes=nodes,
    )


def _node_status(home: Home, state: State, node: Node) -> NodeStatus:
    if runs(node):
        kind = "running" if ask_cluster_id(node.port) == state.cluster_id else "unresponsive"
    else:
        kind = "stopped" if node.token is None else "died"
    alive = kind in ("running", "unresponsive")
    return NodeStatus(
        node_id=node.node_id,
        state=kind,
        pid=node.pid if alive else None,
        address=node.address,
        uptime_s=max(0.0, time.time() - node.started) if alive and node.started is not None else None,
        data_bytes=_disk_bytes(node_folder(home, node.node_id) / DATA),
    )


def _disk_bytes(folder: Path) -> int:
    """Disk space that a folder takes; Kafka's index files are sparse, so their lengths would say too much."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total
