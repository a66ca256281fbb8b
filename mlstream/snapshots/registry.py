"""A schema registry: which schema an id stands for. Asks over HTTP, decodes nothing, writes nothing.

The REST interface is Confluent's, which other registries speak too (Apicurio under `/apis/ccompat/v7`, Karapace):

    GET /schemas/ids/ID                          a schema's text, type and references
    GET /subjects/SUBJECT/versions/VERSION       what a reference stands for
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from mlstream.errors import ConfigError, RegistryError
from mlstream.snapshots.content import SchemaContent, SchemaReference

VARIABLE = "MLSTREAM_SCHEMA_REGISTRY"
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_TIMEOUT_S = (5.0, 30.0)  # to connect, to answer
_TRIES_AGAIN = Retry(
    total=3, backoff_factor=0.2, status_forcelist=(429, 502, 503, 504), allowed_methods=("GET",), raise_on_status=False
)
_MOST_REFERENCES = 256
_UNKNOWN = 404


@dataclass(frozen=True, slots=True)
class RegistryAddress:
    """Where a registry is and how to be let in. Printing it shows no secret.

    Args:
        url: `http(s)://host[:port][/path]`; a user and password in it are taken as such.
        user, password: for basic authentication; a cloud's API key and its secret.
        token: a bearer token, instead of them.
        ca_file: the certificate authority to trust, instead of the system's.

    Raises:
        ConfigError: when the URL is none, or both a user and a token are given.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            # Not the text itself: it may hold a password.
            raise ConfigError(
                "schema registry: its address is not a URL", hint="for example http://127.0.0.1:8081", port=port
            )
        if parts.username is not None and self.user is None:
            object.__setattr__(self, "user", unquote(parts.username))
            object.__setattr__(self, "password", unquote(parts.password or ""))
        bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        object.__setattr__(self, "url", bare)
        if self.user is not None and self.token is not None:
            raise ConfigError(f"schema registry {bare}: a user and a token", hint="give one of them")

    def __str__(self) -> str:
        return self.url


