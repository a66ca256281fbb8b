"""What is known of each batch while it is decoded, as columns. Computes nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlstream.wire.columns import Longs


class Batches(NamedTuple):
    """One place a batch in each array; all are int64.

    The first ones are what the header says; `begin` and `end` are its positions in the data. The rest is found later:
    where the plain records are, and what becomes of them.
    """

    begin: Longs
    end: Longs
    base_offset: Longs
    last_delta: Longs
    leader_epoch: Longs
    checksum: Longs
    attributes: Longs
    base_timestamp: Longs
    max_timestamp: Longs
    producer_id: Longs
    records: Longs

    unpacked: Longs  # 1 when the records were decompressed to the scratch, 0 when they are in the data itself
    first: Longs  # the position of the first record there
    last: Longs  # the position after the last one
    kind: Longs  # what becomes of them: see `record_kernels`
    row: Longs  # the row that the first one became
    rows: Longs  # how many of them became rows

    @property
    def size(self) -> int:
        """How many batches these are."""
        return len(self.begin)

    @property
    def last_offset(self) -> Longs:
        """The last offset of each batch; its record may have been compacted away."""
        return self.base_offset + self.last_delta

    def part(self, first: int, stop: int) -> Batches:
        """The batches `[first, stop)`, over the same memory."""
        return Batches(*(field[first:stop] for field in self))


def make_batches(count: int) -> Batches:
    """Uninitialised room for so many batches."""
    return Batches(*np.empty((len(Batches._fields), count), np.int64))
