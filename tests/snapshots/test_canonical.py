"""The canonical encoding: golden bytes, the plain twin, and digests that cannot tell how rows were chunked."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstream.snapshots.canonical import PayloadHasher, RunHasher, payloads_of, positions_of
from tests.snapshots import oracle
from tests.snapshots.making import Row, columns

GOLDEN = [
    Row(0, b"v", key=b"k", timestamp=0),
    Row(2, None, key=None, timestamp=None, timestamp_type=1),
    Row(3, b"", key=b"", timestamp=1_700_000_000_123, headers=((b"trace", b"\x01"), (b"", None))),
]
GOLDEN_POSITIONS = "000000000000000000" "020000000000000001" "030000000000000000"  # fmt: skip
GOLDEN_PAYLOADS = (
    "0000000000000000" "01000000" "6b" "01000000" "76" "00000000"
    "ffffffffffffffff" "ffffffff" "ffffffff" "00000000"
    "7b68e5cf8b010000" "00000000" "00000000" "02000000"
    "05000000" "7472616365" "01000000" "01" "00000000" "ffffffff"
)  # fmt: skip
GOLDEN_RECORDS = "924cfc9bdcc78fac1c133d48d6753a9cd1ee919eca5f8767ba00a8e9966ae6f7"

binary = st.none() | st.binary(max_size=12)
rows = st.lists(
    st.builds(
        Row,
        offset=st.just(0),
        value=binary,
        key=binary,
        timestamp=st.none() | st.integers(0, 2**45),
        timestamp_type=st.integers(0, 1),
        headers=st.lists(st.tuples(st.binary(max_size=4), binary), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=40,
).map(lambda found: [Row(n, r.value, r.key, r.timestamp, r.timestamp_type, r.headers) for n, r in enumerate(found)])


def records(found: list[Row]) -> list[oracle.Record]:
    return [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, list(r.headers)) for r in found]


def test_the_encoding_is_the_documented_one_byte_for_byte() -> None:
    batch = columns(GOLDEN)
    assert bytes(positions_of(batch)).hex() == GOLDEN_POSITIONS
    assert bytes(payloads_of(batch)).hex() == GOLDEN_PAYLOADS
    hasher = RunHasher()
    hasher.update(batch)
    assert (
        hasher.digest().records
        == hashlib.sha256(
            hashlib.sha256(bytes.fromhex(GOLDEN_POSITIONS)).digest()
            + hashlib.sha256(bytes.fromhex(GOLDEN_PAYLOADS)).digest()
        ).digest()
    )
    assert hasher.digest().records.hex() == GOLDEN_RECORDS


@given(found=rows, cuts=st.lists(st.integers(0, 40), max_size=4))
@settings(deadline=None)
def test_the_encoding_equals_its_plain_twin_however_rows_are_sliced(found: list[Row], cuts: list[int]) -> None:
    batch = columns(found)
    edges = sorted({0, len(found), *(cut for cut in cuts if cut <= len(found))})
    hasher = RunHasher()
    for start, stop in pairwise(edges):
        part = batch.slice(start, stop - start)
        assert bytes(payloads_of(part)) == b"".join(map(oracle.payload, records(found[start:stop])))
        hasher.update(part)
    assert hasher.digest().records == oracle.records_digest(records(found))


@pytest.mark.parametrize(
    "changed",
    [
        Row(4, b"v", key=b"k", timestamp=0),
        Row(0, b"w", key=b"k", timestamp=0),
        Row(0, b"v", key=None, timestamp=0),
        Row(0, b"v", key=b"k", timestamp=None),
        Row(0, b"v", key=b"k", timestamp=0, timestamp_type=1),
        Row(0, b"v", key=b"k", timestamp=0, headers=((b"h", None),)),
        Row(0, b"", key=b"kv", timestamp=0),
    ],
)
def test_every_field_of_a_record_changes_the_records_digest(changed: Row) -> None:
    one, other = RunHasher(), RunHasher()
    one.update(columns([Row(0, b"v", key=b"k", timestamp=0)]))
    other.update(columns([changed]))
    assert one.digest().records != other.digest().records


def test_the_payload_digest_leaves_out_offsets_and_timestamp_types() -> None:
    one, other = PayloadHasher(), PayloadHasher()
    one.update(columns([Row(0, b"v", timestamp_type=0)]))
    other.update(columns([Row(9, b"v", timestamp_type=1)]))
    assert one.digest() == other.digest()


def test_null_and_empty_are_told_apart() -> None:
    assert bytes(payloads_of(columns([Row(0, None)]))) != bytes(payloads_of(columns([Row(0, b"")])))


def test_a_copied_hasher_goes_its_own_way() -> None:
    hasher = PayloadHasher()
    hasher.update(columns([Row(0, b"a")]))
    twin = hasher.copy()
    before = hasher.digest()
    twin.update(columns([Row(1, b"b")]))
    assert hasher.digest() == before != twin.digest()
    assert (hasher.rows, twin.rows) == (1, 2)


def test_values_behind_a_null_do_not_count() -> None:
    # An Arrow null may have bytes behind it; they are no part of the record.
    batch = columns([Row(0, b"secret"), Row(1, b"x")])
    value = pa.Array.from_buffers(
        pa.binary(), 2, [pa.py_buffer(b"\x02"), *batch.column("value").buffers()[1:]], null_count=1
    )
    masked = batch.set_column(4, "value", value)
    assert bytes(payloads_of(masked)) == bytes(payloads_of(columns([Row(0, None), Row(1, b"x")])))
