"""The layout of record batches (message format 2), and a walk over their headers. Decompresses and checks no contents.

A batch is a header of 61 bytes, big-endian, and its records, which are compressed as one piece if at all:

    position  bytes  field
           0      8  base offset
           8      4  length of what follows here, so the whole batch is 12 bytes longer
          12      4  partition leader epoch (set by the broker, outside the checksum)
          16      1  magic: 2; formats 0 and 1 keep theirs in the same place
          17      4  CRC-32C of everything from the attributes to the end
          21      2  attributes: bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 has a delete horizon
          23      4  last offset delta
          27      8  base timestamp
          35      8  maximum timestamp
          43      8  producer id
          51      2  producer epoch
          53      4  base sequence
          57      4  number of records
          61         records

A record is a zigzag varint length and then: attributes (a byte, unused), timestamp delta (varlong), offset delta
(varint), key and value (varint length, -1 for null, and the bytes), number of headers (varint), and for each header
its name (length and bytes, never null) and its value (length, -1 for null, and bytes).

Source: https://kafka.apache.org/documentation/#messageformat, KIP-98 and KIP-534.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from mlstream.errors import CorruptBatch, UnsupportedFormat
from mlstream.wire import header_kernels, record_kernels
from mlstream.wire.batches import Batches, make_batches
from mlstream.wire.columns import Bytes, frozen

Data = bytes | bytearray | memoryview

MAGIC = 2
HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
CHECKED_FROM = 21  # the checksum covers everything from the attributes on
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
CODEC_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20

_HEADER_PROBLEMS = {
    header_kernels.BATCH_LENGTH: "its length is too small for a batch",
    header_kernels.BATCH_OFFSET: "its offsets are negative or too large",
    header_kernels.BATCH_ORDER: "its offsets do not follow those of the batch before it",
    header_kernels.RECORD_COUNT: "its number of records does not fit its offsets or its length",
}
_RECORD_PROBLEMS = {
    record_kernels.VARINT: "a number in it is too long or cut off",
    record_kernels.RECORD_LENGTH: "the record's length does not fit the batch",
    record_kernels.TIMESTAMP: "the record's timestamp is out of range",
    record_kernels.OFFSET_DELTA: "the record's offset does not follow the one before it or is past the batch's last",
    record_kernels.KEY_LENGTH: "the key's length does not fit the record",
    record_kernels.VALUE_LENGTH: "the value's length does not fit the record",
    record_kernels.HEADER_COUNT: "the number of headers does not fit the record",
    record_kernels.HEADER_LENGTH: "a header's length does not fit the record",
    record_kernels.RECORD_REST: "the record is longer than its contents",
    record_kernels.BATCH_REST: "there are bytes after its last record",
    record_kernels.CONTROL_KEY: "a control record's key is too short",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where batches come from."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


def next_offset(data: Data, start: int, *, stop: int | None = None, topic: str = "?", partition: int = -1) -> int:
    """The offset after the last complete batch in `data`, where reading goes on; `start` if there is no such batch.

    Args:
        data: record batches as a fetch response holds them; the last one may be incomplete.
        start: the offset that was asked for; the result is never below it.
        stop: where the range ends; what is wrong with batches after it does not matter.
        topic, partition: where the data comes from, for errors.

    Raises:
        CorruptBatch: a header's lengths or offsets cannot be.
        UnsupportedFormat: a batch of another message format than 2.
    """
    batches = read_headers(as_array(data), Place(topic, partition), stop=stop)
    if batches.size == 0:
        return start
    return max(start, int(batches.last_offset[-1]) + 1)


def read_headers(data: Bytes, place: Place, *, stop: int | None = None) -> Batches:
    """The complete batches in `data`, as their headers tell; with `stop` perhaps without some that begin after it.

    Raises:
        CorruptBatch: a header's lengths or offsets cannot be.
        UnsupportedFormat: a batch of another message format than 2.
    """
    batches = make_batches(header_kernels.count_batches(data))
    found, problem, at = header_kernels.walk(data, batches)
    reached = found > 0 and stop is not None and int(batches.last_offset[found - 1]) + 1 >= stop
    if problem != header_kernels.FINE and not reached:
        _refuse_header(problem, data[at:], place)
    return batches.part(0, found)


def _refuse_header(problem: int, header: Bytes, place: Place) -> NoReturn:
    offset = int.from_bytes(header[:8].tobytes(), "big", signed=True)
    if problem == header_kernels.OLD_MAGIC:
        what = ", which producers wrote before Kafka 0.11, is not read"
        hint = "copy the topic with a current producer (MirrorMaker does), and read the copy"
        _refuse_magic(int(header[16]), what, hint, place, offset)
    if problem == header_kernels.NEW_MAGIC:
        _refuse_magic(int(header[16]), " is not known", "upgrade mlstream", place, offset)
    corrupt(_HEADER_PROBLEMS[problem], place=place, offset=offset)


def refuse_count(*, place: Place, offset: int) -> NoReturn:
    """Raise the error of a batch that says to hold more records than its bytes can."""
    corrupt(_HEADER_PROBLEMS[header_kernels.RECORD_COUNT], place=place, offset=offset)


def refuse_record(problem: int, *, place: Place, offset: int, record: int | None) -> NoReturn:
    """Raise the error of a problem in a record of the batch at `offset`."""
    corrupt(_RECORD_PROBLEMS[problem], place=place, offset=offset, record=record)


def corrupt(what: str, *, place: Place, offset: int, record: int | None = None) -> NoReturn:
    """Raise CorruptBatch for the batch at `offset`, and its record (from 0) where one is at fault."""
    where = "" if record is None else f", record {record}"
    raise CorruptBatch(
        f"{place} at offset {offset}: the batch is corrupt{where}: {what}",
        hint="read it again; if the broker keeps answering so, its log is damaged there: start after that batch",
        topic=place.topic,
        partition=place.partition,
        offset=offset,
        record=record,
    )


def _refuse_magic(magic: int, what: str, hint: str, place: Place, offset: int) -> NoReturn:
    raise UnsupportedFormat(
        f"{place} at offset {offset}: message format {magic}{what}; format 2 is",
        hint=hint,
        topic=place.topic,
        partition=place.partition,
        offset=offset,
        magic=magic,
    )


def as_array(data: Data) -> Bytes:
    """`data` as read-only bytes for the kernels, without a copy."""
    return frozen(np.frombuffer(data, np.uint8) if len(data) else np.empty(0, np.uint8))
