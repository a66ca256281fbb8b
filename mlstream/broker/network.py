"""The connections to the brokers of one cluster, and the event loop that they live on. Knows no requests.

kafka-python runs an event loop of its own in a thread; coroutines run on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from kafka import errors
from kafka.future import Future
from kafka.net.selector import NetworkSelector

from mlstream.broker._kafka import MAX_FRAME_BYTES, ConnectionFailedError, Connections, loop_thread, ssl_context
from mlstream.errors import BrokerUnavailable

T = TypeVar("T")


class Network:
    """Connections to the brokers of one cluster, and the thread that they live on.

    `run` is for other threads; coroutines on the loop use `send`, `sleep` and `Event`.
    """

    def __init__(self, servers: Sequence[str], settings: Mapping[str, Any]) -> None:
        options: dict[str, Any] = {
            "client_id": "mlstream",
            "reconnect_backoff_max_ms": 1000,
            **settings,
            "bootstrap_servers": list(servers),
            "max_in_flight_requests_per_connection": 1 << 20,  # the callers bound what is under way
            "receive_message_max_bytes": MAX_FRAME_BYTES,
        }
        if options.get("security_protocol") in ("SSL", "SASL_SSL") and options.get("ssl_context") is None:
            options["ssl_context"] = ssl_context(options)
        self._net = NetworkSelector(client_id=options["client_id"], slow_task_threshold_secs=0)
        self._manager = Connections(self._net, **options)
        self._closed = False

    def open(self, timeout_s: float) -> None:
        """Start the thread and reach one of the servers.

        Raises:
            TimeoutError: not even an error within the time (a name server that does not answer).
            KafkaError: why no server can be used.
        """
        self._net.start()
        done = threading.Event()
        future = self._manager.bootstrap_async(timeout_ms=timeout_s * 1000)
        future.add_both(lambda _: done.set())
        if not done.wait(timeout_s + 0.5):
            raise TimeoutError(f"no answer for {timeout_s:g} s")
        if future.exception is not None:
            raise future.exception

    def close(self) -> None:
        """Close the connections and end the thread. Twice is no harm."""
        if self._closed:
            return
        self._closed = True
        self._net.call_soon_threadsafe(self._manager.close)
        thread = loop_thread(self._net)
        self._net.stop(timeout_ms=2000)
        if thread is None or not thread.is_alive():  # else it hangs in a name look-up; it is a daemon
            self._net.close()

    @property
    def cluster_id(self) -> str | None:
        """The cluster's id as the brokers tell it."""
        found: str | None = self._manager.cluster.cluster_id
        return found

    def nodes(self) -> tuple[int, ...]:
        """The ids of the brokers that are known."""
        return tuple(sorted(broker.node_id for broker in self._manager.cluster.brokers()))

    def address(self, node: int) -> str:
        """`host:port` as that broker advertises itself."""
        broker = self._manager.cluster.broker_metadata(node)
        return "an unknown address" if broker is None else f"{broker.host}:{broker.port}"

    def any_node(self) -> int | None:
        """A broker with little to do, or None when all are waiting to be tried again."""
        found: int | None = self._manager.least_loaded_node()
        return found

    def learn(self, metadata: Any) -> None:
        """Take the brokers from a MetadataResponse."""
        self._manager.cluster.update_metadata(metadata)

    def supports(self, request: type, version: int) -> bool:
        """Whether the brokers know that version of the request."""
        try:
            self._manager.broker_version_data.api_version(request, min_version=version)
        except errors.IncompatibleBrokerVersion:
            return False
        return True

    def run(self, job: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run a coroutine function on the loop and wait for its result; for other threads.

        Raises:
            BrokerUnavailable: the network is closed.
        """
        if self._closed:
            raise BrokerUnavailable("the client is closed", hint="open a new one")
        result: T = self._net.run(job, *args)
        return result

    def start(self, job: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
        """Start a coroutine function on the loop; awaiting what comes back gives its result."""
        future: Awaitable[T] = self._net.call_soon_with_future(job, *args)
        return future

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Call a function on the loop, soon; from any thread. False when the network is closed and nothing happens."""
        if not self._closed:
            with contextlib.suppress(RuntimeError):
                self._net.call_soon_threadsafe(lambda: function(*args))
                return True
        return False

    async def send(self, request: Any, node: int, timeout_s: float) -> Any:
        """Send one request to a broker and wait for its answer.

        Raises:
            KafkaError: the broker cannot be reached, the connection broke, or no answer came in time.
        """
        try:
            return await self._manager.send(request, node, request_timeout_ms=timeout_s * 1000)
        except ConnectionFailedError as exc:
            where = f"broker {node}, which advertises {self.address(node)}"
            raise ConnectionFailedError(f"{where}: {exc}", exc.code) from exc

    async def sleep(self, seconds: float) -> None:
        """Let others run for that long."""
        await self._net.sleep(seconds)


class Event:
    """Coroutines wait until it is set. On the loop only; other threads go through `Network.call`."""

    def __init__(self) -> None:
        self._future = Future()

    def set(self) -> None:
        """Let every waiting coroutine go on; waiting later does not wait."""
        if not self._future.is_done:
            self._future.success(None)

    async def wait(self) -> None:
        """Wait until it is set."""
        await self._future
