"""The slow, plain twin of `mlstream.wire`: one record at a time, in Python, after the format's description.

`build` writes batches, odd ones too; `read` is as strict as the real decoder and says what it must give. Codecs here
are Python's own and Arrow's, not the ones under test.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from crc32c import crc32c

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20

ABORT_KEY, COMMIT_KEY = bytes.fromhex("00000000"), bytes.fromhex("00000001")
INT64 = range(-(2**63), 2**63)

Headers = tuple[tuple[bytes, bytes | None], ...]


class Bad(Exception):
    """What makes a batch corrupt."""


@dataclass(frozen=True)
class Record:
    """A record as it stands in a batch; `timestamp` is in milliseconds, -1 for none."""

    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    timestamp_type: int = 0


def varint(value: int) -> bytes:
    """A zigzag varint of up to 64 bits."""
    raw = ((value << 1) ^ (value >> 63)) & (2**64 - 1)
    out = bytearray()
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def sized(data: bytes | None) -> bytes:
    """A length and its bytes."""
    return varint(-1) if data is None else varint(len(data)) + data


def write_record(record: Record, *, base_offset: int, base_timestamp: int) -> bytes:
    """One record, its length in front."""
    body = b"\0" + varint(record.timestamp - base_timestamp) + varint(record.offset - base_offset)
    body += sized(record.key) + sized(record.value) + varint(len(record.headers))
    body += b"".join(sized(name) + sized(value) for name, value in record.headers)
    return varint(len(body)) + body


def build(
    records: Sequence[Record],
    *,
    codec: str = "none",
    attributes: int = 0,
    base_offset: int | None = None,
    last_offset: int | None = None,
    max_timestamp: int | None = None,
    producer_id: int = -1,
    leader_epoch: int = 0,
) -> bytes:
    """A batch of these records; what is not given follows from them."""
    base = records[0].offset if base_offset is None else base_offset
    last = records[-1].offset if last_offset is None else last_offset
    first_time = records[0].timestamp if records else -1
    body = b"".join(write_record(record, base_offset=base, base_timestamp=first_time) for record in records)
    most = max((record.timestamp for record in records), default=-1) if max_timestamp is None else max_timestamp
    front = struct.pack(">qiibI", base, 0, leader_epoch, 2, 0)
    fields = (attributes | CODECS.index(codec), last - base, first_time, most, producer_id, 0, 0, len(records))
    return seal(front + struct.pack(">hiqqqhii", *fields) + pack(codec, body))


def seal(batch: bytes) -> bytes:
    """The batch with the length and the checksum that its bytes have."""
    return (
        batch[:8]
        + struct.pack(">i", len(batch) - 12)
        + batch[12:17]
        + struct.pack(">I", crc32c(batch[21:]))
        + batch[21:]
    )


def marker(key: bytes, *, offset: int, producer_id: int) -> bytes:
    """A control batch that ends a producer's transaction."""
    return build([Record(offset, 5, key, bytes(6))], attributes=TRANSACTIONAL | CONTROL, producer_id=producer_id)


def pack(codec: str, plain: bytes) -> bytes:
    """Compress as Kafka's clients do."""
    if codec == "none":
        return plain
    if codec == "gzip":
        packer = zlib.compressobj(wbits=31)
        return packer.compress(plain) + packer.flush()
    if codec == "snappy":
        blocks = [pa.compress(plain[at : at + 32768], "snappy", asbytes=True) for at in range(0, len(plain), 32768)]
        return b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + b"".join(struct.pack(">i", len(block)) + block for block in blocks)
    return bytes(pa.compress(plain, codec, asbytes=True))


def unpack(codec: str, packed: bytes) -> bytes:
    """Decompress, whatever the size."""
    try:
        if codec == "none":
            return packed
        if codec == "gzip":
            return _gunzip(packed)
        if codec == "snappy":
            return _unsnappy(packed)
        return bytes(pa.CompressedInputStream(pa.BufferReader(packed), codec).read())
    except (OSError, zlib.error, ValueError) as exc:
        raise Bad(str(exc)) from exc


