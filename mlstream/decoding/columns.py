"""What decoding comes to: a batch's columns, and the records that do not decode. Knows no format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding.types import arrow_type
from mlstream.decoding.values import Mask

_MOST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that does not decode: its row in the batch, and why."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Columns:
    """A batch of decoded records; rows of `faults` are null in every column."""

    arrays: tuple[pa.Array, ...]
    faults: tuple[Fault, ...]


class Decoder(Protocol):
    """Values of one topic → columns. Used by several threads at once.

    Attributes:
        columns: names and types, in the words of `types`.
        schema: the same as Arrow says it.
    """

    @property
    def columns(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def schema(self) -> pa.Schema: ...

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        ...


def arrow_schema(columns: Sequence[tuple[str, str]]) -> pa.Schema:
    """The Arrow types of columns that are not nested."""
    return pa.schema([pa.field(name, arrow_type(word)) for name, word in columns])


def with_nulls(values: pa.Array, null: Mask) -> pa.Array:
    """The values, null where `null` says so."""
    return pc.if_else(pa.array(~null), values, pa.scalar(None, values.type)) if null.any() else values


def faults_of(reasons: Mapping[int, str]) -> tuple[Fault, ...]:
    """Faults in order of their rows."""
    return tuple(Fault(row, reasons[row]) for row in sorted(reasons))


def bad_rows(reasons: Mapping[int, str], rows: int) -> Mask:
    """The rows that have a reason."""
    bad = np.zeros(rows, np.bool_)
    bad[list(reasons)] = True
    return bad


def shown(value: bytes) -> str:
    """A value for a message: its first 40 signs."""
    text = value.decode(errors="replace")
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
