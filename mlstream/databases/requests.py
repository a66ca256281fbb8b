"""What is asked of a database: a table, or a query and a name for its result. Plain values; opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mlstream.errors import UsageError
from mlstream.naming import check_table_name

_PARTS = re.compile(r"([^#]*)#(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TableRequest:
    """A table, or the result of a query, that a snapshot shall hold.

    Attributes:
        url: the database's; it may hold secrets, and is shown nowhere.
        name: what the snapshot calls it; without a query, also what the database calls it: `table` or `schema.table`.
        query: a SELECT; None for the whole table.
    """

    url: str = field(repr=False)
    name: str
    query: str | None = None


def parse_table(text: str) -> TableRequest:
    """A request as `URL#TABLE`, where TABLE may be `schema.table`.

    Raises:
        UsageError: when it is not of that form, or the name is none that a snapshot may use.
    """
    url, name = _split(text, "URL#TABLE, for example postgresql://user@host/db#weather")
    if "=" in name:
        raise UsageError(f"table {name[:60]!r}: this is a query, not a table", hint="use --query for it")
    try:
        return TableRequest(url, check_table_name(name.strip()))
    except UsageError as exc:
        raise UsageError(
            exc.message, hint="give it another name with a query: --query 'URL#name=SELECT * FROM …'"
        ) from None


def parse_query(text: str) -> TableRequest:
    """A request as `URL#NAME=SELECT …`.

    Raises:
        UsageError: when it is not of that form, or the name is none that a snapshot may use.
    """
    form = "URL#NAME=SELECT …, for example 'postgresql://user@host/db#storms=SELECT * FROM weather WHERE wind > 30'"
    url, rest = _split(text, form)
    name, equals, query = rest.partition("=")
    query = query.strip().rstrip(";").strip()
    if not equals or not query:
        raise UsageError("a query has the form URL#NAME=SELECT …, and this has no query", hint=f"write {form}")
    return TableRequest(url, check_table_name(name.strip()), query)


def _split(text: str, form: str) -> tuple[str, str]:
    parts = _PARTS.fullmatch(text)
    if parts is None or not parts[1].strip() or not parts[2].strip():
        raise UsageError("a table of a database is named by the database's URL, # and more", hint=f"write {form}")
    return parts[1], parts[2]
