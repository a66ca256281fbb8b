"""Fields of text that were found in a batch of records → typed columns. CSV and fixed width end here.

A field that is empty, or one of the texts that mean null, is null. One that does not fit its column's type is a fault
of its record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding import text_kernels as kernels
from mlstream.decoding import texts
from mlstream.decoding.columns import Columns, bad_rows, faults_of, shown, with_nulls
from mlstream.decoding.texts import Texts
from mlstream.decoding.values import Bytes, Ints, Mask

REASONS = {
    kernels.NO_VALUE: "it has no value (null)",
    kernels.NO_RECORD: "its value is empty",
    kernels.OPEN_QUOTE: "a quoted field that does not end",
    kernels.AFTER_QUOTE: "something follows a quoted field",
    kernels.STRAY_QUOTE: "a quote in a field that is not quoted",
    kernels.SECOND_LINE: "more than one line",
}


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A declared column. `pattern` and `implied` are as in `texts.read`."""

    name: str
    word: str
    pattern: str | None = None
    implied: int | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the fields of a batch are.

    Attributes:
        kinds, starts, stops: [column, row]: `text_kernels`' kind of the field, and where it is in `data`.
        reasons: why records do not decode, by their rows.
        quote: the byte that stands doubled in ESCAPED fields; -1 for none.
    """

    data: Bytes
    kinds: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int32]
    stops: npt.NDArray[np.int32]
    reasons: dict[int, str]
    quote: int = -1


def to_columns(fields: Fields, columns: Sequence[TextColumn], *, nulls: Sequence[str], trim: bool) -> Columns:
    """The columns of a batch. Adds to the reasons of `fields` what does not fit."""
    rows = fields.kinds.shape[1]
    reasons = fields.reasons
    structural = bad_rows(reasons, rows)
    null_texts = pa.array([text.encode() for text in nulls], pa.large_binary())
    arrays, empty = [], []
    for number, column in enumerate(columns):
        kinds, starts, stops = fields.kinds[number], fields.starts[number], fields.stops[number]
        kinds[structural] = kernels.EMPTY
        if trim and column.word != "binary":
            kernels.trim(fields.data, kinds, starts, stops)
        for row in np.flatnonzero(kinds == kernels.MISSING) if not column.optional else ():
            reasons.setdefault(int(row), f"it ends before column {column.name!r}")
        wanted = kinds >= kernels.PLAIN
        found = _texts(fields, kinds, starts, stops, wanted)
        if nulls:
            wanted &= ~pc.is_in(found.binary(), null_texts).to_numpy(zero_copy_only=False)
        array, wrong = texts.read(found, wanted, column.word, pattern=column.pattern, implied=column.implied)
        for row in np.flatnonzero(wrong & wanted):
            value = shown(found.at(int(row)))
            reasons.setdefault(int(row), f"column {column.name!r} is {column.word}, and the value is {value!r}")
        arrays.append(array)
        empty.append(~wanted)
    bad = bad_rows(reasons, rows)
    return Columns(
        tuple(with_nulls(array, null | bad) for array, null in zip(arrays, empty, strict=True)), faults_of(reasons)
    )


def _texts(fields: Fields, kinds: Bytes, starts: Ints, stops: Ints, wanted: Mask) -> Texts:
    ends = np.empty(len(kinds) + 1, np.int64)
    size = int((stops - starts)[wanted].sum()) if wanted.any() else 0
    out = np.empty(max(size, 1), np.uint8)
    kernels.copy(fields.data, wanted, kinds, starts, stops, fields.quote, ends, out)
    return Texts(out, ends)
