"""Which batches belong to aborted transactions. Knows headers and markers, not records.

Kafka's consumer algorithm (KIP-98; org.apache.kafka.clients.consumer.internals.CompletedFetch): a fetch response lists
aborted transactions by producer and first offset. From that offset on the producer's transactional batches are aborted,
until its next abort marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mlstream.wire.batches import Batches
from mlstream.wire.columns import Bytes
from mlstream.wire.layout import CONTROL, TRANSACTIONAL
from mlstream.wire.record_kernels import ABORTED, KEPT, control_type

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

    def mark(self, batches: Batches, source: Bytes, scratch: Bytes) -> None:
        """Set the kind of aborted batches in the next part of the response.

        Args:
            batches: the part, each with the place of its records.
            source, scratch: where those places are.
        """
        if not self._ahead and not self._open:
            return
        last_offsets = batches.last_offset
        for batch in np.flatnonzero(batches.attributes & (CONTROL | TRANSACTIONAL)).tolist():
            while self._ahead and self._ahead[-1].first_offset <= last_offsets[batch]:
                self._open.add(self._ahead.pop().producer_id)
            producer = int(batches.producer_id[batch])
            if batches.attributes[batch] & CONTROL:
                piece = scratch if batches.unpacked[batch] else source
                if control_type(piece, batches.first[batch], batches.last[batch]) == _ABORT:
                    self._open.discard(producer)
            elif producer in self._open and batches.kind[batch] == KEPT:
                batches.kind[batch] = ABORTED
