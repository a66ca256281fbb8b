"""Which offsets become rows, where reading goes on, and what is told about leaders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.errors import CorruptBatch
from mlstream.wire.decode import decode, decode_parts
from mlstream.wire.layout import CODECS, next_offset
from tests.wire.columns import records, to_records
from tests.wire.plain import LOG_APPEND_TIME, Record, build, seal


def batch(*offsets: int, epoch: int = 0, last: int | None = None, codec: str = "none") -> bytes:
    rows = [Record(offset, 1_000 + offset, None, b"value %d" % offset) for offset in offsets]
    return build(rows, leader_epoch=epoch, last_offset=last, codec=codec)


def offsets(data: bytes, start: int, stop: int | None = None) -> tuple[list[int], int]:
    found = decode(data, topic="t", partition=0, start=start, stop=stop)
    return found.columns["offset"].to_pylist(), found.next_offset


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("start", "stop", "expected", "reached"),
    [
        (0, None, [0, 1, 2, 10, 12, 15], 20),
        (1, None, [1, 2, 10, 12, 15], 20),
        (3, None, [10, 12, 15], 20),
        (11, None, [12, 15], 20),
        (19, None, [], 20),
        (25, None, [], 25),
        (0, 2, [0, 1], 2),
        (0, 3, [0, 1, 2], 3),
        (0, 7, [0, 1, 2], 7),  # the next batch begins after it: nothing was written between
        (0, 11, [0, 1, 2, 10], 11),
        (0, 16, [0, 1, 2, 10, 12, 15], 16),
        (2, 13, [2, 10, 12], 13),
        (0, 100, [0, 1, 2, 10, 12, 15], 20),
        (4, 4, [], 4),
        (0, 0, [], 0),
    ],
)
def test_rows_are_those_between_start_and_stop(
    codec: str, start: int, stop: int | None, expected: list[int], reached: int
) -> None:
    data = batch(0, 1, 2, codec=codec) + batch(10, 12, 15, last=19, codec=codec)
    assert offsets(data, start, stop) == (expected, reached)


def test_no_data_is_no_rows_and_no_progress() -> None:
    assert offsets(b"", 7) == ([], 7)
    assert next_offset(b"", 7) == 7


def test_a_batch_that_compaction_emptied_is_a_gap() -> None:
    empty = build([], base_offset=5, last_offset=8)
    assert offsets(empty + batch(9), 5) == ([9], 10)
    assert next_offset(empty, 5) == 9


def test_an_emptied_batch_may_keep_its_codec() -> None:
    empty = bytearray(build([], base_offset=5, last_offset=8))
    empty[22] |= 4
    assert offsets(seal(bytes(empty)), 5) == ([], 9)


@pytest.mark.parametrize("codec", CODECS)
def test_an_incomplete_last_batch_is_left_for_the_next_fetch(codec: str) -> None:
    whole, cut = batch(0, 1, codec=codec), batch(2, 3, codec=codec)
    for size in range(len(cut)):
        data = whole + cut[:size]
        assert offsets(data, 0) == ([0, 1], 2)
        assert next_offset(data, 0) == 2
    assert offsets(whole + cut, 0) == ([0, 1, 2, 3], 4)


def test_data_of_every_kind_of_buffer_is_read() -> None:
    data = batch(0, 1)
    for kind in (bytes, bytearray, memoryview):
        assert offsets(kind(data), 0) == ([0, 1], 2)
    padded = memoryview(b"??" + data + b"??")[2:-2]
    assert offsets(padded, 0) == ([0, 1], 2)


def test_columns_outlive_the_data_and_are_not_changed_with_it() -> None:
    data = bytearray(batch(0, 1))
    columns = decode(data, topic="t", partition=0, start=0).columns
    data[:] = bytes(len(data))
    assert columns["value"].to_pylist() == [b"value 0", b"value 1"]


def test_leader_epochs_are_told_where_they_change() -> None:
    data = batch(0, 1, epoch=3) + batch(2, epoch=3) + batch(5, epoch=4) + batch(6, epoch=7)
    assert decode(data, topic="t", partition=0, start=0).leader_epochs == ((3, 0), (4, 5), (7, 6))
    assert decode(data, topic="t", partition=0, start=1, stop=6).leader_epochs == ((3, 1), (4, 5))
    assert decode(data, topic="t", partition=0, start=5).leader_epochs == ((4, 5), (7, 6))
    assert decode(b"", topic="t", partition=0, start=5).leader_epochs == ()


def test_append_time_is_the_batchs_latest_for_every_row() -> None:
    rows = [Record(0, 500, None, b"a"), Record(1, 400, None, b"b")]
    found = decode(build(rows, attributes=LOG_APPEND_TIME, max_timestamp=9_000), topic="t", partition=0, start=0)
    assert [(row.timestamp, row.timestamp_type) for row in to_records(found.columns)] == [(9_000, 1), (9_000, 1)]
    data = build(rows, attributes=LOG_APPEND_TIME, max_timestamp=-1)
    assert decode(data, topic="t", partition=0, start=0).columns["timestamp"].null_count == 2


def test_a_delete_horizon_leaves_the_times_as_they_are() -> None:
    rows = [Record(0, 500, None, None), Record(1, 400, None, b"b")]
    assert to_records(decode(build(rows, attributes=0x40), topic="t", partition=0, start=0).columns) == rows


@pytest.mark.parametrize(
    "data",
    [
        batch(5, 6) + batch(6, 7),
        batch(5, 6) + batch(5, 6),
        batch(5, 6) + batch(1, 2),
    ],
)
def test_batches_out_of_order_are_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptBatch, match="do not follow those of the batch before it"):
        offsets(data, 0)
    with pytest.raises(CorruptBatch, match=r"ticks\[2\]"):
        next_offset(data, 0, topic="ticks", partition=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), min_size=1, max_size=8), st.sampled_from(CODECS), st.integers(1, 60_000))
def test_parts_are_the_whole_in_order(batches: list[list[Record]], codec: str, part_bytes: int) -> None:
    data, base = b"", 0
    for rows in batches:
        moved = [Record(base + row.offset, row.timestamp, row.key, row.value, row.headers) for row in rows]
        data += build(moved, codec=codec, leader_epoch=base // 10)
        base += len(rows)
    whole = decode(data, topic="t", partition=0, start=1)
    parts = list(decode_parts(data, topic="t", partition=0, start=1, part_bytes=part_bytes))
    assert [row for part in parts for row in to_records(part.columns)] == to_records(whole.columns)
    assert parts[-1].next_offset == whole.next_offset == base
    starts = [1, *(part.next_offset for part in parts[:-1])]
    for start, part in zip(starts, parts, strict=True):
        seen = part.columns["offset"].to_pylist()
        assert seen == list(range(start, part.next_offset))
    assert {pair[0] for part in parts for pair in part.leader_epochs} == {pair[0] for pair in whole.leader_epochs}


def test_threads_decode_at_the_same_time_without_mixing_anything() -> None:
    answers = [
        build([Record(at, at, b"%d" % at, b"%d " % number * 500) for at in range(200)], codec=CODECS[number % 5])
        for number in range(40)
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: decode(data, topic="t", partition=0, start=0).columns, answers))
    for number, columns in enumerate(found):
        assert set(columns["value"].to_pylist()) == {b"%d " % number * 500}
