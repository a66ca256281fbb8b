"""Ranges of partitions → Arrow columns: fetching and decoding side by side, in bounded memory. Writes nothing.

A thread takes what the brokers answer and has it decoded by a few more; the caller gets the columns in the order of
the answers, so in the order of offsets within a partition.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

import pyarrow as pa

from mlstream.broker.client import Client
from mlstream.broker.fetch import STALL_S, Fetched, fetch
from mlstream.ranges import PartitionRange
from mlstream.wire.decode import decode_parts

# Decompressed, this is some 20 MB of columns: large enough for Arrow, small enough that memory is used again.
PARTITION_MAX_BYTES = 2 << 20
BUFFER_BYTES = 32 << 20
PART_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """What became of the offsets `[start, next_offset)` of one partition.

    Attributes:
        columns: one row a record, of `wire.columns.SCHEMA`, in the order of offsets; perhaps none.
        start, next_offset: the offsets that are settled; the blocks of a partition follow each other without a gap.
        control: transaction markers in it, which are no rows.
        aborted: records of aborted transactions in it, which are no rows.
        leader_epochs: (epoch, first offset seen with it), a pair for each change.
    """

    topic: str
    partition: int
    columns: pa.RecordBatch
    start: int
    next_offset: int
    control: int
    aborted: int
    leader_epochs: tuple[tuple[int, int], ...]


def read(
    client: Client,
    ranges: Sequence[PartitionRange],
    *,
    buffer_bytes: int = BUFFER_BYTES,
    partition_max_bytes: int = PARTITION_MAX_BYTES,
    threads: int | None = None,
    topic_ids: Mapping[str, str] | None = None,
    stall_s: float = STALL_S,
    max_bytes_s: float | None = None,
) -> Iterator[Block]:
    """Read the committed records of ranges.

    Args:
        ranges: what to read; each is read to its `stop`, also where nothing is before it.
        buffer_bytes: bound of the answers that are under way or wait to be decoded.
        partition_max_bytes: how much to ask for at once; a block is that much, decompressed, and about 32 MiB at most.
        threads: how many decode; two, or one for each further processor up to four, when None.
        topic_ids: topic → the id that it must have; the one that it has now when None.
        stall_s: how long a partition may give no answer.
        max_bytes_s: the most to fetch, in bytes a second; no limit when None.

    Raises:
        TopicChanged, OffsetOutOfRange, BrokerUnavailable: see `broker.fetch`.
        CorruptBatch, UnsupportedFormat: see `wire.decode`.
    """
    workers = min(4, max(2, os.cpu_count() or 2)) if threads is None else threads
    answers = fetch(
        client,
        ranges,
        partition_max_bytes=partition_max_bytes,
        buffer_bytes=buffer_bytes,
        stall_s=stall_s,
        topic_ids=topic_ids,
        max_bytes_s=max_bytes_s,
    )
    decoding = _Decoding(answers, {(found.topic, found.partition): found for found in ranges}, workers)
    try:
        yield from decoding.blocks()
    finally:
        decoding.close()


class _Decoding:
    """A thread that feeds answers to the decoding threads, at most two more than can be decoded at once."""

    def __init__(
        self, answers: Iterator[Fetched], ranges: Mapping[tuple[str, int], PartitionRange], workers: int
    ) -> None:
        self._answers = answers
        self._ranges = ranges
        self._jobs: SimpleQueue[Future[tuple[Block, Iterator[Block]]] | BaseException | None] = SimpleQueue()
        self._room = threading.Semaphore(workers + 2)
        self._closed = False
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="mlstream-decode")
        self._feeder = threading.Thread(target=self._feed, name="mlstream-feed", daemon=True)
        self._feeder.start()

    def blocks(self) -> Iterator[Block]:
        """The decoded answers, in order."""
        while True:
            job = self._jobs.get()
            if job is None:
                return
            if isinstance(job, BaseException):
                raise job
            first, others = job.result()
            del job
            yield first
            del first
            yield from others
            self._room.release()

    def close(self) -> None:
        """End the threads; what is under way is dropped."""
        self._closed = True
        self._room.release()
        self._feeder.join()
        self._pool.shutdown(cancel_futures=True)

    def _feed(self) -> None:
        try:
            for answer in self._answers:
                self._room.acquire()
                if self._closed:
                    break
                self._jobs.put(self._pool.submit(_decode, answer, self._ranges[answer.topic, answer.partition]))
        except BaseException as exc:
            self._jobs.put(exc)
        else:
            self._jobs.put(None)
        finally:
            self._answers.close()  # type: ignore[attr-defined]  # a generator: it stops to ask


def _decode(answer: Fetched, asked: PartitionRange) -> tuple[Block, Iterator[Block]]:
    """The first block of an answer, decoded, and the others, if it becomes so large that there are any."""
    blocks = _blocks(answer, asked)
    return next(blocks), blocks


def _blocks(answer: Fetched, asked: PartitionRange) -> Iterator[Block]:
    start = answer.start
    for part in decode_parts(
        answer.data,
        topic=answer.topic,
        partition=answer.partition,
        start=start,
        stop=asked.stop,
        aborted=answer.aborted,
        part_bytes=PART_BYTES,
    ):
        # Without data the answer says that nothing follows before its next offset.
        next_offset = part.next_offset if answer.data else answer.next_offset
        yield Block(
            answer.topic,
            answer.partition,
            part.columns,
            start,
            next_offset,
            part.control,
            part.aborted,
            part.leader_epochs,
        )
        start = next_offset
