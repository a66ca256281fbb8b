"""What PostgreSQL's catalog says: which table a name means, its primary key, and which type each column has.

Knows the catalog's SQL and no driver: whoever calls gives a function that runs a query.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mlstream.databases import leaves
from mlstream.databases.leaves import Leaf
from mlstream.databases.types import ColumnType

Query: TypeAlias = Callable[[str], "list[dict[str, Any]]"]

# Built-in types → how their values travel. What is not here is refused, unless it is an enum, or a domain or an array
# of what is here.
_LEAVES: Mapping[str, tuple[str, type[Leaf]]] = {
    "bool": ("bool", Leaf),
    "int2": ("int16", Leaf),
    "int4": ("int32", Leaf),
    "int8": ("int64", Leaf),
    "oid": ("int64", leaves.Oid),
    "float4": ("float32", Leaf),
    "float8": ("float64", Leaf),
    "numeric": ("decimal", leaves.Decimal),
    "text": ("text", leaves.Text),
    "varchar": ("text", leaves.Text),
    "bpchar": ("text", leaves.Text),
    "name": ("text", leaves.AsText),
    "char": ("text", leaves.AsText),
    "bytea": ("binary", Leaf),
    "date": ("date", leaves.Date),
    "time": ("time", leaves.Time),
    "timestamp": ("timestamp", leaves.Timestamp),
    "timestamptz": ("timestamptz", leaves.Timestamp),
    "interval": ("interval", leaves.Interval),
    "json": ("json", leaves.AsText),
    "jsonb": ("jsonb", leaves.AsText),
    "uuid": ("uuid", leaves.AsText),
}
_READABLE = "('r', 'p', 'v', 'm', 'f')"  # tables, partitioned ones, views, materialized ones, foreign ones


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view: its number, its kind (`pg_class.relkind`), and its name as SQL has it."""

    oid: int
    kind: str
    sql: str


@dataclass(frozen=True, slots=True)
class Found:
    """How the values of a column travel.

    Attributes:
        leaf: of its values; of the items for an array.
        is_array: whether it is one, of any number of dimensions.
        base: the SQL type to cast a domain or an array of domains to first; None when that is not needed.
    """

    leaf: Leaf
    is_array: bool
    base: str | None


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL has it, whatever `standard_conforming_strings` says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def find_relation(run: Query, name: str) -> Relation | None:
    """The table or view that a name means: `table` by the search path, or `schema.table`."""
    schema, _, table = name.rpartition(".")
    where = f"n.nspname = {literal(schema)}" if schema else "pg_table_is_visible(c.oid)"
    found = run(
        "SELECT c.oid::int8 AS oid, c.relkind::text AS kind, n.nspname::text AS schema, c.relname::text AS name "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relname = {literal(table)} AND {where} AND c.relkind IN {_READABLE}"
    )
    if not found:
        return None
    row = found[0]
    return Relation(row["oid"], row["kind"], f"{quoted(row['schema'])}.{quoted(row['name'])}")


def near_relations(run: Query, name: str) -> list[str]:
    """Names of tables that look like one that is not there; some of all, if none does."""
    found = run(
        "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text "
        "ELSE n.nspname::text || '.' || c.relname::text END AS name "
        "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE c.relkind IN {_READABLE} AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') "
        "ORDER BY 1 LIMIT 10000"
    )
    names = [row["name"] for row in found]
    bare = name.rpartition(".")[2].lower()
    same = [known for known in names if known.rpartition(".")[2].lower() == bare]
    return same or difflib.get_close_matches(name, names, n=1) or names[:8]


def primary_key(run: Query, oid: int) -> tuple[str, ...]:
    """The columns of a table's primary key, in its order; empty without one."""
    found = run(
        "SELECT a.attname::text AS name FROM pg_catalog.pg_index i "
        "CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place) "
        "JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
        f"WHERE i.indrelid = {oid} AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place"
    )
    return tuple(row["name"] for row in found)


