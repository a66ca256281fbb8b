"""An Avro schema → the program that walks its records (`avro_kernels`). Reads no records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlstream.decoding import avro_kernels as kernels
from mlstream.decoding.avro_schema import PRIMITIVES, AvroSchema, Schema, base, branches, is_flat
from mlstream.decoding.values import Ints

_OPS = dict(
    zip(
        PRIMITIVES,
        (
            kernels.NULL,
            kernels.BOOL,
            kernels.INT,
            kernels.LONG,
            kernels.FLOAT,
            kernels.DOUBLE,
            kernels.BYTES,
            kernels.STRING,
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True)
class Program:
    """Instructions, the unions' jump table, how deep arrays and maps nest, and the slot of each flat field."""

    code: kernels.Code
    table: Ints
    depth: int
    slots: tuple[int | None, ...]


def compile_schema(schema: AvroSchema) -> Program:
    """The program of a schema; its fields are numbered as they stand in it."""
    writer = _Writer(schema)
    slots: list[int | None] = []
    for number, field in enumerate(schema.fields):
        flat = is_flat(field["type"], schema)
        slot = sum(each is not None for each in slots) if flat else None
        writer.add(kernels.FIELD, number)
        writer.value(field["type"], -1 if slot is None else slot, 0)
        slots.append(slot)
    writer.add(kernels.END)
    return Program(np.array(writer.code, np.int32), np.array(writer.table or [0], np.int32), writer.depth, tuple(slots))


class _Writer:
    """The program so far."""

    def __init__(self, schema: AvroSchema) -> None:
        self._schema = schema
        self.code: list[tuple[int, int, int, int]] = []
        self.table: list[int] = []
        self.depth = 0

    def add(self, what: int, parameter: int = 0, slot: int = -1) -> int:
        """Append an instruction; where it is."""
        self.code.append((what, parameter, slot, 0))
        return len(self.code) - 1

    def value(self, schema: Schema, slot: int, level: int) -> None:
        """Instructions for a value."""
        schema = self._schema.definition(schema)
        kind = base(schema)
        if kind == "union":
            self._union(schema, slot, level)
        elif kind == "record":
            for field in schema["fields"]:
                self.value(field["type"], -1, level)
        elif kind in ("array", "map"):
            self._blocks(schema, kind, level)
        elif kind == "fixed":
            self.add(kernels.FIXED, int(schema["size"]), slot)
        elif kind == "enum":
            self.add(kernels.ENUM, len(schema["symbols"]), slot)
        else:
            self.add(_OPS[kind], 0, slot)

    def _union(self, schema: Schema, slot: int, level: int) -> None:
        found = branches(schema)
        first = len(self.table)
        self.table += [0] * len(found)
        self.add(kernels.UNION, first, len(found))
        jumps = []
        for number, branch in enumerate(found):
            self.table[first + number] = len(self.code)
            self.value(branch, slot, level)
            jumps.append(self.add(kernels.JUMP))
        for jump in jumps:
            self.code[jump] = (kernels.JUMP, len(self.code), -1, 0)

    def _blocks(self, schema: Schema, kind: str, level: int) -> None:
        self.depth = max(self.depth, level + 1)
        self.add(kernels.BLOCKS)
        next_item = self.add(kernels.NEXT)
        if kind == "map":
            self.add(kernels.STRING)
        self.value(schema["items" if kind == "array" else "values"], -1, level + 1)
        self.add(kernels.JUMP, next_item)
        self.code[next_item] = (kernels.NEXT, len(self.code), -1, 0)
