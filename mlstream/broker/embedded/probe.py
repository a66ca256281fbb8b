"""Ask a node who it is: one Metadata request by hand, so that a question about the broker does not load a client."""

from __future__ import annotations

import socket
import struct

from mlstream.broker.embedded.state import HOST

# Metadata v2 is the first version whose answer names the cluster and that can be asked for no topics.
METADATA, VERSION, CORRELATION = 3, 2, 7
MAX_ANSWER = 1 << 20


def ask_cluster_id(port: int, *, timeout_s: float = 2.0) -> str | None:
    """The cluster id that the node on the loopback `port` answers with; None when nobody answers as Kafka does."""
    client = b"mlstream"
    body = struct.pack(f">hhih{len(client)}si", METADATA, VERSION, CORRELATION, len(client), client, 0)
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(body)) + body)
            (size,) = struct.unpack(">i", _receive(connection, 4))
            if not 4 <= size <= MAX_ANSWER:
                return None
            return _cluster_id(_receive(connection, size))
    except (OSError, struct.error, UnicodeDecodeError):
        return None


def _cluster_id(answer: bytes) -> str | None:
    correlation, brokers = struct.unpack_from(">ii", answer)
    if correlation != CORRELATION:
        return None
    at = 8
    for _ in range(brokers):
        at += 4  # node id
        _, at = _string(answer, at)  # host
        at += 4  # port
        _, at = _string(answer, at)  # rack
    return _string(answer, at)[0]


def _string(data: bytes, at: int) -> tuple[str | None, int]:
    (length,) = struct.unpack_from(">h", data, at)
    at += 2
    if length < 0:
        return None, at
    if at + length > len(data):
        raise struct.error("a string is longer than the answer")
    return data[at : at + length].decode(), at + length


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closed in the middle of an answer")
        data += part
    return bytes(data)
