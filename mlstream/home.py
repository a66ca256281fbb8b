"""Where a project and its store are. Finds paths; makes no folders.

The home is `$MLSTREAM_HOME`, or `.mlstream` in the project's root: the nearest folder upward that has a `.mlstream`,
a `.git` or a `pyproject.toml`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlstream.errors import StoreError

_MARKS = (".mlstream", ".git", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds snapshots, runs, the embedded broker's data and the local MLflow store."""

    path: Path

    @property
    def runs(self) -> Path:
        """Run records, one `ID.json` each, and a folder `ID/` of logs beside it."""
        return self.path / "runs"

    @property
    def comparisons(self) -> Path:
        """Comparison records, one `ID.json` each."""
        return self.path / "comparisons"

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

    Raises:
        StoreError: when it is a URL; stores on object storage are not built yet.
    """
    chosen = path if path is not None else os.environ.get("MLSTREAM_HOME")
    if chosen is None or str(chosen) == "":
        return Home(project_root() / ".mlstream")
    if "://" in str(chosen):
        raise StoreError(f"home {chosen}: a store at a URL is not supported yet", hint="set MLSTREAM_HOME to a folder")
    return Home(Path(chosen).expanduser().resolve())
