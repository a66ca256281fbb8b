"""How two snapshots differ, as plain values: streams, files, tables. Compares nothing; diff.py does.

Everywhere `old` is the first of the two and `new` the second: added is what only the second has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mlstream.snapshots.content import FileContent

Change: TypeAlias = Literal["same", "added", "removed", "changed"]
Manner: TypeAlias = Literal["offset", "content"]
Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a stream, as a difference shows it. `timestamp_type`: 0 CreateTime, 1 LogAppendTime."""

    offset: int
    timestamp_ms: int | None
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes | None, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record that is not the same in both: only in one, or another in each."""

    partition: int
    old: Record | None
    new: Record | None

    @property
    def change(self) -> Change:
        """What became of it."""
        return _change(self.old, self.new)

    @property
    def fields(self) -> tuple[str, ...]:
        """What differs of a changed record; offsets do not count, they differ between topics."""
        if self.old is None or self.new is None:
            return ()
        names = ("timestamp_ms", "timestamp_type", "key", "value", "headers")
        return tuple(name for name in names if getattr(self.old, name) != getattr(self.new, name))


@dataclass(frozen=True, slots=True)
class PartitionDifference:
    """One partition.

    Attributes:
        old_range, new_range: the offsets that each holds; None when it does not hold the partition.
        old_rows, new_rows: records in them.
        common: the offsets that both hold, when records are compared by offset.
        same, changed, removed, added: records: of the common offsets, or by content of all.
        old_only, new_only: records at offsets that the other does not hold.
        reordered: what both have stands in another order (by content only).
        rows_read: how many rows had to be read to find out, on both sides together.
    """

    partition: int
    old_range: Range | None
    new_range: Range | None
    old_rows: int
    new_rows: int
    common: Range | None
    same: int = 0
    changed: int = 0
    removed: int = 0
    added: int = 0
    old_only: int = 0
    new_only: int = 0
    reordered: bool = False
    rows_read: int = 0

    @property
    def differs(self) -> bool:
        """Whether any record differs, or the offsets that were frozen."""
        counts = self.changed + self.removed + self.added + self.old_only + self.new_only
        if counts > 0 or self.reordered or self.old_range is None or self.new_range is None:
            return True
        return self.common is not None and self.old_range != self.new_range


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A registered schema that records name by its id, and whether its text is in one, the other, or another."""

    id: int
    change: Change


@dataclass(frozen=True, slots=True)
class StreamDifference:
    """One topic of each snapshot; None where the other has no counterpart.

    Attributes:
        old, new: the topics' names.
        by: records of one and the same topic are compared offset by offset; those of different topics (restored,
            mirrored, made anew) by what is in them and in which order. None when there is only one.
        records: those that differ, as many as were asked for.
        schemas: those that differ.
    """

    old: str | None
    new: str | None
    by: Manner | None
    partitions: tuple[PartitionDifference, ...]
    records: tuple[RecordChange, ...] = ()
    schemas: tuple[SchemaChange, ...] = ()

    @property
    def change(self) -> Change:
        """What became of it."""
        return _change(self.old, self.new, differs=any(p.differs for p in self.partitions) or bool(self.schemas))


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A file that is in one only, or has other bytes."""

    path: str
    old: FileContent | None
    new: FileContent | None

    @property
    def change(self) -> Change:
        """What became of it."""
        return _change(self.old, self.new)


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """A column that is in one only (the other type is None), or has another type."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class RowChange:
    """A table's row that is in one only, or whose values differ in `columns`. Values by column, as Python has them."""

    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    columns: tuple[str, ...] = ()

    @property
    def change(self) -> Change:
        """What became of it."""
        return _change(self.old, self.new)


@dataclass(frozen=True, slots=True)
class TableDifference:
    """One table or query.

    Attributes:
        primary_key: columns that tell which row is which; without any, rows are the same only when all values are.
        old_rows, new_rows: None where it is in one only.
        same, changed, removed, added: rows, compared in the columns that both have with the same type.
        columns: those that differ.
        order: whether the columns that both have stand in another order.
        query, key: whether the query, the primary key is another one.
        rows: those that differ, as many as were asked for.
    """

    name: str
    primary_key: tuple[str, ...]
    old_rows: int | None
    new_rows: int | None
    same: int = 0
    changed: int = 0
    removed: int = 0
    added: int = 0
    columns: tuple[ColumnChange, ...] = ()
    order: bool = False
    query: bool = False
    key: bool = False
    rows: tuple[RowChange, ...] = ()

    @property
    def change(self) -> Change:
        """What became of it."""
        counts = self.changed + self.removed + self.added
        differs = counts > 0 or bool(self.columns) or self.order or self.query or self.key
        return _change(self.old_rows, self.new_rows, differs=differs)


@dataclass(frozen=True, slots=True)
class Difference:
    """How two snapshots differ. Streams and tables that are the same are listed too, files are not."""

    old_id: str
    new_id: str
    old_complete: bool
    new_complete: bool
    streams: tuple[StreamDifference, ...]
    files: tuple[FileDifference, ...]
    tables: tuple[TableDifference, ...]

    @property
    def differs(self) -> bool:
        """Whether the two are different datasets. Then their ids differ, and the other way round."""
        return self.old_id != self.new_id


def _change(old: object | None, new: object | None, *, differs: bool = True) -> Change:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    return "changed" if differs else "same"
