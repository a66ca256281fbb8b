"""Fixed width: each column at its own bytes of a record, as declared. What is between and after them is passed over."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from mlstream.config import DecodeConfig
from mlstream.decoding import text_kernels as kernels
from mlstream.decoding.columns import Columns, arrow_schema
from mlstream.decoding.csv import text_columns
from mlstream.decoding.fields import REASONS, Fields, to_columns
from mlstream.decoding.values import Bytes, Ints, bytes_and_offsets

_LF, _CR = 0x0A, 0x0D


class FixedWidthDecoder:
    """Records of fixed width → the declared columns. An end of line at the end of a record does not count.

    Raises:
        ValueError: a date's format that cannot be used.
    """

    def __init__(self, decode: DecodeConfig) -> None:
        self._columns = text_columns(decode)
        self._places: list[tuple[int, int]] = []
        for column in decode.details().values():
            start = column.start if column.start is not None else self._places[-1][1] if self._places else 0
            self._places.append((start, start + (column.width or 0)))
        self._nulls = tuple(decode.nulls)
        self._trim = decode.trim is not False

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types."""
        return tuple((column.name, column.word) for column in self._columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """The same as Arrow says it."""
        return arrow_schema(self.columns)

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        data, offsets = bytes_and_offsets(values)
        firsts, ends = offsets[:-1], _ends(data, offsets)
        shape = len(self._columns), len(values)
        kinds, starts, stops = np.zeros(shape, np.uint8), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        reasons: dict[int, str] = {}
        for row in map(int, np.flatnonzero(ends <= firsts)):
            reasons[row] = REASONS[kernels.NO_RECORD]
        if values.null_count:
            for row in map(int, np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))):
                reasons[row] = REASONS[kernels.NO_VALUE]
        for number, ((start, stop), column) in enumerate(zip(self._places, self._columns, strict=True)):
            starts[number] = np.minimum(firsts + start, ends)
            stops[number] = np.minimum(firsts + stop, ends)
            there = firsts + start < ends
            kinds[number] = np.where(there, kernels.PLAIN, kernels.MISSING)
            for row in map(int, np.flatnonzero(there & (firsts + stop > ends))):
                size = int(ends[row] - firsts[row])
                reasons.setdefault(row, f"it ends inside column {column.name!r}: it has {size} bytes, not {stop}")
        fields = Fields(data, kinds, starts, stops, reasons)
        return to_columns(fields, self._columns, nulls=self._nulls, trim=self._trim)


def _ends(data: Bytes, offsets: Ints) -> Ints:
    """Where each record ends, without the end of its line."""
    ends = offsets[1:].copy()
    for sign in (_LF, _CR):
        last = np.maximum(ends - 1, 0)
        ends -= ((ends > offsets[:-1]) & (data[last] == sign)).astype(np.int32)
    return ends
