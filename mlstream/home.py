"""Where a project and its store are. Finds paths; makes no folders and asks no server.

The home is `$MLSTREAM_HOME`, or `.mlstream` in the project's root: the nearest folder upward that has a `.mlstream`,
a `.git` or a `pyproject.toml`. `.mlstream` is a folder, or a file of one line that names the home: so a project that is
shared says where its team keeps its snapshots.

A home may be a URL (`s3://bucket/store`): then the store is there, and a folder of this machine holds what was fetched
from it, and all that belongs to one machine only.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from platformdirs import user_cache_path

from mlstream.errors import UsageError, shown_url

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NO_USERS = ("http", "https", "s3", "s3a", "gs", "gcs")  # what stands before @ in these can only be a secret
_MARKS = (".mlstream", ".git", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds snapshots, runs, the embedded broker's data and the local MLflow store.

    Attributes:
        path: the folder. When the store is at a URL: this machine's copy of what is needed of it, and what is of this
            machine only (decoded views, work in progress, the embedded broker, the local MLflow store).
        url: where the store is; None when it is the folder itself.
    """

    path: Path
    url: str | None = None

    @property
    def address(self) -> str:
        """What finds this home again, in another process, too: `find_home(home.address)`."""
        return str(self.path) if self.url is None else self.url

    @property
    def runs(self) -> Path:
        """Run records, one `ID.json` each, and a folder `ID/` of logs beside it."""
        return self.path / "runs"

    @property
    def comparisons(self) -> Path:
        """Comparison records, one `ID.json` each."""
        return self.path / "comparisons"

    @property
    def unsent(self) -> Path:
        """What MLflow has not heard of yet, an `ID.json` a comparison; this machine's only."""
        return self.path / "unsent"

    @property
    def broker(self) -> Path:
        """The embedded broker's configuration, state and data."""
        return self.path / "broker"

    @property
    def mlflow_uri(self) -> str:
        """The local MLflow store, used when MLFLOW_TRACKING_URI is not set."""
        file = str(self.path / "mlflow.db").replace("%", "%25").replace("?", "%3F")  # a URL, which is read as one
        return f"sqlite:///{file}"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifacts of the local MLflow store."""
        return self.path / "mlartifacts"


def project_root(start: Path | None = None) -> Path:
    """The nearest folder from `start` (the working directory when None) upward that marks a project, else `start`."""
    start = (Path.cwd() if start is None else start).resolve()
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return start


def find_home(path: str | Path | None = None) -> Home:
    """The home at `path`, at `$MLSTREAM_HOME`, or in the project of the working directory.

    Args:
        path: a folder, or the URL of a store, for example `s3://bucket/store`.

    Raises:
        UsageError: the URL holds a password, or is none; a file `.mlstream` names no home.
    """
    chosen = path if path is not None else os.environ.get("MLSTREAM_HOME")
    if chosen is None or str(chosen) == "":
        own = project_root() / ".mlstream"
        if not own.is_file():
            return Home(own)
        chosen = _named_in(own)
    if isinstance(chosen, Path) or not is_url(chosen):
        return Home(Path(chosen).expanduser().resolve())
    url = plain_url(chosen)
    if url.startswith("file://"):
        return Home(folder_of(url))
    return Home(cache_of(url), url)


def _named_in(file: Path) -> str:
    """The home that a file `.mlstream` names: a URL, or a path from the file's folder."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"{file}: it cannot be read: {exc}", hint="write the home into it: a URL, or a path") from exc
    named = [line for line in lines if line and not line.startswith("#")]
    if len(named) != 1:
        raise UsageError(f"{file}: it holds {len(named)} lines, and should name one home", hint="a URL, or a path")
    return named[0] if is_url(named[0]) else str(file.parent / Path(named[0]).expanduser())


def is_url(text: str) -> bool:
    """Whether it names a scheme, as `s3://bucket/store` does. A Windows drive is no scheme."""
    return _URL.match(text) is not None


def plain_url(url: str) -> str:
    """A URL in the form by which it is known: without a slash at the end, its scheme in small letters.

    Raises:
        UsageError: it is none, it holds a password, or a query or fragment, which would be lost. No message repeats
            what may be secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise UsageError(f"{shown_url(url)}: this is no URL", hint="name a folder: s3://bucket/folder") from None
    login, at, _ = parts.netloc.rpartition("@")
    cut_off = not at and ":" in parts.netloc and "@" in parts.path  # a password with a '/' in it
    if ":" in login or (login and parts.scheme in _NO_USERS) or cut_off:
        raise UsageError(
            f"{shown_url(url)}: a URL with a password would be written into records",
            hint="leave it out; credentials come from the environment, as the storage's own tools read them",
        )
    if "?" in url or "#" in url:
        raise UsageError(f"{shown_url(url)}: a store's URL has no '?' or '#'", hint="name a folder: s3://bucket/folder")
    scheme, rest = url.split("://", 1)
    rest = rest.rstrip("/") if scheme.lower() != "file" or rest.strip("/") else "/"
    return f"{scheme.lower()}://{rest}"


def folder_of(url: str) -> Path:
    """The folder that a `file://` URL names."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        host = parts.netloc.rpartition("@")[2]
        raise UsageError(f"{shown_url(url)}: it names the host {host}", hint="write file:///folder, with three slashes")
    return Path(unquote(parts.path)).resolve()


def cache_of(url: str) -> Path:
    """The folder of this machine for a store at a URL; each URL has its own."""
    return cache_root() / "homes" / hashlib.sha256(url.encode()).hexdigest()[:32]


def cache_root() -> Path:
    """`$MLSTREAM_CACHE`, or the platform's folder for what can be fetched again."""
    chosen = os.environ.get("MLSTREAM_CACHE")
    return user_cache_path("mlstream") if not chosen else Path(chosen).expanduser().resolve()


def mark_used(folder: Path) -> None:
    """Note on a folder of the cache that it is used now, for those who look for what is not. It may be read-only."""
    with suppress(OSError):
        os.utime(folder)
