"""What is known about the embedded broker between two commands: `broker/state.json` as plain values.

The file stays when the broker is down, so that it comes up again on the same ports. Whether a process is alive is not
this module's question: see `process`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlstream.errors import BrokerError
from mlstream.home import Home

FORMAT = 1
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Node:
    """One Kafka process.

    `pid` is None when the node was stopped on purpose. `token` is a random word on the process's command line: a pid
    may be given to another process, the token cannot. `started` is the process's start in seconds since the epoch.
    """

    node_id: int
    port: int
    controller_port: int
    pid: int | None = None
    started: float | None = None
    token: str | None = None

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class State:
    """The embedded broker of one home: a list of nodes (one, for now) that are one cluster."""

    cluster_id: str
    kafka_version: str
    heap_mb: int
    profile: str
    java: str
    nodes: tuple[Node, ...]

    @property
    def bootstrap_servers(self) -> tuple[str, ...]:
        """`host:port` of every node."""
        return tuple(node.address for node in self.nodes)

    @property
    def stopped(self) -> bool:
        """Whether `down` was the last word: no node is supposed to run."""
        return all(node.pid is None for node in self.nodes)

    def with_node(self, node: Node) -> State:
        """This state with `node` in the place of the one with its id."""
        return replace(self, nodes=tuple(node if old.node_id == node.node_id else old for old in self.nodes))


def state_path(home: Home) -> Path:
    """Where the state of `home`'s broker is."""
    return home.broker / "state.json"


def node_folder(home: Home, node_id: int) -> Path:
    """The folder with a node's configuration, data and logs."""
    return home.broker / f"node-{node_id}"


def read_state(home: Home) -> State | None:
    """The state of `home`'s broker, or None when there never was one.

    Raises:
        BrokerError: when the file is not a state.
    """
    path = state_path(home)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BrokerError(f"{path}: cannot be read: {exc.strerror}", hint="check the rights on the file") from exc
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError) as exc:
        raise BrokerError(
            f"{path}: not the state of a broker ({type(exc).__name__}: {exc})",
            hint="delete the file and run `mlstream broker up`; the data stays",
            path=str(path),
        ) from exc


def write_state(home: Home, state: State) -> None:
    """Replace the state atomically."""
    path = state_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **asdict(state)}, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _parse(raw: dict[str, Any]) -> State:
    if raw.pop("format") != FORMAT:
        raise ValueError("written by another version of mlstream")
    nodes = tuple(Node(**node) for node in raw.pop("nodes"))
    if not nodes:
        raise ValueError("no nodes")
    return State(**raw, nodes=nodes)
