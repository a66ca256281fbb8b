"""Loopback ports: is one free, and pick free ones."""

from __future__ import annotations

import random
import socket

from mlstream.broker.embedded.state import HOST
from mlstream.errors import BrokerError

# Below the range that systems hand out to outgoing connections, so that a remembered port stays free while the broker
# is down.
FIRST, LAST = 20_000, 29_999


def is_free(port: int) -> bool:
    """Whether a server may listen on the loopback `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of the last broker may linger in TIME_WAIT; Java's server sockets do not mind them either.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def pick_free(*, besides: frozenset[int] = frozenset()) -> int:
    """A free loopback port that is not one of `besides`.

    Raises:
        BrokerError: when hundreds of tries found none.
    """
    for _ in range(500):
        port = random.randint(FIRST, LAST)
        if port not in besides and is_free(port):
            return port
    raise BrokerError(f"no free port between {FIRST} and {LAST} on {HOST}", hint="give one with --port")
