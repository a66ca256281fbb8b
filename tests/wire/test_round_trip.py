"""What is written is read back: rows, nulls, order, and the fields of the batch's header."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.errors import UsageError, WireError
from mlstream.wire.columns import SCHEMA
from mlstream.wire.decode import decode
from mlstream.wire.encode import encode, split_rows
from mlstream.wire.layout import CODECS, HEADER
from tests.wire import plain
from tests.wire.columns import LAST_MS, records, to_columns, to_records
from tests.wire.plain import Record

codecs = st.sampled_from(CODECS)


def read(data: bytes) -> list[Record]:
    return to_records(decode(data, topic="t", partition=0, start=0).columns)


@settings(max_examples=150, deadline=None)
@given(records(), codecs)
def test_rows_come_back_as_they_were(rows: list[Record], codec: str) -> None:
    assert read(encode(to_columns(rows), codec=codec)) == rows


@settings(max_examples=60, deadline=None)
@given(records(), codecs)
def test_what_is_written_is_what_the_format_says(rows: list[Record], codec: str) -> None:
    assert plain.read(encode(to_columns(rows), codec=codec)) == rows


@settings(max_examples=60, deadline=None)
@given(records(), st.data())
def test_slices_and_chunks_are_written_as_their_own_rows(rows: list[Record], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    stop = data.draw(st.integers(start + 1, len(rows)))
    columns = to_columns(rows)
    expected = [Record(row.offset - start, *_rest(row)) for row in rows[start:stop]]
    assert read(encode(columns.slice(start, stop - start))) == expected
    chunked = pa.Table.from_batches([columns.slice(0, start), columns.slice(start)]) if start else pa.table(columns)
    assert read(encode(chunked)) == rows


def _rest(row: Record) -> tuple[object, ...]:
    return row.timestamp, row.key, row.value, row.headers, row.timestamp_type


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), min_size=2, max_size=6), codecs)
def test_many_batches_become_one_set_of_columns(batches: list[list[Record]], codec: str) -> None:
    data, expected = b"", []
    for rows in batches:
        base = len(expected)
        data += struct.pack(">q", base) + encode(to_columns(rows), codec=codec)[8:]
        expected += [Record(base + row.offset, *_rest(row)) for row in rows]
    found = decode(data, topic="t", partition=0, start=0)
    assert to_records(found.columns) == expected
    assert found.next_offset == len(expected)


@settings(max_examples=60, deadline=None)
@given(records(), st.integers(62, 3000), st.integers(1, 5))
def test_split_rows_cuts_into_batches_that_fit(rows: list[Record], max_bytes: int, max_rows: int) -> None:
    columns = to_columns(rows)
    sizes = [len(encode(columns.slice(row, 1), codec="none")) for row in range(len(rows))]
    if max(sizes) > max_bytes:
        with pytest.raises(WireError) as caught:
            split_rows(columns, max_bytes=max_bytes, max_rows=max_rows)
        assert sizes[caught.value.row] == caught.value.size_bytes > max_bytes
        return
    slices = split_rows(columns, max_bytes=max_bytes, max_rows=max_rows)
    assert [row for start, stop in slices for row in range(start, stop)] == list(range(len(rows)))
    for start, stop in slices:
        assert stop - start <= max_rows
        for codec in CODECS:
            assert len(encode(columns.slice(start, stop - start), codec=codec)) <= max_bytes
        if stop < len(rows) and stop - start < max_rows:
            assert len(encode(columns.slice(start, stop - start + 1), codec="none")) > max_bytes


def test_a_row_that_fits_into_no_batch_is_named_with_the_setting_that_stops_it() -> None:
    columns = pa.table({"value": [b"short", b"x" * 500]})
    with pytest.raises(WireError, match=r"row 1 takes 570 bytes .* more than the 300 .* max\.message\.bytes"):
        split_rows(columns, max_bytes=300, max_rows=10)


def test_a_batch_that_does_not_shrink_is_sent_uncompressed() -> None:
    noise = pa.table({"value": [np.random.default_rng(1).bytes(1000)]})
    for codec in CODECS:
        data = encode(noise, codec=codec)
        assert data == encode(noise, codec="none")


def test_rows_that_compress_say_so_in_the_header() -> None:
    columns = pa.table({"value": [b"again and again " * 20] * 5})
    for number, codec in enumerate(CODECS):
        assert HEADER.unpack_from(encode(columns, codec=codec))[5] == number


def test_the_header_carries_the_producer_and_the_times() -> None:
    columns = pa.table(
        {
            "value": pa.array([b"a", b"b", b"c"], pa.binary()),
            "timestamp": pa.array([50, 90, 10], pa.timestamp("ms", tz="UTC")),
        }
    )
    data = encode(columns, codec="none", producer_id=77, producer_epoch=3, base_sequence=12, transactional=True)
    base, length, epoch, magic, _, attributes, last, first_ms, max_ms, *producer, count = HEADER.unpack_from(data)
    assert (base, length, epoch, magic) == (0, len(data) - 12, -1, 2)
    assert (attributes, last, first_ms, max_ms, producer, count) == (0x10, 2, 50, 90, [77, 3, 12], 3)


def test_a_value_alone_makes_a_record() -> None:
    assert read(encode(pa.table({"value": ["text"]}))) == [Record(0, -1, None, b"text")]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.string(), pa.large_string(), pa.binary_view()])
def test_binary_and_text_of_any_width_are_written(kind: pa.DataType) -> None:
    columns = pa.table({"key": pa.array(["k", None], pa.string()).cast(kind), "value": pa.array(["v", ""], kind)})
    assert read(encode(columns)) == [Record(0, -1, b"k", b"v"), Record(1, -1, None, b"")]


def test_headers_of_polars_lists_are_written() -> None:
    header = pa.struct([("key", pa.large_string()), ("value", pa.large_binary())])
    headers = pa.array([[("a", b"1"), ("b", None)], None, []], pa.large_list(header))
    expected = ((b"a", b"1"), (b"b", None))
    found = read(encode(pa.table({"value": ["x", "y", "z"], "headers": headers})))
    assert [row.headers for row in found] == [expected, (), ()]


def test_a_null_list_over_other_rows_headers_brings_none_of_them() -> None:
    header = SCHEMA.field("headers").type
    whole = pa.array([[{"key": b"a", "value": b"1"}], [{"key": b"b", "value": b"2"}]], header)
    masked = pa.Array.from_buffers(header, 2, [pa.py_buffer(b"\2"), whole.buffers()[1]], 1, 0, [whole.values])
    found = read(encode(pa.table({"value": ["x", "y"], "headers": masked})))
    assert [row.headers for row in found] == [(), ((b"b", b"2"),)]


def test_times_of_other_units_are_written_when_nothing_is_lost() -> None:
    seconds = pa.table({"value": ["x"], "timestamp": pa.array([7], pa.timestamp("s"))})
    assert read(encode(seconds))[0].timestamp == 7000
    finer = pa.table({"value": ["x"], "timestamp": pa.array([7_000_001], pa.timestamp("us"))})
    with pytest.raises(UsageError, match="'timestamp'"):
        encode(finer)


def test_a_header_without_a_name_is_refused_by_row() -> None:
    headers = pa.array([[], [{"key": b"a", "value": b"1"}, {"key": None, "value": b"2"}]], SCHEMA.field("headers").type)
    with pytest.raises(WireError, match="row 1: a header without a name"):
        encode(pa.table({"value": ["x", "y"], "headers": headers}))


def test_headers_that_rows_share_are_written_for_each() -> None:
    lists = [
        [],
        [{"key": b"a", "value": b"1"}, {"key": b"a", "value": None}],
        [{"key": b"", "value": b"x" * 200}],
        None,
    ]
    kinds = pa.array(lists, SCHEMA.field("headers").type)
    index = [1, 0, 2, 1, 3, 1]
    plain = pa.table({"value": list("abcdef"), "headers": kinds.take(pa.array(index))})
    shared = pa.DictionaryArray.from_arrays(pa.array(index, pa.int8()), kinds)
    assert encode(plain.set_column(1, "headers", shared)) == encode(plain)
    assert encode(plain.set_column(1, "headers", shared).slice(2, 3)) == encode(plain.slice(2, 3))
    parts = pa.chunked_array([shared.slice(0, 2), shared.slice(2)])
    assert encode(plain.set_column(1, "headers", parts)) == encode(plain)
    absent = pa.DictionaryArray.from_arrays(pa.array([1, None, 2, 1, None, 1], pa.int32()), kinds)
    assert encode(plain.set_column(1, "headers", absent)) == encode(plain)
    cuts = split_rows(plain, max_bytes=300, max_rows=4)
    assert split_rows(plain.set_column(1, "headers", shared), max_bytes=300, max_rows=4) == cuts
    nameless = pa.DictionaryArray.from_arrays(
        pa.array([1, 1, 0], pa.int32()),
        pa.array([[{"key": None, "value": b"2"}], []], SCHEMA.field("headers").type),
    )
    with pytest.raises(WireError, match="row 2: a header without a name"):
        encode(pa.table({"value": ["x", "y", "z"], "headers": nameless}))


def test_the_time_that_means_no_time_is_refused_by_row() -> None:
    times = pa.array([None, 5, -1], pa.timestamp("ms", tz="UTC"))
    with pytest.raises(WireError, match="row 2: the last millisecond of 1969"):
        encode(pa.table({"value": ["x", "y", "z"], "timestamp": times}))


def test_times_too_far_apart_for_the_format_are_refused() -> None:
    times = pa.array([-LAST_MS, LAST_MS + 2], pa.timestamp("ms", tz="UTC"))
    with pytest.raises(WireError, match="too far apart"):
        encode(pa.table({"value": ["x", "y"], "timestamp": times}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (pa.table({"value": pa.array([], pa.binary())}), "without rows"),
        (pa.table({"key": ["k"]}), "no column 'value'"),
        (pa.table({"value": [1.5]}), "'value' is double"),
        (pa.table({"value": ["x"], "headers": ["y"]}), "'headers' is string"),
    ],
)
def test_columns_that_are_no_records_are_refused(columns: pa.Table, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encode(columns)


def test_an_unknown_codec_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="codec 'brotli' is not known; use one of none, gzip, snappy, lz4, zstd"):
        encode(pa.table({"value": ["x"]}), codec="brotli")


def test_no_rows_are_no_slices() -> None:
    assert split_rows(pa.table({"value": pa.array([], pa.binary())}), max_bytes=100, max_rows=1) == []
    with pytest.raises(UsageError, match="at least 1"):
        split_rows(pa.table({"value": ["x"]}), max_bytes=100, max_rows=0)
