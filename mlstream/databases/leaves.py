"""Values of one type on their way from PostgreSQL to Arrow: what is asked of the server, and what is checked here.

Nothing is rounded, wrapped or guessed: a value that has no exact Arrow form is refused. Lists are in lists.py.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.databases.arrow import DECIMAL_DIGITS, INTERVAL, arrow_type
from mlstream.databases.types import ColumnType

_DAY_US = 86_400_000_000
# PostgreSQL's times begin in 4713 BC: what lies before is an infinity that the driver has moved past the end of int64.
_FIRST_DAY = -2_500_000
_FIRST_US = _FIRST_DAY * _DAY_US
_LAST_DAY = 5_874_897 * 366
_MONTH_DAY_NANO = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])


class Unkept(Exception):
    """Values that cannot be kept. Stays inside the package: whoever knows table and rows makes a DatabaseError of it.

    Args:
        bad: true for each value that is meant.
        what: what they are, after "holds".
        fix: what a query can do about it, with `{0}` for the column.
    """

    def __init__(self, bad: pa.Array, what: str, fix: str) -> None:
        super().__init__(what)
        self.bad = bad
        self.what = what
        self.fix = fix


class Leaf:
    """Values that arrive as Arrow has them. Those of other types override what is different.

    Attributes:
        type: the column's type, or a list's item type.
        sent_as: the SQL type that the server is asked to send, or None for the column's own.
        order: SQL that orders by the value as docs/format.md orders it, with `{}` for the column; None when there
            is none.
    """

    sent_as: str | None = None
    order: str | None = "{}"

    def __init__(self, column: ColumnType) -> None:
        self.type = column

    @property
    def waiting(self) -> pa.DataType:
        """How values wait on the disk."""
        return arrow_type(self.type)

    @property
    def final(self) -> pa.DataType:
        """How values leave; known when all were taken."""
        return arrow_type(self.type)

    def take(self, values: pa.Array) -> pa.Array:
        """Check what the server sent; the values as they shall wait.

        Raises:
            Unkept: when some cannot be kept.
        """
        return values if values.type == self.waiting else values.cast(self.waiting)

    def finish(self, values: pa.Array) -> pa.Array:
        """Values that waited, in their final form."""
        return values


class Text(Leaf):
    """Text, which the server orders by bytes when asked to."""

    order = '{} COLLATE "C"'


class AsText(Text):
    """What the server is asked to send as text: enum, json, jsonb, uuid."""

    sent_as = "text"
    order = '{}::text COLLATE "C"'


class Oid(Leaf):
    """Object identifiers: unsigned, so int64 here."""

    sent_as = "int8"


class Date(Leaf):
    """Days."""

    def take(self, values: pa.Array) -> pa.Array:
        days = values.cast(pa.int32())
        _refuse_infinite(pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY)))
        return super().take(values)


class Timestamp(Leaf):
    """Moments, with a zone (always UTC here) or without."""

    def take(self, values: pa.Array) -> pa.Array:
        _refuse_infinite(pc.less(values.cast(pa.int64()), _FIRST_US))
        return super().take(values)


class Time(Leaf):
    """Times of a day: PostgreSQL has 24:00:00 as well, Arrow has not."""

    def take(self, values: pa.Array) -> pa.Array:
        late = pc.greater_equal(values.cast(pa.int64()), _DAY_US)
        if _any(late):
            raise Unkept(late, "24:00:00, which is no time of Arrow", "{0}::text")
        return super().take(values)


class Interval(Leaf):
    """Months, days and microseconds, each kept by itself: a month has no fixed number of days."""

    order = None  # PostgreSQL orders by estimated length: 30 days are 1 month

    def take(self, values: pa.Array) -> pa.Array:
        data = values.buffers()[1]
        parts = np.frombuffer(b"" if data is None else data, _MONTH_DAY_NANO)[
            values.offset : values.offset + len(values)
        ]
        odd = pa.array(parts["nanoseconds"] % 1000 != 0, mask=~_valid(values))
        if _any(odd):
            raise Unkept(odd, "intervals finer than a microsecond", "{0}::text")
        numbers = [parts["months"], parts["days"], parts["nanoseconds"] // 1000]
        arrays = [pa.array(found, field.type) for found, field in zip(numbers, INTERVAL, strict=True)]
        return pa.StructArray.from_arrays(arrays, fields=list(INTERVAL), mask=pa.array(~_valid(values)))


class Decimal(Leaf):
    """Decimals, sent as text: exact digits, from which the scale of a whole column is found."""

    sent_as = "text"

    def __init__(self, column: ColumnType) -> None:
        super().__init__(column)
        self._whole = 0
        self._scale = 0

    @property
    def waiting(self) -> pa.DataType:
        return pa.string()

    @property
    def final(self) -> pa.DataType:
        return arrow_type(self.type, self._scale)

    def take(self, values: pa.Array) -> pa.Array:
        odd = pc.match_substring_regex(values, "[^-0-9.]")
        if _any(odd):
            first = values.filter(odd)[0].as_py()
            raise Unkept(odd, f"{first}, which is no decimal", f"nullif({{0}}, '{first}')")
        # Zeros at the end of a fraction say nothing about the value, and a division brings many.
        pointed = pc.match_substring(values, ".")
        values = pc.if_else(pointed, pc.utf8_rtrim(pc.utf8_rtrim(values, "0"), "."), values)
        digits = pc.replace_substring(values, "-", "")
        point = pc.find_substring(digits, ".")
        length = pc.binary_length(digits)
        whole = pc.if_else(pc.less(point, 0), length, point)
        scale = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(length, point), 1))
        self._whole = max(self._whole, _most(whole))
        self._scale = max(self._scale, _most(scale))
        if self._whole + self._scale > DECIMAL_DIGITS:
            raise Unkept(
                pc.or_(pc.equal(whole, self._whole), pc.equal(scale, self._scale)),
                f"decimals with {self._whole} digits before and {self._scale} after the point, in all more than "
                f"{DECIMAL_DIGITS}",
                "{0}::text",
            )
        return values

    def finish(self, values: pa.Array) -> pa.Array:
        return values.cast(self.final)


def _refuse_infinite(bad: pa.Array) -> None:
    if _any(bad):
        raise Unkept(
            bad, "infinity, -infinity or what is past Arrow's last day", "CASE WHEN isfinite({0}) THEN {0} END"
        )


def _any(found: pa.Array) -> bool:
    return bool(pc.any(found).as_py())  # None when there are only nulls, or nothing


def _most(numbers: pa.Array) -> int:
    most = pc.max(numbers).as_py()
    return 0 if most is None else int(most)


def _valid(values: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
