"""PostgreSQL's arrays on their way to Arrow's lists.

The driver sends an array of any number of dimensions as one flat list. So the server is asked for the dimensions as
well, and the lists in lists are made from both.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.databases.leaves import Leaf, Unkept
from mlstream.databases.types import ColumnType, list_of

_BOUNDS = re.compile(r"\[(-?\d+):(-?\d+)\]")


class Lists:
    """A column of arrays: taken as a flat list and the text of `array_dims`, kept as lists of one depth."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self._depths: set[int] = set()

    @property
    def type(self) -> ColumnType:
        """The column's type; known when all were taken."""
        return list_of(self.leaf.type, self._depth)

    @property
    def waiting(self) -> pa.DataType:
        """How the flat lists wait on the disk; the dimensions wait as text."""
        return pa.list_(self.leaf.waiting)

    @property
    def final(self) -> pa.DataType:
        """How values leave; known when all were taken."""
        found = self.leaf.final
        for _ in range(self._depth):
            found = pa.list_(found)
        return found

    @property
    def _depth(self) -> int:
        return max(self._depths, default=1)

    def take(self, values: pa.Array, shapes: pa.Array) -> pa.Array:
        """Check what the server sent; the flat lists as they shall wait.

        Raises:
            Unkept: when an item cannot be kept, or the arrays have no form that a list has.
        """
        for shape in pc.unique(shapes).drop_null().to_pylist():
            bounds = _BOUNDS.findall(shape)
            if any(int(first) != 1 for first, _ in bounds):
                raise Unkept(pc.equal(shapes, shape), f"arrays that do not begin at 1 ({shape})", "{0}[:]")
            self._depths.add(len(bounds))
            if len(self._depths) > 1:
                raise Unkept(pc.equal(shapes, shape), "arrays of one dimension and of more", "to_jsonb({0})")
        offsets = values.offsets
        items = (
            values.values.slice(offsets[0].as_py(), offsets[-1].as_py() - offsets[0].as_py()) if len(values) else None
        )
        try:
            taken = self.leaf.take(values.values.slice(0, 0) if items is None else items)
        except Unkept as exc:
            owners = np.repeat(np.arange(len(values)), np.diff(offsets.to_numpy()))
            bad = np.zeros(len(values), np.bool_)
            bad[owners[exc.bad.fill_null(False).to_numpy(zero_copy_only=False)]] = True
            raise Unkept(pa.array(bad), exc.what, "{0}::text") from exc
        return _listed(np.diff(offsets.to_numpy()), taken, values)

    def finish(self, values: pa.Array, shapes: pa.Array) -> pa.Array:
        """Flat lists that waited, as lists in lists."""
        found = self.leaf.finish(values.values)
        if self._depth == 1 or len(values) == 0:
            return (
                _listed(np.diff(values.offsets.to_numpy()), found, values) if len(values) else pa.array([], self.final)
            )
        # sizes[k] has, for each row, how many lists or items are in each list of depth k.
        known = {shape: _sizes(shape, self._depth) for shape in pc.unique(shapes).to_pylist()}
        sizes = np.array([known[shape] for shape in shapes.to_pylist()], dtype=np.int64)
        for level in range(self._depth - 1, 0, -1):
            found = _listed(np.repeat(sizes[:, level], sizes[:, :level].prod(axis=1)), found)
        return _listed(sizes[:, 0], found, values)


def _sizes(shape: str | None, depth: int) -> list[int]:
    if shape is None:
        return [0] * depth  # null, or the empty array, which has no dimensions
    return [int(last) for _, last in _BOUNDS.findall(shape)]


def _listed(
    sizes: np.ndarray[tuple[int], np.dtype[np.int64]], items: pa.Array, nulls_of: pa.Array | None = None
) -> pa.Array:
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
    mask = nulls_of.is_null() if nulls_of is not None and nulls_of.null_count else None
    return pa.ListArray.from_arrays(offsets, items, mask=mask)
