"""Rewrite a skops file so that equal estimators give equal bytes. Builds no object, trusts nothing.

skops numbers what it writes by addresses in memory and dates the entries of its archive. Here the numbers follow the
order of the schema and the dates are fixed, so training again with the same outcome gives a version with the same
digest.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

_SCHEMA = "schema.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can hold


def stable_bytes(data: bytes) -> bytes:
    """The same skops file, its bytes depending only on what was saved."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(entries.pop(_SCHEMA))
    numbers: dict[str, str] = {}
    _renumber(schema, numbers)
    renamed = {_renamed(name, numbers): content for name, content in entries.items()}
    renamed[_SCHEMA] = json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(renamed):
            archive.writestr(zipfile.ZipInfo(name, _DATE), renamed[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _renumber(node: Any, numbers: dict[str, str]) -> None:
    """Give every node its place in the order of the schema, here and in the names of the entries."""
    if isinstance(node, list):
        for part in node:
            _renumber(part, numbers)
    if not isinstance(node, dict):
        return
    own = node.get("__id__")
    if isinstance(own, int):  # a dictionary's key of that name has a node as its value
        node["__id__"] = int(numbers.setdefault(str(own), str(len(numbers) + 1)))
    if isinstance(node.get("file"), str):
        stem = node["file"].partition(".")[0]
        numbers.setdefault(stem, str(len(numbers) + 1))
        node["file"] = _renamed(node["file"], numbers)
    for key, part in node.items():
        if key not in ("__id__", "file") or isinstance(part, dict):
            _renumber(part, numbers)


def _renamed(name: str, numbers: dict[str, str]) -> str:
    stem, dot, rest = name.partition(".")
    return f"{numbers[stem]}{dot}{rest}" if stem in numbers else name
