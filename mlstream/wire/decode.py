"""Record batches → Arrow columns, many batches at once. Opens no sockets.

The steps, for the complete batches of one fetch response:
1. walk the headers;
2. check each batch's CRC-32C;
3. decompress what is compressed, one batch after the other, into one buffer;
4. tell control batches and batches of aborted transactions apart;
5. check every record and note where its parts are;
6. copy keys, values and headers to columns.

Control batches (transaction markers) and aborted records become no rows; they are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from crc32c import crc32c

from mlstream.errors import UnsupportedFormat, WireError
from mlstream.wire.aborted import AbortedTransaction, Transactions
from mlstream.wire.batches import Batches
from mlstream.wire.codecs import decompress_into
from mlstream.wire.columns import frozen, make_room
from mlstream.wire.header_kernels import MIN_RECORD_BYTES
from mlstream.wire.layout import (
    CHECKED_FROM,
    CODEC_MASK,
    CODECS,
    CONTROL,
    Data,
    Place,
    as_array,
    corrupt,
    read_headers,
    refuse_count,
)
from mlstream.wire.record_kernels import KEPT, MARKER, SKIPPED
from mlstream.wire.rows import to_columns

__all__ = ["AbortedTransaction", "Decoded", "decode", "decode_parts"]

MIB = 1024 * 1024
_MAX_BYTES = 2**31 - 1  # a binary column's offsets are int32
_ROW_BYTES = 64  # what a record takes beside its bytes, while it is decoded and after
_GUESS = 12  # decompressed bytes for a compressed one; more are found by trying again
_LAST_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the offsets `[start, next_offset)`.

    Attributes:
        columns: one row a record, of `columns.SCHEMA`, in offset order.
        next_offset: where reading goes on: after the last complete batch, at most the `stop` that was asked for.
        control: records of control batches in the range, which are no rows.
        aborted: records of aborted transactions in the range, which are no rows.
        leader_epochs: (epoch, first offset seen with it), a pair for each change.
    """

    columns: pa.RecordBatch
    next_offset: int
    control: int
    aborted: int
    leader_epochs: tuple[tuple[int, int], ...]


def decode(
    data: Data,
    *,
    topic: str,
    partition: int,
    start: int,
    stop: int | None = None,
    aborted: Iterable[AbortedTransaction] = (),
    max_batch_bytes: int = 256 * MIB,
    max_total_bytes: int = 1024 * MIB,
) -> Decoded:
    """Decode the complete batches of one fetch response, all at once.

    Args:
        data: record batches as the broker sent them; an incomplete last one is left for the next fetch.
        topic, partition: where the data comes from, for errors.
        start, stop: records with an offset in `[start, stop)` become rows; to the end when `stop` is None.
        aborted: the aborted transactions that the response lists; without them all transactions count as committed.
        max_batch_bytes: the most that one batch may become when it is decompressed.
        max_total_bytes: the most that all may become, with 64 bytes for each record beside its own.

    Raises:
        CorruptBatch: lengths, checksum or contents of a batch do not fit, or it becomes larger than allowed.
        UnsupportedFormat: message formats other than 2, and unknown codecs.
        WireError: all batches together become larger than allowed; `decode_parts` takes them.
    """
    response = _Response(data, Place(topic, partition), start, stop, aborted, max_batch_bytes)
    found = response.part(max_total_bytes)
    if not response.done:
        raise WireError(
            f"{response.place}: the batches from offset {start} on take more than {max_total_bytes} bytes as columns",
            hint="fetch less at once, or decode in parts",
            topic=topic,
            partition=partition,
            offset=start,
        )
    return found


def decode_parts(
    data: Data,
    *,
    topic: str,
    partition: int,
    start: int,
    stop: int | None = None,
    aborted: Iterable[AbortedTransaction] = (),
    max_batch_bytes: int = 256 * MIB,
    part_bytes: int = 32 * MIB,
) -> Iterator[Decoded]:
    """`decode` in bounded memory: at least one part, each of about `part_bytes` or of a single larger batch.

    Each part goes on where the one before it ended: it stands for `[start, next_offset)` with `start` the last part's
    `next_offset`. Checksums of all batches are checked before the first part.

    Raises:
        CorruptBatch, UnsupportedFormat: as `decode`, when the part with the batch is reached.
    """
    response = _Response(data, Place(topic, partition), start, stop, aborted, max_batch_bytes)
    yield response.part(part_bytes)
    while not response.done:
        yield response.part(part_bytes)


