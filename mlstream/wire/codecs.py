"""The five codecs of Kafka, into buffers of a given size and out of whole pieces. Knows nothing of batches.

Decompressing never writes past the buffer that it is given: a small piece that would become a huge one is an error.

gzip and zstd are single streams. snappy is either a raw block or, as Kafka's own clients write it, xerial's frame: a
header of 16 bytes and blocks of at most 32 KiB with their lengths. lz4 is the standard frame, of which Kafka reads
independent blocks only.
"""

from __future__ import annotations

import struct

import cramjam

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL_MAGIC = b"\x82SNAPPY\0"
_XERIAL_HEADER = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK_BYTES = 32 * 1024

# Version 1, independent blocks, no checksums, blocks of at most 64 KiB; the last byte is the header's own checksum
# (the second byte of its xxHash32). https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md
_LZ4_HEADER = bytes.fromhex("04224d18604082")
_LZ4_BLOCK_BYTES = 64 * 1024
_LZ4_STORED = 0x80000000


def decompress_into(codec: int, source: memoryview, out: memoryview) -> int:
    """Decompress all of `source` to the front of `out`; returns the size in bytes.

    Raises:
        ValueError: `source` is not a whole piece of that codec, or does not fit into `out`.
    """
    try:
        if codec == GZIP:
            return int(cramjam.gzip.decompress_into(source, out))
        if codec == SNAPPY:
            return _unsnappy_into(source, out)
        if codec == LZ4:
            return int(cramjam.lz4.decompress_into(source, out))
        return int(cramjam.zstd.decompress_into(source, out))
    except cramjam.DecompressionError as exc:
        raise ValueError(str(exc)) from exc


def compress(codec: int, plain: memoryview, *, level: int) -> bytes:
    """`plain` compressed; `level` is for gzip and zstd."""
    if codec == GZIP:
        return bytes(cramjam.gzip.compress(plain, level=level))
    if codec == SNAPPY:
        return _snappy(plain)
    if codec == LZ4:
        return _lz4(plain)
    return bytes(cramjam.zstd.compress(plain, level=level))


def _unsnappy_into(source: memoryview, out: memoryview) -> int:
    if bytes(source[:8]) != _XERIAL_MAGIC:
        return int(cramjam.snappy.decompress_raw_into(source, out))
    at, written, size = 16, 0, len(source)
    if size < at:
        raise ValueError("snappy: the frame's header is cut off")
    while at < size:
        if size - at < 4:
            raise ValueError("snappy: a block's length is cut off")
        length = int.from_bytes(source[at : at + 4], "big")
        at += 4
        if length > size - at:
            raise ValueError("snappy: a block is cut off")
        written += int(cramjam.snappy.decompress_raw_into(source[at : at + length], out[written:]))
        at += length
    return written


def _snappy(plain: memoryview) -> bytes:
    pieces = [_XERIAL_HEADER]
    for at in range(0, len(plain), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(plain[at : at + _XERIAL_BLOCK_BYTES]))
        pieces += (struct.pack(">i", len(block)), block)
    return b"".join(pieces)


def _lz4(plain: memoryview) -> bytes:
    # The frame that cramjam writes has linked blocks, which brokers refuse: frame its blocks here.
    pieces: list[bytes | memoryview] = [_LZ4_HEADER]
    for at in range(0, len(plain), _LZ4_BLOCK_BYTES):
        block = plain[at : at + _LZ4_BLOCK_BYTES]
        packed = bytes(cramjam.lz4.compress_block(block, store_size=False))
        if len(packed) < len(block):
            pieces += (struct.pack("<I", len(packed)), packed)
        else:
            pieces += (struct.pack("<I", len(block) | _LZ4_STORED), block)
    pieces.append(bytes(4))
    return b"".join(pieces)
