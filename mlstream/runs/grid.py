"""How a partition's rows are cut into batches: so many rows each, from the first one. Reads nothing.

The records that do not decode are among the rows of the view nowhere, but they are dealt with in the transaction of the
batch that they lie in. Where a batch would have very many of them between its rows, it ends before: the next row begins
another, and what lies between the two batches may take transactions of its own. So no transaction is without bounds.
The cut depends on the input and the number of rows alone: it is the same for every version, worker and attempt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlstream.runs.originals import Offsets


class Grid:
    """The batches of a partition.

    Args:
        offsets: of the rows, in order.
        dead: of the records that do not decode, in order.
        dead_bytes: of these, how many bytes those before each take, and all of them: one more than `dead`.
        rows: the most rows of a batch.
        most_dead, most_bytes: how many of the dead, and of their bytes, may lie between a batch's first and last row.
    """

    def __init__(
        self, offsets: Offsets, dead: Offsets, dead_bytes: Offsets, *, rows: int, most_dead: int, most_bytes: int
    ) -> None:
        self._height = height = len(offsets)
        self._rows = rows
        self._starts: NDArray[np.int64] | None = None  # the first rows of the batches, where they are not all as large
        if len(dead) <= most_dead and dead_bytes[-1] <= most_bytes:
            return
        before = np.searchsorted(dead, offsets)
        bytes_before = dead_bytes[before]
        starts = [0]
        while (row := starts[-1]) + 1 < height:
            few = np.searchsorted(before[row : row + rows], before[row] + most_dead, side="right")
            small = np.searchsorted(bytes_before[row : row + rows], bytes_before[row] + most_bytes, side="right")
            starts.append(row + int(min(few, small)))
        self._starts = np.array(starts, np.int64)

    def after(self, row: int) -> int:
        """The first row of the batch after the one that begins with `row`; the number of rows when there is none."""
        if self._starts is None:
            return min(row + self._rows, self._height)
        place = int(np.searchsorted(self._starts, row, side="right"))
        return int(self._starts[place]) if place < len(self._starts) else self._height

    def is_between(self, row: int) -> bool:
        """Whether a batch begins with that row, or ends before it."""
        if row == self._height:
            return True
        if self._starts is None:
            return row % self._rows == 0
        return bool(self._starts[np.searchsorted(self._starts, row, side="right") - 1] == row)
