"""One partition of a snapshot in the making: rows in, cells and objects out. Talks to no broker.

Rows arrive in offset order. They are cut at the cells' edges, hashed, and written to objects on the pipeline's
threads. Rows that the store has already are taken from there, as the plan says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.errors import CorruptBatch, IntegrityError
from mlstream.snapshots.canonical import RunHasher
from mlstream.snapshots.groups import Groups
from mlstream.snapshots.manifest import Cell
from mlstream.snapshots.objects import ObjectWriter, read_rows
from mlstream.snapshots.pipeline import Chain, Pipeline
from mlstream.snapshots.plan import Fetch, PartitionPlan, PlannedCell, Stored
from mlstream.snapshots.storage import Piece, StoredCell, StoredObject
from mlstream.wire.columns import numbers_of

ROW_GROUP_BYTES = 32 << 20
# An object ends at a cell's edge once it holds so much: a cell of 65,536 records of 157 bytes is one object, cells of
# small or sparse records share one. Inside a cell it ends only when it becomes too large to fetch or copy at once.
OBJECT_BYTES = 8 << 20
OBJECT_MAX_BYTES = 256 << 20

PathOf = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Assembled:
    """One partition, done.

    Attributes:
        staged: the objects that were written, digest → file in the staging folder.
        sizes: what the storage map says of them.
        fetched, reused: rows from the broker, and from the store.
        last_offset: of the last row that came from the broker; None when none did.
    """

    cells: tuple[StoredCell, ...]
    groups: tuple[bytes, ...]
    staged: dict[str, Path]
    sizes: dict[str, StoredObject]
    fetched: int
    reused: int
    last_offset: int | None


class PartitionAssembler:
    """Puts one partition together as `plan` says; the caller feeds what the plan fetches, in offset order.

    Args:
        staged: the folder that new objects are written into.
        path_of: where the store keeps an object.
    """

    def __init__(self, plan: PartitionPlan, *, pipeline: Pipeline, staged: Path, path_of: PathOf) -> None:
        self._plan = plan
        self._pipeline = pipeline
        self._staged = staged
        self._path_of = path_of
        self._groups = Groups(pipeline, known=plan.groups, known_rows=plan.groups_rows)
        self._cells: list[StoredCell | _Cell] = []
        self._objects: list[_Object] = []
        self._at = 0  # the planned cell that is under way
        self._part = 0  # and the part of it
        self._cell: _Cell | None = None
        self._object: _Object | None = None
        self._last = plan.wanted.start - 1
        self._last_fetched: int | None = None
        self.fetched = 0
        self.reused = 0
        self.read_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """What rows that wait to be written take."""
        return self._groups.pending_bytes + (0 if self._object is None else self._object.pending_bytes)

    def feed(self, rows: pa.RecordBatch, next_offset: int) -> None:
        """Rows from the broker; every offset below `next_offset` that the plan fetches has now been seen.

        Raises:
            CorruptBatch: when the rows are not in order or outside of what the plan fetches.
        """
        offsets = numbers_of(rows.column("offset"), np.int64)
        at = 0
        while at < len(rows):
            self._advance(int(offsets[at]))
            part = self._fetching(int(offsets[at]))
            end = at + int(np.searchsorted(offsets[at:], part.stop))
            self._check_order(offsets[at:end])
            self.fetched += end - at
            self._last_fetched = int(offsets[end - 1])
            self._add(rows.slice(at, end - at), write=True)
            at = end
        self._advance(next_offset)

    def flush(self) -> None:
        """Hand rows that wait for more on to be written; memory is short."""
        self._groups.flush()
        self._flush_object()

    def close(self) -> None:
        """Everything that the plan fetches has been fed."""
        self._advance(self._plan.wanted.stop)
        self._end_object()
        self._groups.close()

    def result(self) -> Assembled:
        """The partition, once the pipeline has finished."""
        return Assembled(
            cells=tuple(cell if isinstance(cell, StoredCell) else cell.stored() for cell in self._cells),
            groups=self._groups.digests(),
            staged={done.digest: done.path for done in self._objects},
            sizes={done.digest: done.stored for done in self._objects},
            fetched=self.fetched,
            reused=self.reused,
            last_offset=self._last_fetched,
        )

    def _advance(self, upto: int) -> None:
        """Finish all parts that end at or before `upto`, and what the store has between them."""
        while self._at < len(self._plan.cells):
            planned = self._plan.cells[self._at]
            if planned.exact is not None:
                self._take(planned.exact)
            elif not self._go_through(planned, upto):
                return
            self._at += 1
            self._part = 0

    def _go_through(self, planned: PlannedCell, upto: int) -> bool:
        """The parts of one cell, as far as they are had; True when that is all of them."""
        if self._cell is None:
            self._cell = _Cell(planned.start, planned.stop, Chain() if self._object is None else self._object.chain)
        while self._part < len(planned.parts):
            part = planned.parts[self._part]
            if isinstance(part, Stored):
                self._copy(part)
            elif part.stop > upto:
                return False
            self._part += 1
        self._end_cell(self._cell)
        return True

    def _fetching(self, offset: int) -> Fetch:
        if self._at < len(self._plan.cells):
            planned = self._plan.cells[self._at]
            part = planned.parts[self._part] if planned.parts else None
            if isinstance(part, Fetch) and part.start <= offset < part.stop:
                return part
        wanted = self._plan.wanted
        raise CorruptBatch(
            f"{wanted.topic}[{wanted.partition}]@{offset}: not an offset that was asked for", offset=offset
        )

    def _check_order(self, offsets: npt.NDArray[np.int64]) -> None:
        if offsets[0] <= self._last or (len(offsets) > 1 and not bool(np.all(np.diff(offsets) > 0))):
            wanted = self._plan.wanted
            raise CorruptBatch(
                f"{wanted.topic}[{wanted.partition}]@{offsets[0]}: offsets do not increase", offset=int(offsets[0])
            )
        self._last = int(offsets[-1])

    def _take(self, stored: StoredCell) -> None:
        """A whole cell as the store has it."""
        self._end_object()
        self._cells.append(stored)
        self.reused += stored.cell.rows
        self._groups.take(stored.cell.rows, stored.cell.payloads, self._read(stored.pieces))

    def _copy(self, part: Stored) -> None:
        """Rows of a cell that the store has in part."""
        cell = self._cell
        if part.cell is None or cell is None:
            return
        known = RunHasher()  # all of its rows are read: the moment to see whether they are what they were
        for piece in part.cell.pieces:
            row = piece.row
            for batch in self._read((piece,)):
                known.update(batch)
                offsets = numbers_of(batch.column("offset"), np.int64)
                first, last = (int(n) for n in np.searchsorted(offsets, (part.start, part.stop)))
                rows = batch.slice(first, last - first)
                if len(rows) > 0:
                    self._check_order(offsets[first:last])
                    self.reused += len(rows)
                    self._add(rows, write=part.rewrite)
                    if not part.rewrite:
                        cell.hold(Piece(piece.object, row + first, len(rows)))
                row += len(batch)
        if known.digest().records != part.cell.cell.records:
            raise self._damaged(part.cell)

    def _damaged(self, stored: StoredCell) -> IntegrityError:
        objects = sorted({piece.object for piece in stored.pieces})
        wanted = self._plan.wanted
        return IntegrityError(
            f"object {objects[0]}: its rows of {wanted.topic}[{wanted.partition}] cell {stored.cell.number} "
            "are not those of its digest",
            hint="`mlstream snapshot verify --all` marks what is damaged, and freezing again then fetches it anew",
            object=objects[0],
        )

    def _read(self, pieces: tuple[Piece, ...]) -> Iterator[pa.RecordBatch]:
        for piece in pieces:
            yield from read_rows(self._path_of(piece.object), piece.row, piece.rows)

    def _add(self, rows: pa.RecordBatch, *, write: bool) -> None:
        """Rows of the cell that is under way."""
        cell = self._cell
        if cell is None:
            raise ValueError("no cell is under way")
        if not write:
            self._end_object()
            self._groups.add(cell, rows)
            cell.rows += len(rows)
            self._pipeline.submit(cell.chain, lambda: cell.hash(rows), size_bytes=rows.nbytes)
            return
        while len(rows) > 0:
            if self._object is None:
                self._object = _Object(ObjectWriter(self._staged, self._plan.wanted.partition), cell.chain)
                self._objects.append(self._object)
            found = self._object
            part = _fitting(rows, ROW_GROUP_BYTES - found.pending_bytes)
            rows = rows.slice(len(part))
            self._groups.add(cell, part)
            cell.write(part, found)
            if found.pending_bytes >= ROW_GROUP_BYTES:
                found.flush(self._pipeline)
            if found.size_bytes >= OBJECT_MAX_BYTES:
                self._end_object()

    def _end_cell(self, cell: _Cell) -> None:
        self._cell = None
        if self._object is not None and self._object.size_bytes >= OBJECT_BYTES:
            self._end_object()
        self._groups.end_cell(cell, self._flush_object)
        if cell.rows > 0:
            self._cells.append(cell)

    def _flush_object(self) -> None:
        if self._object is not None:
            self._object.flush(self._pipeline)

    def _end_object(self) -> None:
        if self._object is not None:
            self._object.end(self._pipeline)
            self._object = None


class _Cell:
    """A cell whose rows are arriving. `rows` and the pieces belong to the feeding thread, the rest to its chain."""

    def __init__(self, start: int, stop: int, chain: Chain) -> None:
        self.start = start
        self.stop = stop
        self.chain = chain
        self.rows = 0
        self.hasher = RunHasher()
        self._pieces: list[Piece | tuple[_Object, int, int]] = []
        self._min: int | None = None
        self._max: int | None = None
        self._types = 0

    def hold(self, piece: Piece) -> None:
        """These rows, already counted, are in a stored object."""
        before = self._pieces[-1] if self._pieces else None
        if isinstance(before, Piece) and before.object == piece.object and before.row + before.rows == piece.row:
            self._pieces[-1] = Piece(piece.object, before.row, before.rows + piece.rows)
        else:
            self._pieces.append(piece)

    def write(self, rows: pa.RecordBatch, found: _Object) -> None:
        """Go on with rows that are written to an object."""
        self.rows += len(rows)
        before = self._pieces[-1] if self._pieces else None
        if isinstance(before, tuple) and before[0] is found:
            self._pieces[-1] = (found, before[1], before[2] + len(rows))
        else:
            self._pieces.append((found, found.rows, len(rows)))
        found.add(self, rows)

    def hash(self, rows: pa.RecordBatch) -> None:
        """On the chain: the digests, the range of time, the types."""
        self.hasher.update(rows)
        span = pc.min_max(rows.column("timestamp").cast(pa.int64()))
        low, high = span["min"].as_py(), span["max"].as_py()
        if low is not None and high is not None:
            self._min = low if self._min is None else min(self._min, low)
            self._max = high if self._max is None else max(self._max, high)
        for kind in pc.unique(rows.column("timestamp_type")).to_pylist():
            self._types |= 1 << kind

    def stored(self) -> StoredCell:
        """What the storage map says of it, when all is written."""
        digest = self.hasher.digest()
        return StoredCell(
            Cell(
                self.start,
                self.stop,
                self.rows,
                digest.positions,
                digest.payloads,
                min_timestamp_ms=self._min,
                max_timestamp_ms=self._max,
                timestamp_types=self._types,
            ),
            tuple(
                found if isinstance(found, Piece) else Piece(found[0].digest, found[1], found[2])
                for found in self._pieces
            ),
        )


class _Object:
    """An object whose rows are arriving; they wait until there are enough for a row group."""

    def __init__(self, writer: ObjectWriter, chain: Chain) -> None:
        self._writer = writer
        self.chain = chain
        self.rows = 0
        self.size_bytes = 0
        self._pending: list[tuple[_Cell, pa.RecordBatch]] = []
        self.pending_bytes = 0
        self.digest = ""
        self.path = Path()
        self.stored = StoredObject(0, 0)

    def add(self, cell: _Cell, rows: pa.RecordBatch) -> None:
        size = rows.nbytes
        self.rows += len(rows)
        self.size_bytes += size
        self.pending_bytes += size
        self._pending.append((cell, rows))

    def flush(self, pipeline: Pipeline) -> None:
        pending, size = self._pending, self.pending_bytes
        if not pending:
            return
        self._pending, self.pending_bytes = [], 0

        def write() -> None:
            for cell, rows in pending:
                cell.hash(rows)
            self._writer.write([rows for _, rows in pending])

        pipeline.submit(self.chain, write, size_bytes=size)

    def end(self, pipeline: Pipeline) -> None:
        self.flush(pipeline)

        def close() -> None:
            self.digest, self.path, self.stored = self._writer.close()

        pipeline.submit(self.chain, close, size_bytes=0)


def _fitting(rows: pa.RecordBatch, room_bytes: int) -> pa.RecordBatch:
    """The first rows that take about `room_bytes`, one at least."""
    size = rows.nbytes
    if size <= room_bytes:
        return rows
    return rows.slice(0, max(int(len(rows) * room_bytes / size), 1))
