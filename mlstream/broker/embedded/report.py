"""What `up` tells its caller while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of `up`; `done` of `total` jars and the bytes so far are set while jars are fetched."""

    step: str
    done: int = 0
    total: int = 0
    size_bytes: int = 0


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The report of a caller that does not want to know."""