class _Response:
    """The batches of one fetch response, and how far they are decoded."""

    def __init__(
        self,
        data: Data,
        place: Place,
        start: int,
        stop: int | None,
        aborted: Iterable[AbortedTransaction],
        max_batch_bytes: int,
    ) -> None:
        self.source = as_array(data)
        self.view = self.source.data
        self.place = place
        self.start = start
        self.stop = _LAST_OFFSET if stop is None else stop
        self.max_batch_bytes = min(max_batch_bytes, _MAX_BYTES)
        self.transactions = Transactions(aborted)
        self.scratch = np.empty(0, np.uint8)
        # 1. walk the headers
        batches = read_headers(self.source, place, stop=stop)
        inside = int(np.searchsorted(batches.base_offset, self.stop))
        self.stopped = inside < batches.size
        self.batches = batches = batches.part(0, inside)
        self.next = 0  # the first batch that no part has
        _check_sums(self.view, batches, place)
        batches.kind[:] = np.where(batches.attributes & CONTROL, MARKER, KEPT)
        batches.kind[batches.last_offset < start] = SKIPPED

    @property
    def done(self) -> bool:
        return self.next >= self.batches.size

    def part(self, limit_bytes: int) -> Decoded:
        """Decode the next batches, as many as take `limit_bytes` (at least one, where there is one)."""
        first = self.next
        self.next = first + self._decompress(self.batches.part(first, self.batches.size), min(limit_bytes, _MAX_BYTES))
        batches = self.batches.part(first, self.next)
        scratch = frozen(self.scratch[:])
        # 4. tell control batches and batches of aborted transactions apart
        self.transactions.mark(batches, self.source, scratch)
        rows = to_columns(self.source, scratch, batches, start=self.start, stop=self.stop, place=self.place)
        epochs = _leader_epochs(batches, self.start)
        self.start = self._position()
        return Decoded(rows.columns, self.start, rows.control, rows.aborted, epochs)

    def _position(self) -> int:
        """The offset after the batches that are decoded."""
        if self.stopped and self.done:
            return max(self.start, self.stop)
        if self.next == 0:
            return self.start
        return max(self.start, min(self.stop, int(self.batches.last_offset[self.next - 1]) + 1))

    def _decompress(self, batches: Batches, limit_bytes: int) -> int:
        """Decompress batches to the front of the scratch, as many as take `limit_bytes`; returns how many."""
        # 3. decompress what is compressed
        idle = (batches.kind == SKIPPED) & ((batches.attributes & CONTROL) == 0)
        codecs = np.where(idle, 0, batches.attributes & CODEC_MASK)
        packed = batches.last - batches.first
        sizes = np.where(codecs == 0, packed + _ROW_BYTES * batches.records, packed)
        sizes[idle] = 0
        if not codecs.any():
            fits = int(np.searchsorted(np.cumsum(sizes), limit_bytes, side="right"))
            return min(max(fits, 1), batches.size)
        if len(self.scratch) == 0:
            self.scratch = make_room(min(int(packed[codecs != 0].sum()) * _GUESS, limit_bytes), np.uint8)
        taken = used = 0
        columns = (codecs, sizes, batches.first, batches.last, batches.records)
        for batch, (codec, size, begin, end, records) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            if taken and taken + size > limit_bytes:
                return batch
            if codec:
                offset = int(batches.base_offset[batch])
                plain = self._unpack(codec, self.view[begin:end], used, offset)
                if records * MIN_RECORD_BYTES > plain:
                    refuse_count(place=self.place, offset=offset)
                size = plain + _ROW_BYTES * records
                if taken and taken + size > limit_bytes:
                    return batch  # unpacked again as the first of the next part
                batches.unpacked[batch] = 1
                batches.first[batch] = used
                used += plain
                batches.last[batch] = used
            taken += size
        return batches.size

    def _unpack(self, codec: int, piece: memoryview, used: int, offset: int) -> int:
        """Decompress one batch to `scratch[used:]`, which grows as long as it may; returns the size."""
        if codec >= len(CODECS):
            raise UnsupportedFormat(
                f"{self.place} at offset {offset}: codec {codec} is not known",
                hint="upgrade mlstream",
                topic=self.place.topic,
                partition=self.place.partition,
                offset=offset,
                codec=codec,
            )
        while len(piece):
            room = min(len(self.scratch) - used, self.max_batch_bytes)
            try:
                return decompress_into(codec, piece, self.scratch[used : used + room].data)
            except ValueError as exc:
                if room == self.max_batch_bytes:
                    corrupt(
                        f"its {CODECS[codec]} data does not decompress to at most {room} bytes ({exc})",
                        place=self.place,
                        offset=offset,
                    )
            grown = make_room(used + min(max(4 * room, 64 * 1024), self.max_batch_bytes), np.uint8)
            grown[:used] = self.scratch[:used]
            self.scratch = grown
        return 0


def _check_sums(view: memoryview, batches: Batches, place: Place) -> None:
    # 2. check each batch's CRC-32C
    columns = (batches.begin, batches.end, batches.checksum)
    for begin, end, expected in zip(*(column.tolist() for column in columns), strict=True):
        if crc32c(view[begin + CHECKED_FROM : end]) != expected:
            offset = int.from_bytes(view[begin : begin + 8], "big")
            corrupt("its checksum does not match its bytes", place=place, offset=offset)


def _leader_epochs(batches: Batches, start: int) -> tuple[tuple[int, int], ...]:
    inside = batches.part(int(np.searchsorted(batches.last_offset, start)), batches.size)
    if inside.size == 0:
        return ()
    changes = [0, *(np.flatnonzero(np.diff(inside.leader_epoch)) + 1).tolist()]
    return tuple((int(inside.leader_epoch[batch]), max(start, int(inside.base_offset[batch]))) for batch in changes)
