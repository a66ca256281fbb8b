"""Columns of bytes as numpy sees them. Copies nothing, decodes nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


def bytes_and_offsets(values: pa.BinaryArray) -> tuple[Bytes, Ints]:
    """The bytes of a binary column, and where each value begins; one more offset than values. A null has no bytes."""
    _, ends, data = values.buffers()
    if ends is None or ends.size == 0:
        offsets = np.zeros(1, np.int32)
    else:
        offsets = np.frombuffer(ends, np.int32, count=len(values) + 1, offset=4 * values.offset)
    return np.zeros(1, np.uint8) if data is None or data.size == 0 else np.frombuffer(data, np.uint8), offsets
