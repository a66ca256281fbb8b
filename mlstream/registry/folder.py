"""The files of a model in a folder, and their digests: SHA-256, as 64 hex digits. Knows no MLflow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

_CHUNK_BYTES = 1 << 20


def digest_files(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its path with slashes → its digest.

    Raises:
        ValueError: something in it is a link or no file, whose bytes are not the model's alone.
        OSError: it cannot be read.
    """
    found = {}
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ValueError(f"{path.relative_to(folder).as_posix()} is no file of its own")
        for name in files:
            path = Path(place, name)
            found[path.relative_to(folder).as_posix()] = _digest(path)
    return dict(sorted(found.items()))


def digest_of(files: Mapping[str, str]) -> str:
    """One digest over all files, their paths included."""
    text = json.dumps(dict(files), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The paths whose files are not the same on both sides, or on one side only."""
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _raise(exc: OSError) -> None:
    raise exc
