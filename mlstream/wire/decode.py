"""Record batches → Arrow columns, many batches at once. Opens no sockets.

The steps, for the complete batches of one fetch response:
1. walk the headers;
2. check each batch's CRC-32C;
3. decompress what is compressed, all of it into one buffer that is capped;
4. tell control batches and batches of aborted transactions apart;
5. check every record and note where its parts are;
6. copy keys, values and headers to columns.

Control batches (transaction markers) and aborted records are no rows; they are counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from crc32c import crc32c

from mlstream.errors import UnsupportedFormat, UsageError, WireError
from mlstream.wire import decode_kernels as kernels
from mlstream.wire.codecs import decompress_into
from mlstream.wire.columns import SCHEMA, Binaries, Bytes, Longs, header_lists, no_headers, timestamps
from mlstream.wire.layout import (
    CHECKED_FROM,
    CODEC_MASK,
    CODECS,
    CONTROL,
    TRANSACTIONAL,
    Data,
    as_array,
    corrupt,
    read_headers,
    refuse,
)

MAX_BATCH_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
_ARROW_BYTES = 2**31 - 1  # a binary column's offsets are int32
_FIRST_GUESS = 4  # decompressed bytes for one compressed byte


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    """A transaction that was aborted, as a fetch response lists it: its producer and the offset of its first record."""

    producer_id: int
    first_offset: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the offsets `[start, next_offset)`.

    Attributes:
        columns: one row a record, of `columns.SCHEMA`, in offset order.
        next_offset: where reading goes on: after the last complete batch, at most the `stop` that was asked for.
        control: records of control batches in the range, which are no rows.
        aborted: records of aborted transactions in the range, which are no rows.
        leader_epochs: (epoch, first offset seen with it), a pair for each change.
    """

    columns: pa.RecordBatch
    next_offset: int
    control: int
    aborted: int
    leader_epochs: tuple[tuple[int, int], ...]


