"""Digests of files, JSON values and the Python environment: SHA-256, as 64 hex digits. Imports no version's code."""

from __future__ import annotations

import hashlib
import json
import platform
import re
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
        # Only the head of the metadata: parsing whole long descriptions takes ten times as long.
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        head = dict(line.split(": ", 1) for line in text.partition("\n\n")[0].splitlines() if ": " in line)
        if "Name" in head and "Version" in head:
            name = re.sub(r"[-_.]+", "-", head["Name"]).lower()
            found.setdefault(name, head["Version"].strip())
    return dict(sorted(found.items()))


def environment() -> dict[str, Any]:
    """What the versions of this interpreter run in: Python and every installed distribution."""
    return {"python": f"{platform.python_implementation()} {platform.python_version()}", "packages": installed()}


def digest_environment(described: Mapping[str, Any]) -> str:
    """The digest of what `environment` returned."""
    return digest_value(described)
