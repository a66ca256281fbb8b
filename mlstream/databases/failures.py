"""What PostgreSQL's errors mean: foreign errors become ours, with the fix and without what is secret."""

from __future__ import annotations

import re

from mlstream.databases.address import Address
from mlstream.errors import DatabaseError, MlstreamError, UnknownTable

# SQLSTATE, or the beginning of one → what to do. PostgreSQL's manual, appendix A.
_FIXES = {
    "57014": "the server ended the statement (statement_timeout?); add ?options=-c%20statement_timeout%3D0 to the URL",
    "25P03": "the server ended the transaction, which was idle for too long; ask for a longer "
    "idle_in_transaction_session_timeout",
    "25P04": "the transaction took longer than the server allows; ask for a longer transaction_timeout",
    "25006": "a snapshot only reads: use a SELECT that changes nothing",
    "25P02": "an earlier error ended the transaction; open the database again",
    "42501": "ask for the right to read it: GRANT SELECT ON … TO …",
    "42P01": "check the name; a table outside the search path is written schema.table",
    "42703": "check the names of the columns",
    "42601": "check the query's syntax; it is one SELECT, whose columns each have a name of its own",
    "0A000": "use one SELECT, without INTO and without FOR UPDATE",
    "40001": "the server is a replica that had to end the query; try again, or ask max_standby_streaming_delay of it",
    "53": "the server is short of memory, disk or connections; try again later",
    "55P03": "somebody alters or truncates it; try again, or wait longer: ?options=-c%20lock_timeout%3D5min in the URL",
    "57P": "the server shuts down; try again when it is back",
    "08": "the connection was lost; try again",
    "22021": "the database holds text in no encoding; convert_to(the_column, 'SQL_ASCII') in a query gives its bytes",
    "22": "the query computes what cannot be had; correct it",
}

_FIXES_BY_WORDS = {
    "statement timeout": _FIXES["57014"],
    "read-only transaction": _FIXES["25006"],
    "permission denied": _FIXES["42501"],
    "invalid byte sequence": _FIXES["22021"],
    "conflict with recovery": _FIXES["40001"],
    "terminat": "the connection was lost while rows were read; try again",
    "closed the connection": "the connection was lost while rows were read; try again",
    "ReadRecord": "use a query, and cast what is odd in it to text: SELECT …, a::text AS a FROM …",
}
_DRIVERS_WORDS = re.compile(
    r"^(?:[A-Z_]+: )?(?:\[libpq\] )?(?:Failed to connect: |Execution error \[\w+\]: |Failed to [a-z ]+: )?"
    r"(?:could not begin COPY: )?(?:ERROR:  |FATAL:  )?"
)


def unreachable(address: Address, error: Exception) -> MlstreamError:
    """The error for a database that cannot be connected to."""
    message = address.scrub(_first_line(error))
    lower = message.lower()
    if "password" in lower or "authentication" in lower or "pg_hba" in lower:
        hint = "check user and password; ${NAME} in the URL, PGPASSWORD and ~/.pgpass keep a password out of sight"
    elif "invalid uri" in lower or "invalid connection option" in lower:
        hint = "correct the URL's parameters"
    elif "does not exist" in lower:
        hint = "check the names of the database and the user"
    else:
        hint = "check host and port, and that the server runs"
    return DatabaseError(f"{address.source}: cannot connect: {message}", hint=hint, source=address.source)


def refused(address: Address, doing: str, error: Exception) -> MlstreamError:
    """The error for a statement that failed.

    Args:
        doing: what was done, for example `table weather`.
    """
    state = getattr(error, "sqlstate", None) or ""
    details = {_text(name): _text(value) for name, value in getattr(error, "details", None) or ()}
    message = address.scrub(details.get("PG_DIAG_MESSAGE_PRIMARY") or _first_line(error))
    hint = next((fix for begin, fix in _FIXES.items() if state.startswith(begin)), None)
    if not state:
        # While rows stream, the driver passes on no code, but what the server said.
        hint = next((fix for words, fix in _FIXES_BY_WORDS.items() if words in message), None)
    kind = UnknownTable if state == "42P01" else DatabaseError
    return kind(f"{address.source}: {doing}: {message}", hint=hint, source=address.source, sqlstate=state)


def _text(found: bytes | str) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


def _first_line(error: Exception) -> str:
    """What the server said, without the driver's own words around it."""
    text = str(error).partition("\nQuery was:")[0].strip()
    found = _DRIVERS_WORDS.sub("", text.splitlines()[0]) if text else ""
    return found or type(error).__name__