def _gunzip(packed: bytes) -> bytes:
    plain = b""
    while packed:
        unpacker = zlib.decompressobj(wbits=31)
        plain += unpacker.decompress(packed) + unpacker.flush()
        if not unpacker.eof:
            raise Bad("gzip: cut off")
        packed = unpacker.unused_data
    return plain


def _unsnappy(packed: bytes) -> bytes:
    if packed[:8] != b"\x82SNAPPY\0":
        return _unsnappy_block(packed)
    stream, plain = io.BytesIO(packed[16:]), b""
    if len(packed) < 16:
        raise Bad("snappy: no header")
    while size := stream.read(4):
        length = int.from_bytes(size, "big")
        block = stream.read(length)
        if len(size) < 4 or len(block) < length:
            raise Bad("snappy: cut off")
        plain += _unsnappy_block(block)
    return plain


def _unsnappy_block(block: bytes) -> bytes:
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > 2**28:
        raise Bad("snappy: too large")
    return bytes(pa.decompress(block, size, "snappy", asbytes=True))


def read(data: bytes) -> list[Record]:
    """The records of the complete batches in `data`.

    Raises:
        Bad: a batch is corrupt.
    """
    records: list[Record] = []
    previous = -1
    while len(data) >= 17:
        length = struct.unpack_from(">i", data, 8)[0]
        if length < 14:
            raise Bad("length")
        if length > len(data) - 12:
            break
        if length < 49:
            raise Bad("length")
        batch, data = data[: 12 + length], data[12 + length :]
        base, last_delta = struct.unpack_from(">q", batch)[0], struct.unpack_from(">i", batch, 23)[0]
        if base <= previous or last_delta < 0 or base + last_delta >= 2**63 - 1:
            raise Bad("offsets")
        previous = base + last_delta
        records += _read_batch(batch)
    return records


def _read_batch(batch: bytes) -> Iterable[Record]:
    base, _, _, magic, checksum = struct.unpack_from(">qiibI", batch)
    attributes, last_delta, base_time, max_time, _, _, _, count = struct.unpack_from(">hiqqqhii", batch, 21)
    if magic != 2 or checksum != crc32c(batch[21:]) or not 0 <= count <= last_delta + 1 or attributes & 7 > 4:
        raise Bad("header")
    stream = _Stream(unpack(CODECS[attributes & 7], batch[61:]) if len(batch) > 61 else b"")
    previous = -1
    for _ in range(count):
        record = _Stream(stream.take(stream.number(32)))
        record.take(1)
        delta = record.number(64)
        timestamp = max_time if attributes & LOG_APPEND_TIME else base_time + delta
        delta = record.number(32)
        if timestamp not in INT64 or not previous < delta <= last_delta:
            raise Bad("timestamp or offset")
        previous = delta
        key, value = record.sized(), record.sized()
        headers = tuple(record.header() for _ in range(record.count()))
        if record.left:
            raise Bad("record is longer than its contents")
        if attributes & CONTROL:
            if key is None or len(key) < 4:
                raise Bad("control key")
            continue
        yield Record(base + delta, timestamp, key, value, headers, int(attributes & LOG_APPEND_TIME > 0))
    if stream.left:
        raise Bad("bytes after the last record")


class _Stream:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if not 0 <= size <= self.left:
            raise Bad("length")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, bits: int) -> int:
        raw = shift = 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise Bad("varint")
        if raw >= 2**bits:
            raise Bad("varint")
        return (raw >> 1) ^ -(raw & 1)

    def count(self) -> int:
        found = self.number(32)
        if found < 0:
            raise Bad("number of headers")
        return found

    def sized(self) -> bytes | None:
        size = self.number(32)
        return None if size == -1 else self.take(size)

    def header(self) -> tuple[bytes, bytes | None]:
        name = self.sized()
        if name is None:
            raise Bad("header without a name")
        return name, self.sized()
