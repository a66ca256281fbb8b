"""The one module that uses what kafka-python does not promise to keep. Everything else asks `network`.

What is used beyond its public names is listed in `NON_PUBLIC`, and a contract test fails when a release moves any of
it. The reasons:

* receiving: the original reads 4 KiB at a time and copies a response five times; here a response is received into a
  buffer of its exact size, once;
* connecting: the original leaves a socket open for each address that refuses, and looks names up on its loop;
* the first contact: the original logs why a server cannot be reached and tries on; here the reasons reach the caller.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kafka import errors
from kafka.future import Future
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.protocol.parser import KafkaProtocol

from mlstream.errors import ConfigError

# Where a name is looked for → the names; `tests/broker/test_contract.py` holds them against the installed release.
NON_PUBLIC: Mapping[type, tuple[str, ...]] = {
    KafkaConnectionManager: ("_build_transport", "_do_bootstrap", "_net"),
    KafkaTCPTransport: ("_read_from_sock", "_sock", "_net", "_protocol", "_read", "_closed"),
    KafkaSSLTransport: ("_build_ssl_context",),
    KafkaProtocol: ("_process_response",),
    NetworkSelector: ("_io_thread",),
    KafkaNetSocket: ("dns_lookup", "socket", "sock_connect"),
}

MAX_FRAME_BYTES = 1 << 30
# The first answer lists the broker's API versions, a few hundred bytes. A TLS server's alert, read as a length, is
# 352 MB: so a wrong security_protocol shows at once.
MAX_FIRST_FRAME_BYTES = 1 << 20
# Then other connections and timers get their turn.
TURN_BYTES = 4 << 20
# A server that refuses at once is not starting, or not for long; no need to use up the whole time.
REFUSED_S = 2.0


class FirstContactError(errors.KafkaError):  # type: ignore[misc]
    """No bootstrap server could be used; `reasons` maps `host:port` to why."""

    def __init__(self, reasons: Mapping[str, Exception]) -> None:
        super().__init__("; ".join(f"{server}: {reason}" for server, reason in reasons.items()))
        self.reasons = dict(reasons)


class ConnectionFailedError(errors.KafkaConnectionError):  # type: ignore[misc]
    """A connection could not be made; `code` is the system's error number, None for a time-out."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class UntrustedServerError(errors.KafkaError):  # type: ignore[misc]
    """The server's certificate does not check out."""


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's connections, with the receiving half and the bootstrap of this module."""

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        sock = await self._connected_socket(node.host, node.port, timeout_at)
        if not self.ssl_enabled:
            return _PlainTransport(self._net, sock, host=node.host)
        settings = {name: value for name, value in self.config.items() if name.startswith("ssl_")}
        transport = _SecureTransport(self._net, sock, host=node.host, **settings)
        try:
            await transport.handshake()
        except ssl.SSLCertVerificationError as exc:
            transport.close()
            raise UntrustedServerError(f"its certificate is not trusted: {exc.verify_message}") from exc
        except ssl.SSLError as exc:
            transport.close()
            raise errors.KafkaProtocolError(f"the TLS handshake failed: {exc.reason or exc}") from exc
        except OSError as exc:
            transport.close()
            raise errors.KafkaConnectionError(f"the TLS handshake failed: {exc}") from exc
        return transport

    async def _connected_socket(self, host: str, port: int, timeout_at: float | None) -> socket.socket:
        """Connect to the first address of a host that can be reached, and leave no socket open for the others."""
        if self.config["proxy_url"] is not None:
            return await self._through_proxy(host, port, timeout_at)
        failure: Exception = ConnectionFailedError("the host has no address")
        for family, kind, protocol, _, address in await self._addresses(host, port):
            sock = socket.socket(family, kind, protocol)
            try:
                self._prepare(sock)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(address)
                await self._net.wait_write(sock, timeout_at=timeout_at)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return sock
                failure = ConnectionFailedError(os.strerror(code).lower(), code)
            except OSError as exc:
                failure = ConnectionFailedError((exc.strerror or str(exc)).lower(), exc.errno)
            except errors.KafkaTimeoutError:
                failure = ConnectionFailedError("no answer to the attempt to connect")
            except BaseException:
                sock.close()
                raise
            sock.close()
        raise failure

    async def _through_proxy(self, host: str, port: int, timeout_at: float | None) -> socket.socket:
        """Connect by way of a SOCKS5 or HTTP proxy."""
        proxy = KafkaNetSocket(self.config["proxy_url"])
        for family, kind, protocol, _, address in proxy.dns_lookup(host, port):
            sock: socket.socket = proxy.socket(family, kind, protocol)
            try:
                self._prepare(sock)
                await proxy.sock_connect(self._net, sock, address, timeout_at=timeout_at)
            except BaseException:
                sock.close()
                raise
            return sock
        raise ConnectionFailedError("the host's name is not known", errno.ENOENT)

    def _prepare(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        for option in self.config["socket_options"]:
            sock.setsockopt(*option)

    async def _addresses(self, host: str, port: int) -> list[Any]:
        """Look a name up in a thread: it may block for long, and the loop has other connections to serve."""
        found = Future()

        def look_up() -> None:
            addresses: list[Any] | None = None
            with contextlib.suppress(OSError):
                addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)

            def tell() -> None:
                if addresses is None:
                    found.failure(ConnectionFailedError("the host's name is not known", errno.ENOENT))
                else:
                    found.success(addresses)

            with contextlib.suppress(RuntimeError):  # closed in the meantime
                self._net.call_soon_threadsafe(tell)

        threading.Thread(target=look_up, name=f"look-up-{host}", daemon=True).start()
        addresses: list[Any] = await found
        return addresses

    async def _do_bootstrap(self, deadline: float | None) -> bool:
        """Reach one of the servers, take the brokers from it, or say of each server why it cannot be used."""
        started = time.monotonic()
        reasons: dict[str, Exception] = {}
        while not self.closed and (deadline is None or time.monotonic() < deadline):
            for broker in self.cluster.bootstrap_brokers():
                server = f"{broker.host}:{broker.port}"
                try:
                    await self._contact(broker, deadline)
                except errors.NodeNotReadyError as exc:
                    reasons.setdefault(server, exc)  # only that it is too early to try again
                except errors.KafkaError as exc:
                    reasons[server] = exc
                    if _is_final(exc):
                        raise FirstContactError(reasons) from exc
                else:
                    self.cluster.start_refresh_loop()
                    return True
            if time.monotonic() - started > REFUSED_S and all(map(_is_refused, reasons.values())):
                break
            await self._net.sleep(0.1)
        raise FirstContactError(reasons)

    async def _contact(self, broker: Any, deadline: float | None) -> None:
        timeout_ms = None if deadline is None else max(1.0, (deadline - time.monotonic()) * 1000)
        connection = self.get_connection(
            broker.node_id, timeout_ms=timeout_ms, refresh_metadata_on_err=False, reset_backoff_on_connect=False
        )
        try:
            await connection
            await self.cluster.refresh_metadata(broker.node_id)
            if not self.cluster.brokers():
                raise errors.MetadataEmptyBrokerList("it knows of no brokers")
            self.reset_backoff(broker.node_id)
        finally:
            connection.close()


