"""Record batches ↔ columns beside kafka-python's own: `python benchmarks/wire.py [--records N] [--json]`.

In one process, over the same bytes in memory, one core, checksums and decompression included. Reading: kafka-python's
way from an answer's bytes to its consumer's records. Writing: its way from records to a producer's batch. kafka-python
brings gzip only (at level 9, where mlstream's is 1); snappy, lz4 and zstd are cramjam's for both.
"""

from __future__ import annotations

import argparse
import gc
import struct
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

if __package__ is None or __package__ == "":
    sys.path.insert(0, str(Path(__file__).parent.parent))

import kafka.codec
import pyarrow as pa
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import default_records
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

from benchmarks.report import Line, Report, show
from benchmarks.ticks import ticks
from mlstream.wire import codecs
from mlstream.wire.decode import decode
from mlstream.wire.encode import encode
from mlstream.wire.layout import CODECS

BATCH_ROWS = 10_000
ANSWER_BYTES = 8 << 20
PEER_ROWS = 100_000
ROUNDS = 3


def best_rate(rows: int, action: Callable[[], None]) -> float:
    """Rows a second, the best of some rounds after one that warms up."""
    action()
    times = []
    for _ in range(ROUNDS):
        gc.collect()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return rows / min(times)


def batches(columns: pa.RecordBatch, codec: str, rows: int) -> list[bytes]:
    """The columns as batches of `rows`, numbered as a broker does."""
    return [
        struct.pack(">q", start) + encode(columns.slice(start, rows), codec=codec)[8:]
        for start in range(0, columns.num_rows, rows)
    ]


def answers(found: Iterable[bytes]) -> list[bytes]:
    """Batches put together to answers of a fetch."""
    made, size = [[]], 0
    for batch in found:
        if size and size + len(batch) > ANSWER_BYTES:
            made.append([])
            size = 0
        made[-1].append(batch)
        size += len(batch)
    return [b"".join(parts) for parts in made]


def reading(columns: pa.RecordBatch) -> Report:
    """Rates of reading, for each codec and for batches of one record."""
    lines = []
    for name, codec, rows in [*((codec, codec, BATCH_ROWS) for codec in CODECS), ("one record a batch", "none", 1)]:
        made = batches(columns, codec, rows)
        own = best_rate(columns.num_rows, partial(_decode, answers(made)))
        few = made[: max(1, PEER_ROWS // rows)]
        peer = best_rate(min(columns.num_rows, len(few) * rows), partial(_consume, answers(few)))
        lines += _pair(name, own, peer)
    return Report(f"reading {columns.num_rows:,} JSON records, {columns.nbytes // columns.num_rows} bytes each", lines)


def writing(columns: pa.RecordBatch) -> Report:
    """Rates of writing, for each codec."""
    rows = columns.num_rows
    parts = [columns.slice(start, BATCH_ROWS) for start in range(0, rows, BATCH_ROWS)]
    few = columns.slice(0, PEER_ROWS).to_pydict()
    times = columns["timestamp"].slice(0, PEER_ROWS).cast(pa.int64()).to_pylist()
    records = list(zip(times, few["key"], few["value"], strict=True))
    lines = []
    for number, codec in enumerate(CODECS):
        own = best_rate(rows, partial(_encode, parts, codec))
        peer = best_rate(len(records), partial(_build, records, number))
        lines += _pair(codec, own, peer)
    return Report(f"writing {rows:,} JSON records, {BATCH_ROWS:,} a batch", lines)


def _decode(data: list[bytes]) -> None:
    for answer in data:
        decode(answer, topic="ticks", partition=0, start=0)


def _encode(parts: list[pa.RecordBatch], codec: str) -> None:
    for part in parts:
        encode(part, codec=codec)


def _consume(data: list[bytes]) -> None:
    for answer in data:
        Fetcher.PartitionRecords(0, TopicPartition("ticks", 0), MemoryRecords(answer)).take()


def _build(records: list[tuple[int, bytes, bytes]], codec: int) -> None:
    for start in range(0, len(records), BATCH_ROWS):
        builder = MemoryRecordsBuilder(2, codec, 1 << 30)
        for record in records[start : start + BATCH_ROWS]:
            builder.append(*record)
        builder.close()


def _pair(name: str, own: float, peer: float) -> list[Line]:
    return [
        Line(f"{name}: mlstream", own, "records/s", 1.0),
        Line(f"{name}: kafka-python", peer, "records/s", peer / own, f"mlstream is {own / peer:.0f} x as fast"),
    ]


def _give_kafka_python_its_codecs() -> None:
    def unpack(codec: int, data: bytes) -> bytes:
        room = bytearray(4 << 20)
        return bytes(room[: codecs.decompress_into(codec, memoryview(data), memoryview(room))])

    kafka.codec.has_snappy = kafka.codec.has_lz4 = kafka.codec.has_zstd = lambda: True
    for number, codec in enumerate(CODECS[2:], start=2):
        setattr(
            default_records,
            f"{codec}_encode",
            lambda data, number=number: codecs.compress(number, memoryview(data), level=1),
        )
        setattr(default_records, f"{codec}_decode", lambda data, number=number: unpack(number, data))


def main() -> None:
    """Make the records, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _give_kafka_python_its_codecs()
    table = ticks(options.records).to_arrow()
    names = ("timestamp", "key", "value")
    kinds = (pa.timestamp("ms", "UTC"), pa.binary(), pa.binary())
    made = pa.table({name: table[name].cast(kind) for name, kind in zip(names, kinds, strict=True)})
    columns = made.combine_chunks().to_batches()[0]
    for measure in (reading, writing):
        show(measure(columns), as_json=options.json)


if __name__ == "__main__":
    main()
