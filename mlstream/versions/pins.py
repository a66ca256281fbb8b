"""Pin what an environment is to hold: every package at one release, and what the model's process needs besides.

What a lock says is taken as it is. What is not locked is resolved once for a Python and a platform, and kept: asked
again, the same releases come out, whatever has been released since. Installs nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from mlstream.errors import VersionLoadError, redacted
from mlstream.versions.digests import digest_value, installed
from mlstream.versions.files import write_atomically
from mlstream.versions.interpreters import Interpreter
from mlstream.versions.requirements import Requirements
from mlstream.versions.uv import run_uv

_FORMAT = 1
_PLAIN = ("--quiet", "--no-header", "--no-annotate")


@dataclass(frozen=True, slots=True)
class Pins:
    """What an environment holds, as lines of a requirements file.

    Attributes:
        locked: what its file says: name and release, with markers and the digests of files where the lock has them.
        added: what the model's process needs besides.
        python: what it is pinned for, "CPython 3.12.4".
    """

    locked: tuple[str, ...]
    added: tuple[str, ...]
    python: str

    @property
    def digest(self) -> str:
        """Of all that it holds, and Python: 64 hex. Passwords in URLs are no part of it."""
        return digest_value(
            {
                "format": _FORMAT,
                "python": self.python,
                "locked": [redacted(line) for line in self.locked],
                "added": [redacted(line) for line in self.added],
            }
        )

    def holds(self, name: str) -> bool:
        """Whether a package is among those that its file says."""
        return canonicalize_name(name) in {name_of(line) for line in self.locked}


def pin(requirements: Requirements, needs: Sequence[str], interpreter: Interpreter, *, kept: Path, where: str) -> Pins:
    """The pins of an environment.

    Args:
        requirements: what it is to hold.
        needs: what the model's process needs in it, as requirements; no locked release changes for them.
        interpreter: the Python that it is for.
        kept: the folder where pins are kept.
        where: the key in the configuration, for messages.

    Raises:
        VersionLoadError: there are no such releases, what is locked does not go together with the needs, or it holds
            code that is in no package.
    """
    key = digest_value(
        {
            "format": _FORMAT,
            "kind": requirements.kind,
            "text": requirements.text,
            "needs": list(needs),
            "python": str(interpreter),
            "platform": interpreter.platform,
        }
    )
    file = kept / f"{key[:32]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or of no use
        found = json.loads(file.read_bytes())
        return Pins(tuple(found["locked"]), tuple(found["added"]), found["python"])
    with tempfile.TemporaryDirectory(prefix="mlstream-pins-") as work:
        locked = _lock(requirements, interpreter, Path(work), where)
        whole = _complete(requirements, locked, needs, interpreter, Path(work), where)
    names = {name_of(line) for line in locked}
    pins = Pins(locked, tuple(line for line in whole if name_of(line) not in names), str(interpreter))
    kept.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(asdict(pins), indent=1).encode())
    file.chmod(0o600)  # a package that is named by its URL may have a password in it
    return pins


def name_of(line: str) -> str:
    """The name of the package that a pinned line is for, in its normal form."""
    return canonicalize_name(Requirement(_bare(line)).name)


def _lock(requirements: Requirements, interpreter: Interpreter, work: Path, where: str) -> tuple[str, ...]:
    """The lines of what the file says."""
    if requirements.has_hashes:
        return _pinned_only(requirements.packages, requirements.name, where)
    python = ("--python", str(interpreter.path))
    if requirements.kind == "lock":
        chosen = ("--frozen", "--no-emit-project", "--no-default-groups")
        arguments = ["export", *_PLAIN, *chosen, *python]
        what = f"read {requirements.name}"
    else:
        file = requirements.file
        if file is None:
            file = work / "requirements.txt"
            file.write_text(requirements.text, encoding="utf-8")
        arguments = ["pip", "compile", *_PLAIN, *python, str(file)]
        what = f"resolve {requirements.name}"
    out = work / "locked.txt"
    run_uv([*arguments, "--output-file", str(out)], folder=requirements.folder, what=what, where=where)
    return _pinned_only(_packages_in(out), requirements.name, where)


def _complete(
    requirements: Requirements,
    locked: Sequence[str],
    needs: Sequence[str],
    interpreter: Interpreter,
    work: Path,
    where: str,
) -> tuple[str, ...]:
    """All that is to be installed: what is locked, what is needed, and what these need."""
    file, out = work / "needed.txt", work / "whole.txt"
    file.write_text("\n".join([*requirements.options, *locked, *needs]) + "\n", encoding="utf-8")
    # uv keeps to the releases in the file that it writes to, where they will do: what is open is as it is here.
    out.write_text("".join(f"{name}=={found}\n" for name, found in installed().items()), encoding="utf-8")
    run_uv(
        ["pip", "compile", *_PLAIN, "--python", str(interpreter.path), str(file), "--output-file", str(out)],
        folder=requirements.folder,
        what=f"put what the model's process needs ({', '.join(needs)}) beside what {requirements.name} locks",
        where=where,
        hint="change what is locked: its releases are not changed here",
    )
    return _pinned_only(_packages_in(out), requirements.name, where)


def _packages_in(file: Path) -> tuple[str, ...]:
    return Requirements(file.name, "lines", file.read_text(encoding="utf-8"), file.parent).packages


def _pinned_only(lines: Sequence[str], name: str, where: str) -> tuple[str, ...]:
    """The lines, each of them of one release of one package."""
    for line in lines:
        try:
            requirement = Requirement(_bare(line))
        except InvalidRequirement:
            raise _is_local(line, name, where) from None
        if requirement.url is not None:
            if requirement.url.startswith("file:"):
                raise _is_local(line, name, where)
            continue
        exact = [one for one in requirement.specifier if one.operator in ("==", "===") and "*" not in one.version]
        if len(exact) != 1:
            raise VersionLoadError(
                f"{where}: {name} has digests of files, and {redacted(_bare(line))!r} has no exact release",
                hint="write it anew with `uv pip compile --generate-hashes`",
                where=where,
            )
    return tuple(sorted(set(lines)))


def _is_local(line: str, name: str, where: str) -> VersionLoadError:
    return VersionLoadError(
        f"{where}: {name} holds {redacted(line)!r}, a package in a folder, whose code is in no lock",
        hint="leave it out: code below the project's root and its `src` is found without being installed",
        where=where,
    )


def _bare(line: str) -> str:
    """A pinned line without the digests of its files."""
    return line.partition(" --hash")[0].strip()