def decode(
    data: Data,
    *,
    topic: str,
    partition: int,
    start: int,
    stop: int | None = None,
    aborted: Iterable[AbortedTransaction] = (),
    max_batch_bytes: int = MAX_BATCH_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
) -> Decoded:
    """Decode the complete batches of one fetch response.

    Args:
        data: record batches as the broker sent them; an incomplete last one is left for the next fetch.
        topic, partition: where the data comes from, for errors.
        start, stop: records with an offset in `[start, stop)` become rows; to the end when `stop` is None.
        aborted: the aborted transactions that the response lists; without them all transactions count as committed.
        max_batch_bytes: the largest that one batch may become when it is decompressed.
        max_total_bytes: the largest that all of them together may become.

    Raises:
        CorruptBatch: lengths, checksum or contents of a batch do not fit, or it becomes larger than allowed.
        UnsupportedFormat: message formats other than 2, and unknown codecs.
        WireError: all batches together become larger than allowed.
    """
    if max(max_batch_bytes, max_total_bytes) > _ARROW_BYTES:
        raise UsageError(f"max_batch_bytes and max_total_bytes may be at most {_ARROW_BYTES}")
    source = as_array(data)
    # 1. walk the headers
    table = read_headers(source, topic=topic, partition=partition)
    last = np.iinfo(np.int64).max if stop is None else stop
    table = table[:, table[kernels.BASE_OFFSET] < last]
    where = _Place(topic, partition)
    _check_sums(data, table, where)
    scratch = _decompress(data, table, start, where, max_batch_bytes, max_total_bytes)
    _classify(source, scratch, table, start, sorted(aborted, key=lambda found: found.first_offset))
    columns, counts = _to_columns(source, scratch, table, start, last, where)
    after = start
    if table.shape[1]:
        after = min(last, max(start, int(table[kernels.BASE_OFFSET, -1] + table[kernels.LAST_DELTA, -1]) + 1))
    return Decoded(
        columns, after, int(counts[kernels.CONTROLS]), int(counts[kernels.ABORTS]), _leader_epochs(table, start)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    topic: str
    partition: int


def _check_sums(data: Data, table: Longs, where: _Place) -> None:
    # 2. check each batch's CRC-32C
    view = memoryview(data)
    for begin, end, expected, offset in table[
        [kernels.BEGIN, kernels.END, kernels.CRC, kernels.BASE_OFFSET]
    ].T.tolist():
        if crc32c(view[begin + CHECKED_FROM : end]) != expected:
            corrupt("its checksum is wrong", topic=where.topic, partition=where.partition, offset=offset)


def _decompress(
    data: Data, table: Longs, start: int, where: _Place, max_batch_bytes: int, max_total_bytes: int
) -> Bytes:
    # 3. decompress what is compressed
    ends = table[kernels.BASE_OFFSET] + table[kernels.LAST_DELTA]
    before = ends < start
    table[kernels.KIND, before] = kernels.SKIP
    codecs = table[kernels.ATTRIBUTES] & CODEC_MASK
    wanted = np.flatnonzero(codecs != 0)
    compressed = int((table[kernels.LAST] - table[kernels.FIRST])[wanted].sum())
    scratch = np.empty(compressed * _FIRST_GUESS, np.uint8)
    view = memoryview(data)
    used = 0
    for batch in wanted.tolist():
        codec = int(codecs[batch])
        offset = int(table[kernels.BASE_OFFSET, batch])
        if codec >= len(CODECS):
            raise UnsupportedFormat(
                f"{where.topic}[{where.partition}] at offset {offset}: codec {codec} is not known",
                hint="upgrade mlstream",
                topic=where.topic,
                partition=where.partition,
                offset=offset,
                codec=codec,
            )
        piece = view[int(table[kernels.FIRST, batch]) : int(table[kernels.LAST, batch])]
        size = 0
        while len(piece):
            room = min(len(scratch) - used, max_batch_bytes)
            try:
                size = decompress_into(codec, piece, scratch[used : used + room])
                break
            except ValueError as exc:
                if room == max_batch_bytes:
                    corrupt(
                        f"its {CODECS[codec]} data does not decompress to at most {max_batch_bytes} bytes: {exc}",
                        topic=where.topic,
                        partition=where.partition,
                        offset=offset,
                    )
                grown = np.empty(used + min(max(4 * room, 65536), max_batch_bytes), np.uint8)
                grown[:used] = scratch[:used]
                scratch = grown
        table[kernels.SCRATCH, batch] = 1
        table[kernels.FIRST, batch] = used
        used += size
        table[kernels.LAST, batch] = used
        if used > max_total_bytes:
            raise WireError(
                f"{where.topic}[{where.partition}] at offset {offset}: the batches decompress to more than "
                f"{max_total_bytes} bytes",
                hint="fetch less at once",
                topic=where.topic,
                partition=where.partition,
                offset=offset,
            )
    scratch = scratch[:used]
    scratch.flags.writeable = False
    return scratch


def _classify(source: Bytes, scratch: Bytes, table: Longs, start: int, aborted: list[AbortedTransaction]) -> None:
    # 4. tell control batches and batches of aborted transactions apart
    attributes = table[kernels.ATTRIBUTES]
    control = (attributes & CONTROL) != 0
    kinds = table[kernels.KIND]
    kinds[control & (kinds != kernels.SKIP)] = kernels.CONTROL
    if not aborted:
        return
    active: set[int] = set()
    begun = 0
    for batch in np.flatnonzero(attributes & (CONTROL | TRANSACTIONAL)).tolist():
        end = int(table[kernels.BASE_OFFSET, batch] + table[kernels.LAST_DELTA, batch])
        while begun < len(aborted) and aborted[begun].first_offset <= end:
            active.add(aborted[begun].producer_id)
            begun += 1
        producer = int(table[kernels.PRODUCER_ID, batch])
        if attributes[batch] & CONTROL:
            piece = scratch if table[kernels.SCRATCH, batch] else source
            if kernels.control_type(piece, table[kernels.FIRST, batch], table[kernels.LAST, batch]) == 0:
                active.discard(producer)
        elif producer in active and kinds[batch] == kernels.KEEP:
            kinds[batch] = kernels.ABORTED


def _to_columns(
    source: Bytes, scratch: Bytes, table: Longs, start: int, stop: int, where: _Place
) -> tuple[pa.RecordBatch, Longs]:
    # 5. check every record and note where its parts are
    sizes = table[kernels.LAST] - table[kernels.FIRST]
    over = table[kernels.RECORDS] > sizes // kernels.MIN_RECORD_BYTES
    if over.any():
        offset = int(table[kernels.BASE_OFFSET, int(over.argmax())])
        refuse(kernels.RECORD_COUNT, topic=where.topic, partition=where.partition, offset=offset)
    room = int(table[kernels.RECORDS].sum())
    offsets, times, key_at, value_at = (np.empty(room, np.int64) for _ in range(4))
    types = np.empty(room, np.uint8)
    key_ends, value_ends, header_ends = (np.empty(room + 1, np.int32) for _ in range(3))
    valid = np.full((3, (room + 7) // 8), 0xFF, np.uint8)
    counts = np.zeros(kernels.COUNTS, np.int64)
    problem = kernels.parse(
        source, scratch, table, start, stop, offsets, times, types,
        key_at, key_ends, value_at, value_ends, header_ends, valid, counts,
    )  # fmt: skip
    if problem != kernels.FINE:
        batch = int(counts[kernels.BAD_BATCH])
        refuse(
            problem,
            topic=where.topic,
            partition=where.partition,
            offset=int(table[kernels.BASE_OFFSET, batch]),
            record=int(counts[kernels.BAD_RECORD]),
        )
    # 6. copy keys, values and headers to columns
    rows = int(counts[kernels.ROWS_FILLED])
    key_ends, value_ends, header_ends = key_ends[: rows + 1], value_ends[: rows + 1], header_ends[: rows + 1]
    keys = np.empty(key_ends[-1], np.uint8)
    values = np.empty(value_ends[-1], np.uint8)
    kernels.copy_binaries(source, scratch, table, key_at, key_ends, keys)
    kernels.copy_binaries(source, scratch, table, value_at, value_ends, values)
    headers = int(counts[kernels.HEADERS])
    if headers:
        name_ends, content_ends = np.empty(headers + 1, np.int32), np.empty(headers + 1, np.int32)
        names = np.empty(counts[kernels.NAME_BYTES], np.uint8)
        contents = np.empty(counts[kernels.CONTENT_BYTES], np.uint8)
        known = np.full((headers + 7) // 8, 0xFF, np.uint8)
        nulls = kernels.copy_headers(
            source, scratch, table, value_at, value_ends, header_ends, name_ends, names, content_ends, contents, known
        )
        lists = header_lists(
            header_ends, Binaries(name_ends, names, known, 0), Binaries(content_ends, contents, known, nulls)
        )
    else:
        lists = no_headers(rows)
    columns = [
        pa.Array.from_buffers(pa.int64(), rows, [None, pa.py_buffer(offsets[:rows])], 0),
        timestamps(times[:rows], valid[0], int(counts[kernels.NULL_TIMESTAMPS])),
        pa.Array.from_buffers(pa.int8(), rows, [None, pa.py_buffer(types[:rows])], 0),
        Binaries(key_ends, keys, valid[1], int(counts[kernels.NULL_KEYS])).array(rows),
        Binaries(value_ends, values, valid[2], int(counts[kernels.NULL_VALUES])).array(rows),
        lists,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA), counts


def _leader_epochs(table: Longs, start: int) -> tuple[tuple[int, int], ...]:
    table = table[:, table[kernels.BASE_OFFSET] + table[kernels.LAST_DELTA] >= start]
    epochs = table[kernels.LEADER_EPOCH]
    if len(epochs) == 0:
        return ()
    changes = np.concatenate(([0], np.flatnonzero(np.diff(epochs)) + 1))
    return tuple((int(epochs[batch]), max(start, int(table[kernels.BASE_OFFSET, batch]))) for batch in changes.tolist())
