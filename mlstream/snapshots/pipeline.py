"""Work on threads, in order where order matters, with a bound on what is in memory. Knows nothing of rows.

Tasks of one *chain* run one after another, tasks of different chains side by side. A task waits for the one before it
on a worker thread; that cannot deadlock, because the pool starts tasks in the order in which they were submitted.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from types import TracebackType


class Chain:
    """Tasks that run one after another."""

    __slots__ = ("tail",)

    def __init__(self) -> None:
        self.tail: Future[None] | None = None


class Pipeline:
    """A pool of threads with backpressure: `submit` waits while tasks that hold more than `budget_bytes` are under way.

    The first error of a task is raised by the next `submit` or by `finish`.
    """

    def __init__(self, *, workers: int, budget_bytes: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="freeze")
        self._budget = budget_bytes
        self._changed = Condition()
        self._used = 0
        self._error: BaseException | None = None
        self._tasks = 0

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, chain: Chain, task: Callable[[], None], *, size_bytes: int) -> None:
        """Run `task` after the chain's other tasks; `size_bytes` is what it keeps in memory until then.

        A task that is larger than the whole budget runs when nothing else is under way.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error is not None or self._used == 0 or self._used + size_bytes <= self._budget
            )
            if self._error is not None:
                raise self._error
            self._used += size_bytes
            self._tasks += 1
        chain.tail = self._pool.submit(self._run, chain.tail, task, size_bytes)

    def finish(self) -> None:
        """Wait for every task.

        Raises:
            Exception: the first error of a task.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._tasks == 0)
            if self._error is not None:
                raise self._error

    def _run(self, before: Future[None] | None, task: Callable[[], None], size_bytes: int) -> None:
        try:
            if before is not None:
                before.result()
            task()
        except BaseException as exc:
            with self._changed:
                if self._error is None:
                    self._error = exc
            raise
        finally:
            with self._changed:
                self._used -= size_bytes
                self._tasks -= 1
                self._changed.notify_all()
