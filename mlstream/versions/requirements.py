"""Read what a version's environment is to hold: `uv.lock`, `pyproject.toml` or `requirements.txt`. Resolves nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlstream.errors import VersionLoadError
from mlstream.versions.interpreters import pinned_python
from mlstream.versions.reference import missing

_LOCK, _PROJECT = "uv.lock", "pyproject.toml"
_NESTED = re.compile(r"(?:-r|-c|--requirements?|--constraints?)[\s=]*(?P<file>\S+)")
_COMMENT = re.compile(r"(?:^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What an environment is to hold.

    Attributes:
        name: what it is called in messages and records.
        kind: "lock" is a `uv.lock`, "project" a `pyproject.toml`, "lines" are those of a requirements file.
        text: all that it says, with the files that it names; it may hold passwords.
        folder: where uv looks for settings, and where relative paths start.
        file: where it stands; None when it is a text only.
        requires: the versions of Python that will do, as `requires-python` has them; None: any.
        python: the version of Python that is asked for; None leaves it to `requires`.
    """

    name: str
    kind: Literal["lock", "project", "lines"]
    text: str = field(repr=False)
    folder: Path
    file: Path | None = None
    requires: str | None = None
    python: str | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of a requirements file and of those that it names, continued ones joined, without comments."""
        joined = re.sub(r"\s*\\\r?\n\s*", " ", self.text)
        bare = (_COMMENT.sub("", line).strip() for line in joined.splitlines())
        return tuple(line for line in bare if line)

    @property
    def options(self) -> tuple[str, ...]:
        """Those lines of a requirements file that name indexes and folders, as absolute paths, and not packages."""
        if self.kind != "lines":
            return ()
        options = (line for line in self.lines if line.startswith("-"))
        chosen = (line for line in options if _NESTED.match(line) is None and not _is_editable(line))
        return tuple(self._absolute(line) for line in chosen)

    @property
    def packages(self) -> tuple[str, ...]:
        """Those lines of a requirements file that name packages."""
        return tuple(line for line in self.lines if not line.startswith("-") or _is_editable(line))

    @property
    def has_hashes(self) -> bool:
        """Whether it is the output of a locking tool: its packages with the digests of their files."""
        return self.kind == "lines" and any("--hash" in line for line in self.packages)

    def _absolute(self, option: str) -> str:
        name, _, value = option.replace("=", " ", 1).partition(" ")
        path = self.folder / value.strip()
        return f"{name} {path.resolve()}" if value.strip() and path.exists() else option


def read_requirements(text: str, *, root: Path, where: str) -> Requirements:
    """What `environment:` names.

    Args:
        text: the path of a `uv.lock`, `pyproject.toml` or requirements file (`*.txt`, `*.in`) in the project.
        root: the project's root.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: it is none of these, is not there or not in the project, or cannot be read.
    """
    file = (root / text).resolve()
    if not file.is_relative_to(root.resolve()):
        raise VersionLoadError(f"{where}: {text} is outside the project {root}", hint="move it into it", where=where)
    if not file.is_file():
        raise missing(root / text, root, where)
    return requirements_in(file, name=text, python=pinned_python(file.parent, root.resolve()), where=where)


def requirements_in(file: Path, *, name: str, where: str, python: str | None = None) -> Requirements:
    """What a file says.

    Args:
        name: what it is called in messages and records.
        where: who asks, for messages.
        python: the version of Python that is asked for; None leaves it to the file.

    Raises:
        VersionLoadError: it is no file of a known kind, or cannot be read.
    """
    if file.name == _PROJECT and file.with_name(_LOCK).is_file():
        file, name = file.with_name(_LOCK), f"{name.removesuffix(_PROJECT)}{_LOCK}"
    try:
        if file.name == _LOCK:
            return _locked(file, name, python, where)
        if file.name == _PROJECT:
            return _project(file, name, python, where)
        if file.suffix in (".txt", ".in"):
            text = "\n".join(_with_nested(file, set()))
            return Requirements(name, "lines", text, file.parent, file, python=python)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise VersionLoadError(f"{where}: {name} cannot be read: {exc}", hint="correct it", where=where) from exc
    raise VersionLoadError(
        f"{where}: {name!r} is no environment that can be built",
        hint=f"name a {_LOCK}, a {_PROJECT} or a requirements.txt",
        where=where,
    )


def _locked(file: Path, name: str, python: str | None, where: str) -> Requirements:
    text = file.read_text(encoding="utf-8")
    if not file.with_name(_PROJECT).is_file():
        raise VersionLoadError(
            f"{where}: there is no {_PROJECT} beside {name}, and uv reads the two together",
            hint=f"put the {_PROJECT} there that it was made from",
            where=where,
        )
    return Requirements(
        name, "lock", text, file.parent, file, requires=_text(tomllib.loads(text), "requires-python"), python=python
    )


def _project(file: Path, name: str, python: str | None, where: str) -> Requirements:
    text = file.read_text(encoding="utf-8")
    project = tomllib.loads(text).get("project")
    if not isinstance(project, dict):
        raise VersionLoadError(
            f"{where}: {name} has no [project], so it names no dependencies",
            hint="write `[project]` with `dependencies` into it, or name a requirements.txt",
            where=where,
        )
    return Requirements(
        name, "project", text, file.parent, file, requires=_text(project, "requires-python"), python=python
    )


def _text(table: dict[str, Any], key: str) -> str | None:
    value = table.get(key)
    return value if isinstance(value, str) else None


def _is_editable(line: str) -> bool:
    return re.match(r"(?:-e|--editable)[\s=]", line) is not None


def _with_nested(file: Path, seen: set[Path]) -> Iterator[str]:
    """The text of a requirements file and of those that its `-r` and `-c` name, which decide as well."""
    seen.add(file)
    text = file.read_text(encoding="utf-8")
    yield text
    for line in text.splitlines():
        match = _NESTED.match(line.strip())
        if match is None:
            continue
        nested = (file.parent / match["file"]).resolve()
        if nested not in seen and nested.is_file():
            yield from _with_nested(nested, seen)
