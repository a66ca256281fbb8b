"""Arrow columns → record batches. Opens no sockets.

The records are written uncompressed in one pass, compressed as one piece, and get their header and checksum. A piece
that compression does not make smaller is sent as it is, so a batch is never larger than `split_rows` measured.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from crc32c import crc32c

from mlstream.errors import UsageError, WireError
from mlstream.wire import encode_kernels as kernels
from mlstream.wire.codecs import compress
from mlstream.wire.columns import HEADERS, NO_TIMESTAMP, SCHEMA, Ints, Longs, flags_of, frozen, numbers_of, parts_of
from mlstream.wire.encode_kernels import Cells, Records
from mlstream.wire.layout import CHECKED_FROM, CODECS, HEADER, HEADER_BYTES, MAGIC, TRANSACTIONAL

Columns: TypeAlias = "pa.RecordBatch | pa.Table"

_MAX_BATCH_BYTES = 2**31 - 1
_MAX_SPAN_MS = 2**63 - 1


def encode(
    columns: Columns,
    *,
    codec: str = "zstd",
    level: int = 1,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
) -> bytes:
    """One record batch of format 2 that holds all rows.

    Args:
        columns: `value` (binary or string) and, where they are there, `key` (the same), `timestamp` (of any unit) and
            `headers` (as in `columns.SCHEMA`, or a dictionary of such lists: what rows share costs next to nothing).
            Other columns are ignored; the offsets are 0 to rows - 1.
        codec: none, gzip, snappy, lz4 or zstd.
        level: how hard gzip and zstd try.
        producer_id, producer_epoch, base_sequence: of an idempotent or transactional producer.
        transactional: whether the batch belongs to a transaction.

    Raises:
        UsageError: no rows, an unknown codec, or columns of other types.
        WireError: a row that the format cannot hold, or all rows together are larger than a batch may be.
    """
    if codec not in CODECS:
        raise UsageError(f"codec {codec!r} is not known", hint=f"use one of {', '.join(CODECS)}")
    rows = columns.num_rows
    if rows == 0:
        raise UsageError("a record batch without rows cannot be written", hint="skip it")
    records = _to_records(columns)
    first, last = int(records.times[0]), int(records.times.max())
    out = np.empty(_bound(records), np.uint8)
    end = kernels.write(records, out, HEADER_BYTES)
    attributes = TRANSACTIONAL if transactional else 0
    plain = out[HEADER_BYTES:end].data
    packed: memoryview | bytes = plain
    if codec != "none":
        squeezed = compress(CODECS.index(codec), plain, level=level)
        if len(squeezed) < len(plain):
            packed = squeezed
            attributes |= CODECS.index(codec)
    size = HEADER_BYTES + len(packed)
    if size > _MAX_BATCH_BYTES:
        raise WireError(f"{rows} rows take {size} bytes, more than a record batch may hold", hint="use split_rows")

    def header(checksum: int) -> bytes:
        return HEADER.pack(
            0, size - 12, -1, MAGIC, checksum, attributes, rows - 1, first, last,
            producer_id, producer_epoch, base_sequence, rows,
        )  # fmt: skip

    checksum = crc32c(packed, crc32c(header(0)[CHECKED_FROM:]))
    return b"".join((header(checksum), packed))


def split_rows(columns: Columns, *, max_bytes: int, max_rows: int) -> list[tuple[int, int]]:
    """Cut rows into slices `[start, stop)` that each become a batch of at most `max_bytes` and `max_rows`.

    Raises:
        UsageError: columns of other types than `encode` takes, or a limit below 1.
        WireError: a single row is larger than `max_bytes`.
    """
    if min(max_bytes, max_rows) < 1:
        raise UsageError("max_bytes and max_rows must be at least 1")
    if columns.num_rows == 0:
        return []
    records = _to_records(columns)
    stops = np.empty(columns.num_rows, np.int64)
    found, row, size = kernels.split(records, HEADER_BYTES, min(max_bytes, _MAX_BATCH_BYTES), max_rows, stops)
    if row >= 0:
        raise WireError(
            f"row {row} takes {size} bytes as a record batch, more than the {max_bytes} that are allowed",
            hint="raise max.message.bytes of the topic and the limit here, or make the value smaller",
            row=row,
            size_bytes=size,
        )
    ends = stops[:found].tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _to_records(columns: Columns) -> Records:
    if "value" not in columns.schema.names:
        raise UsageError(f"there is no column 'value' among {', '.join(columns.schema.names)}")
    values = _to_cells(_column(columns, "value", pa.binary()))
    keys = _to_cells(_column(columns, "key", pa.binary()))
    times = _to_times(_column(columns, "timestamp", SCHEMA.field("timestamp").type))
    return Records(times, keys, values, *_to_blocks(columns))


def _to_blocks(columns: Columns) -> tuple[Cells, Ints]:
    """The lists of headers as records hold them, and which of them each row has. What rows share is written once."""
    rows = columns.num_rows
    found = columns.column("headers") if "headers" in columns.schema.names else None
    if found is None or found.null_count == rows:
        return _no_headers(), frozen(np.zeros(rows, np.int32))
    block_of = np.arange(rows, dtype=np.int32)
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    if not pa.types.is_dictionary(found.type):
        lists = _one(found, "headers")
    elif len(chunks) == 1 and not found.null_count:
        lists, block_of = chunks[0].dictionary, numbers_of(chunks[0].indices.cast(pa.int32()), np.int32)
    else:
        lists = pa.concat_arrays([chunk.dictionary.take(chunk.indices) for chunk in chunks])
    lists = _cast(lists, "headers", HEADERS)
    return _write_blocks(lists, block_of), frozen(block_of)


def _no_headers() -> Cells:
    """One empty list: a zero, which is their number."""
    return Cells(frozen(np.array([0, 1], np.int32)), frozen(np.zeros(1, np.uint8)), np.empty(0, np.bool_))


def _write_blocks(lists: pa.Array, block_of: Ints) -> Cells:
    """Each list of headers as records hold it."""
    lengths = numbers_of(pc.list_value_length(lists), np.int32)
    starts = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    names, contents = lists.flatten().flatten()
    if names.null_count:
        nameless = int(pc.index(names.is_null(), True).as_py())
        row = int(np.flatnonzero(block_of == np.searchsorted(starts, nameless, side="right") - 1)[0])
        raise WireError(f"row {row}: a header without a name cannot be written", row=row)
    cells = _to_cells(names), _to_cells(contents)
    room = len(lists) * kernels.BLOCK_OVERHEAD + len(names) * kernels.HEADER_OVERHEAD + sum(map(_bytes, cells))
    data, ends = np.empty(room, np.uint8), np.empty(len(lists) + 1, np.int32)
    kernels.write_blocks(frozen(starts), *cells, data, ends)
    return Cells(frozen(ends), frozen(data), np.empty(0, np.bool_))


def _column(columns: Columns, name: str, kind: pa.DataType) -> pa.Array:
    """One column as one array of that type; all null where it is missing."""
    if name not in columns.schema.names:
        return pa.nulls(columns.num_rows, kind)
    return _cast(_one(columns.column(name), name), name, kind)


def _one(found: pa.Array | pa.ChunkedArray, name: str) -> pa.Array:
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        raise UsageError(f"column {name!r} is too large for one batch", hint="give fewer rows at once")
    return found


def _cast(found: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    try:
        return found if found.type == kind else found.cast(kind)
    except pa.ArrowException as exc:
        raise UsageError(f"column {name!r} is {found.type}, which is no {kind}: {exc}") from exc


def _to_cells(array: pa.Array) -> Cells:
    valid = flags_of(array.is_valid()) if array.null_count else np.empty(0, np.bool_)
    ends, data = parts_of(array)
    return Cells(ends, data, valid)


def _to_times(array: pa.Array) -> Longs:
    times = numbers_of(array.cast(pa.int64()), np.int64, null=NO_TIMESTAMP)
    if np.count_nonzero(times == NO_TIMESTAMP) != array.null_count:
        row = int(np.flatnonzero((times == NO_TIMESTAMP) & flags_of(array.is_valid()))[0])
        raise WireError(
            f"row {row}: the last millisecond of 1969 cannot be written: -1 stands for no timestamp",
            hint="make it null or move it",
            row=row,
        )
    if len(times) and int(times.max()) - int(times.min()) > _MAX_SPAN_MS:
        raise WireError("the timestamps are too far apart for one batch", hint="use fewer rows")
    return times


def _bound(records: Records) -> int:
    """At least as many bytes as the batch can take uncompressed."""
    blocks = int(np.diff(records.blocks.ends)[records.block_of].sum())
    overhead = HEADER_BYTES + len(records.times) * kernels.RECORD_OVERHEAD
    return overhead + _bytes(records.keys) + _bytes(records.values) + blocks


def _bytes(cells: Cells) -> int:
    """How many bytes its cells take."""
    return int(cells.ends[-1]) - int(cells.ends[0])
