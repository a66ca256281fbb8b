"""What coroutines share: a number of bytes that are in use at once, and a number of bytes a second."""

from __future__ import annotations

import time
from collections import deque

from mlstream.broker.network import Event, Network

_LOOK_S = 0.1  # how often one that waits looks whether reading has ended


class Budget:
    """Bytes for answers that are under way or waiting. First come, first served; on the network's loop.

    One taker gets what it asks for in any case when nobody else holds anything, also more than there is.
    """

    def __init__(self, network: Network, size_bytes: int) -> None:
        self._network = network
        self._size_bytes = size_bytes
        self._used_bytes = 0
        self._waiting: deque[tuple[int, Event]] = deque()
        self._closed = False

    async def take(self, size_bytes: int) -> None:
        """Wait until that many bytes are free, and take them. Waits no longer once the budget is closed."""
        if self._closed:
            return
        if self._waiting or not self._fits(size_bytes):
            turn = Event()
            self._waiting.append((size_bytes, turn))
            await turn.wait()  # `give` takes the bytes for it
        else:
            self._used_bytes += size_bytes

    def give(self, size_bytes: int) -> None:
        """Give bytes back. A negative number takes some, without waiting."""
        self._used_bytes -= size_bytes
        while self._waiting and self._fits(self._waiting[0][0]):
            taken_bytes, turn = self._waiting.popleft()
            self._used_bytes += taken_bytes
            turn.set()

    def give_soon(self, size_bytes: int) -> None:
        """`give`, from another thread."""
        self._network.call(self.give, size_bytes)

    def close(self) -> None:
        """Let all go on that wait; they must look whether they still should."""
        self._closed = True
        while self._waiting:
            self._waiting.popleft()[1].set()

    def _fits(self, size_bytes: int) -> bool:
        return self._used_bytes <= 0 or self._used_bytes + size_bytes <= self._size_bytes


class Pace:
    """A rate that answers keep to together, on average over some seconds; on the network's loop.

    An answer's size is known only when it is there. So nobody asks for more until what came has been paid for by time.

    Args:
        bytes_s: bytes a second; None for no limit.
    """

    def __init__(self, network: Network, bytes_s: float | None) -> None:
        self._network = network
        self._bytes_s = bytes_s
        self._free_at = 0.0
        self._closed = False

    async def turn(self) -> float:
        """Wait until more may be asked for; the seconds that it took. Waits no longer once it is closed."""
        began = time.monotonic()
        while (wait_s := self._free_at - time.monotonic()) > 0 and not self._closed:
            await self._network.sleep(min(wait_s, _LOOK_S))
        return time.monotonic() - began

    def spend(self, size_bytes: int) -> None:
        """That many bytes came."""
        if self._bytes_s is not None:
            self._free_at = max(self._free_at, time.monotonic()) + size_bytes / self._bytes_s

    def close(self) -> None:
        """Let all go on that wait."""
        self._closed = True
