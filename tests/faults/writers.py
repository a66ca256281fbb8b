"""Producers that write all the time, each in a thread of its own, and enter what they did into a ledger. No test here.

`Plain` sends without transactions, idempotently or not; `Transactional` commits, aborts and dawdles as its dice say.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from confluent_kafka import KafkaError, Message, Producer

from mlstream.broker.connection import Connection
from tests.faults.ledger import ABORTED, COMMITTED, Entry, Ledger

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TIMEOUT_S = 30


class Writer:
    """A thread that sends a turn of records again and again: until it is told to stop, or for so many turns."""

    def __init__(
        self,
        name: str,
        topic: str,
        producer: Producer,
        ledger: Ledger,
        dice: random.Random,
        *,
        turns: int | None = None,
    ) -> None:
        self.name = name
        self.topic = topic
        self.producer = producer
        self.sent = 0
        self.done = 0
        self._ledger = ledger
        self._dice = random.Random(dice.random())
        self._turns = turns
        self._stop = threading.Event()
        self._acknowledged: list[tuple[int, int, bytes]] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"writer-{name}")

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Finish the turn that is under way, and the writer; raises what went wrong in it."""
        self._stop.set()
        self.wait()

    def wait(self) -> None:
        """Wait until it has done all its turns."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def turn(self) -> None:
        """Send some records and enter them."""
        raise NotImplementedError

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and (self._turns is None or self.done < self._turns):
                self.turn()
                self.done += 1
        except BaseException as exc:
            self._failure = exc
        finally:
            self.producer.close()

    def _send(self, partitions: int, count: int) -> None:
        for _ in range(count):
            word = f"{self.name}-{self.sent:07d}".encode() + b"." * self._dice.randrange(200)
            self.sent += 1
            partition = self._dice.randrange(partitions)
            self.producer.produce(
                self.topic,
                word,
                None if self._dice.random() < 0.2 else b"k%d" % self._dice.randrange(9),
                partition,
                on_delivery=self._note,
            )
            self.producer.poll(0)

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise AssertionError(f"{self.name}: {error}")
        partition, offset, word = message.partition(), message.offset(), message.value()
        assert partition is not None
        assert offset is not None
        assert isinstance(word, bytes)
        self._acknowledged.append((partition, offset, word))

    def _enter(self, fate: str) -> None:
        self._ledger.enter(Entry(partition, offset, word, fate) for partition, offset, word in self._acknowledged)
        self._acknowledged = []


class Plain(Writer):
    """Sends without transactions."""

    def __init__(
        self,
        broker: Connection,
        name: str,
        topic: str,
        ledger: Ledger,
        dice: random.Random,
        *,
        partitions: int,
        codec: str = "lz4",
        idempotent: bool = False,
        turns: int | None = None,
    ) -> None:
        producer = Producer(
            {
                "bootstrap.servers": broker.servers,
                "compression.type": codec,
                "enable.idempotence": idempotent,
                "linger.ms": 2,
            }
        )
        super().__init__(name, topic, producer, ledger, dice, turns=turns)
        self._partitions = partitions

    def turn(self) -> None:
        self._send(self._partitions, self._dice.randrange(1, 60))
        assert self.producer.flush(TIMEOUT_S) == 0
        self._enter(COMMITTED)
        self._stop.wait(0.01)


class Transactional(Writer):
    """One transaction a turn: committed or aborted, quick or slow, flushed in several pieces so that it interleaves."""

    def __init__(
        self,
        broker: Connection,
        name: str,
        topic: str,
        ledger: Ledger,
        dice: random.Random,
        *,
        partitions: int,
        codec: str = "zstd",
        turns: int | None = None,
        abort_share: float = 0.4,
    ) -> None:
        producer = Producer(
            {
                "bootstrap.servers": broker.servers,
                "compression.type": codec,
                "transactional.id": f"{topic}-{name}",
                "linger.ms": 0,
            }
        )
        producer.init_transactions(TIMEOUT_S)
        super().__init__(name, topic, producer, ledger, dice, turns=turns)
        self._partitions = partitions
        self._abort_share = abort_share

    def turn(self) -> None:
        self.producer.begin_transaction()
        for _ in range(self._dice.randrange(1, 4)):
            self._send(self._partitions, self._dice.randrange(1, 20))
            assert self.producer.flush(TIMEOUT_S) == 0
            self._stop.wait(self._dice.random() * 0.01)
        if self._dice.random() < self._abort_share:
            self.producer.abort_transaction(TIMEOUT_S)
            self._enter(ABORTED)
        else:
            self.producer.commit_transaction(TIMEOUT_S)
            self._enter(COMMITTED)


@contextmanager
def while_doing(action: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Do something again and again on another thread; raises what it raised."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.wait(every_s):
                action()
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=run, name="while-doing")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if failures:
            raise failures[0]
