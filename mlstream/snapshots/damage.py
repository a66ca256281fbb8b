"""Marks of objects that were found damaged, so that nobody builds on them: `index/damaged/DIGEST`, an empty file.

Derived and best effort. A check that finds other bytes than the name says makes the mark; one that finds the right
ones, and whoever puts them there, takes it away. A mark too many costs a copy; one too few leaves things as they were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FOLDER = "damaged"


def mark_damaged(index: Path, digest: str) -> None:
    """Remember that an object is not what its name says, if the disk lets it."""
    with suppress(OSError):
        (index / FOLDER).mkdir(parents=True, exist_ok=True)
        (index / FOLDER / digest).touch()


def mark_sound(index: Path, digest: str) -> None:
    """Forget that an object was damaged, if the disk lets it."""
    with suppress(OSError):
        (index / FOLDER / digest).unlink(missing_ok=True)


def is_damaged(index: Path, digest: str) -> bool:
    """Whether an object was found damaged and not mended since."""
    return (index / FOLDER / digest).exists()


def damaged(index: Path) -> frozenset[str]:
    """The digests of all objects that were found damaged and not mended since."""
    return frozenset(path.name for path in marks(index))


def marks(index: Path) -> Iterator[Path]:
    """The files of the marks, in no order."""
    try:
        with os.scandir(index / FOLDER) as found:
            yield from (Path(each.path) for each in found)
    except (FileNotFoundError, NotADirectoryError):
        return
