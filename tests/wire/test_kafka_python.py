"""kafka-python's own classes read what we write, and we read what they write, in every codec."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2
from kafka.record.memory_records import MemoryRecords

from mlstream.errors import UsageError
from mlstream.wire.decode import decode
from mlstream.wire.encode import encode
from mlstream.wire.layout import CODECS
from mlstream.wire.partition import murmur2_partitions
from tests.wire import plain
from tests.wire.columns import records, small, to_columns, to_records
from tests.wire.plain import Record

codecs = st.sampled_from(range(5))


def as_records(batches: Any) -> list[Record]:
    """kafka-python's records as ours."""
    return [
        Record(
            found.offset,
            found.timestamp,
            found.key,
            found.value,
            tuple((name.encode(), value) for name, value in found.headers),
            found.timestamp_type,
        )
        for batch in batches
        for found in batch
    ]


@settings(max_examples=120, deadline=None)
@given(records(utf8_names=True), codecs)
def test_kafka_python_reads_what_is_written(kafka_python: SimpleNamespace, rows: list[Record], codec: int) -> None:
    batch = kafka_python.batch(encode(to_columns(rows), codec=CODECS[codec]))
    assert batch.validate_crc()
    assert as_records([batch]) == rows


@settings(max_examples=120, deadline=None)
@given(records(gaps=True, utf8_names=True), codecs)
def test_what_kafka_python_writes_is_read(kafka_python: SimpleNamespace, rows: list[Record], codec: int) -> None:
    builder = kafka_python.builder(
        magic=2,
        compression_type=codec,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    base = rows[0].offset
    for row in rows:
        headers = [(name.decode(), value) for name, value in row.headers]
        builder.append(row.offset - base, row.timestamp, row.key, row.value, headers)
    data = struct.pack(">q", base) + bytes(builder.build())[8:]
    found = decode(data, topic="t", partition=0, start=base)
    assert to_records(found.columns) == rows
    assert found.next_offset == rows[-1].offset + 1


@settings(max_examples=60, deadline=None)
@given(st.lists(records(gaps=True, utf8_names=True), min_size=1, max_size=4), codecs, st.booleans())
def test_both_read_the_same_from_many_batches(
    kafka_python: SimpleNamespace, batches: list[list[Record]], codec: int, appended: bool
) -> None:
    data, base = b"", 0
    for rows in batches:
        moved = [Record(base + row.offset, row.timestamp, row.key, row.value, row.headers) for row in rows]
        data += plain.build(
            moved,
            codec=CODECS[codec],
            attributes=plain.LOG_APPEND_TIME if appended else 0,
            last_offset=moved[-1].offset + 3,
            max_timestamp=1_700_000_000_000 if appended else None,
        )
        base = moved[-1].offset + 10
    assert to_records(decode(data, topic="t", partition=0, start=0).columns) == as_records(MemoryRecords(data))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | small | st.binary(max_size=100), max_size=20), st.integers(1, 200))
def test_keys_go_to_the_partitions_that_kafka_python_says(keys: list[bytes | None], partitions: int) -> None:
    chosen = murmur2_partitions(_keys(keys), partitions).tolist()
    turns = iter(range(len(keys)))
    expected = [next(turns) % partitions if key is None else (murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert chosen == expected


def test_partitions_of_a_slice_are_those_of_its_rows() -> None:
    keys = _keys([b"a", None, b"bcd", b"efghi", None, b""])
    assert murmur2_partitions(keys.slice(2, 3), 50).tolist() == [*murmur2_partitions(keys, 50)[2:4], 0]


def test_partitions_of_keys_are_those_of_the_java_client() -> None:
    # From Kafka's own UtilsTest.testMurmur2.
    known = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    expected = [(value & 0x7FFFFFFF) % 1000 for value in known.values()]
    assert murmur2_partitions(_keys(list(known)), 1000).tolist() == expected


def test_no_partitions_are_refused() -> None:
    with pytest.raises(UsageError, match="0 is no number of partitions"):
        murmur2_partitions(_keys([b"a"]), 0)


def _keys(keys: list[bytes | None]) -> pa.Array:
    return pa.array(keys, pa.binary())
