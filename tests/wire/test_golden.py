"""Bytes that others wrote are read as they meant them, and ours stay what they are.

`golden/` holds the answers of an Apache Kafka 4.3.1 broker: `broker-*` are batches that the broker compressed itself
(with the Java client's codecs, which its topics' `compression.type` asked for), `librdkafka` holds one batch of each
codec of that client, `transactions-*` two transactional producers and a plain one.
"""

from __future__ import annotations

import pyarrow as pa
import pytest

from mlstream.errors import UnsupportedFormat
from mlstream.wire.decode import AbortedTransaction, decode
from mlstream.wire.encode import encode
from mlstream.wire.layout import next_offset
from tests.wire import plain
from tests.wire.columns import to_columns, to_records
from tests.wire.plain import CODECS, Record

FORMAT_0 = (
    "0000000000000000000000162356c1370000000000036b65790000000576616c7565"
    "0000000000000001000000116732f40b0000ffffffff0000000374776f"
)
FORMAT_1 = (
    "00000000000000000000001e6ad05db801000000018bcfe56800000000036b65790000000576616c7565"
    "000000000000000100000019a3b4fa3701000000018bcfe56801ffffffff0000000374776f"
)
# Two records: "v" with the header h: null at 999 ms, and null with the same header at 998 ms.
OURS = (
    "000000000000000000000046ffffffff029c30366200000000000100000000000003e700000000000003e7"
    "ffffffffffffffffffffffffffff00000002"
    "14" "00" "00" "00" "01" "0276" "02" "0268" "01"
    "12" "00" "01" "02" "01" "01" "02" "0268" "01"
)  # fmt: skip

BROKER = [
    Record(
        row,
        1_700_000_000_000 + row * 1000,
        None if row % 5 == 4 else f"key-{row % 3}".encode(),
        None if row % 7 == 6 else f"value {row} of the golden batch, value {row} of it".encode(),
        ((b"a", str(row).encode()), (b"b", None)) if row % 4 == 1 else (),
    )
    for row in range(12)
]
LIBRDKAFKA = [
    Record(
        batch * 8 + row,
        1_700_000_000_000 + row * 1000 - (5000 if row == 4 else 0),
        None if row % 3 else f"k{row}".encode(),
        b"" if row == 2 else f"a value that repeats itself, repeats itself {row}".encode(),
        ((b"h", b"\x00\xff"), (b"h", None), (b"empty", b"")) if row == 1 else (),
    )
    for batch in range(5)
    for row in range(8)
]


@pytest.mark.parametrize("codec", CODECS)
def test_batches_of_the_java_codecs_are_read(golden: dict[str, bytes], codec: str) -> None:
    data = golden[f"broker-{codec}"]
    assert CODECS[data[22] & 7] == codec
    found = decode(data, topic="t", partition=0, start=0)
    assert to_records(found.columns) == BROKER
    assert (found.next_offset, found.control, found.aborted, found.leader_epochs) == (12, 0, 0, ((0, 0),))


def test_batches_of_librdkafka_are_read_in_every_codec(golden: dict[str, bytes]) -> None:
    data = golden["librdkafka"]
    found = decode(data, topic="t", partition=0, start=0)
    assert to_records(found.columns) == LIBRDKAFKA
    assert next_offset(data, 0) == found.next_offset == 40


def test_rows_of_a_topic_with_append_time_have_the_brokers_time(golden: dict[str, bytes]) -> None:
    appended_ms = 1_795_523_712_365
    found = decode(golden["broker-lz4-log-append-time"], topic="t", partition=0, start=0)
    expected = [Record(row.offset, appended_ms, row.key, row.value, row.headers, 1) for row in BROKER]
    assert to_records(found.columns) == expected


def test_real_transactions_keep_what_was_committed(golden: dict[str, bytes]) -> None:
    first = decode(golden["transactions-0"], topic="t", partition=0, start=0, aborted=[AbortedTransaction(1, 2)])
    assert first.columns["value"].to_pylist() == [b"one committed 0", b"one committed 1", b"plain 0"]
    assert (first.next_offset, first.control, first.aborted) == (4, 0, 1)
    aborted = [AbortedTransaction(1, 2), AbortedTransaction(0, 5)]
    second = decode(golden["transactions-1"], topic="t", partition=0, start=4, aborted=aborted)
    assert second.columns["value"].to_pylist() == [b"plain 1", b"two committed 0", b"plain 2"]
    assert (second.next_offset, second.control, second.aborted) == (14, 4, 3)
    assert second.columns["offset"].to_pylist() == [8, 10, 12]


def test_the_plain_twin_reads_the_golden_batches_too(golden: dict[str, bytes]) -> None:
    assert plain.read(golden["librdkafka"]) == LIBRDKAFKA
    assert all(plain.read(golden[f"broker-{codec}"]) == BROKER for codec in CODECS)


@pytest.mark.parametrize(("data", "number"), [(FORMAT_0, 0), (FORMAT_1, 1)])
def test_old_message_formats_are_refused_by_name(data: str, number: int) -> None:
    message = rf"ticks\[3\] at offset 0: message format {number}, which producers wrote before Kafka 0\.11, is not read"
    with pytest.raises(UnsupportedFormat, match=message) as caught:
        decode(bytes.fromhex(data), topic="ticks", partition=3, start=0)
    assert (caught.value.topic, caught.value.partition, caught.value.offset, caught.value.magic) == (
        "ticks",
        3,
        0,
        number,
    )
    with pytest.raises(UnsupportedFormat, match=message):
        next_offset(bytes.fromhex(data), 0, topic="ticks", partition=3)


@pytest.mark.parametrize("magic", [3, 4, 127, 128, 255])
def test_message_formats_to_come_are_refused_by_number(magic: int) -> None:
    batch = bytearray(plain.build([Record(5, 1, b"k", b"v")]))
    batch[16] = magic
    with pytest.raises(UnsupportedFormat, match=rf"at offset 5: message format {magic} is not known; .*upgrade"):
        decode(bytes(batch), topic="t", partition=0, start=0)


@pytest.mark.parametrize("number", [5, 6, 7])
def test_codecs_to_come_are_refused_by_number(number: int) -> None:
    batch = plain.build([Record(5, 1, b"k", b"v")], attributes=number)
    with pytest.raises(UnsupportedFormat, match=rf"t\[0\] at offset 5: codec {number} is not known"):
        decode(batch, topic="t", partition=0, start=0)


def test_what_is_written_does_not_change_from_version_to_version() -> None:
    columns = pa.table({"value": ["v", None], "timestamp": pa.array([999, 998], pa.timestamp("ms", tz="UTC"))})
    headers = to_columns([Record(0, 0, None, b"", ((b"h", None),))])["headers"]
    columns = columns.append_column("headers", pa.concat_arrays([headers, headers]))
    assert encode(columns, codec="none").hex() == OURS


def test_a_topic_that_mixes_formats_is_refused_where_the_old_one_begins() -> None:
    data = plain.build([Record(0, 1, b"k", b"v")]) + bytes.fromhex(FORMAT_1)
    with pytest.raises(UnsupportedFormat, match="message format 1"):
        decode(data, topic="t", partition=0, start=0)
