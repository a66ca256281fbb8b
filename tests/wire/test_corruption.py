"""Damaged bytes are an error that names topic, partition and offset, or the rows that they say; never a crash."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.errors import CorruptBatch, UnsupportedFormat, WireError
from mlstream.wire.decode import decode
from mlstream.wire.layout import CODECS, next_offset
from tests.wire import fuzz, plain
from tests.wire.plain import Record, build, seal, varint, write_record

ROWS = [
    Record(40, 1_700_000_000_000, b"key", b"value " * 30, ((b"name", b"content"), (b"", None))),
    Record(41, 1_700_000_000_500, None, b"value " * 40),
    Record(43, -1, b"", None, ((b"x", b""),)),
]
PROJECT = Path(__file__).parent.parent.parent


def refused(data: bytes, message: str) -> None:
    with pytest.raises(CorruptBatch, match=rf"^ticks\[6\] at offset 40: .*{message}") as caught:
        decode(data, topic="ticks", partition=6, start=0)
    assert (caught.value.topic, caught.value.partition, caught.value.offset) == ("ticks", 6, 40)


def with_records(body: bytes, *, count: int = 1, last_delta: int = 3, base_timestamp: int = 0) -> bytes:
    """An uncompressed batch at offset 40 of these bytes, with a true checksum."""
    front = struct.pack(">qiibI", 40, 0, 0, 2, 0)
    return seal(front + struct.pack(">hiqqqhii", 0, last_delta, base_timestamp, 0, -1, -1, -1, count) + body)


def record(body: bytes) -> bytes:
    return varint(len(body)) + body


GOOD = b"\0" + varint(0) + varint(0)  # attributes, no time delta, no offset delta


@pytest.mark.parametrize("codec", CODECS)
def test_any_flipped_bit_after_the_checksum_is_noticed(codec: str) -> None:
    whole = build(ROWS, codec=codec)
    for at in range(17, len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 1 << (at % 8)
        with pytest.raises(CorruptBatch, match=r"at offset 40: the batch is corrupt"):
            decode(bytes(broken), topic="ticks", partition=6, start=0)


def test_any_flipped_bit_before_the_checksum_gives_an_error_or_the_rows() -> None:
    whole = build(ROWS)
    rows = fuzz.outcome(whole)
    assert rows is not None
    for at in range(17):
        for bit in range(8):
            broken = bytearray(whole)
            broken[at] ^= 1 << bit
            found = fuzz.outcome(bytes(broken))
            if at < 8 and found is not None:  # the base offset is outside the checksum
                base = int.from_bytes(broken[:8], "big")
                assert [row.offset for row in found] == [base, base + 1, base + 3]
            elif at in range(12, 16):  # so is the leader's epoch
                assert found == rows
            else:  # a length that is too large makes the batch incomplete
                assert not found


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_cut_anywhere_with_its_length_and_checksum_made_true_is_corrupt(codec: str) -> None:
    whole = build(ROWS, codec=codec)
    for size in range(22, len(whole)):
        if size < 61:
            cut = whole[:8] + struct.pack(">i", size - 12) + whole[12:size]
            refused(cut, "too small for a batch")
        else:
            refused(seal(whole[:size]), "")


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_after_the_last_record_are_corrupt(codec: str) -> None:
    body = b"".join(write_record(row, base_offset=40, base_timestamp=ROWS[0].timestamp) for row in ROWS)
    whole = build(ROWS, codec=codec)
    header = whole[:61]
    refused(seal(header + plain.pack(codec, body + b"\0")), "there are bytes after its last record")


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**63))
def test_damage_with_a_true_checksum_is_refused_or_read_as_the_plain_twin_reads_it(seed: int) -> None:
    fuzz.check(seed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_or_incomplete(noise: bytes) -> None:
    assert not fuzz.outcome(noise)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 30), st.integers(0, 40), st.sampled_from(range(8)))
def test_noise_in_a_true_header_is_refused_or_read_as_the_plain_twin_reads_it(
    noise: bytes, count: int, last_delta: int, codec: int
) -> None:
    data = bytearray(with_records(noise, count=count, last_delta=last_delta))
    data[22] = codec
    sealed = seal(bytes(data))
    assert fuzz.outcome(sealed) == fuzz.expected(sealed)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x80" * 5 + b"\0" * 20, "record 0: a number in it is too long or cut off"),
        (b"\xff\xff\xff\xff\x10" + b"\0" * 20, "record 0: a number in it is too long or cut off"),
        (varint(-20) + b"\0" * 20, "record 0: the record's length does not fit the batch"),
        (varint(21) + b"\0" * 20, "record 0: the record's length does not fit the batch"),
        (varint(5) + b"\0" * 20, "record 0: the record's length does not fit the batch"),
        (record(b"\0" + b"\x80" * 10 + b"\0" * 6), "record 0: a number in it is too long or cut off"),
        (record(b"\0" + b"\xff" * 9 + b"\x02" + b"\0" * 6), "record 0: a number in it is too long or cut off"),
        (record(b"\0\0" + varint(4) + b"\1\1\0"), "record 0: the record's offset does not follow"),
        (record(b"\0\0" + varint(-1) + b"\1\1\0"), "record 0: the record's offset does not follow"),
        (record(GOOD + varint(-2) + b"\1\0" + b"\0"), "record 0: the key's length does not fit the record"),
        (record(GOOD + varint(9) + b"\1\0" + b"\0"), "record 0: the key's length does not fit the record"),
        (record(GOOD + varint(2**31 - 1) + b"\1\0"), "record 0: the key's length does not fit the record"),
        (record(GOOD + b"\1" + varint(-(2**31)) + b"\0"), "record 0: the value's length does not fit the record"),
        (record(GOOD + b"\1" + varint(9) + b"\0"), "record 0: the value's length does not fit the record"),
        (record(GOOD + b"\1\1" + varint(-1)), "record 0: the number of headers does not fit the record"),
        (record(GOOD + b"\1\1" + varint(2) + b"\0\1"), "record 0: the number of headers does not fit the record"),
        (record(GOOD + b"\1\1" + varint(2**31 - 1)), "record 0: the number of headers does not fit the record"),
        (record(GOOD + b"\1\1" + varint(1) + varint(-1) + b"\1"), "record 0: a header's length does not fit"),
        (record(GOOD + b"\1\1" + varint(1) + varint(5) + b"\1"), "record 0: a header's length does not fit"),
        (record(GOOD + b"\1\1" + varint(1) + b"\0" + varint(-2)), "record 0: a header's length does not fit"),
        (record(GOOD + b"\1\1" + varint(1) + b"\0" + varint(5)), "record 0: a header's length does not fit"),
        (record(GOOD + b"\1\1\0" + b"\0"), "record 0: the record is longer than its contents"),
        (record(GOOD + b"\1\1\0") + b"\0", "corrupt: there are bytes after its last record"),
        (b"", "corrupt: its number of records does not fit its offsets or its length"),
    ],
)
def test_what_is_wrong_in_a_record_is_named(body: bytes, message: str) -> None:
    refused(with_records(body), message)


def test_records_out_of_order_are_corrupt() -> None:
    first, second = record(b"\0\0" + varint(1) + b"\1\1\0"), record(GOOD + b"\1\1\0")
    refused(with_records(first + second, count=2), "record 1: the record's offset does not follow")
    refused(with_records(first + first, count=2), "record 1: the record's offset does not follow")


@pytest.mark.parametrize(
    ("base", "delta"), [(2**63 - 1, 1), (1, 2**63 - 1), (-(2**63), -1), (-1, -(2**63)), (2**63 - 1, 2**63 - 1)]
)
def test_a_time_past_64_bits_is_corrupt(base: int, delta: int) -> None:
    body = record(b"\0" + varint(delta) + varint(0) + b"\1\1\0")
    refused(with_records(body, base_timestamp=base), "record 0: the record's timestamp is out of range")


@pytest.mark.parametrize(
    ("base", "delta"), [(2**63 - 1, -(2**63)), (-(2**63), 2**63 - 1), (0, -(2**63)), (2**63 - 1, 0)]
)
def test_the_first_and_the_last_times_of_64_bits_are_read(base: int, delta: int) -> None:
    body = record(b"\0" + varint(delta) + varint(0) + b"\1\1\0")
    found = decode(with_records(body, base_timestamp=base), topic="t", partition=0, start=0)
    assert found.columns["timestamp"].cast(pa.int64()).fill_null(-1).to_pylist() == [base + delta]


@pytest.mark.parametrize(
    ("count", "last_delta"), [(2, 0), (-1, 3), (2**31 - 1, 3), (2**31 - 1, 2**31 - 1), (1, -1), (3, 3), (0, 3)]
)
def test_a_number_of_records_that_cannot_be_is_corrupt(count: int, last_delta: int) -> None:
    refused(with_records(record(GOOD + b"\1\1\0") * 2, count=count, last_delta=last_delta), "")


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_number_of_records_that_the_bytes_cannot_hold_is_refused_before_room_is_made(codec: str) -> None:
    data = bytearray(build(ROWS, codec=codec))
    data[23:27] = data[57:61] = (2**31 - 1).to_bytes(4, "big")
    refused(seal(bytes(data)), "its number of records does not fit")


@pytest.mark.parametrize("base", [-1, -(2**63), 2**63 - 2, 2**63 - 1])
def test_offsets_past_64_bits_are_corrupt(base: int) -> None:
    data = struct.pack(">q", base) + build(ROWS)[8:]
    with pytest.raises(CorruptBatch, match=rf"t\[0\] at offset {base}: .* its offsets are negative or too large"):
        next_offset(data, 0, topic="t", partition=0)


def test_rows_before_a_damaged_batch_do_not_hide_it() -> None:
    damaged = bytearray(build(ROWS))
    damaged[-1] ^= 1
    sound = build([Record(1, 1, None, b"x")])
    with pytest.raises(
        CorruptBatch, match=r"t\[0\] at offset 40: .* its checksum does not match its bytes; read it again"
    ):
        decode(sound + bytes(damaged), topic="t", partition=0, start=0)


def test_a_damaged_batch_after_the_range_does_not_matter() -> None:
    damaged = bytearray(build(ROWS))
    damaged[-1] ^= 1
    sound = build([Record(1, 1, None, b"x")])
    found = decode(sound + bytes(damaged), topic="t", partition=0, start=0, stop=40)
    assert (found.columns.num_rows, found.next_offset) == (1, 40)


@pytest.mark.parametrize(
    ("at", "value"), [(16, 0), (16, 3), (11, 1), (0, 255)], ids=["old", "new", "short", "negative"]
)
def test_a_batch_with_a_header_that_cannot_be_does_not_matter_after_the_range(at: int, value: int) -> None:
    damaged = bytearray(build(ROWS))
    damaged[at] = value
    if at == 11:
        damaged[8:11] = bytes(3)
    data = build([Record(39, 1, None, b"x")]) + bytes(damaged)
    found = decode(data, topic="t", partition=0, start=0, stop=40)
    assert (found.columns.num_rows, found.next_offset) == (1, 40)
    assert next_offset(data, 0, stop=40) == 40
    with pytest.raises(WireError):
        next_offset(data, 0, stop=41)
    with pytest.raises(WireError):
        decode(data, topic="t", partition=0, start=0, stop=41)


@pytest.mark.parametrize("mangle", [lambda data: data[:1], lambda data: data[:-1], lambda data: data + b"\0\1\2"])
@pytest.mark.parametrize("codec", CODECS[1:])
def test_compressed_data_that_is_cut_or_followed_by_noise_is_corrupt(
    codec: str, mangle: Callable[[bytes], bytes]
) -> None:
    whole = build(ROWS, codec=codec)
    refused(seal(whole[:61] + mangle(whole[61:])), f"its {codec} data does not decompress")


def test_snappy_frames_and_raw_blocks_are_both_read() -> None:
    plain_bytes = build(ROWS)[61:]
    header = build(ROWS, codec="snappy")[:61]
    raw = plain.pack("snappy", plain_bytes)[20:]
    assert fuzz.outcome(seal(header + raw)) == ROWS
    assert fuzz.outcome(seal(header + plain.pack("snappy", plain_bytes))) == ROWS
    frame = plain.pack("snappy", plain_bytes)
    for broken in (frame[:12], frame[:18], frame[:16] + b"\xff" * 4 + frame[20:]):
        refused(seal(header + broken), "its snappy data does not decompress")


def test_every_access_is_inside_its_array(tmp_path: Path) -> None:
    """numba's own bounds checks, in a process of its own because they are compiled in."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.wire.fuzz", "500"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("of 500 refused\n")


def test_unknown_codecs_are_refused_as_such() -> None:
    with pytest.raises(UnsupportedFormat, match="codec 5"):
        decode(build(ROWS, attributes=5), topic="t", partition=0, start=0)


def test_a_number_of_records_that_cannot_be_is_corrupt_in_a_later_batch_too() -> None:
    sound = build([Record(1, 1, None, b"x")], codec="lz4")
    data = bytearray(build(ROWS, codec="lz4"))
    data[23:27] = data[57:61] = (2**31 - 1).to_bytes(4, "big")
    refused(sound + seal(bytes(data)), "its number of records does not fit")