class _FrameParser:
    """The sending half of kafka-python's parser, and a receiving half that takes whole responses."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self.send_request = parser.send_request
        self.send_bytes = parser.send_bytes

    def receive_bytes(self, frame: memoryview) -> list[Any]:
        """Decode one whole response, without its length."""
        return [self._parser._process_response(_Frame(frame))]


class _Frame:
    """A response as the protocol classes read it: small pieces are copied, the rest of it is a view."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int | None = None) -> bytes | memoryview:
        start = self._at
        if size is None:
            self._at = len(self._data)
            return self._data[start:]
        self._at = min(start + size, len(self._data))
        return bytes(self._data[start : self._at])

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> None:
        self._at = at


class _Receiving:
    """Receive responses straight into buffers of their exact size; mixed into kafka-python's transports."""

    _net: Any
    _sock: Any
    _protocol: Any
    _read: bool
    _closed: bool
    abort: Callable[..., None]
    last_read: float

    def _pending(self) -> bool:
        """Whether there is data that a wait for the socket would not notice."""
        return False

    async def _read_from_sock(self) -> None:
        connection = self._protocol
        connection.parser = _FrameParser(connection.parser)
        length = memoryview(bytearray(4))
        buffer, filled, limit = length, 0, MAX_FIRST_FRAME_BYTES
        while self._read and not self._closed:
            if self._pending():
                await self._net.sleep(0)
            else:
                await self._net.wait_read(self._sock)
            turn = 0
            while turn < TURN_BYTES and self._read and not self._closed:
                try:
                    count = self._sock.recv_into(buffer[filled:])
                except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    break
                except OSError as exc:
                    return self.abort(errors.KafkaConnectionError(str(exc)))
                if count == 0:
                    # Who waits for the last answer is to see it before the end: it may say why the broker hangs up.
                    await self._net.sleep(0)
                    return self.abort(errors.KafkaConnectionError("the broker closed the connection"))
                turn += count
                filled += count
                self.last_read = time.monotonic()
                if filled < len(buffer):
                    continue
                if buffer is length:
                    size = int.from_bytes(length, "big", signed=True)
                    if not 4 <= size <= limit:
                        return self.abort(errors.InvalidReceiveError("the answer is not Kafka's protocol"))
                    buffer, filled = memoryview(bytearray(size)), 0
                    continue
                frame, buffer, filled, limit = buffer, length, 0, MAX_FRAME_BYTES
                try:
                    connection.data_received(frame)
                except errors.KafkaProtocolError as exc:
                    return self.abort(exc)
                except (ValueError, IndexError, struct.error) as exc:
                    return self.abort(errors.KafkaProtocolError(f"a response does not decode: {exc}"))
        return None


