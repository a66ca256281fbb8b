"""Small files that are whole or not there, and names that survive a power cut. Knows no store."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_document(target: Path, data: bytes, *, staged: Path) -> None:
    """Write a small file so that it is whole or not there: a temporary name, fsync, rename, fsync of the folder."""
    temporary = staged / secrets.token_hex(8)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    move_into_place(temporary, target, mode=0o644)
    flush_folder(target.parent)


def move_into_place(file: Path, target: Path, *, mode: int) -> None:
    """Rename a flushed file to its final name, replacing what is there."""
    file.chmod(mode)
    try:
        file.replace(target)
    except FileNotFoundError:
        make_folder(target.parent)
        file.replace(target)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing, so that their names survive a power cut, too."""
    missing = [found for found in (folder, *folder.parents) if not found.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        flush_folder(made.parent)


def flush_folder(folder: Path) -> None:
    """fsync a folder, so that the names in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
