"""The plain twin of the compiled JSON decoder: the standard library, one value at a time. The oracle of its tests."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

Schema = tuple[tuple[str, str], ...]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACE = " \t\r\n"


class Wrong(ValueError):
    """The value is not one JSON object as the format wants it."""


def members(value: bytes | None) -> dict[str, str]:
    """A record's object as name → the text of its value."""
    if not value:
        raise Wrong("no value")
    text = value.decode()  # a UnicodeDecodeError is a ValueError

    def refuse(constant: str) -> None:
        raise Wrong(constant)

    decoder = json.JSONDecoder(strict=True, parse_constant=refuse)
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise Wrong("not an object")
    decoder.raw_decode(text, at)  # all of it is JSON
    found: dict[str, str] = {}
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        key.encode()
        at = _skip(text, _skip(text, at) + 1)
        start = at
        _, at = decoder.raw_decode(text, at)
        if key in found:
            raise Wrong("twice")
        found[key] = text[start:at]
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise Wrong("more after it")
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def kind(text: str) -> str:
    if text in ("true", "false"):
        return "bool"
    if text == "null":
        return "null"
    if text[0] == '"':
        return "string"
    if text[0] in "[{":
        return "json"
    return "int" if re.fullmatch(r"-?[0-9]+", text) else "float"


def is_exact(text: str) -> bool:
    if kind(text) == "float":
        return math.isfinite(float(text))
    try:
        return int(float(text)) == int(text)
    except OverflowError:
        return False


def infer(values: Sequence[bytes | None]) -> Schema:
    """The least upper bound, from all texts of each column at once."""
    texts: dict[str, list[str]] = {}
    for value in values:
        try:
            for name, text in members(value).items():
                texts.setdefault(name, []).append(text)
        except ValueError:
            continue
    return tuple((name, _bound(texts[name])) for name in sorted(texts))


def _bound(texts: list[str]) -> str:
    kinds = {kind(text) for text in texts} - {"null"}
    numbers = [text for text in texts if kind(text) in ("int", "float")]
    if not kinds:
        return "string"
    if len(kinds) == 1 and kinds <= {"bool", "string", "json"}:
        return kinds.pop()
    if kinds == {"int"} and all(-(2**63) <= int(text) < 2**63 for text in numbers):
        return "int"
    if kinds <= {"int", "float"} and all(map(is_exact, numbers)):
        return "float"
    return "json"


def decode(value: bytes | None, schema: Schema) -> list[Any] | None:
    """The record's columns, None when it does not decode."""
    try:
        found = members(value)
        return [_convert(found.get(name), wanted) for name, wanted in schema]
    except ValueError:
        return None


def _convert(text: str | None, wanted: str) -> Any:
    if text is None or text == "null":
        return None
    if wanted == "json":
        return text
    found = kind(text)
    if wanted == "float" and found in ("int", "float") and is_exact(text):
        return float(text)
    if wanted == "int" and found == "int" and -(2**63) <= int(text) < 2**63:
        return int(text)
    if wanted == found == "bool":
        return text == "true"
    if wanted == found == "string":
        string = json.loads(text)
        string.encode()  # half a surrogate pair is no text
        return string
    raise Wrong(f"{text} is not {wanted}")
