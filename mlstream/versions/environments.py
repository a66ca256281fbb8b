"""Environments of versions of their own: built once with uv, kept in this machine's cache, shared by all that need the
same. Loads no version.

    environments/pins/KEY.json      what was resolved (pins.py)
    environments/KEY/               one environment, complete since it has that name
        venv/                       its Python and its packages
        environment.json            what it was made of
    environments/KEY.lock           held while it is built

An environment is built beside its place and renamed when it is whole, so that a build that is cut off leaves nothing
that could be taken for one. It may be deleted at any time when no run is going on: it is built again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlstream.errors import VersionLoadError, redacted
from mlstream.home import cache_root, mark_used
from mlstream.versions.cached import alone, made_aside
from mlstream.versions.digests import digest_value
from mlstream.versions.interpreters import Interpreter, find_interpreter
from mlstream.versions.pins import Pins, name_of, pin
from mlstream.versions.requirements import Requirements, read_requirements
from mlstream.versions.uv import TIMEOUT_S, run_uv

_FORMAT = 1
# What mlstream's own code needs in a model's process. The oldest releases that it was tried with.
HOST_NEEDS = ("numpy>=1.24", "polars>=1.36.1")
# And to read a fitted scikit-learn estimator, and to ask it with named columns. Its own release is the lock's.
ESTIMATOR_NEEDS = (*HOST_NEEDS, "joblib>=1.3", "pandas>=2.1", "pyarrow>=14", "skops>=0.11")
# And to ask what MLflow loads, whose own release is among what such a model brings.
PYFUNC_NEEDS = (*HOST_NEEDS, "pandas>=2.1", "pyarrow>=14")

# And what reading a snapshot takes, in a process that trains.
TRAINING_NEEDS = (
    *HOST_NEEDS,
    "crc32c>=2.7",
    "cramjam>=2.9",
    "fastavro>=1.10",
    "filelock>=3.16",
    "fsspec>=2025.3",
    "numba>=0.61",
    "pandas>=2.1",
    "platformdirs>=4.0",
    "psutil>=6.0",
    "pyarrow>=18.0",
    "pydantic>=2.9",
    "pyyaml>=6.0",
    "rfc8785>=0.1.4",
)

Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is there.

    Attributes:
        python: its interpreter.
        digest: of all that it holds at its releases, and of Python's: 64 hex.
        described: `file` that it was made from, `python`, `packages` (name → release), of these `added` for the
            model's process; JSON values without passwords.
        site: the folder where its packages are.
    """

    python: Path
    digest: str
    described: Mapping[str, Any] = field(repr=False)
    site: Path = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pinned:
    """An environment of which all is known, whether it is built or not.

    Attributes:
        requirements: what it was made from.
        pins: what it holds.
        interpreter: the Python that it is built on.
        where: the key in the configuration, for messages.
    """

    requirements: Requirements
    pins: Pins
    interpreter: Interpreter
    where: str

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        parts = {
            "format": _FORMAT,
            "lines": [*self.pins.locked, *self.pins.added],
            "python": str(self.interpreter),
            "platform": self.interpreter.platform,
        }
        return environments_root() / digest_value(parts)[:32]


def environments_root() -> Path:
    """The folder of all environments, in this machine's cache."""
    return cache_root() / "environments"


def build_environment(
    requirements: Requirements | str,
    *,
    root: Path,
    where: str,
    needs: Sequence[str] = HOST_NEEDS,
    on_building: Listener | None = None,
) -> Environment:
    """An environment that holds what a file says and what a model's process needs, built when it is not there yet.

    Args:
        requirements: what it is to hold, or the path of a `uv.lock`, `pyproject.toml` or requirements file.
        root: the project's root, where the path starts.
        where: the key in the configuration, for messages (`versions.v1.environment`).
        needs: what is added, as requirements, where it is not locked; no locked release changes for it.
        on_building: called with the name of the file before it is built, which may take minutes.

    Raises:
        VersionLoadError: it cannot be had: the file, a release, a Python, or uv is missing, or the build failed.
    """
    return build(pin_environment(requirements, root=root, where=where, needs=needs), on_building=on_building)


def pin_environment(
    requirements: Requirements | str, *, root: Path, where: str, needs: Sequence[str] = HOST_NEEDS
) -> Pinned:
    """All that is to be known of an environment, without building it; the arguments are those of `build_environment`.

    Raises:
        VersionLoadError: the file, a release, a Python, or uv is missing.
    """
    if isinstance(requirements, str):
        requirements = read_requirements(requirements, root=root, where=where)
    interpreter = find_interpreter(
        requirements.requires, pinned=requirements.python, folder=requirements.folder, where=where
    )
    kept = environments_root() / "pins"
    try:
        pins = pin(requirements, needs, interpreter, kept=kept, where=where)
    except OSError as exc:
        raise _unusable(kept, exc, where) from exc
    return Pinned(requirements, pins, interpreter, where)


