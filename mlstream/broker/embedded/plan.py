"""Which nodes to start, on which ports. Starts nothing."""

from __future__ import annotations

import base64
import re
import secrets
import uuid

from mlstream.broker.embedded.ports import is_free, pick_free
from mlstream.broker.embedded.settings import DATA
from mlstream.broker.embedded.state import HOST, Node, node_folder
from mlstream.errors import BrokerUnavailable, UsageError
from mlstream.home import Home


def plan_nodes(last: tuple[Node, ...], *, port: int | None) -> tuple[Node, ...]:
    """The nodes to start: those of last time, on their ports as far as they are free; one new node when there are none.

    Args:
        last: the nodes of the last start.
        port: the first node's port for clients, or None.

    Raises:
        UsageError: when `port` is none.
        BrokerUnavailable: when `port` is taken.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise UsageError(f"port {port}: not a port", hint="use one from 1024 to 65535")
    if port is not None and not is_free(port):
        raise BrokerUnavailable(
            f"port {port} on {HOST} cannot be used: another program has it, or it is not allowed",
            hint="give another one with --port, or none to have one chosen",
            port=port,
        )
    taken: set[int] = set()

    def choose(wanted: int) -> int:
        free = wanted > 0 and wanted not in taken and is_free(wanted)
        chosen = wanted if free else pick_free(besides=frozenset(taken))
        taken.add(chosen)
        return chosen

    planned = []
    for index, node in enumerate(last or (Node(node_id=1, port=0, controller_port=0),)):
        planned.append(
            Node(
                node_id=node.node_id,
                port=choose(port if port is not None and index == 0 else node.port),
                controller_port=choose(node.controller_port),
                token=secrets.token_hex(16),
            )
        )
    return tuple(planned)


def choose_cluster_id(home: Home, node_id: int) -> str:
    """The id that the node's data was formatted with (when only the state was lost), or a new one."""
    meta = node_folder(home, node_id) / DATA / "meta.properties"
    if meta.exists():
        found = re.search(r"^cluster\.id=(\S+)$", meta.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return found.group(1)
    chosen = "-"
    # As Kafka does: an id that starts with a dash would look like an option.
    while chosen.startswith("-"):
        chosen = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode("ascii")
    return chosen
