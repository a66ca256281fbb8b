"""A database's URL: variables of the environment filled in, checked, and shown without secrets. Opens nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mlstream.errors import UsageError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_POSTGRES = re.compile(r"(postgresql|postgres)://([^/?]*)(?:/([^?]*))?(?:\?(.*))?", re.DOTALL)
_SQLITE = re.compile(r"sqlite:///([^?]+)", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?=:)")
_HOSTS = re.compile(
    r"(?:(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(?::\d*)?)(?:,(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(?::\d*)?)*"
)
# What of a URL's parameters is shown. All others are left out: nobody knows which of them are secret.
_SHOWN = (
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "service",
    "sslmode",
    "target_session_attrs",
    "application_name",
)
_SECRET = ("password", "sslpassword")
_FORMS = "write postgresql://user@host/database, or sqlite:///path"

Kind = Literal["postgresql", "sqlite"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is.

    Attributes:
        kind: `postgresql` or `sqlite`.
        url: the whole URL, secrets included; for the driver only.
        source: the URL as it may be shown and recorded: without password, with harmless parameters only.
        path: of an SQLite database, its file as the URL names it; else empty.
        secrets: what must not be in any message.
    """

    kind: Kind
    url: str = field(repr=False)
    source: str
    path: str = ""
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def scrub(self, message: str) -> str:
        """A message without the secrets that a driver may have put into it."""
        for secret in (self.url, *self.secrets):
            message = message.replace(secret, "•••")
        return message


def parse_address(url: str, environment: Mapping[str, str] | None = None) -> Address:
    """The address that a URL stands for.

    `${NAME}` is replaced by the environment's variable NAME: percent-encoded, unless the URL begins with it (then the
    variable holds a URL). So a password with any signs in it needs no encoding, and stands in no file and no `ps`.

    Raises:
        UsageError: when it is no URL of a database, or names a variable that is not set. The message does not repeat
            the URL, which may hold a password.
    """
    whole = _expand(url.strip(), os.environ if environment is None else environment)
    postgres = _POSTGRES.fullmatch(whole)
    if postgres is not None:
        return _postgres(whole, *(part if part is not None else "" for part in postgres.groups()[1:]))
    sqlite = _SQLITE.fullmatch(whole)
    if sqlite is not None:
        return Address("sqlite", whole, f"sqlite:///{sqlite[1]}", path=unquote(sqlite[1]))
    scheme = found[0] if (found := _SCHEME.match(whole)) is not None else ""
    if whole.startswith("sqlite:"):
        raise UsageError("an SQLite database is named by a path, without parameters", hint=_FORMS)
    if scheme.partition("+")[0] in ("postgresql", "postgres") and "://" in whole:
        raise UsageError("a database's URL names the database, not a driver", hint=_FORMS)
    shown = f" ({scheme}://…)" if scheme and "://" in whole else ""
    raise UsageError(f"no URL of a database that can be read{shown}", hint=_FORMS)


def _expand(url: str, environment: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        text = environment.get(found[1])
        if text is None:
            raise UsageError(
                f"the database's URL wants the environment's variable {found[1]}, which is not set",
                hint=f"set {found[1]}",
            )
        return text if found.start() == 0 else quote(text, safe="")

    return _VARIABLE.sub(value, url)


def _postgres(url: str, server: str, database: str, query: str) -> Address:
    login, at, hosts = server.rpartition("@")
    user, _, password = login.partition(":")
    # An '@' further on: the password has a '/' or '?' in it, and what seems to be the host is its beginning.
    cut_off = not at and ":" in hosts and "@" in f"{database}{query}"
    if not _HOSTS.fullmatch(hosts) or "@" in password or cut_off:
        raise UsageError(
            "the database's URL: what stands between // and the database is not user:password@host:port",
            hint="percent-encode '@', ':', '/', '?' and '#' in a password, or write ${NAME} and set that variable",
        )
    try:
        parameters = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError("the database's URL: what follows ? is not name=value&…", hint=_FORMS) from None
    shown = urlencode([pair for pair in parameters if pair[0] in _SHOWN], safe="/", quote_via=quote)
    secrets = {password, unquote(password), *(value for name, value in parameters if name in _SECRET)}
    source = f"postgresql://{user}{at if user else ''}{hosts}/{database}{f'?{shown}' if shown else ''}"
    # Short ones would blank out whole messages, and give nothing away that the message does not.
    return Address("postgresql", url, source, secrets=tuple(sorted((s for s in secrets if len(s) > 2), key=len)[::-1]))
