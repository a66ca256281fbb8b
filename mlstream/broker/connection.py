"""Which cluster to talk to and how, as one value that masks its secrets. Opens no socket.

`find_connection` decides in this order: the servers that were given (`--bootstrap-servers`,
MLSTREAM_BOOTSTRAP_SERVERS), a file of settings (`--kafka-config`, MLSTREAM_KAFKA_CONFIG), the experiment's
`connection:`, the embedded broker of the project. The names of the settings are kafka-python's.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlstream.broker.embedded.state import read_state
from mlstream.errors import BrokerUnavailable, ConfigError
from mlstream.home import Home, find_home

SERVERS_VARIABLE = "MLSTREAM_BOOTSTRAP_SERVERS"
FILE_VARIABLE = "MLSTREAM_KAFKA_CONFIG"

_TEXT = frozenset(
    {
        "client_id",
        "client_dns_lookup",
        "proxy_url",
        "security_protocol",
        "ssl_cafile",
        "ssl_certfile",
        "ssl_keyfile",
        "ssl_password",
        "ssl_crlfile",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
        "sasl_kerberos_name",
        "sasl_kerberos_service_name",
        "sasl_kerberos_domain_name",
    }
)
_INTEGERS = frozenset(
    {
        "connections_max_idle_ms",
        "metadata_max_age_ms",
        "reconnect_backoff_ms",
        "reconnect_backoff_max_ms",
        "request_timeout_ms",
        "socket_connection_setup_timeout_ms",
        "socket_connection_setup_timeout_max_ms",
    }
)
_BOOLEANS = frozenset({"ssl_check_hostname"})
_OBJECTS = frozenset({"ssl_context", "sasl_oauth_token_provider"})  # from Python only
SETTINGS = _TEXT | _INTEGERS | _BOOLEANS | _OBJECTS

# A proxy's URL may carry a password, and nobody knows what a token provider prints.
_SECRETS = frozenset({"sasl_plain_password", "ssl_password", "sasl_oauth_token_provider", "proxy_url"})
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_DEFAULT_PORT = 9092
_SERVER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\],]+)(?::(?P<port>\d{1,5}))?")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class Connection:
    """A Kafka cluster and how to reach it. Printing it shows no secret.

    Args:
        bootstrap_servers: `host:port` of some brokers of the cluster; a text with commas is taken apart.
        settings: kafka-python's client settings by name (`security_protocol`, `ssl_cafile`, `sasl_mechanism`, …).
        source: where the servers came from, for messages.

    Raises:
        ConfigError: when a server is not `host:port`, a setting is unknown or has a value of the wrong type.
    """

    bootstrap_servers: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bootstrap_servers", _servers(self.bootstrap_servers, self.source))
        object.__setattr__(self, "settings", _checked(self.settings, self.source))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={'***' if name in _SECRETS else repr(value)}" for name, value in sorted(self.settings.items())
        )
        return f"Connection({','.join(self.bootstrap_servers)}{', ' + shown if shown else ''})"

    __str__ = __repr__

    @property
    def servers(self) -> str:
        """The bootstrap servers as one text: `a:9092,b:9092`."""
        return ",".join(self.bootstrap_servers)

    @property
    def fix(self) -> str:
        """What a user can do when nobody answers there."""
        if self.source == "the embedded broker":
            return "start it: mlstream broker up"
        whence = f" (they come from {self.source})" if self.source else ""
        return f"check the servers{whence}, or start a local broker: mlstream broker up"


def find_connection(
    home: Home | str | Path | None = None,
    *,
    servers: str | None = None,
    settings_file: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Connection:
    """The cluster to use: servers first, then the file, then `settings`, then the embedded broker under `home`.

    What stands earlier wins name by name; so the servers may be given apart from the file with the passwords.

    Args:
        home: where the embedded broker leaves its state; found as `find_home` says when it is no Home.
        servers: `host:port,…`; the environment's MLSTREAM_BOOTSTRAP_SERVERS when None.
        settings_file: YAML of client settings, `${NAME}` read from the environment; MLSTREAM_KAFKA_CONFIG when None.
        settings: client settings of an experiment file.

    Raises:
        BrokerUnavailable: when nothing names a cluster and no embedded broker runs.
        ConfigError: when a setting or the file is wrong.
    """
    merged: dict[str, Any] = {} if settings is None else dict(settings)
    source = "the experiment's connection"
    given = settings_file if settings_file is not None else os.environ.get(FILE_VARIABLE)
    if given:
        read = read_settings(Path(given))
        merged |= read
        source = str(given) if "bootstrap_servers" in read else source
    named = servers if servers is not None else os.environ.get(SERVERS_VARIABLE)
    if named:
        merged["bootstrap_servers"] = named
        source = "--bootstrap-servers" if servers is not None else SERVERS_VARIABLE
    found = merged.pop("bootstrap_servers", None)
    if found:
        return Connection(_servers(found, source), merged, source)
    if any(name.startswith(("security_", "ssl_", "sasl_")) for name in merged):
        raise ConfigError(
            "the connection's settings name no bootstrap_servers", hint="add bootstrap_servers: host:port"
        )
    home = home if isinstance(home, Home) else find_home(home)
    state = read_state(home)
    if state is None or state.stopped:
        raise BrokerUnavailable(
            f"no Kafka cluster is configured and no local broker runs under {home.broker}",
            hint=f"start one: mlstream broker up; or set {SERVERS_VARIABLE}=host:port",
        )
    return Connection(_servers(state.bootstrap_servers, source), merged, "the embedded broker")


def read_settings(path: Path) -> dict[str, Any]:
    """Client settings from a YAML file; every value is text until its name says what it is.

    Raises:
        ConfigError: when the file cannot be read, is no mapping, or names a variable that is not set.
    """
    try:
        # BaseLoader keeps `0123` and `yes` as they are written: they may be passwords.
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file", hint="write one: `bootstrap_servers: host:port`") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}", path=str(path)) from exc
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        raise ConfigError(f"{path}:{line}: not YAML: {getattr(exc, 'problem', exc)}", path=str(path)) from exc
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: client settings are a mapping of keys", hint="start with `bootstrap_servers:`")
    settings = {key: _expand(path, key, value) for key, value in data.items()}
    _checked({key: value for key, value in settings.items() if key != "bootstrap_servers"}, str(path))
    return settings


def _expand(path: Path, key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_expand(path, key, item) for item in value]

    def look_up(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(f"{path}: {key}: the environment has no {match[1]}", hint=f"export {match[1]}=…")
        return found

    return _VARIABLE.sub(look_up, value) if isinstance(value, str) else value


def _servers(given: str | Sequence[str], source: str) -> tuple[str, ...]:
    names = given.split(",") if isinstance(given, str) else list(given)
    found = []
    for name in (str(name).strip() for name in names):
        if not name:
            continue
        match = _SERVER.fullmatch(name)
        port = None if match is None else int(match["port"] or _DEFAULT_PORT)
        if match is None or port is None or not 0 < port < 65536:
            raise ConfigError(
                f"bootstrap server {name!r}{_from(source)} is not host:port", hint="write for example a:9092"
            )
        found.append(f"{match['host']}:{port}")
    if not found:
        raise ConfigError(f"no bootstrap server is named{_from(source)}", hint="write host:port, several with commas")
    return tuple(found)


def _from(source: str) -> str:
    return f" ({source})" if source else ""


def _checked(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    checked = {name: _typed(name, value, source) for name, value in settings.items() if value is not None}
    protocol = checked.get("security_protocol", "PLAINTEXT")
    if protocol not in _PROTOCOLS:
        raise ConfigError(f"security_protocol {protocol!r}{_from(source)}", hint=f"use one of {', '.join(_PROTOCOLS)}")
    if protocol.startswith("SASL_") and "sasl_mechanism" not in checked:
        raise ConfigError(
            f"security_protocol {protocol}{_from(source)} needs sasl_mechanism",
            hint="set sasl_mechanism: SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER or GSSAPI",
        )
    return checked


def _typed(name: str, value: Any, source: str) -> Any:
    if name not in SETTINGS:
        near = difflib.get_close_matches(name, sorted(SETTINGS), n=1)
        raise ConfigError(
            f"connection setting {name!r}{_from(source)} is unknown",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(SETTINGS - _OBJECTS))}",
        )
    if name in _TEXT and not isinstance(value, str):
        raise ConfigError(f"connection setting {name}{_from(source)} is no text", hint="put its value in quotes")
    if name in _INTEGERS:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise ConfigError(f"connection setting {name}{_from(source)}: {value!r} is no whole number") from None
    if name in _BOOLEANS and not isinstance(value, bool):
        if str(value).lower() not in ("true", "false"):
            raise ConfigError(f"connection setting {name}{_from(source)}: {value!r} is neither true nor false")
        return str(value).lower() == "true"
    return value
