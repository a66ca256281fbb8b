"""The types that a table's columns may have, and the words for them in a manifest. Plain values; see docs/format.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

SIMPLE = (
    "bool",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
    "decimal",
    "text",
    "binary",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "uuid",
)
_WORD = re.compile(r"[a-z0-9]+")
_SCALED = re.compile(r"decimal\((0|[1-9][0-9]{0,3}),(0|[1-9][0-9]{0,3})\)")
_LABEL = re.compile(r"'((?:[^']|'')*)'")
_DEEPEST = 6  # PostgreSQL's arrays have at most six dimensions


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type.

    Attributes:
        name: one of `SIMPLE`, or `enum` or `list`.
        precision, scale: of a decimal that was declared with them; None for one that holds what comes.
        labels: of an enum, in its order.
        item: of a list, what is in it.
    """

    name: str
    precision: int | None = None
    scale: int | None = None
    labels: tuple[str, ...] = ()
    item: ColumnType | None = None

    def __str__(self) -> str:
        if self.item is not None:
            return f"list({self.item})"
        if self.name == "enum":
            labels = ",".join("'" + label.replace("'", "''") + "'" for label in self.labels)
            return f"enum({labels})"
        if self.precision is not None:
            return f"{self.name}({self.precision},{self.scale})"
        return self.name


def list_of(item: ColumnType, depth: int = 1) -> ColumnType:
    """Lists of `item`, one in another `depth` times."""
    for _ in range(depth):
        item = ColumnType("list", item=item)
    return item


def parse_type(text: str) -> ColumnType:
    """The type that a manifest's word stands for: `str` of a `ColumnType`, read back.

    Raises:
        ValueError: when it is none, or not in that form.
    """
    found, end = _parse(text, 0, 0)
    if end != len(text) or str(found) != text:
        raise ValueError(f"column type {text!r}: not a type of this format")
    return found


def _parse(text: str, at: int, depth: int) -> tuple[ColumnType, int]:
    if depth > _DEEPEST:
        raise ValueError(f"column type {text[:40]!r}…: lists deeper than {_DEEPEST}")
    if text.startswith("list(", at):
        item, end = _parse(text, at + len("list("), depth + 1)
        if text[end : end + 1] != ")":
            raise ValueError(f"column type {text!r}: a list without its end")
        return ColumnType("list", item=item), end + 1
    if text.startswith("enum(", at):
        return _parse_enum(text, at + len("enum("))
    scaled = _SCALED.match(text, at)
    if scaled is not None:
        precision, scale = int(scaled[1]), int(scaled[2])
        if precision < 1 or scale > precision:
            raise ValueError(f"column type {text!r}: {scale} of {precision} digits")
        return ColumnType("decimal", precision, scale), scaled.end()
    word = _WORD.match(text, at)
    if word is None or word[0] not in SIMPLE:
        raise ValueError(f"column type {text!r}: not a type of this format")
    return ColumnType(word[0]), word.end()


def _parse_enum(text: str, at: int) -> tuple[ColumnType, int]:
    labels: list[str] = []
    while text[at : at + 1] != ")":
        if labels:
            if text[at : at + 1] != ",":
                raise ValueError(f"column type {text!r}: labels without commas")
            at += 1
        label = _LABEL.match(text, at)
        if label is None:
            raise ValueError(f"column type {text!r}: a label without quotes")
        labels.append(label[1].replace("''", "'"))
        at = label.end()
    return ColumnType("enum", labels=tuple(labels)), at + 1