class Registry:
    """A client of one registry; remembers what it was told. For one thread.

    Attributes:
        url: without user and password.
    """

    def __init__(self, address: RegistryAddress | str) -> None:
        self._address = RegistryAddress(address) if isinstance(address, str) else address
        self._session = requests.Session()
        self._session.headers["Accept"] = _ACCEPT
        if self._address.user is not None:
            self._session.auth = (self._address.user, self._address.password or "")
        if self._address.token is not None:
            self._session.headers["Authorization"] = f"Bearer {self._address.token}"
        if self._address.ca_file is not None:
            self._session.verify = self._address.ca_file
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_TRIES_AGAIN))
        self._schemas: dict[int, SchemaContent | None] = {}
        self._versions: dict[tuple[str, int], dict[str, Any]] = {}

    @property
    def url(self) -> str:
        """Where it is, without user and password."""
        return self._address.url

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connections."""
        self._session.close()

    def schema(self, schema_id: int) -> SchemaContent | None:
        """The schema of an id with all that it refers to; None when the registry has no such id.

        Raises:
            RegistryError: it does not answer, refuses, answers nonsense, or lacks what the schema refers to.
        """
        if schema_id not in self._schemas:
            found = self._get(f"/schemas/ids/{schema_id}")
            self._schemas[schema_id] = None if found is None else self._schema_of(schema_id, found)
        return self._schemas[schema_id]

    def _schema_of(self, schema_id: int, found: dict[str, Any]) -> SchemaContent:
        references: dict[str, str] = {}
        self._follow(found, references, (), schema_id)
        return SchemaContent(
            schema_id,
            str(found.get("schemaType") or "AVRO"),
            _text_of(found, f"schema registry {self.url}: schema {schema_id}"),
            tuple(SchemaReference(name, text) for name, text in references.items()),
        )

    def _follow(
        self, found: dict[str, Any], references: dict[str, str], path: tuple[tuple[str, int], ...], schema_id: int
    ) -> None:
        """Add what a schema refers to, dependencies first."""
        where = f"schema registry {self.url}: schema {schema_id}"
        for reference in found.get("references") or ():
            try:
                name, subject, version = str(reference["name"]), str(reference["subject"]), int(reference["version"])
            except (KeyError, TypeError, ValueError) as exc:
                raise RegistryError(f"{where}: a reference that is none: {reference!r}") from exc
            if (subject, version) in path:
                raise RegistryError(f"{where}: {subject} version {version} refers to itself")
            if len(references) == _MOST_REFERENCES:
                raise RegistryError(f"{where}: it refers to more than {_MOST_REFERENCES} schemas")
            meant = self._version(subject, version)
            if meant is None:
                raise RegistryError(
                    f"{where} refers to {name} ({subject} version {version}), which the registry does not have",
                    hint="register it again, or freeze without a registry",
                    schema_id=schema_id,
                )
            text = _text_of(meant, where)
            if name in references:
                if references[name] != text:
                    raise RegistryError(f"{where}: it refers to two different schemas by the name {name}")
                continue
            self._follow(meant, references, (*path, (subject, version)), schema_id)
            references[name] = text

    def _version(self, subject: str, version: int) -> dict[str, Any] | None:
        if (subject, version) not in self._versions:
            # A version that was deleted is still what the schema was registered with.
            found = self._get(f"/subjects/{quote(subject, safe='')}/versions/{version}?deleted=true")
            if found is None:
                return None
            self._versions[subject, version] = found
        return self._versions[subject, version]

    def _get(self, path: str) -> dict[str, Any] | None:
        where = f"schema registry {self.url}"
        try:
            answer = self._session.get(f"{self.url}{path}", timeout=_TIMEOUT_S)
        except (requests.RequestException, OSError) as exc:
            raise RegistryError(
                f"{where}: it does not answer ({_reason(exc)})",
                hint=f"check the address (--schema-registry, {VARIABLE}), or freeze without a registry",
            ) from exc
        if answer.status_code == _UNKNOWN:
            if not _is_registry(answer):
                raise RegistryError(
                    f"{where}: there is something else at this address (404 for {path.partition('?')[0]})",
                    hint="give the address below which /schemas/ids is; for Apicurio it ends in /apis/ccompat/v7",
                )
            return None
        if answer.status_code in (401, 403):
            raise RegistryError(
                f"{where}: it refuses ({answer.status_code})", hint="check the user and password, or the token"
            )
        if not answer.ok:
            raise RegistryError(f"{where}: it answers {answer.status_code} to {path.partition('?')[0]}")
        found = _json_of(answer)
        if not isinstance(found, dict):
            raise RegistryError(f"{where}: its answer to {path.partition('?')[0]} is not a JSON object")
        return found


def find_registry(
    url: str | None = None, configured: RegistryAddress | None = None, *, environment: bool = True
) -> RegistryAddress | None:
    """Which registry to ask: the URL that was given, else the configuration's, else MLSTREAM_SCHEMA_REGISTRY's.

    Raises:
        ConfigError: when the URL is none.
    """
    if url:
        return RegistryAddress(url)
    if configured is not None:
        return configured
    named = os.environ.get(VARIABLE) if environment else None
    return RegistryAddress(named) if named else None


def _text_of(found: dict[str, Any], where: str) -> str:
    text = found.get("schema")
    if not isinstance(text, str) or not text:
        raise RegistryError(f"{where}: the registry answers without a schema")
    return text


def _json_of(answer: requests.Response) -> object:
    try:
        return answer.json()
    except ValueError:
        return None


def _is_registry(answer: requests.Response) -> bool:
    """Whether a 404 says that the id is unknown (the registry's error codes 404xx), and not the page."""
    found = _json_of(answer)
    return isinstance(found, dict) and str(found.get("error_code", "")).startswith("404")


def _reason(exc: BaseException) -> str:
    """The innermost error's words: requests wraps urllib3's, which wraps the system's."""
    inner: BaseException = exc
    while inner.__context__ is not None:
        inner = inner.__context__
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
