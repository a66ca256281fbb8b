"""A small answer cannot eat the memory: what it may become is bounded, and every codec stops at the bound."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from mlstream.errors import CorruptBatch, WireError
from mlstream.wire.decode import decode, decode_parts
from mlstream.wire.encode import encode
from mlstream.wire.layout import CODECS
from tests.wire.plain import Record, build

MIB = 1 << 20


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_bomb_is_an_error_that_names_the_batch_and_the_bound(codec: str) -> None:
    bomb = build([Record(40, 1, None, bytes(24 * MIB))], codec=codec)
    assert len(bomb) < 2 * MIB
    with pytest.raises(
        CorruptBatch,
        match=rf"ticks\[1\] at offset 40: .* its {codec} data does not decompress to at most {4 * MIB} bytes",
    ):
        decode(bomb, topic="ticks", partition=1, start=0, max_batch_bytes=4 * MIB)
    found = decode(bomb, topic="ticks", partition=1, start=0)
    assert found.columns["value"][0].as_py() == bytes(24 * MIB)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_batch_exactly_as_large_as_allowed_is_read(codec: str) -> None:
    rows = [Record(0, 1, None, bytes(100_000)), Record(1, 1, b"k", b"v" * 100_000)]
    size = len(build(rows)) - 61
    data = build(rows, codec=codec)
    assert decode(data, topic="t", partition=0, start=0, max_batch_bytes=size).columns.num_rows == 2
    with pytest.raises(CorruptBatch, match="does not decompress to at most"):
        decode(data, topic="t", partition=0, start=0, max_batch_bytes=size - 1)


@pytest.mark.parametrize("codec", CODECS)
def test_all_batches_together_are_bounded_too_and_parts_read_them(codec: str) -> None:
    data = b"".join(build([Record(at, 1, None, bytes(300_000))], codec=codec) for at in range(20))
    with pytest.raises(
        WireError, match=r"t\[0\]: the batches from offset 0 on take more than 1048576 bytes .*decode in parts"
    ):
        decode(data, topic="t", partition=0, start=0, max_total_bytes=MIB)
    parts = list(decode_parts(data, topic="t", partition=0, start=0, part_bytes=MIB))
    assert [part.columns.num_rows for part in parts] == [3, 3, 3, 3, 3, 3, 2]
    assert all(part.columns.nbytes <= MIB for part in parts)


@pytest.mark.parametrize("codec", CODECS)
def test_small_records_count_for_the_room_that_their_rows_take(codec: str) -> None:
    data = build([Record(at, 1) for at in range(5_000)], codec=codec) + build([Record(5_000, 1)])
    with pytest.raises(WireError, match="take more than 200000 bytes"):
        decode(data, topic="t", partition=0, start=0, max_total_bytes=200_000)


def test_a_single_batch_is_read_whatever_the_size_of_a_part() -> None:
    data = build([Record(at, 1, None, b"x" * 100) for at in range(100)], codec="lz4")
    parts = list(decode_parts(data, topic="t", partition=0, start=0, part_bytes=1))
    assert [part.columns.num_rows for part in parts] == [100]


def test_a_bomb_is_refused_without_the_memory_that_it_asks_for() -> None:
    bomb = build([Record(0, 1, None, bytes(64 * MIB))], codec="zstd")
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatch):
            decode(bomb, topic="t", partition=0, start=0, max_batch_bytes=MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
    assert pa.total_allocated_bytes() - before < 8 * MIB


def test_large_values_in_many_batches_grow_the_room_for_them() -> None:
    values = [b"%07d" % number * 30_000 for number in range(40)]
    data = b"".join(build([Record(at, 1, None, value)], codec="zstd") for at, value in enumerate(values))
    assert len(data) < 100_000
    assert decode(data, topic="t", partition=0, start=0).columns["value"].to_pylist() == values


def test_a_hundred_thousand_records_are_written_and_read() -> None:
    rng = np.random.default_rng(5)
    keys = [None if number % 7 == 0 else b"%d" % number for number in rng.integers(0, 1000, 100_000)]
    columns = pa.table({"key": pa.array(keys, pa.binary()), "value": pa.array(map(str, range(100_000)), pa.string())})
    found = decode(encode(columns, codec="lz4"), topic="t", partition=0, start=0)
    assert found.columns["key"].to_pylist() == keys
    assert found.columns["value"].cast(pa.string()).to_pylist() == list(map(str, range(100_000)))
    assert found.columns["key"].null_count == keys.count(None)
    assert found.columns["value"].buffers()[0] is None
