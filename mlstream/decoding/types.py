"""The types of decoded columns: the words that configurations and views use, and Arrow's. Converts nothing.

int float string bool binary    int64 float64 large_string bool large_binary
date                            date32
time, time(us), time(ns)        timestamp in UTC, of milli-, micro- or nanoseconds
datetime, datetime(us), …       timestamp without a zone (from Avro's local-timestamp only)
time_of_day                     time64[ns]
decimal(P,S)                    decimal128
json                            large_string: the text of a value that fits no other type
list[T], struct[a: T, …], map[T]    nested values, from Avro; a map is a list of (key, value)
"""

from __future__ import annotations

import re

import pyarrow as pa

MOST_DIGITS = 38

_ARROW: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "string": pa.large_string(),
    "bool": pa.bool_(),
    "binary": pa.large_binary(),
    "raw": pa.large_binary(),
    "json": pa.large_string(),
    "date": pa.date32(),
    "time": pa.timestamp("ms", tz="UTC"),
    "time(us)": pa.timestamp("us", tz="UTC"),
    "time(ns)": pa.timestamp("ns", tz="UTC"),
    "datetime": pa.timestamp("ms"),
    "datetime(us)": pa.timestamp("us"),
    "datetime(ns)": pa.timestamp("ns"),
    "time_of_day": pa.time64("ns"),
}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


def arrow_type(word: str) -> pa.DataType:
    """The Arrow type of a word that is not nested.

    Raises:
        ValueError: when it is none.
    """
    if word in _ARROW:
        return _ARROW[word]
    precision, scale = decimal_of(word)
    return pa.decimal128(precision, scale)


def decimal_of(word: str) -> tuple[int, int]:
    """Precision and scale of `decimal(P,S)`.

    Raises:
        ValueError: when the word is another.
    """
    found = _DECIMAL.fullmatch(word)
    if found is None:
        raise ValueError(f"{word!r} is no type of a column")
    return int(found[1]), int(found[2])


def unit_of(word: str) -> str:
    """`ms`, `us` or `ns` of a time, date and time, or time of day."""
    return "ns" if word == "time_of_day" else word.partition("(")[2].rstrip(")") or "ms"
