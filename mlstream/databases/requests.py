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
        shown = f"table {name[:60]!r}: " if _may_be_shown(url, name) else ""
        raise UsageError(f"{shown}this is a query, not a table", hint="use --query for it")
    return TableRequest(
        url, _checked(url, name, hint="give it another name with a query: --query 'URL#name=SELECT * FROM …'")
    )


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
    return TableRequest(url, _checked(url, name), query)


def _checked(url: str, name: str, *, hint: str | None = None) -> str:
    try:
        return check_table_name(name.strip())
    except UsageError as exc:
        if _may_be_shown(url, name):
            raise UsageError(exc.message, hint=hint or exc.hint) from None
        raise UsageError(
            "what stands after the first # of the request is no name of a table: a name holds A-Z, a-z, 0-9, '_', '.' "
            "and '-'",
            hint=f"write %23 for a # in a password; {hint}" if hint else "write %23 for a # in a password",
        ) from None


def _may_be_shown(url: str, name: str) -> bool:
    """Whether what stands after the first # is no part of a password that has a # in it."""
    server = url.partition("://")[2].partition("/")[0]
    return "@" not in name and ("@" in server or ":" not in server)


def _split(text: str, form: str) -> tuple[str, str]:
    parts = _PARTS.fullmatch(text)
    if parts is None or not parts[1].strip() or not parts[2].strip():
        raise UsageError("a table of a database is named by the database's URL, # and more", hint=f"write {form}")
    return parts[1], parts[2]
