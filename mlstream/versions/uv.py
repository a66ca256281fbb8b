"""Run uv, which resolves and installs the environments of versions. Decides nothing, keeps nothing.

uv reads its own settings (indexes, credentials, mirrors, offline) as it does for its user: from `uv.toml`,
`pyproject.toml` and variables that begin with `UV_`. What it installs may run code of its own while it is built, so of
the other variables it gets those that a model's process gets, and those that say how the network is reached.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from uv import find_uv_bin

from mlstream.errors import VersionLoadError
from mlstream.host.environment import clean_environment

TIMEOUT_S = 3600.0  # what is built from source may take its time; a build that hangs must end
_TAIL_LINES = 12
_NETWORK = frozenset(
    {"NETRC", "SSL_CLIENT_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND"}
)
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
# These name an environment or an interpreter; which one it is we say ourselves.
_TARGETS = frozenset({"UV_PYTHON", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON", "UV_WORKING_DIR"})


def find_uv() -> Path:
    """The program: the one that was installed with mlstream, else the one on the path.

    Raises:
        VersionLoadError: there is none.
    """
    try:
        return Path(find_uv_bin())
    except FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise VersionLoadError(
            "environments of versions are built with uv, which is not installed", hint="pip install uv"
        )
    return Path(found)


def run_uv(arguments: Sequence[str], *, folder: Path, what: str, where: str, hint: str | None = None) -> str:
    """Run uv in a folder and return what it printed.

    Args:
        arguments: what follows `uv`.
        folder: where it looks for its project's settings.
        what: what it is asked to do, for the message ("install the packages").
        where: the key in the configuration, for the message.
        hint: what helps when it cannot.

    Raises:
        VersionLoadError: uv is not there, says no (its last lines are in the message), or takes too long.
    """
    command = [str(find_uv()), *arguments, "--no-progress", "--color", "never"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=variables(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as exc:
        raise VersionLoadError(f"{where}: uv cannot be run: {exc}", hint="pip install uv", where=where) from exc
    except subprocess.TimeoutExpired as exc:
        raise VersionLoadError(
            f"{where}: uv could not {what} within {TIMEOUT_S / 60:.0f} minutes", hint="run it by hand", where=where
        ) from exc
    if done.returncode != 0:
        raise VersionLoadError(
            f"{where}: uv could not {what}:\n{_last_lines(done.stderr)}",
            hint="correct the file" if hint is None else hint,
            where=where,
        )
    return done.stdout


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that uv gets, of this process's."""
    found = clean_environment(environ, same_python=False)
    for name, value in environ.items():
        if (name.startswith("UV_") and name not in _TARGETS) or name in _NETWORK or name.lower() in _PROXIES:
            found[name] = value
    found.setdefault("UV_PYTHON_DOWNLOADS", "never")  # an interpreter is not fetched without being asked for
    return found


def _last_lines(text: str) -> str:
    """The end of what uv says, from its first error on: before it are warnings about other things."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    begin = next((number for number, line in enumerate(lines) if line.lstrip(" ×").startswith("error")), None)
    if begin is None:
        begin = next((number for number, line in enumerate(lines) if line.lstrip().startswith("×")), 0)
    return "\n".join(f"  {line}" for line in lines[begin:][-_TAIL_LINES:]) or "  (it said nothing)"
