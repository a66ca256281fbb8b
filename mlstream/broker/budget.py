"""A number of bytes that coroutines share: take some, wait while there are not enough, give them back."""

from __future__ import annotations

from collections import deque

from mlstream.broker.network import Event, Network


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