def column_modifiers(run: Query, oid: int) -> dict[str, int]:
    """What a table's columns were declared with beside their types: precision and scale, packed."""
    found = run(
        "SELECT attname::text AS name, atttypmod::int4 AS modifier FROM pg_catalog.pg_attribute "
        f"WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped AND atttypmod >= 0"
    )
    return {row["name"]: row["modifier"] for row in found}


class Types:
    """Types by their numbers, looked up once."""

    def __init__(self, run: Query) -> None:
        self._run = run
        self._known: dict[int, dict[str, Any]] = {}
        self._labels: dict[int, list[str]] = {}

    def name(self, oid: int) -> str:
        """What the server calls a type."""
        self._load([oid])
        return str(self._known[oid]["shown"])

    def find(self, oid: int, modifier: int = -1) -> Found | None:
        """How values of a type travel; None for a type that cannot be kept.

        Args:
            modifier: what the column was declared with (`atttypmod`); -1 when nobody knows.
        """
        bare, modifier = self._bare(oid, modifier)
        is_array = bare["category"] == "A" and bare["element"] != 0
        item, modifier = self._bare(bare["element"], modifier) if is_array else (bare, modifier)
        leaf = self._leaf(item, modifier)
        if leaf is None:
            return None
        is_domain = bare["oid"] != oid or (is_array and item["oid"] != bare["element"])
        return Found(leaf, is_array, f"{item['shown']}{'[]' * is_array}" if is_domain else None)

    def _leaf(self, found: Mapping[str, Any], modifier: int) -> Leaf | None:
        if found["kind"] == "e":
            return leaves.AsText(ColumnType("enum", labels=tuple(self._enum(found["oid"]))))
        if found["schema"] != "pg_catalog" or found["name"] not in _LEAVES:
            return None
        word, leaf = _LEAVES[found["name"]]
        return leaf(_decimal(modifier) if word == "decimal" else ColumnType(word))

    def _bare(self, oid: int, modifier: int) -> tuple[Mapping[str, Any], int]:
        """A type without the domains around it."""
        self._load([oid])
        found = self._known[oid]
        while found["kind"] == "d":
            modifier = found["modifier"] if modifier < 0 else modifier
            self._load([found["base"]])
            found = self._known[found["base"]]
        return found, modifier

    def _load(self, oids: Iterable[int]) -> None:
        missing = sorted(set(oids) - set(self._known))
        if not missing:
            return
        found = self._run(
            "SELECT t.oid::int8 AS oid, t.typname::text AS name, n.nspname::text AS schema, t.typtype::text AS kind, "
            "t.typcategory::text AS category, t.typelem::int8 AS element, t.typbasetype::int8 AS base, "
            "t.typtypmod::int4 AS modifier, format_type(t.oid, NULL) AS shown "
            "FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace "
            f"WHERE t.oid IN ({', '.join(map(str, missing))})"
        )
        self._known.update((row["oid"], row) for row in found)

    def _enum(self, oid: int) -> Sequence[str]:
        if oid not in self._labels:
            found = self._run(
                "SELECT enumlabel::text AS label FROM pg_catalog.pg_enum "
                f"WHERE enumtypid = {oid} ORDER BY enumsortorder"
            )
            self._labels[oid] = [row["label"] for row in found]
        return self._labels[oid]


def _decimal(modifier: int) -> ColumnType:
    """A decimal that was declared so: precision above 16 bits, scale in the 11 below, 4 too many in all."""
    if modifier < 4:
        return ColumnType("decimal")
    precision = (modifier - 4) >> 16 & 0xFFFF
    scale = ((modifier - 4 & 0x7FF) ^ 0x400) - 0x400
    # PostgreSQL 15 allows a scale below 0 or past the precision, for which nothing else has a name.
    return ColumnType("decimal", precision, scale) if 0 <= scale <= precision else ColumnType("decimal")
