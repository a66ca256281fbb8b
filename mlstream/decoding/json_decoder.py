"""JSON values → columns: with columns that are declared, or that were inferred over a whole range before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from mlstream.decoding.columns import Columns, Fault, arrow_schema, bad_rows, faults_of
from mlstream.decoding.framed import bodies, frame_faults, header_ids
from mlstream.decoding.json_columns import to_columns
from mlstream.decoding.json_schema import Seen, see
from mlstream.decoding.json_tokens import Names, tokenise


class JsonDecoder:
    """One JSON object a value → columns of pinned types."""

    def __init__(self, columns: Sequence[tuple[str, str]]) -> None:
        self.columns = tuple(columns)
        self._numbers = {name: number for number, (name, _) in enumerate(self.columns)}

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as Arrow says them."""
        return arrow_schema(self.columns)

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        tokens = tokenise(values, Names(tuple(self._numbers), closed=True))
        return to_columns(tokens, self._numbers, self.columns)


class RegisteredJsonDecoder:
    """JSON behind the header of a schema registry's serializer → columns of pinned types.

    Args:
        known: the ids whose schemas are known; a record that names another is a fault. None: any will do.
    """

    def __init__(self, columns: Sequence[tuple[str, str]], known: Collection[int] | None) -> None:
        self._json = JsonDecoder(columns)
        self._known = known

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and types."""
        return self._json.columns

    @property
    def schema(self) -> pa.Schema:
        """The same as Arrow says it."""
        return self._json.schema

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        reasons = frame_faults(values, header_ids(values), self._known)
        found = self._json.decode(bodies(values, ~bad_rows(reasons, len(values))))
        for fault in found.faults:
            reasons.setdefault(fault.row, fault.reason)
        return Columns(found.arrays, faults_of(reasons))


def see_values(values: pa.BinaryArray) -> tuple[dict[str, Seen], Fault | None]:
    """What a batch has of each column, for the inference; and its first record that is no JSON object.

    Raises:
        TooManyColumns: there are more different keys than a view may have columns.
    """
    names = Names()
    tokens = tokenise(values, names)
    bad = np.flatnonzero(tokens.faults)
    first = Fault(int(bad[0]), tokens.reason(int(bad[0]))) if len(bad) else None
    return see(tokens, names.columns), first
