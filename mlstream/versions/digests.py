"""Digests of files, JSON values and the Python environment: SHA-256, as 64 hex digits. Imports no version's code."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

_CHUNK_BYTES = 1 << 20


def digest_value(value: Any) -> str:
    """The digest of a JSON value: sorted keys, no spaces, UTF-8, floats as their shortest form.

    Raises:
        TypeError, ValueError: it holds something that JSON has not.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """The digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def installed() -> dict[str, str]:
    """Every installed distribution: its name in normal form (PEP 503) → its version. The first on the path wins."""
    found: dict[str, str] = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name is not None:
            found.setdefault(name.lower().replace("_", "-").replace(".", "-"), distribution.version)
    return dict(sorted(found.items()))


def environment() -> dict[str, Any]:
    """What the versions of this interpreter run in: Python and every installed distribution."""
    return {"python": f"{platform.python_implementation()} {platform.python_version()}", "packages": installed()}


def digest_environment(described: Mapping[str, Any]) -> str:
    """The digest of what `environment` returned."""
    return digest_value(described)


def interpreter() -> str:
    """The Python that a version's process is started with."""
    return sys.executable
