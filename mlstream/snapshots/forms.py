"""The form that Parquet objects have to have: columns, in order, each of exactly one type. Reads footers, no rows.

Digests cover values, and the same values fit several types: what a column is called by readers would then depend on who
wrote the object. So a snapshot's objects have the types of `OBJECT_SCHEMA`, or those that the manifest declares of a
table, whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlstream.databases.arrow import DECIMAL_DIGITS, arrow_type, fits
from mlstream.databases.types import ColumnType
from mlstream.errors import MlstreamError
from mlstream.snapshots.content import TableContent
from mlstream.snapshots.manifest import Content
from mlstream.snapshots.objects import OBJECT_SCHEMA
from mlstream.snapshots.storage import Storage
from mlstream.snapshots.tables import column_types

_MOST_FOOTER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """What an object holds rows of.

    Attributes:
        table: the table whose rows they are; None when they are records of a stream.
    """

    table: TableContent | None

    def problem(self, schema: pa.Schema) -> str | None:
        """What is another column, or of another type, than it has to be; None when nothing is."""
        if self.table is None:
            return _misfit(schema, "records", [(each.name, str(each.type), each.type) for each in OBJECT_SCHEMA])
        try:
            kinds = column_types(self.table)
        except MlstreamError as exc:
            return exc.message
        declared = zip(self.table.columns, kinds, strict=True)
        return _misfit(
            schema, f"table {self.table.name}", [(column.name, column.type, kind) for column, kind in declared]
        )


def forms_of(content: Content, storage: Storage) -> dict[str, tuple[Form, ...]]:
    """Object → what it holds rows of: as a rule one thing. An object that is only a file is not there."""
    found: dict[str, dict[Form, None]] = {}
    for stream in storage.streams:
        for part in stream.partitions:
            for piece in (piece for cell in part.cells for piece in cell.pieces):
                found.setdefault(piece.object, {})[Form(None)] = None
    declared = {table.name: table for table in content.tables}
    for stored in storage.tables:
        if stored.name in declared:  # else the two documents do not fit, which is told of elsewhere
            for piece in stored.pieces:
                found.setdefault(piece.object, {})[Form(declared[stored.name])] = None
    return {digest: tuple(forms) for digest, forms in found.items()}


def read_footer(path: Path) -> tuple[pq.FileMetaData, pa.Schema]:
    """A Parquet file's footer, and its columns in Arrow's types; one that would take much memory is not read.

    Raises:
        OSError, pa.ArrowException: when it cannot be read.
    """
    with pq.ParquetFile(
        path,
        thrift_string_size_limit=_MOST_FOOTER_BYTES,
        thrift_container_size_limit=_MOST_FOOTER_BYTES >> 4,
    ) as file:
        return file.metadata, file.schema_arrow


def form_problem(path: Path, forms: Sequence[Form]) -> str | None:
    """What is wrong with an object's columns; None when they are those of all that it holds rows of."""
    try:
        _, schema = read_footer(path)
    except (OSError, pa.ArrowException) as exc:
        return f"it is no Parquet file: {exc}"
    return next((problem for form in forms if (problem := form.problem(schema)) is not None), None)


def _misfit(schema: pa.Schema, whose: str, wanted: Sequence[tuple[str, str, ColumnType | pa.DataType]]) -> str | None:
    """The first column that is not the wanted one. `wanted`: its name, its type in words, and the type."""
    wrong = f"its columns are not those of {whose}"
    if schema.names != [name for name, _, _ in wanted]:
        return wrong
    for field, (name, words, form) in zip(schema, wanted, strict=True):
        right = _declared(form, field.type) if isinstance(form, ColumnType) else _same(field.type, form)
        if not right:
            return f"{wrong}: {name} is {field.type} instead of {words}"
    return None


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether two types are one, whatever is in a list is called and whatever may be null."""
    if pa.types.is_list(wanted):
        return bool(pa.types.is_list(found)) and _same(found.value_type, wanted.value_type)
    if pa.types.is_struct(wanted):
        if not pa.types.is_struct(found) or [each.name for each in found] != [each.name for each in wanted]:
            return False
        return all(_same(one.type, other.type) for one, other in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _declared(kind: ColumnType, found: pa.DataType) -> bool:
    """Whether a type is the one that a table's column declares; a decimal without digits has any scale."""
    if kind.item is not None:
        return bool(pa.types.is_list(found)) and _declared(kind.item, found.value_type)
    if kind.name == "decimal":
        if not pa.types.is_decimal128(found):
            return False
        free = kind.precision is None or kind.scale is None or kind.precision > DECIMAL_DIGITS
        return found.precision == DECIMAL_DIGITS if free else bool(found == arrow_type(kind))
    return fits(kind, found)
