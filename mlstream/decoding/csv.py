"""CSV: one line a record (RFC 4180), its columns declared. A header line, or more than one line, is a fault."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from mlstream.config import ColumnConfig, DecodeConfig
from mlstream.decoding import text_kernels as kernels
from mlstream.decoding.columns import Columns, arrow_schema
from mlstream.decoding.fields import REASONS, Fields, TextColumn, to_columns
from mlstream.decoding.texts import check_pattern
from mlstream.decoding.values import bytes_and_offsets

_CONTEXT = 20


class CsvDecoder:
    """Lines of CSV → the declared columns.

    Without `field` in any of them the columns are all the fields of a line, in order, and a line with fewer or more is
    a fault; with `field` a line may have more.

    Raises:
        ValueError: a date's format that cannot be used, or two columns of one field.
    """

    def __init__(self, decode: DecodeConfig) -> None:
        self._columns = text_columns(decode)
        numbers = field_numbers(decode.details())
        self._exact = all(column.field is None for column in decode.details().values())
        self._fields = np.full(max(numbers, default=0), -1, np.int32)
        for column, number in enumerate(numbers):
            if self._fields[number - 1] >= 0:
                raise ValueError(f"field {number} is two columns")
            self._fields[number - 1] = column
        self._delimiter = ord(decode.delimiter)
        self._quote = -1 if decode.quote is None else ord(decode.quote)
        self._nulls = tuple(decode.nulls)
        self._trim = bool(decode.trim)

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
        rows = len(values)
        data, offsets = bytes_and_offsets(values)
        shape = len(self._columns), rows
        kinds, starts, stops = np.zeros(shape, np.uint8), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        faults, fault_at = np.zeros(rows, np.uint8), np.zeros(rows, np.int32)
        if values.null_count:
            faults[values.is_null().to_numpy(zero_copy_only=False)] = kernels.NO_VALUE
        kernels.split(
            data,
            offsets,
            self._delimiter,
            self._quote,
            self._fields,
            self._exact,
            kinds,
            starts,
            stops,
            faults,
            fault_at,
        )
        reasons = {}
        for row in map(int, np.flatnonzero(faults)):
            fault, first, at = int(faults[row]), int(offsets[row]), int(fault_at[row])
            if fault == kernels.TOO_MANY:
                reasons[row] = f"it has more than {len(self._fields)} fields"
            elif fault in (kernels.NO_VALUE, kernels.NO_RECORD):
                reasons[row] = REASONS[fault]
            else:
                near = bytes(data[max(at - _CONTEXT, first) : min(at + _CONTEXT, int(offsets[row + 1]))])
                reasons[row] = f"{REASONS[fault]}, at byte {at - first}, near {near.decode(errors='replace')!r}"
        fields = Fields(data, kinds, starts, stops, reasons, self._quote)
        return to_columns(fields, self._columns, nulls=self._nulls, trim=self._trim)


def text_columns(decode: DecodeConfig) -> tuple[TextColumn, ...]:
    """The declared columns of CSV or fixed width.

    Raises:
        ValueError: a date's format that cannot be used.
    """
    columns = []
    for name, column in decode.details().items():
        if column.format is not None:
            try:
                check_pattern(column.type, column.format)
            except ValueError as exc:
                raise ValueError(f"column {name!r}: {exc}") from exc
        columns.append(TextColumn(name, column.type, column.format, column.decimals, column.optional))
    return tuple(columns)


def field_numbers(columns: dict[str, ColumnConfig]) -> list[int]:
    """The number of each column's field, from 1."""
    numbers: list[int] = []
    for column in columns.values():
        before = numbers[-1] if numbers else 0
        numbers.append(before + 1 if column.field is None else column.field)
    return numbers
