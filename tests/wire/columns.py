"""Records ↔ columns for the tests, and hypothesis strategies that make both."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st

from mlstream.wire.columns import SCHEMA
from tests.wire.plain import Record

FIRST_MS, LAST_MS = -(2**62), 2**62 - 1

small = st.binary(max_size=12)
long = st.integers(60, 20_000).map(lambda size: bytes(range(251)) * (size // 251) + bytes(size % 251))
cells = st.none() | st.just(b"") | small | long
names = st.just(b"") | small | st.just("naïve".encode())
timestamps = (
    st.just(-1)
    | st.integers(FIRST_MS, -2)
    | st.integers(0, LAST_MS)
    | st.integers(1_700_000_000_000, 1_700_000_009_999)
)
headers = st.lists(st.tuples(names, st.none() | small | long), max_size=4).map(tuple)


@st.composite
def records(draw: st.DrawFn, *, gaps: bool = False, utf8_names: bool = False) -> list[Record]:
    """One batch's worth of records, offsets rising from some base; with gaps as compaction leaves them."""
    at = draw(st.integers(0, 2**40)) if gaps else 0
    found = []
    plain = draw(st.booleans())
    for _ in range(draw(st.integers(1, 12))):
        parts = () if plain else draw(headers)
        if utf8_names:
            parts = tuple((name.hex().encode(), value) for name, value in parts)
        found.append(Record(at, draw(timestamps), draw(cells), draw(cells), parts))
        at += 1 + (draw(st.sampled_from((0, 0, 1, 300, 100_000))) if gaps else 0)
    return found


def to_columns(rows: list[Record]) -> pa.RecordBatch:
    """Records → the columns of the wire's schema."""
    return pa.RecordBatch.from_pylist(
        [
            {
                "offset": row.offset,
                "timestamp": None if row.timestamp == -1 else row.timestamp,
                "timestamp_type": row.timestamp_type,
                "key": row.key,
                "value": row.value,
                "headers": [{"key": name, "value": value} for name, value in row.headers],
            }
            for row in rows
        ],
        schema=SCHEMA,
    )


def to_records(columns: pa.RecordBatch) -> list[Record]:
    """Columns → records, after a full check that Arrow finds them well-formed."""
    columns.validate(full=True)
    assert columns.schema == SCHEMA
    times = columns["timestamp"].cast(pa.int64()).fill_null(-1)
    plain = columns.set_column(1, "timestamp", times).to_pylist()
    return [
        Record(
            row["offset"],
            row["timestamp"],
            row["key"],
            row["value"],
            tuple((header["key"], header["value"]) for header in row["headers"]),
            row["timestamp_type"],
        )
        for row in plain
    ]
