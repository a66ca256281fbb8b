"""The payload digests of a range's groups of 65,536 rows, hashed once where groups and cells coincide.

While a group's rows are those of one cell from its beginning, the cell's own payload hasher serves both. When the cell
ends early (a gap, or a start inside a cell), the group goes on with a copy of that hasher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import pyarrow as pa

from mlstream.snapshots.canonical import PayloadHasher, RunHasher
from mlstream.snapshots.manifest import GROUP_ROWS
from mlstream.snapshots.pipeline import Chain, Pipeline

_FLUSH_BYTES = 8 << 20


class GrowingCell(Protocol):
    """A cell whose rows are arriving: how many so far, its hasher, and the chain on which it is hashed."""

    rows: int
    hasher: RunHasher
    chain: Chain


class Groups:
    """The groups of one partition's range, in order.

    Args:
        known: digests of the first groups, covering `known_rows` rows, which need not be shown again.
    """

    def __init__(self, pipeline: Pipeline, *, known: Sequence[bytes] = (), known_rows: int = 0) -> None:
        self._pipeline = pipeline
        self._chain = Chain()
        self._done: list[bytes | PayloadHasher | _Group] = list(known)
        self._known_rows = known_rows
        self._rows = 0
        self._lead: GrowingCell | None = None
        self._open: _Group | None = None

    @property
    def pending_bytes(self) -> int:
        """What rows that wait here take."""
        return 0 if self._open is None else self._open.pending_bytes

    def add(self, cell: GrowingCell, rows: pa.RecordBatch) -> None:
        """Go on with rows of a cell; call it before the cell counts them."""
        if self._open is None and self._lead is None and cell.rows == 0 and self._rows >= self._known_rows:
            self._lead = cell
        if self._lead is cell:
            self._rows += len(rows)
        else:
            self._hash(rows)

    def end_cell(self, cell: GrowingCell, hand_over: Callable[[], None]) -> None:
        """The cell is complete; `hand_over` submits rows of it that still wait, and is called if that matters."""
        if self._lead is not cell:
            return
        self._lead = None
        if cell.rows == GROUP_ROWS:
            self._done.append(cell.hasher.payloads)
            return
        group = _Group(rows=cell.rows)

        hand_over()
        # Taken now, not by the task: only a task that was submitted earlier may be waited for.
        hashed = cell.chain.tail

        def adopt() -> None:
            if hashed is not None:
                hashed.result()
            group.hasher = cell.hasher.payloads.copy()

        self._pipeline.submit(self._chain, adopt, size_bytes=0)
        self._open = group

    def take(self, rows: int, payloads: bytes, read: Iterable[pa.RecordBatch]) -> None:
        """Go on with a whole stored cell of so many rows; `read` reads them, and is used only where it must be."""
        if self._rows + rows <= self._known_rows:
            self._rows += rows
        elif self._open is None and self._rows >= self._known_rows and rows == GROUP_ROWS:
            self._done.append(payloads)
            self._rows += rows
        else:
            for batch in read:
                self._hash(batch)

    def flush(self) -> None:
        """Hand waiting rows on to the threads."""
        if self._open is not None:
            self._open.flush(self._pipeline, self._chain)

    def close(self) -> None:
        """No more rows will come."""
        if self._open is not None:
            self._end_group(self._open)

    def digests(self) -> tuple[bytes, ...]:
        """The digests, once the pipeline has finished."""
        return tuple(found if isinstance(found, bytes) else found.digest() for found in self._done)

    def _hash(self, rows: pa.RecordBatch) -> None:
        known = min(max(self._known_rows - self._rows, 0), len(rows))
        self._rows += len(rows)
        rows = rows.slice(known)
        while len(rows) > 0:
            if self._open is None:
                self._open = _Group(rows=0)
            part = rows.slice(0, GROUP_ROWS - self._open.rows)
            rows = rows.slice(len(part))
            self._open.add(part)
            if self._open.rows == GROUP_ROWS:
                self._end_group(self._open)
            elif self._open.pending_bytes >= _FLUSH_BYTES:
                self.flush()

    def _end_group(self, group: _Group) -> None:
        group.flush(self._pipeline, self._chain)
        self._done.append(group)
        self._open = None


class _Group:
    """One group that does not coincide with a cell."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.hasher = PayloadHasher()
        self._pending: list[pa.RecordBatch] = []
        self.pending_bytes = 0

    def add(self, rows: pa.RecordBatch) -> None:
        self.rows += len(rows)
        self._pending.append(rows)
        self.pending_bytes += rows.nbytes

    def flush(self, pipeline: Pipeline, chain: Chain) -> None:
        batches, size = self._pending, self.pending_bytes
        if not batches:
            return
        self._pending, self.pending_bytes = [], 0

        def update() -> None:
            for batch in batches:
                self.hasher.update(batch)

        pipeline.submit(chain, update, size_bytes=size)

    def digest(self) -> bytes:
        return self.hasher.digest()