def build(pinned: Pinned, *, on_building: Listener | None = None) -> Environment:
    """The environment, built when it is not there yet. Only one process builds it; others wait for it.

    Raises:
        VersionLoadError: the build failed, or what is there was changed.
    """
    folder = pinned.folder
    found = _read(folder, pinned)
    if found is not None:
        return found
    try:
        with alone(folder, within_s=TIMEOUT_S, doing="building the environment", where=pinned.where):
            found = _read(folder, pinned)
            if found is None:
                if on_building is not None:
                    on_building(pinned.requirements.name)
                _make(folder, pinned)
                found = _read(folder, pinned)
    except OSError as exc:
        raise _unusable(folder, exc, pinned.where) from exc
    if found is None:
        raise VersionLoadError(
            f"{pinned.where}: the environment at {folder} was removed while it was built", hint="run again"
        )
    return found


def _make(folder: Path, pinned: Pinned) -> None:
    """Build beside the place, then give it its name."""
    requirements, pins = pinned.requirements, pinned.pins
    with made_aside(folder) as work:
        # 1. a Python of its own, which may be moved
        venv = work / "venv"
        base = ("--python", str(pinned.interpreter.path))
        run_uv(
            ["venv", "--quiet", "--no-project", "--relocatable", *base, str(venv)],
            folder=requirements.folder,
            what="make a virtual environment",
            where=pinned.where,
        )
        # 2. exactly the packages that are pinned
        file = work / "requirements.txt"
        file.write_text("\n".join([*requirements.options, *pins.locked, *pins.added]) + "\n", encoding="utf-8")
        file.chmod(0o600)  # it may name indexes with passwords
        run_uv(
            ["pip", "install", "--quiet", "--no-deps", "--python", str(_python(venv)), "--requirements", str(file)],
            folder=requirements.folder,
            what=f"install what {requirements.name} locks",
            where=pinned.where,
            hint="what it says is above; the releases are those that are locked",
        )
        file.unlink()
        # 3. what it is, and its name
        site = _site(venv)
        found = {"site": str(site.relative_to(work)), "packages": _installed(site)}
        (work / "environment.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        if folder.exists():  # its Python is gone: nobody can use it
            folder.rename(work / "old")
        work.chmod(0o755)
        work.rename(folder)
        shutil.rmtree(folder / "old", ignore_errors=True)


def _read(folder: Path, pinned: Pinned) -> Environment | None:
    """The environment in a folder; None when there is none that can be used."""
    try:
        found = json.loads((folder / "environment.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise _changed(folder, str(exc), pinned.where) from exc
    python, site = _python(folder / "venv"), folder / found["site"]
    if not python.exists():  # a link to a Python that was removed
        return None
    if _installed(site) != found["packages"]:
        raise _changed(folder, "its packages are not those that were installed", pinned.where)
    mark_used(folder)
    added = {name_of(line) for line in pinned.pins.added}
    described = {
        "file": pinned.requirements.name,
        "python": pinned.pins.python,
        "packages": found["packages"],
        "added": sorted(added & set(found["packages"])),
        "urls": sorted(redacted(line) for line in (*pinned.pins.locked, *pinned.pins.added) if " @ " in line),
    }
    return Environment(python, pinned.pins.digest, described, site)


def _installed(site: Path) -> dict[str, str]:
    """The packages in a folder, by the names of their metadata: name in normal form → release."""
    found = {}
    for info in site.glob("*.dist-info"):
        name, _, release = info.name.removesuffix(".dist-info").partition("-")
        found[name.replace("_", "-").replace(".", "-").lower()] = release
    return dict(sorted(found.items()))


def _python(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if sys.platform == "win32" else venv / "bin" / "python"


def _site(venv: Path) -> Path:
    pattern = "Lib/site-packages" if sys.platform == "win32" else "lib/python*/site-packages"
    return next(iter(venv.glob(pattern)))


def _changed(folder: Path, why: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the environment at {folder} was changed: {why}",
        hint="remove that folder: the environment is built again",
        where=where,
        path=str(folder),
    )


def _unusable(path: Path, exc: OSError, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: the environment cannot be kept at {path}: {exc}",
        hint="name another folder with MLSTREAM_CACHE",
        where=where,
        path=str(path),
    )
