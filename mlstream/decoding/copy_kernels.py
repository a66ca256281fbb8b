"""Compiled copying of runs of bytes."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from mlstream.decoding.values import Bytes, Ints, Mask

Longs = npt.NDArray[np.int64]


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def copy(data: Bytes, wanted: Mask, starts: Longs, stops: Ints, ends: Longs, out: Bytes) -> None:
    """The wanted runs `data[start:stop]`, one after another; `ends` is where each of them ends in `out`, from 0 on."""
    to = np.int64(0)
    ends[0] = 0
    for row in range(wanted.size):
        if wanted[row]:
            start = starts[row]
            length = np.int64(stops[row]) - start
            for n in range(length):
                out[to + n] = data[start + n]
            to += length
        ends[row + 1] = to
