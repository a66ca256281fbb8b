"""The type of each column over a whole range of JSON records: a least upper bound, whatever their order. Pure.

    only null or missing            string (all null)
    true, false                     bool
    integers that fit int64         int
    integers and decimals           float, if every integer is exact as float64 and no decimal overflows; else json
    strings                         string
    objects, arrays                 json
    any other mix                   json

`json` is the text of the value as it stands in the record; a string keeps its quotes, so that "12" and 12 differ.
Columns are in the order of their names, so that records in another order have the same schema.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mlstream.decoding import json_kernels as kernels
from mlstream.decoding import json_texts
from mlstream.decoding.json_tokens import Tokens

Schema: TypeAlias = tuple[tuple[str, str], ...]  # names and types, in the words of `types`

_NUMBERS = (1 << kernels.INT) | (1 << kernels.LONG) | (1 << kernels.FLOAT) | (1 << kernels.WIDE)
_DECIMALS = (1 << kernels.FLOAT) | (1 << kernels.WIDE)
_BOOLS = (1 << kernels.FALSE) | (1 << kernels.TRUE)
_STRINGS = (1 << kernels.STRING) | (1 << kernels.ESCAPED)
_NOTHING = (1 << kernels.MISSING) | (1 << kernels.NULL)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a column. Two of them join with `|`, in any order.

    Attributes:
        kinds: a bit for each kind of token.
        beyond: an integer outside int64.
        inexact: a number that float64 cannot hold: an integer that would be rounded, a decimal that overflows.
    """

    kinds: int = 0
    beyond: bool = False
    inexact: bool = False

    def __or__(self, other: Seen) -> Seen:
        return Seen(self.kinds | other.kinds, self.beyond or other.beyond, self.inexact or other.inexact)

    @property
    def type(self) -> str:
        """The least type that holds all of it."""
        kinds = self.kinds & ~_NOTHING
        if kinds & ~_STRINGS == 0:
            return "string"
        if kinds & ~_BOOLS == 0:
            return "bool"
        if kinds & ~_NUMBERS == 0:
            if not kinds & _DECIMALS and not self.beyond:
                return "int"
            if not self.inexact:
                return "float"
        return "json"


def see(tokens: Tokens, columns: Iterable[str]) -> dict[str, Seen]:
    """What a batch has of each column; records with a fault do not count."""
    good = tokens.faults == kernels.OK
    found: dict[str, Seen] = {}
    for number, name in enumerate(columns):
        kinds = np.where(good, tokens.kinds[number], kernels.MISSING).astype(np.uint8)
        present = np.flatnonzero(np.bincount(kinds, minlength=kernels.NESTED + 1))
        mask = sum(1 << int(kind) for kind in present)
        beyond = inexact = False
        if mask & (1 << kernels.LONG):
            beyond, inexact = _check_integers(tokens, number, kinds)
        if mask & (1 << kernels.WIDE) and not inexact:
            inexact = any(_overflows(text) for text in _texts(tokens, number, kinds == kernels.WIDE))
        found[name] = Seen(mask, beyond, inexact)
    return found


def join(found: Iterable[Mapping[str, Seen]]) -> dict[str, Seen]:
    """What all batches have together."""
    joined: dict[str, Seen] = {}
    for batch in found:
        for name, seen in batch.items():
            joined[name] = joined.get(name, Seen()) | seen
    return joined


def schema_of(seen: Mapping[str, Seen]) -> Schema:
    """Columns and their types, in the order of their names. Columns that no good record has are left out."""
    return tuple((name, seen[name].type) for name in sorted(seen) if seen[name].kinds & ~(1 << kernels.MISSING))


def fits_float(text: bytes) -> bool:
    """Whether an integer's text is exact as float64."""
    try:
        return int(float(text)) == int(text)
    except OverflowError:
        return False


def _check_integers(tokens: Tokens, column: int, kinds: kernels.Bytes) -> tuple[bool, bool]:
    """Whether a long integer does not fit int64, and whether one is not exact as float64."""
    rows = len(kinds)
    values = np.zeros(rows, np.int64)
    beyond = np.zeros(rows, np.bool_)
    json_texts.integers(tokens.data, kinds, tokens.starts[column], tokens.stops[column], values, beyond)
    # 2^63 as a float64 is not an int64: compare where the value is near it by Python's exact integers.
    long = kinds == kernels.LONG
    rounded = values.astype(np.float64)
    near_edge = np.abs(rounded) >= 2.0**63
    exact = np.zeros(rows, np.bool_)
    safe = ~near_edge
    exact[safe] = rounded[safe].astype(np.int64) == values[safe]
    doubtful = long & (beyond | near_edge)
    inexact = bool(np.any(long & ~beyond & ~near_edge & ~exact))
    if not inexact:
        inexact = any(not fits_float(text) for text in _texts(tokens, column, doubtful))
    return bool(beyond.any()), inexact


def _overflows(text: bytes) -> bool:
    return float(text) in (float("inf"), float("-inf"))


def _texts(tokens: Tokens, column: int, wanted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterable[bytes]:
    for row in np.flatnonzero(wanted):
        yield bytes(tokens.data[tokens.starts[column, row] : tokens.stops[column, row]])
