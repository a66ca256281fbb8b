"""Put a producer's identity into an encoded record batch. Touches its header only, and the checksum over it.

A transactional batch can be encoded while the transaction before it is still being committed: the epoch and the
sequence number that it must carry are known only afterwards (KIP-890), and are filled in then.
"""

from __future__ import annotations

import struct

from crc32c import crc32c

from mlstream.errors import UsageError
from mlstream.wire.layout import CHECKED_FROM, HEADER_BYTES, MAGIC, TRANSACTIONAL

_IDENTITY = struct.Struct(">qhi")  # producer id, epoch, base sequence
_IDENTITY_AT = 43
_CHECKSUM_AT = 17
_MAGIC_AT = 16


def stamp(
    batch: bytes, *, producer_id: int, producer_epoch: int, base_sequence: int, transactional: bool = False
) -> bytes:
    """A copy of one encoded batch with that identity.

    Args:
        batch: one record batch of message format 2, as `encode` makes it.
        base_sequence: the sequence number of its first record.
        transactional: whether its records belong to a transaction.

    Raises:
        UsageError: it is not one such batch.
    """
    if len(batch) < HEADER_BYTES or batch[_MAGIC_AT] != MAGIC:
        raise UsageError("not a record batch of message format 2")
    out = bytearray(batch)
    _IDENTITY.pack_into(out, _IDENTITY_AT, producer_id, producer_epoch, base_sequence)
    if transactional:
        out[CHECKED_FROM + 1] |= TRANSACTIONAL  # the lower byte of the attributes
    else:
        out[CHECKED_FROM + 1] &= ~TRANSACTIONAL & 0xFF
    struct.pack_into(">I", out, _CHECKSUM_AT, crc32c(memoryview(out)[CHECKED_FROM:]))
    return bytes(out)
