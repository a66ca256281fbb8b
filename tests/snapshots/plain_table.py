"""The canonical encoding of tables as docs/format.md has it, value by value. Imports no mlstream: it is the oracle."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

_TEXTS = ("text", "json", "jsonb", "uuid")
_MICROSECOND = 1_000_000


def encode(value: Any, kind: str) -> bytes:
    """One value of a column with this type."""
    if value is None:
        return b"\x02"
    listed = re.fullmatch(r"list\((.*)\)", kind, re.DOTALL)
    if listed is not None:
        return b"\x01" + b"".join(encode(item, listed[1]) for item in value) + b"\x00"
    if kind.startswith("decimal"):
        return b"\x01" + decimal(value)
    if kind.startswith("float"):
        return b"\x01" + double(value)
    if kind in _TEXTS or kind.startswith("enum("):
        return b"\x01" + value.encode().replace(b"\x00", b"\x00\xff") + b"\x00"
    if kind == "binary":
        return b"\x01" + value.replace(b"\x00", b"\x00\xff") + b"\x00"
    if kind == "interval":
        return b"\x01" + b"".join(integer(value[part]) for part in ("months", "days", "microseconds"))
    return b"\x01" + integer(whole(value))


def whole(value: Any) -> int:
    """A number, day, time or moment as an integer."""
    if isinstance(value, datetime):
        since = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * _MICROSECOND + since.microseconds
    if isinstance(value, date):
        return value.toordinal() - date(1970, 1, 1).toordinal()
    if isinstance(value, time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * _MICROSECOND + value.microsecond
    return int(value)


def integer(number: int) -> bytes:
    return (number + (1 << 63)).to_bytes(8, "big")


def double(number: float) -> bytes:
    bits = 0x7FF8_0000_0000_0000 if math.isnan(number) else int.from_bytes(struct.pack(">d", number), "big")
    return (bits ^ ((1 << 64) - 1) if bits >> 63 else bits | 1 << 63).to_bytes(8, "big")


def decimal(number: Decimal) -> bytes:
    if number == 0:
        return b"\x01"
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    body = bytes([len(text) + exponent + 128]) + text.rstrip("0").encode() + b"\x00"
    return b"\x02" + body if number > 0 else b"\x00" + bytes(255 - byte for byte in body)


def row(values: Sequence[Any], kinds: Sequence[str]) -> bytes:
    return b"".join(encode(value, kind) for value, kind in zip(values, kinds, strict=True))


def digest(rows: Iterable[Sequence[Any]], kinds: Sequence[str], key: Sequence[int] = ()) -> str:
    """The records digest of rows in any order; `key` has the places of the key's columns."""
    coded = sorted((row([values[k] for k in key], [kinds[k] for k in key]), row(values, kinds)) for values in rows)
    groups = [coded[first : first + 65_536] for first in range(0, len(coded), 65_536)]
    digests = [hashlib.sha256(b"".join(item for _, item in group)).digest() for group in groups]
    return hashlib.sha256(b"".join(digests)).hexdigest()