class _PlainTransport(_Receiving, KafkaTCPTransport):  # type: ignore[misc]
    pass


class _SecureTransport(_Receiving, KafkaSSLTransport):  # type: ignore[misc]
    def _pending(self) -> bool:
        return self._sock is not None and self._sock.pending() > 0


def _is_final(exc: Exception) -> bool:
    """Whether trying again cannot help."""
    final = (
        errors.SaslAuthenticationFailedError,
        errors.UnsupportedSaslMechanismError,
        errors.IllegalSaslStateError,
        errors.AuthorizationError,
        errors.IncompatibleBrokerVersion,
        errors.KafkaProtocolError,
        UntrustedServerError,
    )
    return isinstance(exc, final)


def _is_refused(exc: Exception) -> bool:
    return isinstance(exc, ConnectionFailedError) and exc.code in (errno.ECONNREFUSED, errno.ENOENT)


def ssl_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS settings as a context, made once: so a missing file is an error here and not a connection that fails."""
    names = ("ssl_context", "ssl_check_hostname", "ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password")
    settings = {**KafkaSSLTransport.DEFAULT_CONFIG, **{name: options[name] for name in names if name in options}}
    settings["ssl_crlfile"] = options.get("ssl_crlfile")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"):
        if settings[name] is not None:
            try:
                with open(settings[name], "rb"):
                    pass
            except OSError as exc:
                raise ConfigError(f"{name} {settings[name]}: cannot be read: {exc.strerror}") from exc
    try:
        context: ssl.SSLContext = KafkaSSLTransport._build_ssl_context(settings)
    except (ssl.SSLError, OSError, ValueError) as exc:
        raise ConfigError(
            f"the TLS settings do not fit: {exc}", hint="check ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password"
        ) from exc
    return context


def loop_thread(loop: NetworkSelector) -> threading.Thread | None:
    """The thread that an event loop runs in, None before it was started and after it was stopped."""
    thread: threading.Thread | None = loop._io_thread
    return thread
