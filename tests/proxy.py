"""A loopback proxy between a Kafka client and its brokers that breaks connections on demand.

It speaks HTTP CONNECT, so all connections of a client go through it, those to advertised addresses too:

    with FaultProxy() as proxy:
        connection = proxy.through(broker)
        ...
        proxy.drop()              # cut all connections now
        proxy.lose_answer()       # the broker does the next thing that it is asked, nobody learns of it
        proxy.cut_after(100_000)  # cut a connection in the middle of an answer
        proxy.refuse(); proxy.accept()
        proxy.hold(); proxy.release()
        proxy.delay_s = 0.2       # each piece of an answer comes that much later
        proxy.edit = function     # answers pass through it, piece by piece
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlstream.broker.connection import Connection

PIECE = 1 << 16
MAX_LINKS = 64
PATIENCE_S = 10.0


class FaultProxy:
    """A proxy in threads of this process; everything that it opened is closed at the end of its `with`."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.edit: Callable[[bytes], bytes] | None = None
        self.accepted = 0
        self.answered_bytes = 0
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closing = threading.Event()
        self._refusing = False
        self._answer_budget: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self._port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """For kafka-python's setting `proxy_url`."""
        return f"http://127.0.0.1:{self._port}"

    def through(self, connection: Connection) -> Connection:
        """`connection`, by way of this proxy."""
        return replace(connection, settings={**connection.settings, "proxy_url": self.url})

    @property
    def open_links(self) -> int:
        """How many connections are open now."""
        with self._lock:
            return len(self._links)

    def drop(self) -> int:
        """Cut all connections; how many there were."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()
        return len(links)

    def refuse(self) -> None:
        """Cut all connections and let no new one through, as if the brokers were gone."""
        self._refusing = True
        self.drop()

    def accept(self) -> None:
        """The end of `refuse`."""
        self._refusing = False

    def hold(self) -> None:
        """Let nothing through in either direction, but keep the connections."""
        self._flowing.clear()

    def release(self) -> None:
        """The end of `hold`: what was held goes on."""
        self._flowing.set()

    def lose_answer(self) -> None:
        """Let requests through and cut the connection that gets the next answer before the client sees any of it."""
        self.cut_after(0)

    def cut_after(self, answer_bytes: int) -> None:
        """After so many more bytes of answers, cut the connection that they go to; once."""
        with self._lock:
            self._answer_budget = answer_bytes

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._flowing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        self.drop()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                inward, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing or self.open_links >= MAX_LINKS:
                inward.close()
                continue
            threading.Thread(target=self._connect, args=(inward,), name="fault-proxy-link", daemon=True).start()

    def _connect(self, inward: socket.socket) -> None:
        try:
            inward.settimeout(PATIENCE_S)
            head = b""
            while not head.endswith(b"\r\n\r\n") and len(head) < 4096:
                head += inward.recv(1)
            host, port = head.split()[1].decode().rsplit(":", 1)
            if host not in ("127.0.0.1", "localhost"):
                raise ValueError(f"{host} is not on this machine")
            outward = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
            inward.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        except (OSError, ValueError, IndexError):
            inward.close()
            return
        for end in (inward, outward):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(inward, outward)
        with self._lock:
            self._links.add(link)
            self.accepted += 1
        requests = threading.Thread(
            target=self._pump, args=(link, inward, outward, False), name="fault-proxy-requests", daemon=True
        )
        requests.start()
        self._pump(link, outward, inward, True)
        requests.join(PATIENCE_S)
        with self._lock:
            self._links.discard(link)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE):
                self._flowing.wait()
                if answers and self.edit is not None:
                    piece = self.edit(piece)
                allowed = len(piece)
                if answers:
                    if self.delay_s > 0:
                        self._closing.wait(self.delay_s)
                    allowed = self._spend(len(piece))
                sink.sendall(piece[:allowed])
                if allowed < len(piece):
                    break
        link.close()

    def _spend(self, size: int) -> int:
        """How many of `size` bytes of an answer go through."""
        with self._lock:
            budget = self._answer_budget
            if budget is None or size <= budget:
                self._answer_budget = None if budget is None else budget - size
                self.answered_bytes += size
                return size
            self._answer_budget = None
            self.answered_bytes += budget
            return budget


class _Link:
    """Two sockets that live and die together."""

    def __init__(self, inward: socket.socket, outward: socket.socket) -> None:
        self._ends = (inward, outward)

    def close(self) -> None:
        for end in self._ends:
            # Wakes the thread that waits for it; close alone would not.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
