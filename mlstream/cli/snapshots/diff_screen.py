"""How `mlstream snapshot diff` shows a difference: 80 columns for people, one JSON object for programs."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlstream.cli.context import Session
from mlstream.cli.plain import plain
from mlstream.cli.snapshots.options import SHORT
from mlstream.cli.snapshots.screen import narrow_table, size_text

if TYPE_CHECKING:
    from mlstream.snapshots.difference import (
        Difference,
        PartitionDifference,
        Record,
        RecordChange,
        RowChange,
        StreamDifference,
        TableDifference,
    )

_SIGNS = {"added": "+", "removed": "-", "changed": "~", "same": "="}
_BEFORE = 12  # signs of a long value that are shown before the place where two begin to differ
_COUNTS = {
    "same": "same",
    "changed": "changed",
    "removed": "removed",
    "added": "added",
    "old_only": "only in A",
    "new_only": "only in B",
}


def print_difference(session: Session, found: Difference, old: str, new: str) -> None:
    """Streams, tables, files; what is the same in one line each."""
    _line(session, f"A  {old}  {found.old_id[:SHORT]}{'' if found.old_complete else '  partial'}")
    _line(session, f"B  {new}  {found.new_id[:SHORT]}{'' if found.new_complete else '  partial'}")
    if not found.differs:
        _line(session, "they hold the same")
        return
    for stream in found.streams:
        _print_stream(session, stream)
    for table in found.tables:
        _print_table(session, table)
    if found.files:
        session.out.print("\n[bold]files[/bold]")
    for file in found.files:
        sizes = [size_text(side.size_bytes) for side in (file.old, file.new) if side is not None]
        _line(session, f"{_SIGNS[file.change]} {plain(file.path)}  {' to '.join(dict.fromkeys(sizes))}")


def _print_stream(session: Session, found: StreamDifference) -> None:
    names = [name for name in dict.fromkeys((found.old, found.new)) if name is not None]
    rows = sum(part.same for part in found.partitions)
    how = {"offset": "compared by offset", "content": "compared by content", None: f"only in {_only(found)}"}[found.by]
    _head(session, _SIGNS[found.change], " to ".join(names), how)
    if found.change == "same":
        _line(session, f"  the same {rows:,} records")
        return
    different = [part for part in found.partitions if part.differs]
    if different:
        _print_partitions(session, different)
    alike = len(found.partitions) - len(different)
    if alike:
        _line(session, f"  {alike:,} more partition{'s are' if alike > 1 else ' is'} the same")
    for schema in found.schemas:
        _line(session, f"  {_SIGNS[schema.change]} schema {schema.id}")
    for record in found.records:
        _print_record(session, record)
    total = sum(part.changed + part.removed + part.added for part in found.partitions)
    _print_rest(session, total - len(found.records), "records")


def _only(found: StreamDifference) -> str:
    return "A" if found.new is None else "B"


def _print_partitions(session: Session, parts: Sequence[PartitionDifference]) -> None:
    shown = {name: text for name, text in _COUNTS.items() if any(getattr(part, name) for part in parts)}
    table = narrow_table(("part", "A", "B", *shown.values()))
    for part in parts:
        ranges = [_range(part.old_range), _range(part.new_range)]
        table.add_row(str(part.partition), *ranges, *(f"{getattr(part, name):,}" for name in shown))
    session.out.print(table)
    for part in parts:
        if part.reordered:
            _line(session, f"  partition {part.partition}: what both have stands in another order")


def _range(found: tuple[int, int] | None) -> str:
    return "-" if found is None else f"{found[0]}..{found[1]}"


def _print_record(session: Session, found: RecordChange) -> None:
    there = [side for side in (found.old, found.new) if side is not None]
    place = f"[{found.partition}]@{'→'.join(dict.fromkeys(str(side.offset) for side in there))}"
    if found.old is None or found.new is None:
        _line(session, f"{_SIGNS[found.change]} {place}  {_record_text(there[0])}")
        return
    _line(session, f"~ {place}")
    for name in found.fields:
        _print_change(session, name, _field(found.old, name), _field(found.new, name))


def _print_change(session: Session, name: str, old: str, new: str) -> None:
    """Two values, from shortly before the place where they begin to differ when that is far in."""
    room = session.out.width - len(name) - 8
    alike = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if alike > room // 2 and max(len(old), len(new)) > room:
        old, new = (f"…{text[alike - _BEFORE :]}" for text in (old, new))
    _line(session, f"    - {name}  {old}")
    _line(session, f"    + {name}  {new}")


def _record_text(record: Record) -> str:
    key = "" if record.key is None else f"{_text(record.key)}  "
    return f"{key}{_text(record.value)}"


def _field(record: Record, name: str) -> str:
    value = getattr(record, name)
    if name == "headers":
        return ", ".join(f"{_text(key)}: {_text(content)}" for key, content in value) or "none"
    return _text(value) if isinstance(value, bytes) or value is None else str(value)


def _print_table(session: Session, found: TableDifference) -> None:
    key = ", ".join(found.primary_key)
    how = f"compared by {plain(key)}" if key else "compared by all values"
    if found.old_rows is None or found.new_rows is None:
        how = f"only in {'A' if found.new_rows is None else 'B'}"
    _head(session, _SIGNS[found.change], f"table {plain(found.name)}", how)
    if found.change == "same":
        _line(session, f"  the same {found.same:,} rows")
        return
    counts = [(found.same, "same"), (found.changed, "changed"), (found.removed, "removed"), (found.added, "added")]
    _line(session, "  rows: " + (", ".join(f"{count:,} {what}" for count, what in counts if count) or "none"))
    for column in found.columns:
        types = [kind for kind in (column.old, column.new) if kind is not None]
        sign = "~" if len(types) > 1 else "-" if column.new is None else "+"
        _line(session, f"  {sign} column {plain(column.name)}  {' to '.join(types)}")
    notes = [
        (found.order, "its columns stand in another order"),
        (found.key, "its primary key is another one"),
        (found.query, "its query is another one"),
    ]
    for holds, note in notes:
        if holds:
            _line(session, f"  {note}")
    for row in found.rows:
        _print_row(session, row, found.primary_key)
    shown = len(found.rows)
    if found.old_rows is not None and found.new_rows is not None:
        _print_rest(session, found.changed + found.removed + found.added - shown, "rows")


def _print_row(session: Session, found: RowChange, key: Sequence[str]) -> None:
    there = found.old if found.old is not None else found.new
    if there is None:
        return
    if found.old is None or found.new is None:
        _line(session, f"{_SIGNS[found.change]} {_values(there, list(there))}")
        return
    _line(session, f"~ {_values(there, key)}")
    for name in found.columns:
        _print_change(session, plain(name), _value_text(found.old[name]), _value_text(found.new[name]))


def _values(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{plain(name)}={_value_text(row[name])}" for name in names)


def _value_text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return plain(str(value))


def _print_rest(session: Session, more: int, what: str) -> None:
    if more > 0:
        _line(session, f"  and {more:,} more {what} (--limit shows more)")


def _head(session: Session, sign: str, name: str, how: str) -> None:
    session.out.print()
    session.out.print(
        plain(f"{sign} {name}  {how}"), style="bold", markup=False, no_wrap=True, overflow="ellipsis", emoji=False
    )


def _line(session: Session, text: str) -> None:
    """One line, cut at the screen's edge."""
    session.out.print(plain(text), markup=False, no_wrap=True, overflow="ellipsis", emoji=False)


def _text(value: bytes | None) -> str:
    """Bytes as a person may read them: text where they are text, else hex."""
    if value is None:
        return "null"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return plain(text) if text else "(empty)"


def difference_json(found: Difference, old: str, new: str) -> dict[str, Any]:
    """Bytes are text where they are UTF-8, else `{"base64": …}`; what JSON has no type for is text."""
    return {
        "differs": found.differs,
        "old": {"name": old, "id": found.old_id, "complete": found.old_complete},
        "new": {"name": new, "id": found.new_id, "complete": found.new_complete},
        "streams": [
            {
                **_jsonable(asdict(stream)),
                "change": stream.change,
                "partitions": [{**_jsonable(asdict(part)), "differs": part.differs} for part in stream.partitions],
                "records": [
                    {**_jsonable(asdict(each)), "change": each.change, "fields": list(each.fields)}
                    for each in stream.records
                ],
            }
            for stream in found.streams
        ],
        "files": [{**_jsonable(asdict(file)), "change": file.change} for file in found.files],
        "tables": [
            {
                **_jsonable(asdict(table)),
                "change": table.change,
                "rows": [{**_jsonable(asdict(row)), "change": row.change} for row in table.rows],
            }
            for table in found.tables
        ],
    }


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
