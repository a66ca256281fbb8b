"""The proxy that breaks connections does what it is told, byte by byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.proxy import FaultProxy


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets; its `host:port`."""

    def serve(accepted: socket.socket) -> None:
        with accepted:
            while data := accepted.recv(4096):
                accepted.sendall(data)

    def accept() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(accepted,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def connect(proxy: FaultProxy, target: str) -> socket.socket:
    host, port = proxy.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    try:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = connection.recv(100)
        if answer != b"HTTP/1.1 200 OK\r\n\r\n":
            raise ConnectionRefusedError(answer)
    except BaseException:
        connection.close()
        raise
    return connection


def say(connection: socket.socket, words: bytes) -> bytes:
    """What comes back; shorter than `words` when the connection is cut."""
    connection.sendall(words)
    answer = b""
    try:
        while len(answer) < len(words) and (piece := connection.recv(4096)):
            answer += piece
    except ConnectionError:
        pass
    return answer


def test_without_faults_bytes_pass_both_ways(echo: str) -> None:
    with FaultProxy() as proxy, connect(proxy, echo) as connection:
        assert say(connection, b"hello" * 50_000) == b"hello" * 50_000
        assert proxy.accepted == 1


def test_drop_cuts_what_is_open_and_new_connections_work(echo: str) -> None:
    with FaultProxy() as proxy, connect(proxy, echo) as first:
        assert say(first, b"a") == b"a"
        assert proxy.drop() == 1
        assert first.recv(10) == b""
        with connect(proxy, echo) as second:
            assert say(second, b"b") == b"b"


def test_a_lost_answer_was_asked_for_and_never_comes_and_only_once(echo: str) -> None:
    with FaultProxy() as proxy:
        proxy.lose_answer()
        with connect(proxy, echo) as first:
            assert say(first, b"question") == b""
        with connect(proxy, echo) as second:
            assert say(second, b"question") == b"question"


def test_cut_after_ends_in_the_middle_of_an_answer(echo: str) -> None:
    with FaultProxy() as proxy, connect(proxy, echo) as connection:
        proxy.cut_after(7)
        assert say(connection, b"0123") == b"0123"
        assert say(connection, b"456789") == b"456"


def test_refuse_lets_nobody_in_until_accept(echo: str) -> None:
    with FaultProxy() as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionError):
            connect(proxy, echo)
        proxy.accept()
        with connect(proxy, echo) as connection:
            assert say(connection, b"in") == b"in"


def test_hold_keeps_bytes_back_and_release_lets_them_go(echo: str) -> None:
    with FaultProxy() as proxy, connect(proxy, echo) as connection:
        proxy.hold()
        connection.sendall(b"late")
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(10)
        proxy.release()
        connection.settimeout(10)
        assert connection.recv(10) == b"late"


def test_a_delay_makes_answers_late(echo: str) -> None:
    with FaultProxy() as proxy, connect(proxy, echo) as connection:
        proxy.delay_s = 0.15
        began = time.monotonic()
        assert say(connection, b"slow") == b"slow"
        assert time.monotonic() - began >= 0.15


def test_nothing_is_left_after_the_end(echo: str) -> None:
    with FaultProxy() as proxy:
        connection = connect(proxy, echo)
        assert say(connection, b"x") == b"x"
    assert connection.recv(10) == b""
    connection.close()
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("fault-proxy") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.01)
    with pytest.raises(ConnectionError):
        connect(proxy, echo)


def test_only_this_machine_can_be_reached() -> None:
    with FaultProxy() as proxy:
        host, port = proxy.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"CONNECT 192.0.2.1:80 HTTP/1.1\r\n\r\n")
            assert connection.recv(100) == b""
