"""Plain records → columns: runs the kernels over some batches and wraps the buffers. Decompresses nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mlstream.wire import record_kernels as kernels
from mlstream.wire.batches import Batches
from mlstream.wire.columns import SCHEMA, Binaries, Bytes, header_lists, make_room, no_headers, timestamps
from mlstream.wire.layout import Place, refuse_record


@dataclass(frozen=True, slots=True)
class Rows:
    """The records of some batches: kept ones as columns, dropped ones as counts."""

    columns: pa.RecordBatch
    control: int
    aborted: int


def to_columns(source: Bytes, scratch: Bytes, batches: Batches, *, start: int, stop: int, place: Place) -> Rows:
    """The records with offsets in `[start, stop)` of batches.

    Args:
        source, scratch: where the batches' records are.
        batches: each with its kind and the place of its records; no more of them than fit there.
        place: the topic and partition, for errors.

    Raises:
        CorruptBatch: a record does not fit its batch.
    """
    room = int(batches.records[batches.kind != kernels.SKIPPED].sum())
    offsets, times, key_at, value_at = (make_room(room, np.int64) for _ in range(4))
    types = make_room(room, np.uint8)
    key_ends, value_ends, header_ends = (make_room(room + 1, np.int32) for _ in range(3))
    valid = np.full((3, (room + 7) // 8), 0xFF, np.uint8)
    counts = np.zeros(kernels.COUNTS, np.int64)
    # 5. check every record and note where its parts are
    problem = kernels.parse(
        source, scratch, batches, start, stop, offsets, times, types,
        key_at, key_ends, value_at, value_ends, header_ends, valid, counts,
    )  # fmt: skip
    if problem != kernels.FINE:
        offset = int(batches.base_offset[counts[kernels.BAD_BATCH]])
        record = int(counts[kernels.BAD_RECORD])
        refuse_record(problem, place=place, offset=offset, record=None if record < 0 else record)
    # 6. copy keys, values and headers to columns
    rows = int(counts[kernels.ROWS_FILLED])
    key_ends, value_ends, header_ends = key_ends[: rows + 1], value_ends[: rows + 1], header_ends[: rows + 1]
    keys = make_room(int(key_ends[rows]), np.uint8)
    values = make_room(int(value_ends[rows]), np.uint8)
    kernels.copy_binaries(source, scratch, batches, key_at, key_ends, keys)
    kernels.copy_binaries(source, scratch, batches, value_at, value_ends, values)
    headers = int(counts[kernels.HEADERS])
    if headers == 0:
        lists = no_headers(rows)
    else:
        name_ends, content_ends = make_room(headers + 1, np.int32), make_room(headers + 1, np.int32)
        names = make_room(int(counts[kernels.NAME_BYTES]), np.uint8)
        contents = make_room(int(counts[kernels.CONTENT_BYTES]), np.uint8)
        known = np.full((headers + 7) // 8, 0xFF, np.uint8)
        nulls = kernels.copy_headers(
            source, scratch, batches, value_at, value_ends, header_ends, name_ends, names, content_ends, contents, known
        )
        lists = header_lists(
            header_ends, Binaries(name_ends, names, known, 0), Binaries(content_ends, contents, known, nulls)
        )
    columns = [
        pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(offsets[:rows])], 0),
        timestamps(times[:rows], valid[0], int(counts[kernels.NULL_TIMESTAMPS])),
        pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(types[:rows])], 0),
        Binaries(key_ends, keys, valid[1], int(counts[kernels.NULL_KEYS])).array(rows),
        Binaries(value_ends, values, valid[2], int(counts[kernels.NULL_VALUES])).array(rows),
        lists,
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return Rows(batch, int(counts[kernels.CONTROLS]), int(counts[kernels.ABORTS]))
