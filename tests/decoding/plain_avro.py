"""The plain twin of the compiled Avro decoder: one value at a time, as strict as it. The oracle of its tests.

Knows schemas without names that refer to others, and no resolution; that is fastavro's part.
"""

from __future__ import annotations

import struct
from typing import Any


class Wrong(ValueError):
    """The body is not what the schema says."""


class _Body:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise Wrong("ends early")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self) -> int:
        found = shift = 0
        while True:
            (byte,) = self.take(1)
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 63:
                raise Wrong("too long")
        if found >= 2**64:
            raise Wrong("more than 64 bits")
        return (found >> 1) ^ -(found & 1)


def decode(schema: Any, data: bytes) -> Any:
    """The value of a whole body."""
    body = _Body(data)
    value = _value(schema, body)
    if body.at != len(data):
        raise Wrong("more after it")
    return value


def _value(schema: Any, body: _Body) -> Any:
    if isinstance(schema, list):
        branch = body.number()
        if not 0 <= branch < len(schema):
            raise Wrong("branch")
        return _value(schema[branch], body)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        return {field["name"]: _value(field["type"], body) for field in schema["fields"]}
    if kind in ("array", "map"):
        return _blocks(schema, kind, body)
    if kind == "enum":
        number = body.number()
        if not 0 <= number < len(schema["symbols"]):
            raise Wrong("symbol")
        return schema["symbols"][number]
    if kind == "fixed":
        return body.take(schema["size"])
    if kind == "null":
        return None
    if kind == "boolean":
        byte = body.take(1)
        if byte not in (b"\0", b"\1"):
            raise Wrong("boolean")
        return byte == b"\1"
    if kind == "int":
        number = body.number()
        if not -(2**31) <= number < 2**31:
            raise Wrong("int")
        return number
    if kind == "long":
        return body.number()
    if kind == "float":
        return struct.unpack("<f", body.take(4))[0]
    if kind == "double":
        return struct.unpack("<d", body.take(8))[0]
    found = body.take(body.number())
    if kind == "bytes":
        return found
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise Wrong("not UTF-8") from None


def _blocks(schema: Any, kind: str, body: _Body) -> Any:
    items: list[Any] = []
    entries: dict[str, Any] = {}
    while count := body.number():
        if count < 0:
            size = body.number()
            if not 0 <= size <= len(body.data) - body.at:
                raise Wrong("block")
            count = -count
        if count > len(body.data) - body.at:
            raise Wrong("more items than bytes")
        for _ in range(count):
            if kind == "array":
                items.append(_value(schema["items"], body))
            else:
                key = _value("string", body)
                entries[key] = _value(schema["values"], body)
    return items if kind == "array" else entries
