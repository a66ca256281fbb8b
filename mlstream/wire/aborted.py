"""Which batches belong to aborted transactions. Knows headers and markers, not records.

Kafka's consumer algorithm (KIP-98; org.apache.kafka.clients.consumer.internals.CompletedFetch): a fetch response lists
aborted transactions by producer and first offset. From that offset on the producer's transactional batches are aborted,
until its next abort marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mlstream.wire import decode_kernels as kernels
from mlstream.wire.columns import Bytes, Longs
from mlstream.wire.layout import CONTROL, TRANSACTIONAL

_ABORT = 0


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    """A transaction that was aborted, as a fetch response lists it: its producer and the offset of its first record."""

    producer_id: int
    first_offset: int


class Transactions:
    """The aborted transactions of one fetch response, followed over its batches in their order."""

    def __init__(self, aborted: Iterable[AbortedTransaction]) -> None:
        self._ahead = sorted(aborted, key=lambda found: found.first_offset, reverse=True)
        self._open: set[int] = set()

    def mark(self, table: Longs, source: Bytes, scratch: Bytes) -> None:
        """Set the kind of aborted batches in the next part of the response.

        Args:
            table: the kernels' table, FIELDS × batches.
            source, scratch: where the records of the batches are.
        """
        if not self._ahead and not self._open:
            return
        attributes = table[kernels.ATTRIBUTES]
        last_offsets = table[kernels.BASE_OFFSET] + table[kernels.LAST_DELTA]
        for batch in np.flatnonzero(attributes & (CONTROL | TRANSACTIONAL)).tolist():
            while self._ahead and self._ahead[-1].first_offset <= last_offsets[batch]:
                self._open.add(self._ahead.pop().producer_id)
            producer = int(table[kernels.PRODUCER_ID, batch])
            if attributes[batch] & CONTROL:
                piece = scratch if table[kernels.SCRATCH, batch] else source
                if kernels.control_type(piece, table[kernels.FIRST, batch], table[kernels.LAST, batch]) == _ABORT:
                    self._open.discard(producer)
            elif producer in self._open and table[kernels.KIND, batch] == kernels.KEEP:
                table[kernels.KIND, batch] = kernels.ABORTED
