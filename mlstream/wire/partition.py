"""Which partition a record goes to, as Kafka's default partitioner says: murmur2 of the key. Writes nothing.

Source: org.apache.kafka.common.utils.Utils.murmur2 (MurmurHash2 by Austin Appleby, seed 0x9747b28c), whose result
without its sign bit is taken modulo the number of partitions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlstream.errors import UsageError
from mlstream.wire.columns import Bytes, Ints, flags_of, parts_of
from mlstream.wire.compiled import compiled


def murmur2_partitions(keys: pa.Array, partitions: int) -> Ints:
    """The partition of each record.

    Args:
        keys: binary; records with null keys are spread round robin, the first to partition 0.
        partitions: how many there are.

    Returns:
        One int32 in `[0, partitions)` a key.
    """
    if partitions < 1:
        raise UsageError(f"{partitions} is no number of partitions")
    if keys.type != pa.binary():
        keys = keys.cast(pa.binary())
    ends, data = parts_of(keys)
    chosen = np.empty(len(keys), np.int32)
    _choose(ends, data, flags_of(keys.is_valid()), partitions, chosen)
    return chosen


@compiled
def _murmur2(data: Bytes, start: int, size: int) -> np.uint32:
    mix = np.uint32(0x5BD1E995)
    found = np.uint32(0x9747B28C) ^ np.uint32(size)
    for k in range(size // 4):
        at = start + 4 * k
        word = (
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << np.uint32(8)
            | np.uint32(data[at + 2]) << np.uint32(16)
            | np.uint32(data[at + 3]) << np.uint32(24)
        )
        word = np.uint32(word * mix)
        word ^= word >> np.uint32(24)
        word = np.uint32(word * mix)
        found = np.uint32(np.uint32(found * mix) ^ word)
    rest = start + size // 4 * 4
    left = size % 4
    if left == 3:
        found ^= np.uint32(data[rest + 2]) << np.uint32(16)
    if left >= 2:
        found ^= np.uint32(data[rest + 1]) << np.uint32(8)
    if left >= 1:
        found ^= np.uint32(data[rest])
        found = np.uint32(found * mix)
    found ^= found >> np.uint32(13)
    found = np.uint32(found * mix)
    return np.uint32(found ^ (found >> np.uint32(15)))


@compiled
def _choose(ends: Ints, data: Bytes, valid: npt.NDArray[np.bool_], partitions: int, chosen: Ints) -> None:
    turn = 0
    for row in range(len(chosen)):
        if valid[row]:
            hashed = _murmur2(data, int(ends[row]), int(ends[row + 1]) - int(ends[row]))
            chosen[row] = np.int64(hashed & np.uint32(0x7FFFFFFF)) % partitions
        else:
            chosen[row] = turn % partitions
            turn += 1
