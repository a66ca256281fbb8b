"""Choose the Python that a version's environment is built on, and ask it what it is. Installs none.

What the project asks for decides: `.python-version` beside the environment's file or above it, else `requires-python`.
This process's own Python is taken where it will do, else one that uv finds on this machine.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from mlstream.errors import VersionLoadError
from mlstream.versions.uv import run_uv

OLDEST = "3.11"  # the model's side of the host is mlstream's own code
_PIN = ".python-version"
_TELL_TIMEOUT_S = 60.0
_TELL = (
    "import json, platform, sys, sysconfig; "
    "print(json.dumps([platform.python_implementation(), platform.python_version(), sysconfig.get_platform()]))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python of this machine.

    Attributes:
        path: the program.
        implementation: "CPython", for example.
        version: "3.12.4", for example.
        platform: the system and processor that it runs on.
    """

    path: Path
    implementation: str
    version: str
    platform: str

    def __str__(self) -> str:
        return f"{self.implementation} {self.version}"


def own_interpreter() -> Interpreter:
    """The Python of this process."""
    return Interpreter(
        Path(sys.executable), platform.python_implementation(), platform.python_version(), sysconfig.get_platform()
    )


def find_interpreter(requires: str | None, *, pinned: str | None, folder: Path, where: str) -> Interpreter:
    """The Python for an environment.

    Args:
        requires: versions that will do, as `requires-python` has them (">=3.12,<3.14"); None: any.
        pinned: what `.python-version` asks for, or somebody else who knows ("3.12"); it goes before `requires`.
        folder: where uv looks for its project's settings.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: there is none on this machine, or it is older than what mlstream needs.
    """
    asked = pinned if pinned is not None else requires
    interpreter = own_interpreter()
    if asked is not None and not _will_do(interpreter, asked):
        hint = "install that Python, or set UV_PYTHON_DOWNLOADS=automatic and let uv fetch it"
        arguments = ["python", "find", "--system", "--no-project", asked]
        found = run_uv(arguments, folder=folder, what=f"find Python {asked}", where=where, hint=hint).strip()
        interpreter = _ask(Path(found), where)
    if requires is not None and not _will_do(interpreter, requires):
        raise VersionLoadError(
            f"{where}: {_PIN} asks for Python {asked}, and the environment for {requires}",
            hint="make them agree",
            where=where,
        )
    if Version(interpreter.version) < Version(OLDEST):
        raise VersionLoadError(
            f"{where}: it asks for Python {asked}; the model's process needs Python {OLDEST} or newer",
            hint=f"let the environment allow Python {OLDEST}",
            where=where,
        )
    return interpreter


def pinned_python(folder: Path, root: Path) -> str | None:
    """What the nearest `.python-version` asks for, from a folder upward to the project's root; None without one."""
    for place in (folder, *folder.parents):
        file = place / _PIN
        if file.is_file():
            lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
            return next((line for line in lines if line and not line.startswith("#")), None)
        if place == root:
            break
    return None


def _will_do(interpreter: Interpreter, asked: str) -> bool:
    """Whether a Python is what is asked for: a version or its beginning, or a range. What else uv knows is not read."""
    if all(part.isdigit() for part in asked.split(".")):
        return f"{interpreter.version}.".startswith(f"{asked}.")
    try:
        return SpecifierSet(asked).contains(interpreter.version, prereleases=True)
    except InvalidSpecifier:
        return False


def _ask(path: Path, where: str) -> Interpreter:
    try:
        told = subprocess.run(
            [str(path), "-I", "-c", _TELL], capture_output=True, text=True, timeout=_TELL_TIMEOUT_S, check=True
        )
        implementation, version, system = json.loads(told.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise VersionLoadError(
            f"{where}: the Python at {path} does not run: {exc}", hint="mend or remove it", where=where
        ) from exc
    return Interpreter(path, implementation, version, system)
