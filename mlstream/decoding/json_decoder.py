"""JSON values → columns: with columns that are declared, or that were inferred over a whole range before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstream.decoding.columns import Columns, Fault, arrow_schema, bad_rows, faults_of, with_nulls
from mlstream.decoding.framed import bodies, frame_faults, header_ids
from mlstream.decoding.json_columns import to_columns
from mlstream.decoding.json_schema import Seen, see
from mlstream.decoding.json_tokens import Names, Tokens, tokenise


class JsonDecoder:
    """One JSON object a value → columns of pinned types.

    Args:
        columns: names and types.
        paths: column → the members that lead to its value, from the outside in; the one of its name when not there.
    """

    def __init__(self, columns: Sequence[tuple[str, str]], paths: Mapping[str, Sequence[str]] | None = None) -> None:
        self.columns = tuple(columns)
        ways = {name: tuple((paths or {}).get(name, (name,))) for name, _ in self.columns}
        keys = tuple(dict.fromkeys(way[0] for way in ways.values()))
        below = {key: {name: way[1:] for name, way in ways.items() if way[0] == key and way[1:]} for key in keys}
        self._keys = keys
        self._inner = {
            key: JsonDecoder([column for column in self.columns if column[0] in deeper], deeper)
            for key, deeper in below.items()
            if deeper
        }
        self._flat = tuple(column for column in self.columns if len(ways[column[0]]) == 1)
        self._numbers = {name: keys.index(ways[name][0]) for name, _ in self._flat}

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as Arrow says them."""
        return arrow_schema(self.columns)

    def decode(self, values: pa.BinaryArray) -> Columns:
        """Columns of a batch of values."""
        tokens = tokenise(values, Names(self._keys, closed=True))
        return self._decode_nested(tokens) if self._inner else to_columns(tokens, self._numbers, self._flat)

    def _decode_nested(self, tokens: Tokens) -> Columns:
        # The objects on the way are read as text, then as records of their own. One that is null or missing has
        # nothing in it.
        ways = {f"\0{key}": self._keys.index(key) for key in self._inner}  # no column is called so
        schema = (*self._flat, *((way, "json") for way in ways))
        found = to_columns(tokens, {**self._numbers, **ways}, schema)
        arrays = {name: array for (name, _), array in zip(self._flat, found.arrays, strict=False)}
        reasons = {fault.row: fault.reason for fault in found.faults}
        for (key, decoder), texts in zip(self._inner.items(), found.arrays[len(self._flat) :], strict=True):
            inner = decoder.decode(pc.fill_null(texts, "{}").cast(pa.binary()))
            for fault in inner.faults:
                reasons.setdefault(fault.row, f"in {key!r}: {fault.reason}")
            arrays |= {name: array for (name, _), array in zip(decoder.columns, inner.arrays, strict=True)}
        bad = bad_rows(reasons, len(tokens.faults))
        return Columns(tuple(with_nulls(arrays[name], bad) for name, _ in self.columns), faults_of(reasons))


class RegisteredJsonDecoder:
    """JSON behind the header of a schema registry's serializer → columns of pinned types.

    Args:
        known: the ids whose schemas are known; a record that names another is a fault. None: any will do.
        paths: as `JsonDecoder`.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        known: Collection[int] | None,
        paths: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._json = JsonDecoder(columns, paths)
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
